//! What the node counts, for the metrics page. All names are here.
//!
//! `fsynctime` is ZooKeeper's name, of the shard that holds the tree; `shard_*` are our own, one
//! series per shard.

use std::sync::Arc;

use metrics::{counter, gauge};
use oxkeeper_model::ShardId;
use oxkeeper_node::{Histogram, Node, ShardStats};

const QUANTILES: &[(f64, &str)] = &[(0.5, "0.5"), (0.95, "0.95"), (0.99, "0.99")];
const NS_PER_MS: f64 = 1e6;
const NS_PER_SECOND: f64 = 1e9;

/// Reads the node's counters; costs the shards nothing.
pub(crate) struct NodeMetrics {
    node: Arc<Node>,
    shards: Vec<(ShardId, Arc<ShardStats>)>,
    tree: ShardId,
}

impl NodeMetrics {
    pub(crate) fn new(node: &Arc<Node>, tree: ShardId) -> Self {
        let with_stats = |shard| Some((shard, node.stats(shard)?));
        Self {
            node: Arc::clone(node),
            shards: node.shards().ids().filter_map(with_stats).collect(),
            tree,
        }
    }

    /// Brings the page up to date.
    pub(crate) fn publish(&self) {
        for (shard, stats) in &self.shards {
            if *shard == self.tree {
                fsync_time(&stats.log_sync_ns);
            }
            self.publish_shard(*shard, stats);
        }
    }

    fn publish_shard(&self, shard: ShardId, stats: &ShardStats) {
        let label = [("shard", shard.to_string())];
        let count = |name: &'static str, value| counter!(name, &label).absolute(value);
        count("shard_log_syncs_total", stats.log_sync_ns.count());
        count("shard_log_bytes_total", stats.log_bytes.get());
        count("shard_entries_total", stats.entry_commands.count());
        count("shard_commands_total", stats.applied_commands.get());
        count("shard_queries_total", stats.queries.get());
        count("shard_sessions_expired_total", stats.sessions_expired.get());
        count("shard_records_reaped_total", stats.records_reaped.get());
        count("shard_checkpoints_total", stats.checkpoint_ns.count());
        count("shard_replayed_entries_total", stats.replayed_entries.get());

        let show = |name: &'static str, value| gauge!(name, &label).set(value);
        show(
            "shard_queue_requests",
            self.node.queue_length(shard).unwrap_or(0) as f64,
        );
        show("shard_links", stats.links.get() as f64);
        show("shard_sessions", stats.sessions.get() as f64);
        show("shard_term", stats.term.get() as f64);
        show("shard_applied_offset", stats.applied_offset.get() as f64);
        show("shard_revision", stats.revision.get() as f64);
        show(
            "shard_log_sync_max_seconds",
            stats.log_sync_ns.max() as f64 / NS_PER_SECOND,
        );
        show(
            "shard_apply_max_seconds",
            stats.apply_ns.max() as f64 / NS_PER_SECOND,
        );
        show(
            "shard_checkpoint_max_seconds",
            stats.checkpoint_ns.max() as f64 / NS_PER_SECOND,
        );
    }
}

/// As ZooKeeper's summary of the same name, in milliseconds.
fn fsync_time(syncs: &Histogram) {
    for &(quantile, label) in QUANTILES {
        let bound_ms = syncs.quantile_bound(quantile) as f64 / NS_PER_MS;
        gauge!("fsynctime", "quantile" => label).set(bound_ms);
    }
    counter!("fsynctime_count").absolute(syncs.count());
    gauge!("fsynctime_sum").set(syncs.sum() as f64 / NS_PER_MS);
}
