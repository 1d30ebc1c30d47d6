//! What the node counts. All names are here.
//!
//! Names without `shard_` are ZooKeeper's, of the shard that holds the tree; `shard_*` are our own,
//! one sample per shard.

use std::sync::{Arc, Weak};

use oxkeeper_model::ShardId;
use oxkeeper_node::{Histogram, Node, ShardStats};
use oxkeeper_proxy::{Sample, Summary};

const QUANTILES: [f64; 4] = [0.5, 0.95, 0.99, 0.999];
const NS_PER_MS: f64 = 1e6;
const NS_PER_SECOND: f64 = 1e9;

/// Reads the node's counters; costs the shards nothing.
pub(crate) struct NodeMetrics {
    /// Not kept alive by who reads its counters.
    node: Weak<Node>,
    shards: Vec<(ShardId, Arc<ShardStats>)>,
    tree: ShardId,
}

impl NodeMetrics {
    pub(crate) fn new(node: &Arc<Node>, tree: ShardId) -> Self {
        let with_stats = |shard| Some((shard, node.stats(shard)?));
        Self {
            node: Arc::downgrade(node),
            shards: node.shards().ids().filter_map(with_stats).collect(),
            tree,
        }
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for (shard, stats) in &self.shards {
            if *shard == self.tree {
                samples.extend(as_zookeeper(stats));
            }
        }
        for (name, count) in COUNTERS {
            let of_each = self.shards.iter();
            samples.extend(of_each.map(|(shard, stats)| {
                Sample::counter(name, count(stats)).labelled("shard", shard)
            }));
        }
        for (name, value) in GAUGES {
            let of_each = self.shards.iter();
            samples.extend(
                of_each.map(|(shard, stats)| {
                    Sample::gauge(name, value(stats)).labelled("shard", shard)
                }),
            );
        }
        samples.extend(self.queues());
        samples
    }

    fn queues(&self) -> impl Iterator<Item = Sample> {
        let node = self.node.upgrade();
        self.shards.iter().filter_map(move |(shard, _)| {
            let waiting = node.as_ref()?.queue_length(*shard)?;
            Some(Sample::gauge("shard_queue_requests", waiting as f64).labelled("shard", shard))
        })
    }
}

type Count = fn(&ShardStats) -> u64;
type Level = fn(&ShardStats) -> f64;

const COUNTERS: [(&str, Count); 9] = [
    ("shard_log_syncs_total", |stats| stats.log_sync_ns.count()),
    ("shard_log_bytes_total", |stats| stats.log_bytes.get()),
    ("shard_entries_total", |stats| stats.entry_commands.count()),
    ("shard_commands_total", |stats| stats.applied_commands.get()),
    ("shard_queries_total", |stats| stats.queries.get()),
    ("shard_sessions_expired_total", |stats| {
        stats.sessions_expired.get()
    }),
    ("shard_records_reaped_total", |stats| {
        stats.records_reaped.get()
    }),
    ("shard_checkpoints_total", |stats| {
        stats.checkpoint_ns.count()
    }),
    ("shard_replayed_entries_total", |stats| {
        stats.replayed_entries.get()
    }),
];

const GAUGES: [(&str, Level); 8] = [
    ("shard_links", |stats| stats.links.get() as f64),
    ("shard_sessions", |stats| stats.sessions.get() as f64),
    ("shard_term", |stats| stats.term.get() as f64),
    ("shard_applied_offset", |stats| {
        stats.applied_offset.get() as f64
    }),
    ("shard_revision", |stats| stats.revision.get() as f64),
    ("shard_log_sync_max_seconds", |stats| {
        stats.log_sync_ns.max() as f64 / NS_PER_SECOND
    }),
    ("shard_apply_max_seconds", |stats| {
        stats.apply_ns.max() as f64 / NS_PER_SECOND
    }),
    ("shard_checkpoint_max_seconds", |stats| {
        stats.checkpoint_ns.max() as f64 / NS_PER_SECOND
    }),
];

/// What a shard does that ZooKeeper does too, under the names that it has there.
fn as_zookeeper(stats: &ShardStats) -> Vec<Sample> {
    let once = |value: f64| Summary {
        count: 1,
        sum: value,
        min: value,
        max: value,
        quantiles: Vec::new(),
    };
    vec![
        Sample::summary("fsynctime", of_histogram(&stats.log_sync_ns, NS_PER_MS)),
        Sample::summary(
            "snapshottime",
            of_histogram(&stats.checkpoint_ns, NS_PER_MS),
        ),
        Sample::summary(
            "sync_processor_batch_size",
            of_histogram(&stats.entry_commands, 1.0),
        ),
        Sample::summary(
            "startup_txns_loaded",
            once(stats.replayed_entries.get() as f64),
        ),
        Sample::summary("startup_txns_load_time", once(stats.replay_ms.get() as f64)),
    ]
}

fn of_histogram(histogram: &Histogram, unit: f64) -> Summary {
    let scaled = |value: u64| value as f64 / unit;
    let quantile = |share| (share, scaled(histogram.quantile_bound(share)));
    let smallest = histogram.buckets().find(|(_, count)| *count > 0);
    Summary {
        count: histogram.count(),
        sum: scaled(histogram.sum()),
        min: smallest.map_or(0.0, |(end, _)| scaled(end / 2)),
        max: scaled(histogram.max()),
        quantiles: QUANTILES.map(quantile).into(),
    }
}
