//! How fast a shard writes on RocksDB. For the load and the arguments see the example of the
//! same name in `oxkeeper-node`.
//!
//! `cargo run --release -p oxkeeper-store-rocksdb --example write_bench [folder] [seconds]`

#[path = "../../node/examples/write_bench/load.rs"]
mod load;

use anyhow::Result;
use oxkeeper_store_rocksdb::{RocksOptions, RocksStore};

fn main() -> Result<()> {
    load::run(|_, path| RocksStore::open(path, &RocksOptions::default()))
}
