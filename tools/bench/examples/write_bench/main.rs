//! How fast a shard writes: one client thread, a closed loop with so many writes in flight, the
//! real log in a folder (default: a temporary one), the store on RocksDB or, with `memory` as the
//! first argument, in memory.
//!
//! `cargo run --release -p oxkeeper-bench --example write_bench [memory] [folder] [seconds]`

mod load;

use anyhow::Result;
use oxkeeper_store::MemoryStore;
use oxkeeper_store_rocksdb::{RocksOptions, RocksStore};

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "memory") {
        arguments.remove(0);
        return load::run(&arguments, |_, _| Ok(MemoryStore::new()));
    }
    load::run(&arguments, |_, path| {
        RocksStore::open(path, &RocksOptions::default())
    })
}
