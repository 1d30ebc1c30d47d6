//! The storage node: runs the shards, each on a thread of its own.
//!
//! The logic is elsewhere: [`oxkeeper_replication`] decides what is appended and committed,
//! [`oxkeeper_state`] applies it, [`oxkeeper_log`] keeps it. This crate is their driver: it has
//! the threads, the clocks and the queue, and the transport of the link within one process.
//! No async runtime, no network, and nothing of ZooKeeper's protocol.
//!
//! One turn of a shard thread: take what is queued; make one log entry of the commands; append,
//! sync, commit, apply; answer the queries; hand every link its events. So a shard that is busy
//! shares one sync among all that came in during the one before, and nothing is delivered that
//! is not durable.
//!
//! Entry types: [`Node`], [`NodeOptions`].

mod batch;
mod checkpoint;
mod clock;
mod driver;
mod error;
mod folder;
mod links;
mod node;
mod options;
mod queue;
mod reaper;
mod sessions;
mod startup;
mod stats;
mod transport;

pub use driver::ShardParts;
pub use error::{NodeError, ShardError};
pub use folder::{DataFolder, FolderError, MemoryTerm, TermFile, TermStore};
pub use node::Node;
pub use options::{FailureHook, NodeOptions};
pub use stats::{Counter, Gauge, Histogram, ShardStats};
