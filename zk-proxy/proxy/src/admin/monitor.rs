//! Everything that is counted, under the names that dashboards for ZooKeeper know: gathered once,
//! shown by `mntr` (with the prefix `zk_`) and by the metrics page (without).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oxkeeper_model::{Answer, Query};

use super::four_letter::VERSION;
use oxkeeper_session::Latencies;

use crate::service::Service;

/// A value as it is told to the metrics page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Counter(u64),
    Gauge(f64),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Counter(count) => count.fmt(f),
            Self::Gauge(value) => value.fmt(f),
        }
    }
}

/// Quantiles that are told of each latency.
const QUANTILES: [(f64, &str); 4] = [
    (0.5, "0.5"),
    (0.95, "0.95"),
    (0.99, "0.99"),
    (0.999, "0.999"),
];

/// What the shard counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShardCounts {
    pub(crate) records: u64,
    pub(crate) ephemerals: u64,
    pub(crate) data_bytes: u64,
    pub(crate) sessions: u64,
}

pub(crate) async fn shard_counts(tree: &Service) -> ShardCounts {
    match tree.query(Query::Stats).await {
        Ok(Answer::Stats {
            records,
            ephemerals,
            data_bytes,
            sessions,
        }) => ShardCounts {
            records,
            ephemerals,
            data_bytes,
            sessions,
        },
        _ => ShardCounts::default(),
    }
}

impl ShardCounts {
    /// ZooKeeper counts the root under both of its names.
    pub(crate) fn znodes(&self) -> u64 {
        self.records + 1
    }
}

pub(crate) fn watch_count(tree: &Service) -> u64 {
    let connections = tree.connections();
    let counts = connections.iter().map(|one| one.watch_count() as u64);
    counts.sum()
}

/// All values but the latencies, in the order of ZooKeeper's `mntr`.
pub(crate) async fn gather(tree: &Service) -> Vec<(&'static str, Value)> {
    let counts = shard_counts(tree).await;
    let stats = &tree.stats;
    let count = |counter: &AtomicU64| Value::Counter(counter.load(Relaxed));
    let gauge = |value: u64| Value::Gauge(value as f64);
    vec![
        (
            "num_alive_connections",
            gauge(tree.connection_count() as u64),
        ),
        ("outstanding_requests", gauge(tree.outstanding() as u64)),
        ("znode_count", gauge(counts.znodes())),
        ("watch_count", gauge(watch_count(tree))),
        ("ephemerals_count", gauge(counts.ephemerals)),
        ("approximate_data_size", gauge(counts.data_bytes)),
        ("global_sessions", gauge(counts.sessions)),
        ("local_sessions", gauge(0)),
        ("open_file_descriptor_count", gauge(open_files())),
        ("max_file_descriptor_count", gauge(max_files())),
        ("uptime", gauge(tree.clock.monotonic_us() / 1000)),
        ("view_cache_bytes", gauge(tree.view_used_bytes() as u64)),
        ("packets_received", count(&stats.packets_received)),
        ("packets_sent", count(&stats.packets_sent)),
        ("bytes_received_count", count(&stats.bytes_received)),
        ("response_bytes", count(&stats.bytes_sent)),
        ("auth_failed_count", count(&stats.auth_failed)),
        (
            "connection_request_count",
            count(&stats.connections_accepted),
        ),
        ("connection_rejected", count(&stats.connections_rejected)),
        ("connection_drop_count", count(&stats.connections_dropped)),
        ("stale_sessions_expired", count(&stats.sessions_expired)),
        (
            "large_requests_rejected",
            count(&stats.large_requests_rejected),
        ),
        ("watch_events_sent", count(&stats.events_sent)),
        (
            "foreign_ephemeral_writes",
            count(&stats.foreign_ephemeral_writes),
        ),
    ]
}

fn latencies(tree: &Service) -> [(&'static str, &Latencies); 2] {
    [
        ("readlatency", &tree.stats.read_latencies),
        ("updatelatency", &tree.stats.update_latencies),
    ]
}

/// Hands everything to the process's metrics recorder.
pub(crate) async fn publish(tree: &Service) {
    for (name, value) in gather(tree).await {
        match value {
            Value::Counter(count) => metrics::counter!(name).absolute(count),
            Value::Gauge(value) => metrics::gauge!(name).set(value),
        }
    }
    let all = &tree.stats.latencies;
    metrics::gauge!("avg_latency").set(all.average_ms());
    metrics::gauge!("min_latency").set(all.min_ms() as f64);
    metrics::gauge!("max_latency").set(all.max_ms() as f64);
    for (name, latencies) in latencies(tree) {
        for (quantile, label) in QUANTILES {
            metrics::gauge!(name, "quantile" => label).set(latencies.quantile_ms(quantile));
        }
        metrics::counter!(format!("{name}_count")).absolute(latencies.count());
        metrics::gauge!(format!("{name}_sum")).set(latencies.sum_ms());
    }
}

/// The text of `mntr`.
pub(crate) async fn mntr(tree: &Service) -> String {
    use std::fmt::Write;
    let mut text = format!("zk_version\t{VERSION}\nzk_server_state\tstandalone\n");
    let all = &tree.stats.latencies;
    let _ = writeln!(text, "zk_avg_latency\t{}", all.average_ms());
    let _ = writeln!(text, "zk_min_latency\t{}", all.min_ms());
    let _ = writeln!(text, "zk_max_latency\t{}", all.max_ms());
    for (name, value) in gather(tree).await {
        let _ = writeln!(text, "zk_{name}\t{value}");
    }
    for (name, latencies) in latencies(tree) {
        let average = latencies.average_ms();
        let _ = writeln!(text, "zk_avg_{name}\t{average}");
        let _ = writeln!(text, "zk_min_{name}\t{}", latencies.min_ms());
        let _ = writeln!(text, "zk_max_{name}\t{}", latencies.max_ms());
        let _ = writeln!(text, "zk_cnt_{name}\t{}", latencies.count());
        let _ = writeln!(text, "zk_sum_{name}\t{}", latencies.sum_ms());
        for (quantile, label) in QUANTILES {
            let label = label.trim_start_matches("0.");
            let label = if label == "5" { "50" } else { label };
            let _ = writeln!(
                text,
                "zk_p{label}_{name}\t{}",
                latencies.quantile_ms(quantile)
            );
        }
    }
    text
}

/// File descriptors that this process has open; 0 where the system does not tell.
fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// How many it may open; 0 where the system does not tell.
fn max_files() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    soft.and_then(|limit| limit.parse().ok()).unwrap_or(0)
}
