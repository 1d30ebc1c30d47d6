//! Every limit of the net in one place.

use std::time::Duration;

/// Connections that the kernel may hold while they wait to be accepted.
pub(crate) const BACKLOG: i32 = 4096;

/// Pause after a failed accept: when file descriptors run out, trying again at once helps nobody.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Bytes read from a socket at a time.
pub(crate) const READ_CHUNK_BYTES: usize = 16 << 10;

/// How long a closing connection may take to receive its last bytes.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// How long a stopping proxy waits for the replies of requests it has already read.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// How long a stopping proxy waits for its connections to end.
pub(crate) const STOP: Duration = Duration::from_secs(8);

/// Heartbeats per tick: a session's deadline lags by less than this share.
pub(crate) const HEARTBEATS_PER_TICK: u32 = 8;
