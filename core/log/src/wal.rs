//! The log's writing end.

use std::sync::Arc;

use oxkeeper_model::limits::ENTRY_BYTES_MAX;
use oxkeeper_model::{Offset, Term};

use crate::cursor::{Cursor, Place};
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::format::{
    NewRecord, OFFSET_MAX, SEGMENT_HEADER_BYTES, SEGMENT_SUFFIX, SPARE_SUFFIX, SegmentHeader,
    TEMPORARY_SUFFIX, encode_record, file_name, record_bytes,
};
use crate::reader::WalReader;
use crate::recover::{self, Found};
use crate::spare::{Pool, Preparer};
use crate::view::{Segment, Shared};

/// Smallest segment; a record that needs more gets a segment of its own length.
pub const SEGMENT_BYTES_MIN: u64 = 8 << 10;

/// The buffer is written to the file at the latest when it is this long.
const BUFFER_BYTES_TARGET: usize = 256 << 10;

/// A buffer that grew above this for a large entry is given back.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Bytes copied at once where an unproven tail is written again.
const REWRITE_BYTES: usize = 256 << 10;

/// How a log uses its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Length of a segment file. Default: 64 MiB.
    pub segment_bytes: u64,
    /// Trimmed files kept for reuse, at most. Default: 4.
    pub recycle_segments: usize,
    /// Spare files that a [`Preparer`] keeps ready, at most `recycle_segments`. Default: 1.
    pub prepare_segments: usize,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            recycle_segments: 4,
            prepare_segments: 1,
        }
    }
}

/// The segment that is appended to.
#[derive(Debug)]
struct Active<F> {
    file: Arc<F>,
    name: String,
    bytes: u64,
    tag: u32,
    base: Offset,
}

/// What a new segment continues.
#[derive(Clone, Copy, Debug)]
struct Before {
    /// The chain value of the last record.
    chain: u32,
    /// Where that record ends, if the log is cut there.
    cut: Option<u64>,
}

/// A shard's log. One thread owns it; readers are independent.
#[derive(Debug)]
pub struct Wal<D: Disk> {
    disk: Arc<D>,
    options: WalOptions,
    shared: Arc<Shared<D::File>>,
    pool: Arc<Pool>,
    /// `None` if the next append must start a segment.
    active: Option<Active<D::File>>,
    /// The first record; meaningless if there is none.
    first: Offset,
    last: Option<(Offset, Term)>,
    /// The chain value of the last record. Not `end.chain`, which in an empty segment is its tag.
    last_chain: u32,
    /// Everything up to here is on disk. Moved by `sync` and by whatever syncs on the way.
    /// Invariant: never above `last`.
    durable: Offset,
    /// Behind the last record, written or still in the buffer.
    end: Place,
    /// Records that were appended and not yet written, which go to `buffered`.
    buffer: Vec<u8>,
    buffered: Place,
    /// A write or sync failed: what is on disk is unknown. Never taken back.
    poisoned: bool,
}

impl<D: Disk> Wal<D> {
    /// Opens the log and makes everything that it found durable again. A torn tail is cut;
    /// damage before the tail is an error. See [`crate`] for which is which.
    pub fn open(disk: Arc<D>, options: WalOptions) -> Result<Self, WalError> {
        let mut options = options;
        options.segment_bytes = options
            .segment_bytes
            .max(SEGMENT_BYTES_MIN)
            .next_multiple_of(SEGMENT_BYTES_MIN);
        options.prepare_segments = options.prepare_segments.min(options.recycle_segments);
        let found = recover::inspect(&*disk)?;
        let spares = tidy(&*disk, &found, &options)?;
        rewrite_unproven(&found)?;
        let pool = Arc::new(Pool::new(spares, found.files.next_number()));
        let active = found.segments.back().filter(|_| !found.leftovers);
        let active = active.map(|segment| Active {
            file: segment.file.clone(),
            name: segment.name.clone(),
            bytes: segment.bytes,
            tag: segment.tag,
            base: segment.base,
        });
        let last = found.last.map(|(offset, _)| offset);
        let first = found.segments.front().map_or(Offset(0), |s| s.base);
        Ok(Self {
            shared: Arc::new(Shared::new(found.segments, last)),
            disk,
            options,
            pool,
            active,
            first,
            last: found.last,
            last_chain: found.last_chain,
            durable: last.unwrap_or_default(),
            end: found.end,
            buffer: Vec::with_capacity(BUFFER_BYTES_TARGET * 2),
            buffered: found.end,
            poisoned: false,
        })
    }

    /// The oldest entry that is left; `None` if there is none.
    pub fn first(&self) -> Option<Offset> {
        self.last.map(|_| self.first)
    }

