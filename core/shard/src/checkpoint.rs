//! When checkpoints are made: the store is flushed beside the shard's work, then the log is trimmed.
//!
//! A disk that is too slow for the flushes holds up the shard, not the memory: see
//! [`DIRTY_FACTOR_MAX`].
//!
//! The flush freezes what the store holds at one log offset; the log is trimmed only below what
//! was flushed, and only after it was. So a crash at any moment finds in the log everything
//! that the store lacks.

/// When so many times the size at which a checkpoint is due has gathered behind the one under
/// way, nothing more is appended before its end.
const DIRTY_FACTOR_MAX: usize = 8;

/// The pace of one shard's checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    dirty_bytes_max: usize,
    commands_max: u64,
    /// Commands that were applied since the last checkpoint began.
    commands: u64,
    /// Between the start of a flush and the end of its trim. Invariant: at most one is.
    under_way: bool,
    /// One found no space: not before then is the next.
    owed_at_us: Option<u64>,
}

impl Checkpoints {
    pub(crate) fn new(dirty_bytes_max: usize, commands_max: u64) -> Self {
        Self {
            dirty_bytes_max,
            commands_max,
            commands: 0,
            under_way: false,
            owed_at_us: None,
        }
    }

    pub(crate) fn applied(&mut self, commands: usize) {
        self.commands += commands as u64;
    }

    pub(crate) fn is_due(&self, dirty_bytes: usize, now_us: u64) -> bool {
        let due = match self.owed_at_us {
            Some(at_us) => now_us >= at_us,
            None => dirty_bytes >= self.dirty_bytes_max || self.commands >= self.commands_max,
        };
        due && !self.under_way
    }

    /// Whether the last one found no space.
    pub(crate) fn is_owed(&self) -> bool {
        self.owed_at_us.is_some()
    }

    pub(crate) fn wake_us(&self) -> Option<u64> {
        self.owed_at_us.filter(|_| !self.under_way)
    }

    pub(crate) fn postponed(&mut self, again_us: u64) {
        self.under_way = false;
        self.owed_at_us = Some(again_us);
    }

    /// The store has it.
    pub(crate) fn flushed(&mut self) {
        self.owed_at_us = None;
    }

    pub(crate) fn begun(&mut self) {
        self.commands = 0;
        self.under_way = true;
    }

    pub(crate) fn ended(&mut self) {
        self.under_way = false;
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Whether the flush is so far behind that nothing more may be appended before its end.
    pub(crate) fn is_behind(&self, dirty_bytes: usize) -> bool {
        self.under_way && dirty_bytes / DIRTY_FACTOR_MAX >= self.dirty_bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_by_bytes_or_by_commands_and_the_next_waits_when_it_lags() {
        let mut checkpoints = Checkpoints::new(100, 10);
        assert!(!checkpoints.is_due(99, 0) && checkpoints.is_due(100, 0));
        checkpoints.applied(10);
        assert!(checkpoints.is_due(0, 0));
        checkpoints.begun();
        assert!(!checkpoints.is_due(100, 0), "one is under way");
        assert!(!checkpoints.is_behind(799) && checkpoints.is_behind(800));
        checkpoints.ended();
        assert!(
            !checkpoints.is_due(0, 0),
            "counted from the last one's start"
        );
        assert!(checkpoints.is_due(800, 0) && !checkpoints.is_behind(800));
        checkpoints.begun();
        checkpoints.postponed(7);
        assert!(
            !checkpoints.is_due(800, 6) && checkpoints.is_due(0, 7),
            "no space before"
        );
        checkpoints.begun();
        checkpoints.flushed();
        checkpoints.ended();
        assert!(!checkpoints.is_due(0, 8));
    }
}
