//! When the operations of an open loop are due.
//!
//! Naive: send, wait for the reply, sleep, repeat. A stalled server then stalls the generator too, and the
//! operations that should have met the stall are never sent nor measured (coordinated omission). Here operation
//! `k` is due at a time that depends on `k` alone, and its latency counts from then, however late it is sent.

/// A fixed rate, spread over connections in turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    start_ns: u64,
    interval_ns: f64,
    connections: u64,
}

impl Pace {
    pub(crate) fn new(start_ns: u64, operations_per_s: f64, connections: usize) -> Self {
        Self {
            start_ns,
            interval_ns: 1e9 / operations_per_s,
            connections: connections as u64,
        }
    }

    /// When the operation with this number, counted over all connections, is due.
    pub(crate) fn due_ns(&self, operation: u64) -> u64 {
        self.start_ns + (operation as f64 * self.interval_ns) as u64
    }

    /// When the `nth` operation of one connection is due.
    pub(crate) fn due_on_ns(&self, connection: usize, nth: u64) -> u64 {
        self.due_ns(nth * self.connections + connection as u64)
    }

    /// How many operations of one connection are due at `now_ns`.
    pub(crate) fn due_count(&self, connection: usize, now_ns: u64) -> u64 {
        let Some(elapsed) = now_ns.checked_sub(self.start_ns) else {
            return 0;
        };
        let due = (elapsed as f64 / self.interval_ns) as u64 + 1;
        (due + self.connections - 1).saturating_sub(connection as u64) / self.connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_are_evenly_spread_over_the_connections() {
        let pace = Pace::new(1000, 1e6, 4);
        assert_eq!(pace.due_ns(0), 1000);
        assert_eq!(pace.due_ns(5), 6000);
        assert_eq!(
            pace.due_on_ns(1, 1),
            6000,
            "the fifth operation is the second of connection 1"
        );
    }

    #[test]
    fn counts_agree_with_due_times() {
        let pace = Pace::new(1000, 1e6, 4);
        for connection in 0..4 {
            for nth in 0..100 {
                let due_ns = pace.due_on_ns(connection, nth);
                assert_eq!(
                    pace.due_count(connection, due_ns),
                    nth + 1,
                    "at the time it is due"
                );
                assert_eq!(pace.due_count(connection, due_ns - 1), nth, "just before");
            }
        }
        assert_eq!(pace.due_count(0, 0), 0, "nothing is due before the start");
    }
}