    /// The newest entry, durable or not.
    pub fn last(&self) -> Option<(Offset, Term)> {
        self.last
    }

    /// The newest entry that is on disk; 0 if there is none.
    pub fn durable(&self) -> Offset {
        self.durable
    }

    /// Adds an entry. It must follow the last one, in a term that is not older; any offset from 1 starts an
    /// empty log. It is durable when `sync` has returned, and readers see it after `sync` or `flush`.
    pub fn append(&mut self, offset: Offset, term: Term, payload: &[u8]) -> Result<(), WalError> {
        self.check_poison()?;
        if payload.len() > ENTRY_BYTES_MAX {
            return Err(WalError::TooLarge {
                bytes: payload.len(),
            });
        }
        let follows = match self.last {
            Some((last, last_term)) => offset == last.next() && term >= last_term,
            None => offset.0 > 0,
        };
        if !follows || offset > OFFSET_MAX {
            return Err(WalError::OutOfOrder {
                offset,
                term,
                last: self.last,
            });
        }
        let bytes = record_bytes(payload.len()) as u64;
        let tag = match self.room_for(offset, bytes) {
            Some(tag) => tag,
            None => self.roll(offset, bytes)?,
        };
        let new = NewRecord {
            tag,
            previous_chain: self.end.chain,
            offset,
            term,
            unsynced: self.unsynced_before(offset),
        };
        let chain = encode_record(&mut self.buffer, new, payload);
        self.end = Place {
            offset: offset.next(),
            position: self.end.position + bytes,
            chain,
        };
        if self.last.is_none() {
            self.first = offset;
        }
        self.last = Some((offset, term));
        self.last_chain = chain;
        if self.buffer.len() >= BUFFER_BYTES_TARGET {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands everything appended to the file, so that readers see it, without making it durable.
    pub fn flush(&mut self) -> Result<(), WalError> {
        self.check_poison()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(active) = &self.active else {
            return Ok(());
        };
        let written = active.file.write_at(self.buffered.position, &self.buffer);
        let written = written.map_err(WalError::io("write", &active.name));
        self.or_poison(written)?;
        {
            let mut view = self.shared.lock();
            view.last = self.last.map(|(offset, _)| offset);
            if let Some(segment) = view.segments.back_mut() {
                segment.mark(self.buffered);
                segment.end = self.end.position;
            }
        }
        self.buffered = self.end;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Makes everything appended durable and returns the last durable offset. After a failure
    /// every call fails: the system may have dropped the data, so a second try would prove nothing.
    pub fn sync(&mut self) -> Result<Offset, WalError> {
        self.flush()?;
        let last = self.last.map(|(offset, _)| offset).unwrap_or_default();
        if self.durable == last {
            return Ok(last);
        }
        if let Some(active) = &self.active {
            let synced = active.file.sync_data();
            let synced = synced.map_err(WalError::io("sync", &active.name));
            self.or_poison(synced)?;
        }
        self.durable = last;
        Ok(last)
    }

    /// Gives up segments whose entries are all before `offset`; the last entry always stays.
    pub fn trim_below(&mut self, offset: Offset) -> Result<(), WalError> {
        self.check_poison()?;
        loop {
            let old = {
                let mut view = self.shared.lock();
                // Never so far that a crash could leave the log without its last entry.
                let limit = offset.min(self.durable);
                match view.segments.get(1) {
                    Some(next) if next.base <= limit => {
                        self.first = next.base;
                        view.segments.pop_front()
                    }
                    _ => None,
                }
            };
            let Some(old) = old else { return Ok(()) };
            // One at a time, oldest first: a crash must not leave a gap between two segments.
            self.retire(&old)?;
        }
    }

    /// Drops every entry after `offset`, durably. What is left is durable as well.
    pub fn truncate_after(&mut self, offset: Offset) -> Result<(), WalError> {
        self.sync()?;
        match self.last {
            Some((last, _)) if last > offset => {}
            _ => return Ok(()),
        }
        if offset < self.first {
            let base = Offset(offset.0.min(OFFSET_MAX.0 - 1) + 1);
            self.start_segment(base, None, SEGMENT_HEADER_BYTES)?;
            self.last = None;
            self.durable = Offset(0);
            return Ok(());
        }
        let (term, cut) = self.find(offset)?;
        let before = Before {
            chain: cut.chain,
            cut: Some(cut.position),
        };
        self.start_segment(cut.offset, Some(before), SEGMENT_HEADER_BYTES)?;
        self.last = Some((offset, term));
        self.last_chain = cut.chain;
        self.durable = offset;
        Ok(())
    }

    /// A reader that starts with entry `from`, which may be the one after the last.
    pub fn reader(&self, from: Offset) -> Result<WalReader<D>, WalError> {
        match (self.first(), self.last) {
            (Some(first), _) if from < first => Err(WalError::Trimmed { first }),
            (_, Some((last, _))) if from > last.next() => Err(WalError::BeyondEnd { last }),
            _ => Ok(WalReader::new(self.shared.clone(), from)),
        }
    }

    /// What makes spare segments for this log; for another thread.
    pub fn preparer(&self) -> Preparer<D> {
        Preparer {
            disk: self.disk.clone(),
            pool: self.pool.clone(),
            segment_bytes: self.options.segment_bytes,
            wanted: self.options.prepare_segments,
        }
    }

    /// Spare files that are ready.
    pub fn spares(&self) -> usize {
        self.pool.count()
    }

    fn check_poison(&self) -> Result<(), WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        Ok(())
    }

    fn or_poison<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        self.poisoned |= result.is_err();
        result
    }

    fn unsynced_before(&self, offset: Offset) -> u32 {
        let base = self.active.as_ref().map_or(offset, |active| active.base);
        // Everything before the segment was durable when it was started.
        let durable = self.durable.0.max(base.0 - 1);
        u32::try_from(offset.0 - 1 - durable).unwrap_or(u32::MAX)
    }

    /// The tag of the active segment if the record may go there.
    fn room_for(&self, offset: Offset, bytes: u64) -> Option<u32> {
        let active = self.active.as_ref()?;
        let fits = self.end.position + bytes <= active.bytes;
        (fits && self.end.offset == offset).then_some(active.tag)
    }

    /// Starts a segment that has room for the record `base`, and returns its tag.
    fn roll(&mut self, base: Offset, bytes: u64) -> Result<u32, WalError> {
        self.sync()?;
        let before = self.last.map(|_| Before {
            chain: self.last_chain,
            cut: None,
        });
        self.start_segment(base, before, SEGMENT_HEADER_BYTES + bytes)
    }

    /// Makes a segment the active one, durably. It takes over from `base` on, so that what older ones hold from
    /// there is no longer in the log. `before` is the end of what it continues.
    fn start_segment(
        &mut self,
        base: Offset,
        before: Option<Before>,
        bytes: u64,
    ) -> Result<u32, WalError> {
        let header = SegmentHeader {
            generation: self.pool.number(),
            salt: self.disk.salt(),
            base,
            seed: before.map_or(0, |before| before.chain),
            starts_log: before.is_none(),
        };
        let created = self.create_segment(header, bytes);
        let segment = self.or_poison(created)?;
        self.active = Some(Active {
            file: segment.file.clone(),
            name: segment.name.clone(),
            bytes: segment.bytes,
            tag: segment.tag,
            base,
        });
        self.end = segment.marks[0];
        self.buffered = self.end;
        let tag = segment.tag;
        for old in self.take_over(segment, before) {
            self.retire(&old)?;
        }
        Ok(tag)
    }

    fn create_segment(
        &self,
        header: SegmentHeader,
        bytes: u64,
    ) -> Result<Segment<D::File>, WalError> {
        let bytes = bytes.max(self.options.segment_bytes);
        let block = header.encode();
        let (_, tag) = SegmentHeader::decode(&block)
            .map_err(|_| WalError::damaged("new segment", 0, "header does not decode"))?;
        let name = file_name(header.generation, SEGMENT_SUFFIX);
        let described = self.disk.describe(&name);
        let start = || -> std::io::Result<D::File> {
            let spare = (bytes == self.options.segment_bytes)
                .then(|| self.pool.take())
                .flatten();
            let (from, file) = match spare {
                Some(number) => {
                    let from = file_name(number, SPARE_SUFFIX);
                    let file = self.disk.open(&from)?;
                    (from, file)
                }
                None => {
                    let from = file_name(header.generation, TEMPORARY_SUFFIX);
                    let file = self.disk.create(&from, bytes)?;
                    (from, file)
                }
            };
            file.write_at(0, &block)?;
            file.sync_data()?;
            self.disk.rename(&from, &name)?;
            self.disk.sync_dir()?;
            Ok(file)
        };
        let file = start().map_err(WalError::io("start segment", &described))?;
        Ok(Segment {
            generation: header.generation,
            name: described,
            file: Arc::new(file),
            bytes,
            tag,
            base: header.base,
            end: SEGMENT_HEADER_BYTES,
            marks: vec![Place {
                offset: header.base,
                position: SEGMENT_HEADER_BYTES,
                chain: tag,
            }],
        })
    }

    /// Puts the segment at the end of the view and returns those that it replaces, newest first.
    fn take_over(
        &self,
        segment: Segment<D::File>,
        before: Option<Before>,
    ) -> Vec<Segment<D::File>> {
        let mut view = self.shared.lock();
        let mut old = Vec::new();
        let kept = before.map_or(Offset(0), |_| Offset(segment.base.0 - 1));
        while view.segments.back().is_some_and(|s| s.base > kept) {
            old.extend(view.segments.pop_back());
        }
        let cut = before.and_then(|before| before.cut);
        if let (Some(cut), Some(last)) = (cut, view.segments.back_mut()) {
            last.end = cut;
            last.marks.retain(|mark| mark.offset < segment.base);
        }
        if view.last.is_some_and(|last| last > kept) {
            view.tell_cut(kept);
            view.last = before.map(|_| kept);
        }
        view.segments.push_back(segment);
        old
    }

    /// Makes a spare of a file that is no longer in the log, or removes it.
    fn retire(&mut self, old: &Segment<D::File>) -> Result<(), WalError> {
        let name = file_name(old.generation, SEGMENT_SUFFIX);
        let keep = old.bytes == self.options.segment_bytes
            && self.pool.count() < self.options.recycle_segments;
        let done = if keep {
            let spare = file_name(old.generation, SPARE_SUFFIX);
            self.disk.rename(&name, &spare)
        } else {
            self.disk.remove(&name)
        };
        // Durable before the file is written to: its old name must not show up with a new header.
        let done = done.and_then(|()| self.disk.sync_dir());
        self.or_poison(done.map_err(WalError::io("retire", &old.name)))?;
        if keep {
            self.pool.give(old.generation);
        }
        Ok(())
    }

    /// The term of a written entry, and the place behind it.
    fn find(&self, offset: Offset) -> Result<(Term, Place), WalError> {
        let (file, name, tag, mark, end) = {
            let view = self.shared.lock();
            let Some(segment) = view.segment_of(offset) else {
                return Err(WalError::Trimmed { first: self.first });
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
                        return Ok((record.term, cursor.place()));
                    }
                }
                Err(stop) => return Err(WalError::damaged(&name, cursor.place().position, stop)),
            }
        }
    }

    /// The invariants of the fields and of the view, for tests.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let last = self.last.map(|(offset, _)| offset).unwrap_or_default();
        assert!(self.durable <= last);
        let view = self.shared.lock();
        view.check();
        assert!(view.last.is_none() || self.last.is_some());
        if let (Some(first), Some(_)) = (self.first(), view.last) {
            assert_eq!(view.first(), Some(first));
        }
    }
}

