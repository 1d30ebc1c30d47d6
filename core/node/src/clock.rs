//! The only place that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A shard's view of time.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// Log time of the last entry. Invariant: never goes back, whatever the wall clock does.
    log_ms: i64,
}

impl Clock {
    /// `log_ms`: log time of the last entry there is.
    pub(crate) fn new(log_ms: i64) -> Self {
        Self {
            started: Instant::now(),
            log_ms,
        }
    }

    /// Monotonic; for deadlines.
    pub(crate) fn monotonic_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The log time of a new entry.
    pub(crate) fn next_log_ms(&mut self) -> i64 {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.log_ms = self.log_ms.max(wall.as_millis() as i64);
        self.log_ms
    }
}

/// Nanoseconds since `from`.
pub(crate) fn elapsed_ns(from: Instant) -> u64 {
    from.elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_time_does_not_follow_the_wall_clock_back() {
        let future_ms = Clock::new(0).next_log_ms() + 3_600_000;
        let mut clock = Clock::new(future_ms);
        assert_eq!(clock.next_log_ms(), future_ms);
        assert_eq!(clock.next_log_ms(), future_ms);
    }
}
