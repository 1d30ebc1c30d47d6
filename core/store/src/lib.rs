//! The ordered key-value store under a shard: the traits, their contract suite, and [`MemoryStore`]
//! for tests and simulation. RocksDB is in `oxkeeper-store-rocksdb`.
//!
//! [`overlay`] has the unflushed rows of a store whose tables never change. It holds bytes and must not know what they mean.

mod batch;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod error;
mod kv;
mod memory;
pub mod overlay;
mod range;

pub use batch::{BatchOp, WriteBatch};
pub use error::{StoreError, StoreErrorKind};
pub use kv::{
    FlushWait, KeyValueStore, OwnedRow, RowReader, RowVisitor, first_row, get_vec, last_row,
};
pub use memory::{MemoryFrozen, MemoryStore};
pub use range::KeyRange;