impl<D: Disk> Drop for Wal<D> {
    fn drop(&mut self) {
        self.pool.close();
    }
}

/// Removes what is not the log and returns the spare files that are kept.
fn tidy<D: Disk>(
    disk: &D,
    found: &Found<D::File>,
    options: &WalOptions,
) -> Result<Vec<u64>, WalError> {
    let mut spares = Vec::new();
    let mut work = || -> std::io::Result<()> {
        // The names that the decisions rest on may be in memory only.
        disk.sync_dir()?;
        for &number in &found.files.temporaries {
            disk.remove(&file_name(number, TEMPORARY_SUFFIX))?;
        }
        for &number in &found.retired {
            disk.remove(&file_name(number, SEGMENT_SUFFIX))?;
        }
        for &number in &found.files.spares {
            let name = file_name(number, SPARE_SUFFIX);
            let bytes = disk.open(&name)?.len()?;
            if bytes == options.segment_bytes && spares.len() < options.recycle_segments {
                spares.push(number);
            } else {
                disk.remove(&name)?;
            }
        }
        disk.sync_dir()
    };
    work().map_err(WalError::io("tidy", &disk.describe("")))?;
    Ok(spares)
}

/// Writes again, and syncs, the end of the log that nothing shows to be on disk. The system may hold it in memory
/// only, and after a failed sync it may even think it clean, so that a sync alone would do nothing.
fn rewrite_unproven<F: DiskFile>(found: &Found<F>) -> Result<(), WalError> {
    let Some(segment) = found.segments.back() else {
        return Ok(());
    };
    let unproven = Offset(found.proven.0 + 1).max(segment.base);
    let mut position = segment.mark_before(unproven).position;
    let mut copy = || -> std::io::Result<()> {
        let mut piece = vec![0; REWRITE_BYTES];
        while position < segment.end {
            let wanted = (segment.end - position).min(piece.len() as u64) as usize;
            let read = segment.file.read_at(position, &mut piece[..wanted])?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            segment.file.write_at(position, &piece[..read])?;
            position += read as u64;
        }
        segment.file.sync_data()
    };
    copy().map_err(WalError::io("sync", &segment.name))
}
