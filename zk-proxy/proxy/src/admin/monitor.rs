//! Everything that is counted, under the names that dashboards for ZooKeeper know: gathered once,
//! shown by `mntr` (with the prefix `zk_`) and by the metrics page (without). All names are here, but
//! for those of the process and of the node.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oxkeeper_model::{Answer, Query};
use oxkeeper_session::{Amounts, Latencies, Stats};

use super::four_letter::{VERSION, rounded};
use super::process;
use super::sample::{Sample, Summary, Value};
use crate::service::Service;

/// Shares of which `mntr` tells the latency that they stay within, with the names that they have there.
const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p999")];

/// ZooKeeper's name for a size that was not seen yet.
const NO_SIZE: f64 = -1.0;

/// ZooKeeper's counters of what one server without TLS and without throttling never does.
const NEVER_COUNTED: [&str; 5] = [
    "commit_count",
    "proposal_count",
    "throttled_ops",
    "tls_handshake_exceeded",
    "unsuccessful_handshake",
];

/// The same, of gauges.
const NEVER_GAUGED: [&str; 4] = [
    "local_sessions",
    "outstanding_tls_handshake",
    "non_mtls_local_conn_count",
    "non_mtls_remote_conn_count",
];

/// What the shard counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShardCounts {
    pub(crate) records: u64,
    pub(crate) ephemerals: u64,
    pub(crate) data_bytes: u64,
    pub(crate) sessions: u64,
}

