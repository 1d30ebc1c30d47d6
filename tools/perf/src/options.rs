//! What to run, against what, and for how long.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::PerfError;

/// Largest value that still fits ZooKeeper's default packet, with room for the path.
const VALUE_BYTES_MAX: usize = 1_000_000;

/// What the connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// getData on random znodes.
    Get,
    /// setData, each connection on znodes of its own, so that every version is known in advance.
    Set,
    /// create, each time another znode below one parent.
    Create,
    /// get and set, in the ratio of --read-percent.
    Mixed,
    /// multi of --multi-ops setData.
    Multi,
    /// One setter, --connections watchers of the same --depth znodes; an operation is one event delivered.
    Watch,
    /// Connect, open a session, close it, over and over; --depth has no meaning.
    Session,
    /// Only create --znodes znodes, in multis, and keep them.
    Populate,
}

/// Command line of `oxkeeper perf`.
#[derive(Clone, Debug, Args)]
pub struct PerfArgs {
    /// Servers, host:port with commas between; connections are spread over them.
    #[arg(long, default_value = "127.0.0.1:2181", value_delimiter = ',')]
    pub servers: Vec<String>,
    /// What the connections do.
    #[arg(long, short, value_enum, default_value = "get")]
    pub workload: Workload,
    /// Connections, each with a session of its own.
    #[arg(long, short, default_value_t = 10)]
    pub connections: usize,
    /// Requests in flight on each connection.
    #[arg(long, short = 'p', default_value_t = 16)]
    pub depth: usize,
    /// Bytes of each value.
    #[arg(long, default_value_t = 100)]
    pub value_bytes: usize,
    /// Seconds to measure.
    #[arg(long, short, default_value_t = 10.0)]
    pub duration_s: f64,
    /// Operations to measure, instead of a duration.
    #[arg(long)]
    pub count: Option<u64>,
    /// Operations per second over all connections, sent whether or not replies come (open loop). Without it each
    /// connection sends when a reply comes (closed loop).
    #[arg(long)]
    pub rate: Option<f64>,
    /// Distinct znodes for get, set, mixed, multi and populate; at least one per connection.
    #[arg(long, default_value_t = 1000)]
    pub znodes: u64,
    /// Share of reads in mixed, percent.
    #[arg(long, default_value_t = 90)]
    pub read_percent: u8,
    /// Operations in each multi.
    #[arg(long, default_value_t = 10)]
    pub multi_ops: usize,
    /// Watch with one persistent watch per watcher instead of one-shot watches that are set again.
    #[arg(long)]
    pub persistent_watch: bool,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Seconds of load before measuring starts.
    #[arg(long, default_value_t = 1.0)]
    pub warmup_s: f64,
    /// Session timeout to ask for, milliseconds.
    #[arg(long, default_value_t = 30_000)]
    pub session_timeout_ms: i32,
    /// Parent of all znodes of the run.
    #[arg(long, default_value = "/oxkeeper-perf")]
    pub root: String,
    /// Leave the znodes behind. A later run with the same root and value size uses them again.
    #[arg(long)]
    pub keep: bool,
    /// Do not fail because of errors (lost connections, say), only because of wrong replies.
    #[arg(long)]
    pub allow_errors: bool,
    /// Report as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// No progress line each second.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Checked options.
#[derive(Clone, Debug)]
pub struct PerfOptions {
    pub servers: Vec<SocketAddr>,
    pub workload: Workload,
    pub connections: usize,
    pub depth: usize,
    pub value_bytes: usize,
    pub length: RunLength,
    /// Operations per second over all connections; `None` is the closed loop.
    pub rate: Option<f64>,
    pub znodes: u64,
    pub read_percent: u8,
    pub multi_ops: usize,
    pub persistent_watch: bool,
    pub threads: usize,
    pub warmup: Duration,
    pub session_timeout_ms: i32,
    pub root: String,
    pub keep: bool,
    pub allow_errors: bool,
    pub quiet: bool,
}

/// When measuring ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RunLength {
    Time(Duration),
    /// This many operations were sent.
    Operations(u64),
}

impl TryFrom<PerfArgs> for PerfOptions {
    type Error = PerfError;

    fn try_from(args: PerfArgs) -> Result<Self, PerfError> {
        check(&args)?;
        let length = match args.count {
            Some(count) => RunLength::Operations(count),
            None => RunLength::Time(seconds("duration-s", args.duration_s)?),
        };
        // The watch workload's setter and watchers act in step, so one thread drives them.
        let threads = if args.workload == Workload::Watch {
            1
        } else {
            args.threads
        };
        Ok(Self {
            servers: resolve(&args.servers)?,
            workload: args.workload,
            connections: args.connections,
            depth: args.depth,
            value_bytes: args.value_bytes,
            length,
            rate: args.rate,
            znodes: args.znodes.max(args.connections as u64),
            read_percent: args.read_percent,
            multi_ops: args.multi_ops,
            persistent_watch: args.persistent_watch,
            threads: threads.min(args.connections),
            warmup: seconds("warmup-s", args.warmup_s)?,
            session_timeout_ms: args.session_timeout_ms,
            root: args.root,
            keep: args.keep || args.workload == Workload::Populate,
            allow_errors: args.allow_errors,
            quiet: args.quiet,
        })
    }
}

fn check(args: &PerfArgs) -> Result<(), PerfError> {
    let refuse = |reason: &str| Err(PerfError::Options(reason.to_owned()));
    if args.connections == 0 || args.depth == 0 || args.threads == 0 || args.multi_ops == 0 {
        return refuse("--connections, --depth, --threads and --multi-ops must be at least 1");
    }
    if args
        .rate
        .is_some_and(|rate| !(rate.is_finite() && rate > 0.0))
    {
        return refuse("--rate must be above 0");
    }
    if args.read_percent > 100 {
        return refuse("--read-percent is at most 100");
    }
    if args.value_bytes > VALUE_BYTES_MAX {
        return refuse("--value-bytes is at most 1000000");
    }
    if args.workload == Workload::Multi
        && args.multi_ops.saturating_mul(args.value_bytes) > VALUE_BYTES_MAX
    {
        return refuse("--multi-ops times --value-bytes is at most 1000000");
    }
    if args.root == "/" || oxkeeper_wire::paths::validate(&args.root).is_err() {
        return refuse("--root must be a valid path below /");
    }
    Ok(())
}

fn seconds(option: &str, value: f64) -> Result<Duration, PerfError> {
    Duration::try_from_secs_f64(value)
        .map_err(|fault| PerfError::Options(format!("--{option}: {fault}")))
}

fn resolve(servers: &[String]) -> Result<Vec<SocketAddr>, PerfError> {
    let mut addresses = Vec::with_capacity(servers.len());
    for server in servers {
        let mut found = server
            .to_socket_addrs()
            .map_err(|fault| PerfError::Options(format!("server {server}: {fault}")))?;
        let address = found.next();
        addresses.push(
            address.ok_or_else(|| PerfError::Options(format!("server {server} has no address")))?,
        );
    }
    Ok(addresses)
}
