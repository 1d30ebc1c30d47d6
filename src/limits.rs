//! Limits of the process itself; those of its rooms lie with them.

use std::time::Duration;

/// Log lines that wait to be written, in bytes. What comes beyond is lost, and counted.
pub(crate) const WAITING_LOG_BYTES_MAX: usize = 1 << 20;

/// How long the end of the process waits for its last log lines to be written.
pub(crate) const LAST_LOG_LINES_WAIT: Duration = Duration::from_secs(1);

/// HTTP connections at a time. The one that has been open longest makes room for a new one, so that
/// neither a scrape nor a ZooKeeper client ever waits for those who connect and say nothing.
pub(crate) const HTTP_CONNECTIONS_MAX: usize = 64;

/// How long an HTTP connection lasts: one request, sent, answered and read.
pub(crate) const HTTP_CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause after a failed accept: when file descriptors run out, trying again at once helps nobody.
pub(crate) const HTTP_ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Head of an HTTP request, in bytes.
pub(crate) const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;

/// How long the shard may take to answer before `/health` calls it unwell.
pub(crate) const HEALTHY_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(HEALTHY_ANSWER_TIME_MAX.as_millis() < HTTP_CONNECTION_TIME_MAX.as_millis());
