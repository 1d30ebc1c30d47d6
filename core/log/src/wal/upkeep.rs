//! What keeps the folder small and the next segments at hand.

use oxkeeper_model::Offset;

use super::Wal;
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::SEGMENT_HEADER_BYTES;
use crate::jobs::{PrepareDone, PrepareJob, TrimDone, TrimJob};
use crate::spare::Spare;

impl<D: Disk> Wal<D> {
    /// Starts to give up segments whose entries are all before `offset`, which readers no longer find from
    /// now on; the last entry always stays. `None` if there is nothing to do, or while another operation is
    /// under way that it must wait for.
    pub fn start_trim(&mut self, offset: Offset) -> Option<TrimJob<D>> {
        if self.poisoned || self.under_way.trim || self.under_way.segment {
            return None;
        }
        // Never so far that a crash could leave the log without its last entry.
        let limit = offset.min(self.durable);
        let mut spares = self.spares();
        let mut segments = Vec::new();
        let shared = self.shared.clone();
        let mut view = shared.lock();
        while let Some(before) = view.segments.get(1).map(|next| next.before)
            && before.offset < limit
            && let Some(old) = view.segments.pop_front()
        {
            segments.push(self.given_up(&old, &mut spares));
            self.start = before;
        }
        if segments.is_empty() {
            return None;
        }
        self.terms.trim_before(self.start.offset.next());
        self.under_way.trim = true;
        Some(TrimJob {
            disk: self.disk.clone(),
            segments,
        })
    }

    /// Takes a trim's end.
    pub fn finish_trim(&mut self, done: TrimDone) -> Result<(), WalError> {
        self.under_way.trim = false;
        self.check_poison()?;
        done.spares.iter().for_each(|&spare| self.pool.give(spare));
        self.or_poison(done.result)
    }

    /// [`Wal::start_trim`] in line.
    pub fn trim_below(&mut self, offset: Offset) -> Result<(), WalError> {
        self.check_poison()?;
        match self.start_trim(offset) {
            Some(job) => self.finish_trim(job.run()),
            None => Ok(()),
        }
    }

    /// Starts to make a file that the log will want: the reserve if it is missing, or the next segment when half
    /// of the present one is used. Without it the log makes its segments when it needs them, which works but is slower.
    /// After [`WalError::NoSpace`] the same job is offered again; when to try is the caller's choice.
    pub fn start_prepare(&mut self) -> Option<PrepareJob<D>> {
        if self.poisoned || self.under_way.prepare {
            return None;
        }
        if self.shared.lock().segments.is_empty() {
            return None;
        }
        let bytes = match self.pool.lacks_reserve() {
            true => self.options.reserve_bytes,
            false => self.wanted_spare()?,
        };
        self.under_way.prepare = true;
        let number = self.next_number();
        Some(PrepareJob {
            disk: self.disk.clone(),
            spare: Spare { number, bytes },
        })
    }

    /// Length of the spare that is missing.
    fn wanted_spare(&self) -> Option<u64> {
        let active = self.active.as_ref()?;
        let bytes = self.next_segment_bytes();
        let used = self.end.position - SEGMENT_HEADER_BYTES;
        let soon = used >= (active.bytes - SEGMENT_HEADER_BYTES) / 2;
        (soon && self.pool.count(bytes) < self.options.prepare_segments).then_some(bytes)
    }

    /// Takes a preparation's end. Its errors say what is wrong with the disk, but do not concern what is logged.
    pub fn finish_prepare(&mut self, done: PrepareDone) -> Result<(), WalError> {
        self.under_way.prepare = false;
        self.pool.give(done.result?);
        Ok(())
    }

    /// [`Wal::start_prepare`] in line.
    pub fn prepare(&mut self) -> Result<(), WalError> {
        match self.start_prepare() {
            Some(job) => self.finish_prepare(job.run()),
            None => Ok(()),
        }
    }

    /// Spare files of full length that are ready, without the reserve.
    pub fn spares(&self) -> usize {
        self.pool.count(self.options.segment_bytes)
    }
}
