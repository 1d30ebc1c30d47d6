//! The storage node: runs the shards, each on a thread of its own.
//!
//! The logic is elsewhere: [`oxkeeper_shard`] is a shard as a value. This crate drives it: it has
//! the threads, the clocks, the queues and the data folder, runs what blocks, and is the transport
//! of the link within one process. No async runtime, no network, and nothing of ZooKeeper's protocol.
//!
//! One turn of a shard thread: take what is queued and give it to the shard, which makes one log
//! entry of the commands; sync it; hand every link its events. So a shard that is busy shares one
//! sync among all that came in during the one before, and nothing is delivered that is not durable.
//!
//! Entry types: [`Node`], [`NodeOptions`].

mod clock;
mod driver;
mod error;
mod folder;
mod founded;
mod node;
mod options;
mod queue;
mod sinks;
mod small_file;
mod startup;
mod term_file;
mod transport;
mod workers;

pub use error::{NodeError, ShardFailure};
pub use folder::{DataFolder, FolderError};
pub use founded::FoundedFile;
pub use node::Node;
pub use options::{FailureHook, NodeOptions};
pub use oxkeeper_shard::{
    Counter, Gauge, Histogram, MemoryTerm, ShardError, ShardStats, TermError, TermStore,
};
pub use startup::StartParts;
pub use term_file::TermFile;
