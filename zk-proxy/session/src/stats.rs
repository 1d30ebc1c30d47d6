//! What the proxy counts, for `mntr`, `srvr`, `cons` and the metrics page.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oxkeeper_wire::{EventType, OpCode};

/// Before each frame on the wire.
const LENGTH_FIELD_BYTES: usize = 4;

/// Sub-buckets per power of two: latencies are told to within an eighth.
const SUB_BUCKETS: u64 = 8;
const BUCKETS: usize = 40 * SUB_BUCKETS as usize;

/// A distribution of latencies in microseconds, without locks.
pub struct Latencies {
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
    fn record(&self, us: u64) {
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

    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub fn sum_ms(&self) -> f64 {
        self.sum_us.load(Relaxed) as f64 / 1000.0
    }

    pub fn min_ms(&self) -> u64 {
        match self.min_us.load(Relaxed) {
            u64::MAX => 0,
            us => us / 1000,
        }
    }

    pub fn max_ms(&self) -> u64 {
        self.max_us.load(Relaxed) / 1000
    }

    pub fn average_ms(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum_ms() / count as f64,
        }
    }

    /// The latency that the share `quantile` of all stay within.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
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

/// Count, sum and extremes of what was recorded, without locks.
#[derive(Default)]
pub struct Amounts {
    count: AtomicU64,
    sum: AtomicU64,
    /// Meaningless while `count` is 0.
    min: AtomicU64,
    max: AtomicU64,
    last: AtomicU64,
}

impl Amounts {
    pub(crate) fn record(&self, amount: u64) {
        if self.count.fetch_add(1, Relaxed) == 0 {
            self.min.store(amount, Relaxed);
        }
        self.sum.fetch_add(amount, Relaxed);
        if amount < self.min.load(Relaxed) {
            self.min.fetch_min(amount, Relaxed);
        }
        if amount > self.max.load(Relaxed) {
            self.max.fetch_max(amount, Relaxed);
        }
        self.last.store(amount, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    pub fn min(&self) -> Option<u64> {
        (self.count() > 0).then(|| self.min.load(Relaxed))
    }

    pub fn max(&self) -> Option<u64> {
        (self.count() > 0).then(|| self.max.load(Relaxed))
    }

    pub fn last(&self) -> Option<u64> {
        (self.count() > 0).then(|| self.last.load(Relaxed))
    }

    fn reset(&self) {
        for part in [&self.count, &self.sum, &self.min, &self.max, &self.last] {
            part.store(0, Relaxed);
        }
    }
}

/// How many watches each event found, by the kind of event.
#[derive(Default)]
pub struct WatchesFired {
    pub created: Amounts,
    pub deleted: Amounts,
    pub changed: Amounts,
    pub children: Amounts,
}

impl WatchesFired {
    pub(crate) fn of(&self, kind: EventType) -> &Amounts {
        match kind {
            EventType::NodeCreated => &self.created,
            EventType::NodeDeleted => &self.deleted,
            EventType::NodeDataChanged => &self.changed,
            EventType::NodeChildrenChanged => &self.children,
        }
    }
}

/// Counters of the whole proxy since its start or the last `srst`.
pub struct Stats {
    /// Of all requests.
    pub latencies: Latencies,
    pub read_latencies: Latencies,
    pub update_latencies: Latencies,
    pub packets_received: AtomicU64,
    pub packets_sent: AtomicU64,
    pub bytes_received: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub auth_failed: AtomicU64,
    /// Requests to open a session or to attach to one.
    pub session_requests: AtomicU64,
    pub connections_rejected: AtomicU64,
    pub connections_dropped: AtomicU64,
    /// Closed because too much was held for clients that do not read.
    pub connections_shed: AtomicU64,
    pub sessions_expired: AtomicU64,
    /// Connections that were closed because they did not ask for a session.
    pub sessionless_expired: AtomicU64,
    pub large_requests_rejected: AtomicU64,
    pub events_sent: AtomicU64,
    pub event_bytes: AtomicU64,
    pub watches_fired: WatchesFired,
    /// Bytes of each reply and event, without its length field.
    pub reply_bytes: Amounts,
    /// setData by a session on another session's ephemeral znode: it vanishes with its owner.
    pub foreign_ephemeral_writes: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            latencies: Latencies::default(),
            read_latencies: Latencies::default(),
            update_latencies: Latencies::default(),
            packets_received: AtomicU64::new(0),
            packets_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            auth_failed: AtomicU64::new(0),
            session_requests: AtomicU64::new(0),
            connections_rejected: AtomicU64::new(0),
            connections_dropped: AtomicU64::new(0),
            connections_shed: AtomicU64::new(0),
            sessions_expired: AtomicU64::new(0),
            sessionless_expired: AtomicU64::new(0),
            large_requests_rejected: AtomicU64::new(0),
            events_sent: AtomicU64::new(0),
            event_bytes: AtomicU64::new(0),
            watches_fired: WatchesFired::default(),
            reply_bytes: Amounts::default(),
            foreign_ephemeral_writes: AtomicU64::new(0),
        }
    }
}

impl Stats {
    /// A reply of so many bytes, with its length field, was written.
    pub(crate) fn answered(&self, op: OpCode, latency_us: u64, bytes: usize) {
        if let Some(bytes) = bytes.checked_sub(LENGTH_FIELD_BYTES) {
            self.reply_bytes.record(bytes as u64);
        }
        self.packets_sent.fetch_add(1, Relaxed);
        self.latencies.record(latency_us);
        match op {
            OpCode::CREATE
            | OpCode::CREATE2
            | OpCode::CREATE_CONTAINER
            | OpCode::CREATE_TTL
            | OpCode::DELETE
            | OpCode::SET_DATA
            | OpCode::SET_ACL
            | OpCode::MULTI
            | OpCode::CLOSE_SESSION => self.update_latencies.record(latency_us),
            OpCode::PING | OpCode::AUTH | OpCode::SASL => {}
            _ => self.read_latencies.record(latency_us),
        }
    }

