//! The load generator behind `oxkeeper perf`, for any server that speaks ZooKeeper's protocol.
//!
//! It must not flatter a server, and must not be the bottleneck: one thread makes some hundred thousand operations
//! per second. It knows nothing of Oxkeeper but the wire format.
//!
//! Entry types: [`PerfArgs`] (command line), [`PerfOptions`] (checked), [`run`], [`Report`]; [`command`] is all
//! of `oxkeeper perf`.
//!
//! # What the numbers mean
//!
//! - **Closed loop** (no rate): each connection keeps `depth` requests in flight and sends the next when a reply
//!   comes. It finds the most a server can do. A server that stalls also stalls the generator, so its latencies tell
//!   little about what independent clients would see.
//! - **Open loop** (a rate): operation number `k` is due at `start + k / rate`, whatever the server does, and goes to
//!   connection `k mod connections`. If `depth` requests are in flight there it waits, and **its latency counts from
//!   the moment it was due**, so a stall of a second shows in every operation that fell into it (no coordinated
//!   omission). Operations still unsent or unanswered at the end are *unanswered*; the time that they had waited by
//!   then stands in the percentiles as a lower bound.
//! - **operations/s**: replies to operations that were due within the measured window, over the time from its start
//!   to the last of those replies. Warm-up, setting up, pings and cleaning up are not in it. In `watch` each event
//!   delivered is an operation, and so is each set; in `session` one open and close together; in `multi` one multi.
//! - **latency**: from due (open loop) or written to the output buffer (closed loop) until the generator has read the
//!   reply from its socket. At great depth most of it is waiting in queues: latency is comparable between servers
//!   only at the same rate, or at one request in flight.
//! - **longest gap**: the longest time within the window in which a thread awaited at least one reply and none came.
//!   It shows pauses (snapshots, garbage collection, failover) that percentiles hide.
//! - **wrong replies**: each reply is checked: order of xids, zxids that never go back, versions that rise by one
//!   with each set, data that belongs to the version in the Stat, lengths, created paths, one event per watch with
//!   the right type, path and zxid. After a lost connection the session is taken up again, and the version found
//!   must lie between the last acknowledged and the last sent. Any wrong reply, and without `--allow-errors` any
//!   error, fails the run.

// The macros that print panic where nobody can be told.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod connection;
mod content;
mod options;
mod pace;
mod plain;
mod report;
mod run;
mod script;
mod stage;
mod tally;
mod timer;
mod worker;

pub use options::{PerfArgs, PerfOptions, RunLength, Workload};
pub use report::{LatencySummary, Report};
pub use run::{command, run};

use std::io;
use std::net::SocketAddr;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    #[error("{0}")]
    Options(String),
    #[error("cannot connect to {server}: {fault}")]
    Connect {
        server: SocketAddr,
        fault: io::Error,
    },
    /// The server did something while setting up or cleaning up that leaves no way on.
    #[error("{0}")]
    Protocol(String),
    #[error("not all connections could be opened in time")]
    ConnectTimeout,
    #[error("a generator thread panicked")]
    Panicked,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("report: {0}")]
    Json(#[from] serde_json::Error),
}
