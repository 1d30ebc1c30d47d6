//! The elapsed time of entries: what TTLs and other ages are counted by.

use oxkeeper_model::Now;

/// A stop of the shard that is longer than this by the wall clock is not counted: more likely the
/// clock was wrong.
const STOP_MS_MAX: i64 = 86_400_000;

/// Times of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) wall_ms: i64,
    pub(crate) elapsed_ms: u64,
}

/// Goes on from the last entry by the monotonic clock, so it never goes back and does not jump.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elapsed {
    since: Now,
    /// At `since`.
    elapsed_ms: u64,
}

impl Elapsed {
    /// `last`: of the last entry there is. The time since then counts as the wall clock shows it.
    pub(crate) fn new(last: Times, now: Now) -> Self {
        let stop_ms = match now.wall_ms.saturating_sub(last.wall_ms) {
            stop_ms @ 0..=STOP_MS_MAX => stop_ms as u64,
            _ => 0,
        };
        Self {
            since: now,
            elapsed_ms: last.elapsed_ms.saturating_add(stop_ms),
        }
    }

    /// Of an entry that is made now.
    pub(crate) fn times(&self, now: Now) -> Times {
        let passed_us = now.monotonic_us.saturating_sub(self.since.monotonic_us);
        Times {
            wall_ms: now.wall_ms,
            elapsed_ms: self.elapsed_ms.saturating_add(passed_us / 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const START_MS: i64 = 1_700_000_000_000;

    fn at(monotonic_ms: i64, wall_ms: i64) -> Now {
        Now {
            monotonic_us: monotonic_ms as u64 * 1_000,
            wall_ms,
        }
    }

    fn after_stop(stop_ms: i64) -> i64 {
        let last = Times {
            wall_ms: START_MS,
            elapsed_ms: 5,
        };
        let now = at(7, START_MS + stop_ms);
        Elapsed::new(last, now).times(now).elapsed_ms as i64
    }

    #[test]
    fn a_stop_counts_unless_the_wall_clock_went_back_or_far_ahead() {
        assert_eq!(after_stop(HOUR_MS), 5 + HOUR_MS);
        assert_eq!(after_stop(STOP_MS_MAX), 5 + STOP_MS_MAX);
        assert_eq!(after_stop(STOP_MS_MAX + 1), 5);
        assert_eq!(after_stop(-1), 5);
        let new_shard = Elapsed::new(Times::default(), at(0, START_MS));
        assert_eq!(new_shard.times(at(0, START_MS)).elapsed_ms, 0);
    }

    #[test]
    fn while_the_shard_runs_only_the_monotonic_clock_counts() {
        let elapsed = Elapsed::new(Times::default(), at(100, START_MS));
        let times = elapsed.times(at(350, START_MS - 10 * HOUR_MS));
        assert_eq!(times.elapsed_ms, 250);
        assert_eq!(times.wall_ms, START_MS - 10 * HOUR_MS);
    }
}
