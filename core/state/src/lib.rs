//! A shard's state: the records, the sessions, and the function that applies log entries to them.
//!
//! [`ShardState`] is the state machine: pure and deterministic, over any
//! [`oxkeeper_store::KeyValueStore`]. It reads no clock, draws no random numbers and starts no
//! threads; every replica that applies the same entries has the same rows and the same digest.
//!
//! [`keys`] is the schema of the store.

mod acls;
mod graves;
mod hash;
pub mod keys;
mod preparation;
mod quota;
mod records;
mod rows;
mod sessions;
mod state;

pub use hash::HashKey;
pub use rows::RowError;
pub use state::{
    Applied, Checkpoint, FrozenRows, FrozenState, SessionView, ShardState, StateError,
};