pub(crate) async fn shard_counts(service: &Service) -> ShardCounts {
    match service.query(Query::Stats).await {
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

fn watch_count(service: &Service) -> usize {
    let connections = service.connections();
    connections.iter().map(|one| one.watch_count()).sum()
}

/// All samples.
pub(crate) async fn samples(service: &Service) -> Vec<Sample> {
    let mut samples = gauges(service, shard_counts(service).await);
    samples.extend(counters(service));
    samples.extend(summaries(&service.stats));
    samples.extend(process::samples());
    samples.extend(service.options.node_samples.gather());
    samples
}

fn gauges(service: &Service, counts: ShardCounts) -> Vec<Sample> {
    let stats = &service.stats;
    let all = &stats.latencies;
    let reply_bytes = |size: Option<u64>| size.map_or(NO_SIZE, |size| size as f64);
    let number = |name, value: u64| Sample::gauge(name, value as f64);
    let count = |name, counter: &AtomicU64| Sample::gauge(name, counter.load(Relaxed) as f64);
    let mut gauges = vec![
        Sample::fraction("avg_latency", rounded(all.average_ms())),
        number("min_latency", all.min_ms()),
        number("max_latency", all.max_ms()),
        number("num_alive_connections", service.connection_count() as u64),
        number("outstanding_requests", service.outstanding() as u64),
        number("znode_count", counts.znodes()),
        number("watch_count", watch_count(service) as u64),
        number("ephemerals_count", counts.ephemerals),
        number("approximate_data_size", counts.data_bytes),
        number("global_sessions", counts.sessions),
        number("open_file_descriptor_count", process::open_files()),
        number("max_file_descriptor_count", process::max_files()),
        number("uptime", service.clock.monotonic_us() / 1000),
        Sample::gauge(
            "last_client_response_size",
            reply_bytes(stats.reply_bytes.last()),
        ),
        Sample::gauge(
            "min_client_response_size",
            reply_bytes(stats.reply_bytes.min()),
        ),
        Sample::gauge(
            "max_client_response_size",
            reply_bytes(stats.reply_bytes.max()),
        ),
        count("packets_received", &stats.packets_received),
        count("packets_sent", &stats.packets_sent),
        count("auth_failed_count", &stats.auth_failed),
        // No connection is refused by chance.
        Sample::fraction("connection_drop_probability", 0.0),
        number("view_cache_bytes", service.view_used_bytes() as u64),
    ];
    gauges.extend(NEVER_GAUGED.map(|name| Sample::gauge(name, 0.0)));
    gauges
}

fn counters(service: &Service) -> Vec<Sample> {
    let stats = &service.stats;
    let count = |name, counter: &AtomicU64| Sample::counter(name, counter.load(Relaxed));
    let failed = u64::from(!service.is_serving());
    let mut counters = vec![
        count("bytes_received_count", &stats.bytes_received),
        count("response_bytes", &stats.bytes_sent),
        count("watch_bytes", &stats.event_bytes),
        count("connection_request_count", &stats.session_requests),
        count("connection_rejected", &stats.connections_rejected),
        count("connection_drop_count", &stats.connections_dropped),
        count("stale_sessions_expired", &stats.sessions_expired),
        count(
            "sessionless_connections_expired",
            &stats.sessionless_expired,
        ),
        count("large_requests_rejected", &stats.large_requests_rejected),
        Sample::counter("unrecoverable_error_count", failed),
        count("watch_events_sent", &stats.events_sent),
        count("foreign_ephemeral_writes", &stats.foreign_ephemeral_writes),
    ];
    counters.extend(NEVER_COUNTED.map(|name| Sample::counter(name, 0)));
    counters
}

fn summaries(stats: &Stats) -> Vec<Sample> {
    let fired = &stats.watches_fired;
    vec![
        Sample::summary("readlatency", of_latencies(&stats.read_latencies)),
        Sample::summary("updatelatency", of_latencies(&stats.update_latencies)),
        Sample::summary("node_created_watch_count", of_amounts(&fired.created)),
        Sample::summary("node_deleted_watch_count", of_amounts(&fired.deleted)),
        Sample::summary("node_changed_watch_count", of_amounts(&fired.changed)),
        Sample::summary("node_children_watch_count", of_amounts(&fired.children)),
    ]
}

fn of_latencies(latencies: &Latencies) -> Summary {
    let quantile = |(share, _)| (share, latencies.quantile_ms(share));
    Summary {
        count: latencies.count(),
        sum: latencies.sum_ms(),
        min: latencies.min_ms() as f64,
        max: latencies.max_ms() as f64,
        quantiles: QUANTILES.map(quantile).into(),
    }
}

fn of_amounts(amounts: &Amounts) -> Summary {
    Summary {
        count: amounts.count(),
        sum: amounts.sum() as f64,
        min: amounts.min().unwrap_or(0) as f64,
        max: amounts.max().unwrap_or(0) as f64,
        quantiles: Vec::new(),
    }
}

/// The text of `mntr`. It has no labels, so what there is of each shard is not in it.
pub(crate) async fn mntr(service: &Service) -> String {
    let mut text = format!("zk_version\t{VERSION}\nzk_server_state\tstandalone\n");
    for sample in samples(service).await {
        if sample.label.is_none() {
            put(&mut text, &sample);
        }
    }
    text
}

/// As ZooKeeper prints them: whole numbers, but for averages.
fn put(text: &mut String, sample: &Sample) {
    let name = sample.name;
    let _ = match &sample.value {
        Value::Counter(count) => writeln!(text, "zk_{name}\t{count}"),
        Value::Gauge(value) => writeln!(text, "zk_{name}\t{value:.0}"),
        Value::Fraction(value) => writeln!(text, "zk_{name}\t{value:?}"),
        Value::Summary(summary) => put_summary(text, name, summary),
    };
}

fn put_summary(text: &mut String, name: &str, summary: &Summary) -> std::fmt::Result {
    let average = rounded(summary.average());
    writeln!(text, "zk_avg_{name}\t{average:?}")?;
    writeln!(text, "zk_min_{name}\t{:.0}", summary.min)?;
    writeln!(text, "zk_max_{name}\t{:.0}", summary.max)?;
    writeln!(text, "zk_cnt_{name}\t{}", summary.count)?;
    writeln!(text, "zk_sum_{name}\t{:.0}", summary.sum)?;
    for (share, value) in &summary.quantiles {
        if let Some((_, label)) = QUANTILES.iter().find(|(known, _)| known == share) {
            writeln!(text, "zk_{label}_{name}\t{value:.0}")?;
        }
    }
    Ok(())
}
