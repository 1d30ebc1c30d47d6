//! The log's writing end.

mod open;
mod segments;
mod upkeep;

use std::sync::Arc;

use oxkeeper_model::{Offset, ShardUuid, Term};

use crate::chain::{Chain, LogPoint};
use crate::cursor::{Cursor, Place};
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::format::{
    END_RECORD_BYTES, Kind, NewRecord, RECORD_HEADER_BYTES, encode_record, record_bytes,
};
use crate::jobs::{SegmentJob, SyncDone, SyncJob, SyncedFile};
use crate::limits::{BUFFER_BYTES_KEPT, ENTRY_BYTES_MAX, OFFSET_MAX, SEGMENT_BYTES_MIN};
use crate::reader::WalReader;
use crate::spare::Pool;
use crate::terms::TermIndex;
use crate::view::Shared;

pub use open::Recovery;

/// How a log uses its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// The shard's uuid; a log of another is refused.
    pub uuid: ShardUuid,
    /// Length of a segment file in a log that is busy. Bytes, default 64 MiB.
    pub segment_bytes: u64,
    /// Length of the first one; those that follow grow up to `segment_bytes`. Bytes, default 64 KiB.
    pub first_segment_bytes: u64,
    /// Trimmed files kept for reuse, at most. Default: 4.
    pub recycle_segments: usize,
    /// Spare files kept ready while the log grows, at most `recycle_segments`. Default: 1.
    pub prepare_segments: usize,
    /// Kept for entries of [`Class::Own`] when the disk is full; 0: nothing. Bytes, default 256 KiB.
    pub reserve_bytes: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            uuid: ShardUuid::default(),
            segment_bytes: 64 << 20,
            first_segment_bytes: 64 << 10,
            recycle_segments: 4,
            prepare_segments: 1,
            reserve_bytes: 256 << 10,
        }
    }
}

impl WalOptions {
    /// The same within what the log can do.
    fn rounded(mut self) -> Self {
        let round = |bytes: u64| {
            bytes
                .max(SEGMENT_BYTES_MIN)
                .next_multiple_of(SEGMENT_BYTES_MIN)
        };
        self.segment_bytes = round(self.segment_bytes);
        self.first_segment_bytes = round(self.first_segment_bytes).min(self.segment_bytes);
        self.reserve_bytes = match self.reserve_bytes {
            0 => 0,
            bytes => round(bytes),
        };
        self.prepare_segments = self.prepare_segments.min(self.recycle_segments);
        self
    }
}

/// Who an entry is for, which decides what it may use of a disk that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Clients' writes: refused as long as the reserve is not whole.
    Client,
    /// Sessions and the shard's own commands: go on from the reserve.
    Own,
}

/// Whether the next entry can be appended without waiting for the disk.
#[derive(Debug)]
pub enum Room<D: Disk> {
    Ready,
    /// After this job; see [`Wal::finish_segment`].
    After(SegmentJob<D>),
    /// After the operation that is under way; ask again then.
    Waits,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Active<F> {
    file: Arc<SyncedFile<F>>,
    generation: u64,
    bytes: u64,
    tag: u64,
}

/// What was started and not told back.
#[derive(Debug, Default)]
struct UnderWay {
    sync: bool,
    segment: bool,
    trim: bool,
    prepare: bool,
}

/// A shard's log. One thread owns it; readers are independent.
#[derive(Debug)]
pub struct Wal<D: Disk> {
    disk: Arc<D>,
    options: WalOptions,
    shared: Arc<Shared<D::File>>,
    pool: Pool,
    /// The next file number; none is used twice.
    next_number: u64,
    /// `None` if the next append must start a segment.
    active: Option<Active<D::File>>,
    /// The entry before the first one that is left. Moved by trims.
    start: LogPoint,
    /// The newest entry, durable or not; `start` if there is none.
    last: LogPoint,
    terms: TermIndex,
    /// The sum of the last record. Not `end.sum`, which in an empty segment is its header's.
    last_sum: u32,
    /// Everything up to here is on disk. Moved when a sync, or a new segment, is told to be done.
    /// Invariant: from `start` to `last`.
    durable: Offset,
    /// Behind the last record.
    end: Place,
    /// Memory for records on their way to the file.
    buffer: Vec<u8>,
    under_way: UnderWay,
    /// A write or sync failed: what is on disk is unknown. Never taken back.
    poisoned: bool,
}

impl<D: Disk> Wal<D> {
    /// The oldest entry that is left; `None` if there is none.
    pub fn first(&self) -> Option<Offset> {
        (self.last.offset > self.start.offset).then(|| self.start.offset.next())
    }

