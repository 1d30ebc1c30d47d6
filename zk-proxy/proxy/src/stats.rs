//! What the proxy counts, for `mntr`, `srvr`, `cons` and the metrics page.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use oxkeeper_wire::OpCode;

/// Sub-buckets per power of two: latencies are told to within an eighth.
const SUB_BUCKETS: u64 = 8;
const BUCKETS: usize = 40 * SUB_BUCKETS as usize;

/// A distribution of latencies in microseconds, without locks.
pub(crate) struct Latencies {
    buckets: Box<[AtomicU64]>,
    count: AtomicU64,
    sum_us: AtomicU64,
    min_us: AtomicU64,
    max_us: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
            min_us: AtomicU64::new(u64::MAX),
            max_us: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    fn record(&self, latency: Duration) {
        let us = latency.as_micros() as u64;
        self.buckets[bucket_of(us)].fetch_add(1, Relaxed);
        self.count.fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
        if us < self.min_us.load(Relaxed) {
            self.min_us.fetch_min(us, Relaxed);
        }
        if us > self.max_us.load(Relaxed) {
            self.max_us.fetch_max(us, Relaxed);
        }
    }

    fn reset(&self) {
        self.buckets
            .iter()
            .for_each(|bucket| bucket.store(0, Relaxed));
        self.count.store(0, Relaxed);
        self.sum_us.store(0, Relaxed);
        self.min_us.store(u64::MAX, Relaxed);
        self.max_us.store(0, Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub(crate) fn sum_ms(&self) -> f64 {
        self.sum_us.load(Relaxed) as f64 / 1000.0
    }

    pub(crate) fn min_ms(&self) -> u64 {
        match self.min_us.load(Relaxed) {
            u64::MAX => 0,
            us => us / 1000,
        }
    }

    pub(crate) fn max_ms(&self) -> u64 {
        self.max_us.load(Relaxed) / 1000
    }

    pub(crate) fn average_ms(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum_ms() / count as f64,
        }
    }

    /// The latency that the share `quantile` of all stay within.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        let wanted = (self.count() as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Relaxed);
            if seen >= wanted && seen > 0 {
                return upper_bound_us(index) as f64 / 1000.0;
            }
        }
        0.0
    }
}

fn bucket_of(us: u64) -> usize {
    if us < SUB_BUCKETS {
        return us as usize;
    }
    let power = u64::from(us.ilog2()) - u64::from(SUB_BUCKETS.ilog2());
    let within = (us >> power) - SUB_BUCKETS;
    ((SUB_BUCKETS + power * SUB_BUCKETS + within) as usize).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper_bound_us(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB_BUCKETS {
        return bucket;
    }
    let power = bucket / SUB_BUCKETS - 1;
    let within = bucket % SUB_BUCKETS;
    ((SUB_BUCKETS + within + 1) << power) - 1
}

/// Counters of the whole proxy since its start or the last `srst`.
pub(crate) struct Stats {
    pub(crate) started: Instant,
    /// Of all requests.
    pub(crate) latencies: Latencies,
    pub(crate) read_latencies: Latencies,
    pub(crate) update_latencies: Latencies,
    pub(crate) packets_received: AtomicU64,
    pub(crate) packets_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) auth_failed: AtomicU64,
    pub(crate) connections_accepted: AtomicU64,
    pub(crate) connections_rejected: AtomicU64,
    pub(crate) connections_dropped: AtomicU64,
    pub(crate) sessions_expired: AtomicU64,
    pub(crate) large_requests_rejected: AtomicU64,
    pub(crate) events_sent: AtomicU64,
    /// setData by a session on another session's ephemeral znode: it vanishes with its owner.
    pub(crate) foreign_ephemeral_writes: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            latencies: Latencies::default(),
            read_latencies: Latencies::default(),
            update_latencies: Latencies::default(),
            packets_received: AtomicU64::new(0),
            packets_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            auth_failed: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_rejected: AtomicU64::new(0),
            connections_dropped: AtomicU64::new(0),
            sessions_expired: AtomicU64::new(0),
            large_requests_rejected: AtomicU64::new(0),
            events_sent: AtomicU64::new(0),
            foreign_ephemeral_writes: AtomicU64::new(0),
        }
    }
}

