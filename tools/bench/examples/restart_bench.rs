//! How long a shard takes to serve again, on RocksDB: after a crash (nothing was flushed in an
//! orderly way) and after an orderly stop, with so many records of 100 bytes.
//!
//! `cargo run --release -p oxkeeper-bench --example restart_bench [folder] [records]`

#[path = "write_bench/load.rs"]
#[allow(dead_code)]
mod load;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use oxkeeper_link::contract::{create, seed};
use oxkeeper_model::{Lifetime, ShardId};
use oxkeeper_node::{Histogram, Node, NodeOptions};
use oxkeeper_store_rocksdb::{RocksOptions, RocksStore};

const IN_FLIGHT: u64 = 256;
const CHILDREN: u64 = 1_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let folder = arguments
        .next()
        .map_or(temporary.path().to_owned(), Into::into);
    let records = arguments
        .next()
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let node = start(&folder)?;
    let (took, gap) = fill(&node, records)?;
    println!("{records} creates in {took:.1?}, longest wait for answers {gap:.1?}");
    longest(&node)?;
    drop(node);
    let crashed = Instant::now();
    let node = start(&folder)?;
    told("after a crash", crashed, &node)?;
    let stopping = Instant::now();
    node.shutdown();
    println!("orderly stop in {:.1?}", stopping.elapsed());
    drop(node);
    let stopped = Instant::now();
    let node = start(&folder)?;
    told("after an orderly stop", stopped, &node)
}

fn start(folder: &Path) -> Result<Node> {
    let options = NodeOptions {
        seed: seed(),
        ..NodeOptions::default()
    };
    let open = |_, path: &Path| RocksStore::open(path, &RocksOptions::default());
    Ok(Node::start(options, folder, open)?)
}

fn told(when: &str, since: Instant, node: &Node) -> Result<()> {
    let stats = node.stats(ShardId(0)).context("no shard")?;
    println!(
        "{when}: {:.1?}; {} entries with {} commands replayed in {} ms; {} MiB resident",
        since.elapsed(),
        stats.replayed_entries.get(),
        stats.applied_commands.get(),
        stats.replay_ms.get(),
        resident_mib()?,
    );
    Ok(())
}

/// What the shard's thread was held up by.
fn longest(node: &Node) -> Result<()> {
    let stats = node.stats(ShardId(0)).context("no shard")?;
    let ms = |histogram: &Histogram| histogram.max() as f64 / 1e6;
    println!(
        "longest sync {:.1} ms, apply {:.1} ms, trim {:.1} ms; {} checkpoints, longest {:.1} ms; \
         {} MiB resident",
        ms(&stats.log_sync_ns),
        ms(&stats.apply_ns),
        ms(&stats.log_trim_ns),
        stats.checkpoint_ns.count(),
        ms(&stats.checkpoint_ns),
        resident_mib()?,
    );
    Ok(())
}

/// Time for all, and the longest between two deliveries.
fn fill(node: &Node, records: u64) -> Result<(Duration, Duration)> {
    let mut load = load::Load::open(node)?;
    let (mut sent, mut answered) = (0, 0);
    let (started, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
    while answered < records {
        while sent < records && sent - answered < IN_FLIGHT {
            let parent = format!("/p{}", sent / CHILDREN);
            let path = match sent % CHILDREN {
                0 => parent,
                n => format!("{parent}/record-{n:010}"),
            };
            load.queue(create(&path, Lifetime::Persistent))?;
            sent += 1;
        }
        load.flush()?;
        answered += load.next_answers()?.len() as u64;
        gap = gap.max(last.elapsed());
        last = Instant::now();
    }
    Ok((started.elapsed(), gap))
}

fn resident_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse::<u64>()? / 1024)
}