    /// The newest entry, durable or not; `None` if there is none.
    pub fn last(&self) -> Option<(Offset, Term)> {
        self.first().map(|_| (self.last.offset, self.last.term))
    }

    /// The newest entry, durable or not; in an empty log the entry that it continues.
    pub fn last_point(&self) -> LogPoint {
        self.last
    }

    /// The newest entry that is on disk; in an empty log the one that it continues.
    pub fn durable(&self) -> Offset {
        self.durable
    }

    /// Whether an entry can be appended at once. To be asked before an entry is proposed: what is refused here has
    /// not changed anything, and after `Ready` the next append of so much only writes.
    pub fn reserve(&mut self, payload_bytes: usize, class: Class) -> Result<Room<D>, WalError> {
        self.check_poison()?;
        if payload_bytes > ENTRY_BYTES_MAX {
            let bytes = payload_bytes;
            return Err(WalError::TooLarge { bytes });
        }
        let bytes = record_bytes(payload_bytes) as u64;
        // A segment that is being started for the shard's own entries holds the reserve, and may yet
        // give it back.
        if self.under_way.segment {
            return Ok(Room::Waits);
        }
        if class == Class::Client && self.pool.lacks_reserve() {
            return Err(WalError::NoSpace { bytes });
        }
        if self.has_room(bytes) {
            return Ok(Room::Ready);
        }
        Ok(Room::After(self.roll(bytes, class)))
    }

    /// Adds an entry: the next one, in a term that is not older. It is written when this returns, so that readers
    /// see it; it is durable after a sync. If there is no room for it, which `reserve` tells before, a segment is
    /// started in line. Returns the chain after it.
    pub fn append(
        &mut self,
        offset: Offset,
        term: Term,
        payload: &[u8],
        class: Class,
    ) -> Result<Chain, WalError> {
        self.check_poison()?;
        let last = self.last;
        if offset != last.offset.next() || offset > OFFSET_MAX || term < last.term {
            return Err(WalError::OutOfOrder { offset, term, last });
        }
        match self.reserve(payload.len(), class)? {
            Room::Ready => {}
            Room::After(job) => self.finish_segment(job.run())?,
            Room::Waits => return Err(WalError::Busy("a segment")),
        }
        self.write(last.after(offset, term, payload), payload)?;
        Ok(self.last.chain)
    }

    fn write(&mut self, point: LogPoint, payload: &[u8]) -> Result<(), WalError> {
        let Some(active) = &self.active else {
            return Err(WalError::Poisoned);
        };
        let new = NewRecord {
            tag: active.tag,
            previous_sum: self.end.sum,
            kind: Kind::Entry,
            point,
            synced: self.durable,
        };
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        let sum = encode_record(&mut self.buffer, new, payload);
        let before = self.end;
        let end = Place {
            offset: point.offset.next(),
            position: before.position + self.buffer.len() as u64,
            sum,
        };
        // The zeros that stand behind the end of a log.
        self.buffer
            .resize(self.buffer.len() + RECORD_HEADER_BYTES, 0);
        let SyncedFile { file, name, .. } = &*active.file;
        let written = file.write_at(before.position, &self.buffer);
        let written = written.map_err(WalError::io("write", name));
        self.or_poison(written)?;
        self.end = end;
        self.last = point;
        self.last_sum = sum;
        self.terms.push(point.offset, point.term);
        let mut view = self.shared.lock();
        view.last = Some(point.offset);
        if let Some(segment) = view.segments.back_mut() {
            segment.mark(before);
            segment.end = end.position;
        }
        Ok(())
    }

    /// Starts to make durable what is written; `None` if all is, or while a sync is under way.
    pub fn start_sync(&mut self) -> Option<SyncJob<D>> {
        if self.under_way.sync || self.poisoned || self.durable == self.last.offset {
            return None;
        }
        let active = self.active.as_ref()?;
        self.under_way.sync = true;
        Some(SyncJob {
            file: active.file.clone(),
            generation: active.generation,
            up_to: self.last.offset,
        })
    }

    /// Takes a sync's end and returns the last durable entry. After a failure every call fails: the
    /// system may have dropped the data, so a second try would prove nothing.
    pub fn finish_sync(&mut self, done: SyncDone) -> Result<Offset, WalError> {
        self.under_way.sync = false;
        self.check_poison()?;
        self.or_poison(done.result)?;
        let active = self.active.as_ref();
        if active.is_some_and(|active| active.generation == done.generation) {
            self.durable = self.durable.max(done.up_to);
        }
        Ok(self.durable)
    }

