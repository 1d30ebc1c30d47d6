//! One shard as a value: replica, log, state machine, links, session deadlines and checkpoints.
//!
//! [`Shard::step`] takes the time and one [`Input`] and appends [`Output`]s: events for links, and
//! [`Operation`]s that block. Nothing in here has a thread, waits, reads a clock, draws a random
//! number or owns a queue; the same inputs give the same outputs. The node drives it with threads
//! and real clocks, a simulator by hand.
//!
//! # How to drive it
//!
//! ```text
//! let mut shard = Shard::open(options, parts, now)?;        // reads log and store, repairs the log's end
//! shard.step(now, Input::NewTerm { term }, &mut outputs);   // term: above shard.term()
//! // ... Output::Start(operation): give operation.run() back as Input::Completed, now or later
//! // ... Output::Fenced: the answer to NewTerm
//! shard.step(now, Input::BecomeLeader { term, ensemble }, &mut outputs);
//! // ... Output::Leads: links can be opened now
//! loop {
//!     // for each input there is, in order:
//!     shard.step(now, input, &mut outputs);
//!     // when there is none left for now:
//!     shard.step(now, Input::Turn { all_heard: true }, &mut outputs);
//!     // then wait for inputs, at most until shard.next_wake_us()
//! }
//! ```
//!
//! - Commands gather until a [`Input::Turn`], or until an entry is full; then they become one entry
//!   of the log and share a sync.
//! - Operations may be run at once, on another thread, in any order, late, or never (a disk that is
//!   stuck); the shard goes on with what does not need them. Nothing is answered before the
//!   operation has completed that makes it durable.
//! - On a full disk clients' writes are answered [`oxkeeper_link::Event::Refused`], everything else
//!   goes on, and writes are executed again when there is space.
//! - Give requests only while [`Shard::has_room`]: what is given nevertheless waits in memory.
//! - Outputs of one step are in order for each link. What a step refused stands beside what came of it.
//! - After [`Output::Ended`] every step does nothing.
//!
//! Reads of the store and of the log, and writes that need not be durable, are calls through the
//! traits [`oxkeeper_store::KeyValueStore`] and [`oxkeeper_log::Disk`].

mod batch;
mod carry;
mod checkpoint;
mod elapsed;
mod error;
mod full;
mod history;
mod io;
pub mod limits;
mod links;
mod open;
mod operation;
mod options;
mod reaper;
mod sessions;
mod shard;
mod stats;
mod term;
mod waiting;

pub use error::ShardError;
pub use io::{Input, LinkId, Notice, Output};
pub use operation::{Completion, Operation, OperationKind};
pub use options::{ShardOptions, ShardParts};
pub use oxkeeper_model::Now;
pub use shard::Shard;
pub use stats::{Counter, Gauge, Histogram, ShardStats};
pub use term::{MemoryTerm, TermError, TermStore};
