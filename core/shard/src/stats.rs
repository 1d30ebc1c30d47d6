//! What a shard counts while it runs: atomics that anyone may read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets of a histogram: one per power of two up to 2^39 (nine minutes in nanoseconds).
const BUCKETS: usize = 40;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A value that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Count, sum, maximum and powers of two of what was recorded.
#[derive(Debug)]
pub struct Histogram {
    sum: AtomicU64,
    max: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
            buckets,
        }
    }
}

impl Histogram {
    pub fn record(&self, value: u64) {
        self.sum.fetch_add(value, Relaxed);
        self.max.fetch_max(value, Relaxed);
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Pairs of a bucket's upper end (excluded) and the count of values in it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let count = |(at, bucket): (usize, &AtomicU64)| (1u64 << at, bucket.load(Relaxed));
        self.buckets.iter().enumerate().map(count)
    }

    /// An upper bound of the given quantile (0 to 1), within a factor of two; 0 if empty.
    pub fn quantile_bound(&self, quantile: f64) -> u64 {
        let rank = (self.count() as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (end, count) in self.buckets() {
            seen += count;
            if count > 0 && seen >= rank {
                return end.min(self.max());
            }
        }
        self.max()
    }
}

/// Statistics of one shard since the start of the process.
#[derive(Debug, Default)]
pub struct ShardStats {
    /// Syncs of the log, in nanoseconds each.
    pub log_sync_ns: Histogram,
    /// Giving up log segments that a checkpoint made needless, in nanoseconds each.
    pub log_trim_ns: Histogram,
    /// Commands per log entry.
    pub entry_commands: Histogram,
    /// Encoded bytes of log entries.
    pub log_bytes: Counter,
    /// Applying an entry, in nanoseconds each.
    pub apply_ns: Histogram,
    pub applied_commands: Counter,
    /// Entries applied at startup, and how long that took.
    pub replayed_entries: Counter,
    pub replay_ms: Gauge,
    pub queries: Counter,
    pub sessions_expired: Counter,
    pub records_reaped: Counter,
    /// Checkpoints that were made durable, in nanoseconds from start to end.
    pub checkpoint_ns: Histogram,
    pub links: Gauge,
    pub sessions: Gauge,
    pub term: Gauge,
    /// Offset of the last applied entry.
    pub applied_offset: Gauge,
    pub revision: Gauge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_bounds_its_quantiles() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile_bound(0.5), 0);
        (1..=100).for_each(|value| histogram.record(value));
        assert_eq!(
            (histogram.count(), histogram.sum(), histogram.max()),
            (100, 5050, 100)
        );
        assert_eq!(histogram.quantile_bound(0.5), 64);
        assert_eq!(histogram.quantile_bound(1.0), 100);
        histogram.record(u64::MAX);
        assert_eq!(histogram.count(), 101);
    }
}