impl Stats {
    pub(crate) fn answered(&self, op: OpCode, latency: Duration) {
        self.packets_sent.fetch_add(1, Relaxed);
        self.latencies.record(latency);
        match op {
            OpCode::CREATE
            | OpCode::CREATE2
            | OpCode::CREATE_CONTAINER
            | OpCode::CREATE_TTL
            | OpCode::DELETE
            | OpCode::SET_DATA
            | OpCode::SET_ACL
            | OpCode::MULTI
            | OpCode::CLOSE_SESSION => self.update_latencies.record(latency),
            OpCode::PING | OpCode::AUTH | OpCode::SASL => {}
            _ => self.read_latencies.record(latency),
        }
    }

    pub(crate) fn auth_failed(&self) {
        self.auth_failed.fetch_add(1, Relaxed);
    }

    pub(crate) fn reset(&self) {
        for latencies in [
            &self.latencies,
            &self.read_latencies,
            &self.update_latencies,
        ] {
            latencies.reset();
        }
        self.packets_received.store(0, Relaxed);
        self.packets_sent.store(0, Relaxed);
    }
}

/// Counters of one connection since it was accepted or the last `crst`.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionStats {
    pub(crate) established: Instant,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) last_op: OpCode,
    pub(crate) last_xid: i32,
    pub(crate) last_zxid: i64,
    pub(crate) last_response: Instant,
    pub(crate) last_latency: Duration,
    pub(crate) min_latency: Option<Duration>,
    pub(crate) max_latency: Duration,
    pub(crate) total_latency: Duration,
    pub(crate) answered: u64,
}

/// What `cons` shows before the first request.
const NO_OP: OpCode = OpCode(0);

impl ConnectionStats {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            established: now,
            received: 0,
            sent: 0,
            last_op: NO_OP,
            last_xid: -1,
            last_zxid: -1,
            last_response: now,
            last_latency: Duration::ZERO,
            min_latency: None,
            max_latency: Duration::ZERO,
            total_latency: Duration::ZERO,
            answered: 0,
        }
    }

    pub(crate) fn note_op(&mut self, op: OpCode, xid: i32) {
        self.last_op = op;
        self.last_xid = xid;
    }

    pub(crate) fn answered(&mut self, now: Instant, latency: Duration, zxid: i64) {
        self.sent += 1;
        self.answered += 1;
        self.last_zxid = zxid;
        self.last_response = now;
        self.last_latency = latency;
        self.total_latency += latency;
        self.max_latency = self.max_latency.max(latency);
        self.min_latency = Some(self.min_latency.map_or(latency, |least| least.min(latency)));
    }

    pub(crate) fn average_latency(&self) -> Duration {
        match u32::try_from(self.answered) {
            Ok(0) | Err(_) => Duration::ZERO,
            Ok(count) => self.total_latency / count,
        }
    }

    pub(crate) fn reset(&mut self, now: Instant) {
        *self = Self {
            established: self.established,
            ..Self::new(now)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_bound_their_values_within_an_eighth() {
        for us in (0..10_000).chain([1 << 20, (1 << 30) + 12345]) {
            let bound = upper_bound_us(bucket_of(us));
            assert!(us <= bound && bound <= us + us / 8 + 1, "{us} {bound}");
        }
    }

    #[test]
    fn quantiles_follow_the_counts() {
        let latencies = Latencies::default();
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let median = latencies.quantile_ms(0.5);
        assert!((500.0..570.0).contains(&median), "{median}");
        assert_eq!(
            (latencies.min_ms(), latencies.max_ms(), latencies.count()),
            (1, 1000, 1000)
        );
        latencies.reset();
        assert_eq!(
            (latencies.min_ms(), latencies.max_ms(), latencies.count()),
            (0, 0, 0)
        );
    }
}
