//! How fast a shard writes: one client thread, a closed loop with so many writes in flight, the
//! real log in a folder (default: a temporary one), the store in memory.
//!
//! `cargo run --release -p oxkeeper-node --example write_bench [folder] [seconds]`

mod load;

use anyhow::Result;
use oxkeeper_store::MemoryStore;

fn main() -> Result<()> {
    load::run(|_, _| Ok(MemoryStore::new()))
}
