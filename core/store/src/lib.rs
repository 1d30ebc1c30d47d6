//! The ordered key-value store under a shard: the trait, its contract suite, and [`MemoryStore`] for
//! tests and simulation. RocksDB is in `oxkeeper-store-rocksdb`.
//!
//! It holds bytes and must not know what they mean.

pub mod contract;
mod kv;
mod memory;

pub use kv::{
    BatchOp, FlushWait, KeyRange, KeyValueStore, RowVisitor, StoreError, WriteBatch, get_vec,
};
pub use memory::MemoryStore;
