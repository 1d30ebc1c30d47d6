//! Files that wait to become segments.
//!
//! A file whose blocks were written before syncs faster than one that grows or that was only
//! reserved, so trimmed segments of full length are kept, and a [`crate::PrepareJob`] fills fresh ones ahead.
//!
//! One file more, the *reserve*, is only for the shard's own entries on a full disk.

/// A file with its space reserved; its content is durable and means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Pool {
    spares: Vec<Spare>,
    reserve: Option<Spare>,
    /// Length of the reserve; 0: there shall be none.
    reserve_bytes: u64,
}

impl Pool {
    pub(crate) fn new(reserve_bytes: u64) -> Self {
        Self {
            reserve_bytes,
            ..Self::default()
        }
    }

    /// Takes the shortest spare of at least `bytes`.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<Spare> {
        let fits = |spare: &&Spare| spare.bytes >= bytes;
        let best = self.spares.iter().filter(fits).min_by_key(|s| s.bytes);
        let best = *best?;
        self.spares.retain(|spare| *spare != best);
        Some(best)
    }

    /// Takes the reserve if it has `bytes`.
    pub(crate) fn take_reserve(&mut self, bytes: u64) -> Option<Spare> {
        self.reserve.take_if(|reserve| reserve.bytes >= bytes)
    }

    /// A missing reserve comes first.
    pub(crate) fn give(&mut self, spare: Spare) {
        if self.lacks_reserve() && spare.bytes == self.reserve_bytes {
            self.reserve = Some(spare);
        } else {
            self.spares.push(spare);
        }
    }

    pub(crate) fn lacks_reserve(&self) -> bool {
        self.reserve.is_none() && self.reserve_bytes > 0
    }

    /// Spares of at least `bytes`, without the reserve.
    pub(crate) fn count(&self, bytes: u64) -> usize {
        self.spares.iter().filter(|s| s.bytes >= bytes).count()
    }
}