    /// Makes everything appended durable, in line, and returns the last durable entry.
    pub fn sync(&mut self) -> Result<Offset, WalError> {
        self.check_poison()?;
        if self.under_way.sync {
            return Err(WalError::Busy("a sync"));
        }
        match self.start_sync() {
            Some(job) => self.finish_sync(job.run()),
            None => Ok(self.durable),
        }
    }

    /// The chain after an entry of the log, or before its first one.
    pub fn chain_at(&self, offset: Offset) -> Result<Chain, WalError> {
        Ok(self.point_at(offset)?.chain)
    }

    /// Term and chain of an entry of the log, or of the one before its first.
    pub fn point_at(&self, offset: Offset) -> Result<LogPoint, WalError> {
        match offset {
            offset if offset == self.last.offset => Ok(self.last),
            offset if offset == self.start.offset => Ok(self.start),
            offset if offset < self.start.offset => Err(self.trimmed()),
            offset if offset > self.last.offset => Err(WalError::BeyondEnd {
                last: self.last.offset,
            }),
            offset => Ok(self.find(offset)?.0),
        }
    }

    /// The last entry whose term is not above `term`, the one before the first included; `None` if it is not known.
    pub fn last_at_or_below(&self, term: Term) -> Option<Offset> {
        let known = self.start.offset > Offset(0) && self.start.term <= term;
        let start = known.then_some(self.start.offset);
        self.terms
            .last_at_or_below(term, self.last.offset)
            .or(start)
    }

    /// A reader that starts with entry `from`, which may be the one after the last.
    pub fn reader(&self, from: Offset) -> Result<WalReader<D>, WalError> {
        if from <= self.start.offset {
            return Err(self.trimmed());
        }
        if from > self.last.offset.next() {
            return Err(WalError::BeyondEnd {
                last: self.last.offset,
            });
        }
        Ok(WalReader::new(self.shared.clone(), from))
    }

    fn trimmed(&self) -> WalError {
        WalError::Trimmed {
            first: self.start.offset.next(),
        }
    }

    fn check_poison(&self) -> Result<(), WalError> {
        match self.poisoned {
            true => Err(WalError::Poisoned),
            false => Ok(()),
        }
    }

    /// What replaces segments must be alone with them.
    fn check_segments(&self) -> Result<(), WalError> {
        match &self.under_way {
            UnderWay { segment: true, .. } => Err(WalError::Busy("a segment")),
            UnderWay { trim: true, .. } => Err(WalError::Busy("a trim")),
            _ => Ok(()),
        }
    }

    fn or_poison<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        self.poisoned |= result.is_err();
        result
    }

    /// Whether the record may go to the active segment.
    fn has_room(&self, bytes: u64) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| self.end.position + bytes + END_RECORD_BYTES <= active.bytes)
    }

    /// A written entry, and the place behind it.
    fn find(&self, offset: Offset) -> Result<(LogPoint, Place), WalError> {
        let (file, name, tag, mark, end) = {
            let view = self.shared.lock();
            let Some(segment) = view.segment_of(offset) else {
                return Err(self.trimmed());
            };
            let mark = segment.mark_before(offset);
            let file = segment.file.clone();
            (file, segment.name.clone(), segment.tag, mark, segment.end)
        };
        let mut cursor = Cursor::new(tag, mark);
        loop {
            let peeked = cursor.peek(&*file, end);
            match peeked.map_err(WalError::io("read", &name))? {
                Ok(record) => {
                    cursor.skip(&record);
                    if record.offset == offset {
                        return Ok((record.point(), cursor.place()));
                    }
                }
                Err(stop) => return Err(WalError::damaged(&name, cursor.place().position, stop)),
            }
        }
    }

    /// The invariants of the fields and of the view, for tests.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        assert!(self.start.offset <= self.durable && self.durable <= self.last.offset);
        assert_eq!(self.end.offset, self.last.offset.next());
        let view = self.shared.lock();
        view.check();
        if self.under_way.segment {
            return;
        }
        assert_eq!(view.last.is_some(), self.first().is_some());
        if let Some(first) = self.first() {
            assert_eq!(view.first(), Some(first));
            assert_eq!(view.last, Some(self.last.offset));
        }
    }
}