    /// An event of so many bytes, with its length field, was written.
    pub(crate) fn event_sent(&self, bytes: usize) {
        let bytes = bytes.saturating_sub(LENGTH_FIELD_BYTES) as u64;
        self.packets_sent.fetch_add(1, Relaxed);
        self.reply_bytes.record(bytes);
        self.events_sent.fetch_add(1, Relaxed);
        self.event_bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn auth_failed(&self) {
        self.auth_failed.fetch_add(1, Relaxed);
    }

    pub fn reset(&self) {
        for latencies in [
            &self.latencies,
            &self.read_latencies,
            &self.update_latencies,
        ] {
            latencies.reset();
        }
        self.reply_bytes.reset();
        self.packets_received.store(0, Relaxed);
        self.packets_sent.store(0, Relaxed);
    }
}

/// Counters of one connection since it was accepted or the last `crst`.
#[derive(Clone, Debug)]
pub struct ConnectionStats {
    /// On the monotonic clock.
    pub established_us: u64,
    pub received: u64,
    pub sent: u64,
    pub last_op: OpCode,
    pub last_xid: i32,
    pub last_zxid: i64,
    pub last_response_us: u64,
    pub last_latency_us: u64,
    pub min_latency_us: Option<u64>,
    pub max_latency_us: u64,
    pub total_latency_us: u64,
    pub answered: u64,
}

/// What `cons` shows before the first request.
const NO_OP: OpCode = OpCode(0);

impl ConnectionStats {
    pub(crate) fn new(now_us: u64) -> Self {
        Self {
            established_us: now_us,
            received: 0,
            sent: 0,
            last_op: NO_OP,
            last_xid: -1,
            last_zxid: -1,
            last_response_us: now_us,
            last_latency_us: 0,
            min_latency_us: None,
            max_latency_us: 0,
            total_latency_us: 0,
            answered: 0,
        }
    }

    pub(crate) fn note_op(&mut self, op: OpCode, xid: i32) {
        self.last_op = op;
        self.last_xid = xid;
    }

    pub(crate) fn answered(&mut self, now_us: u64, latency_us: u64, zxid: i64) {
        self.sent += 1;
        self.answered += 1;
        self.last_zxid = zxid;
        self.last_response_us = now_us;
        self.last_latency_us = latency_us;
        self.total_latency_us += latency_us;
        self.max_latency_us = self.max_latency_us.max(latency_us);
        let least = self.min_latency_us;
        self.min_latency_us = Some(least.map_or(latency_us, |least| least.min(latency_us)));
    }

    pub fn average_latency_us(&self) -> u64 {
        self.total_latency_us
            .checked_div(self.answered)
            .unwrap_or(0)
    }

    pub(crate) fn reset(&mut self, now_us: u64) {
        *self = Self {
            established_us: self.established_us,
            ..Self::new(now_us)
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
        (1..=1000).for_each(|ms| latencies.record(ms * 1000));
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
