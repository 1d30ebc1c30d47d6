//! The node's clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use oxkeeper_shard::Now;

/// What tells a shard the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            monotonic_us: self.started.elapsed().as_micros() as u64,
            wall_ms: wall.as_millis() as i64,
        }
    }
}

/// Nanoseconds since `from`.
pub(crate) fn elapsed_ns(from: Instant) -> u64 {
    from.elapsed().as_nanos() as u64
}
