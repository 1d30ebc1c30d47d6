//! The time as a shard is told it.

/// When a step happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// For deadlines: never goes back within one process; any origin.
    pub monotonic_us: u64,
    /// For stamps: milliseconds since the epoch; may jump.
    pub wall_ms: i64,
}

impl Now {
    pub(crate) fn monotonic_ms(self) -> u64 {
        self.monotonic_us / 1_000
    }
}
