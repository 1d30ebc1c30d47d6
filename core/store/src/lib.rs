//! A shard's state: the records, the sessions, and the function that applies log entries to them.
//!
//! [`ShardState`] is the state machine: pure and deterministic, over any [`KeyValueStore`]. It
//! reads no clock, draws no random numbers and starts no threads; every replica that applies the
//! same entries has the same rows and the same digest. RocksDB is in `oxkeeper-store-rocksdb`;
//! here is only [`MemoryStore`], for tests and simulation.
//!
//! [`log_format`] turns log entries into bytes and back. [`keys`] is the schema of the store.

mod acls;
pub mod contract;
pub mod keys;
mod kv;
pub mod log_format;
mod memory;
mod records;
mod rows;
mod sessions;
mod state;

pub use kv::{
    BatchOp, FlushWait, KeyRange, KeyValueStore, RowVisitor, StoreError, WriteBatch, get_vec,
};
pub use memory::MemoryStore;
pub use rows::RowError;
pub use state::{Applied, Checkpoint, CommandOutcome, SessionView, ShardState, StateError};
