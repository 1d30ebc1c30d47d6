//! What every step of a shard is told of time.

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Never goes back; from an arbitrary start. For deadlines and ages.
    pub monotonic_us: u64,
    /// Milliseconds since the epoch; may go back. For stamps only.
    pub wall_ms: i64,
}

impl Now {
    pub fn monotonic_ms(self) -> u64 {
        self.monotonic_us / 1_000
    }
}
