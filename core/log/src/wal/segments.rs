//! Where the log goes on in another file: because the last one is full, was cut, or counts no more.

use std::sync::Arc;

use oxkeeper_model::Offset;

use super::{Active, Class, Wal};
use crate::chain::LogPoint;
use crate::cursor::Place;
use crate::disk::{Disk, DiskFile};
use crate::error::{Severity, WalError};
use crate::format::{END_RECORD_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::jobs::{GivenUp, Predecessor, SegmentDone, SegmentJob, SyncedFile};
use crate::limits::{OFFSET_MAX, SEGMENT_BYTES_STEP, SEGMENT_GROWTH};
use crate::terms::TermIndex;
use crate::view::Segment;

impl<F: DiskFile> From<&Segment<F>> for Active<F> {
    fn from(segment: &Segment<F>) -> Self {
        Self {
            file: Arc::new(SyncedFile::new(segment.file.clone(), segment.name.clone())),
            generation: segment.generation,
            bytes: segment.bytes,
            tag: segment.tag,
        }
    }
}

/// What a new segment continues.
struct Before {
    last: LogPoint,
    /// Of the record `last`, and the place behind it if the log is cut there. `None`: the log starts anew.
    continues: Option<(u32, Option<Place>)>,
}

impl<D: Disk> Wal<D> {
    /// A segment that has room for a record of `bytes`.
    pub(super) fn roll(&mut self, bytes: u64, class: Class) -> SegmentJob<D> {
        let empty = self.shared.lock().segments.is_empty();
        let before = Before {
            last: self.last,
            continues: (!empty).then_some((self.last_sum, None)),
        };
        // A last segment without a record had no room for this one.
        let replaced = self.segments_from(self.last.offset.next());
        self.start_segment(before, bytes, class, replaced)
    }

    /// Starts to drop every entry after `offset`, which readers no longer see from now on; `None` if there is none. What
    /// is left is durable after it, and a crash on the way leaves the log as it was or as it shall be.
    pub fn start_truncate(&mut self, offset: Offset) -> Result<Option<SegmentJob<D>>, WalError> {
        self.check_poison()?;
        self.check_segments()?;
        if offset >= self.last.offset {
            return Ok(None);
        }
        if offset < self.start.offset {
            return Err(self.trimmed());
        }
        if offset == self.start.offset {
            return self.start_reset(self.start).map(Some);
        }
        let (last, cut) = self.find(offset)?;
        let before = Before {
            last,
            continues: Some((cut.sum, Some(cut))),
        };
        let replaced = self.segments_from(offset.next());
        // The end record is written where readers may be.
        self.shared.lock().cut_after(Some(offset));
        Ok(Some(self.start_segment(before, 0, Class::Own, replaced)))
    }

    /// [`Wal::start_truncate`] in line.
    pub fn truncate_after(&mut self, offset: Offset) -> Result<(), WalError> {
        match self.start_truncate(offset)? {
            Some(job) => self.finish_segment(job.run()),
            None => self.sync().map(|_| ()),
        }
    }

    /// Starts to empty the log, so that it continues `start`: after a snapshot was installed.
    pub fn start_reset(&mut self, start: LogPoint) -> Result<SegmentJob<D>, WalError> {
        self.check_poison()?;
        self.check_segments()?;
        if start.offset >= OFFSET_MAX {
            return Err(WalError::OutOfOrder {
                offset: start.offset,
                term: start.term,
                last: self.last,
            });
        }
        let before = Before {
            last: start,
            continues: None,
        };
        let replaced = self.segments_from(Offset(0));
        self.shared.lock().cut_after(None);
        Ok(self.start_segment(before, 0, Class::Own, replaced))
    }

    /// [`Wal::start_reset`] in line.
    pub fn reset(&mut self, start: LogPoint) -> Result<(), WalError> {
        let job = self.start_reset(start)?;
        self.finish_segment(job.run())
    }

    /// Segments whose first record is at `base` or later, newest first.
    fn segments_from(&self, base: Offset) -> Vec<GivenUp> {
        let view = self.shared.lock();
        let mut spares = self.spares();
        let newest_first = view.segments.iter().rev();
        let replaced = newest_first.take_while(|segment| segment.base() >= base);
        replaced
            .map(|segment| self.given_up(segment, &mut spares))
            .collect()
    }

    /// What becomes of a segment's file; `spares` counts those that are kept.
    pub(super) fn given_up(&self, segment: &Segment<D::File>, spares: &mut usize) -> GivenUp {
        let keep =
            segment.bytes == self.options.segment_bytes && *spares < self.options.recycle_segments;
        *spares += usize::from(keep);
        GivenUp {
            generation: segment.generation,
            bytes: segment.bytes,
            keep,
        }
    }

    /// Makes a segment the active one, durably. It takes over from the entry after `before` on, so that what
    /// older ones hold from there is no longer in the log.
    fn start_segment(
        &mut self,
        before: Before,
        record_bytes: u64,
        class: Class,
        replaced: Vec<GivenUp>,
    ) -> SegmentJob<D> {
        let needed = SEGMENT_HEADER_BYTES + record_bytes + END_RECORD_BYTES;
        let bytes = self
            .next_segment_bytes()
            .max(needed.next_multiple_of(SEGMENT_BYTES_STEP));
        let spare = self.pool.take(bytes);
        let reserve = match class {
            Class::Own if spare.is_none() => self.pool.take_reserve(needed),
            _ => None,
        };
        let header = SegmentHeader {
            uuid: self.options.uuid,
            generation: self.next_number(),
            tag: self.disk.salt(),
            bytes,
            before: before.last,
            seed: before.continues.map_or(0, |(sum, _)| sum),
            starts_log: before.continues.is_none(),
        };
        self.under_way.segment = true;
        let unsynced = self.durable < self.last.offset;
        let unsynced = self.active.as_ref().filter(|_| unsynced);
        SegmentJob {
            sync: unsynced.map(|active| active.file.clone()),
            synced: self.last.offset,
            header,
            spare,
            reserve,
            predecessor: self.predecessor(&before),
            replaced,
            cut: before
                .continues
                .and_then(|(_, cut)| cut.map(|cut| cut.position)),
            disk: self.disk.clone(),
        }
    }

    fn predecessor(&self, before: &Before) -> Option<Predecessor<D::File>> {
        let (sum, _) = before.continues?;
        let view = self.shared.lock();
        let segment = view.segment_of(before.last.offset)?;
        let cut = before.continues.and_then(|(_, cut)| cut);
        Some(Predecessor {
            file: segment.file.clone(),
            name: segment.name.clone(),
            tag: segment.tag,
            position: cut.map_or(segment.end, |cut| cut.position),
            sum,
            last: before.last,
        })
    }

    /// What a segment gets unless a record needs more.
    pub(super) fn next_segment_bytes(&self) -> u64 {
        let view = self.shared.lock();
        let grown = view
            .segments
            .back()
            .map_or(0, |segment| segment.bytes.saturating_mul(SEGMENT_GROWTH));
        grown.clamp(self.options.first_segment_bytes, self.options.segment_bytes)
    }

    pub(super) fn next_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Takes a segment's start. [`Severity::NoSpace`] leaves the log as it was before; any
    /// other error poisons it.
    pub fn finish_segment(&mut self, done: SegmentDone) -> Result<(), WalError> {
        self.under_way.segment = false;
        self.check_poison()?;
        done.spares.iter().for_each(|&spare| self.pool.give(spare));
        let started = match done.result {
            Ok(started) => started,
            Err(error) => {
                self.poisoned |= error.severity() != Severity::NoSpace;
                self.durable = self.durable.max(done.synced.unwrap_or_default());
                self.shared.lock().last = self.first().map(|_| self.last.offset);
                return Err(error);
            }
        };
        let file = started.file.downcast();
        let file = self.or_poison(file.map_err(|_| WalError::Poisoned))?;
        let place = Place {
            offset: done.header.base(),
            position: SEGMENT_HEADER_BYTES,
            sum: done.sum,
        };
        let segment = Segment {
            generation: done.header.generation,
            name: started.name,
            file,
            bytes: done.header.bytes,
            tag: done.header.tag,
            before: done.header.before,
            end: SEGMENT_HEADER_BYTES,
            marks: vec![place],
        };
        self.active = Some((&segment).into());
        self.end = place;
        self.last = done.header.before;
        self.last_sum = done.header.seed;
        self.durable = self.last.offset;
        if done.header.starts_log {
            self.start = self.last;
            self.terms = TermIndex::default();
        } else {
            self.terms.truncate_after(self.last.offset);
        }
        self.take_over(segment, done.header.starts_log, done.cut);
        Ok(())
    }

    /// Puts the segment at the end of the view in place of those that it replaces.
    fn take_over(&self, segment: Segment<D::File>, starts_log: bool, cut: Option<u64>) {
        let kept = match starts_log {
            true => Offset(0),
            false => segment.before.offset,
        };
        let mut view = self.shared.lock();
        view.segments
            .retain(|old| !starts_log && old.base() <= kept);
        if let (Some(cut), Some(last)) = (cut, view.segments.back_mut()) {
            last.end = cut;
            last.marks.retain(|mark| mark.offset <= kept);
        }
        view.segments.push_back(segment);
    }
}
