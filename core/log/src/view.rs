//! What the log and its readers share: the list of segments and how far each may be read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use oxkeeper_model::Offset;

use crate::chain::LogPoint;
use crate::cursor::Place;
use crate::limits::MARK_BYTES;

/// A segment that belongs to the log.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) generation: u64,
    pub(crate) name: String,
    pub(crate) file: Arc<F>,
    /// Length of the file.
    pub(crate) bytes: u64,
    pub(crate) tag: u64,
    /// The entry before its first record.
    pub(crate) before: LogPoint,
    /// Behind the last record that readers may see.
    /// Invariant: everything from the first record to here was handed to the file.
    pub(crate) end: u64,
    /// Where to start a search, in order; the first is the segment's first record.
    pub(crate) marks: Vec<Place>,
}

impl<F> Segment<F> {
    /// The offset of the first record.
    pub(crate) fn base(&self) -> Offset {
        self.before.offset.next()
    }

    /// The last remembered place at or before `offset`, which must not be before the base.
    pub(crate) fn mark_before(&self, offset: Offset) -> Place {
        let after = self.marks.partition_point(|mark| mark.offset <= offset);
        self.marks[after.saturating_sub(1)]
    }

    /// Remembers a place if it is far enough from the last one.
    pub(crate) fn mark(&mut self, place: Place) {
        let last = self.marks.last().map_or(0, |mark| mark.position);
        if place.position >= last + MARK_BYTES {
            self.marks.push(place);
        }
    }
}

#[derive(Debug)]
pub(crate) struct View<F> {
    /// Oldest first. Invariant: bases rise strictly except that the last may be empty, generations
    /// rise strictly, and each segment ends where the next begins.
    pub(crate) segments: VecDeque<Segment<F>>,
    /// The last record that readers may see; `None` if the log has none.
    pub(crate) last: Option<Offset>,
    /// For each reader the lowest offset after which the log was cut since it looked.
    cuts: Vec<Weak<AtomicU64>>,
}

/// No cut since the reader looked.
pub(crate) const NO_CUT: u64 = u64::MAX;

impl<F> View<F> {
    /// The first record, if there is one to see.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.last?;
        self.segments.front().map(Segment::base)
    }

    /// The segment that has `offset`, or would have it next.
    pub(crate) fn segment_of(&self, offset: Offset) -> Option<&Segment<F>> {
        let after = self.segments.partition_point(|s| s.base() <= offset);
        self.segments.get(after.checked_sub(1)?)
    }

    pub(crate) fn register(&mut self) -> Arc<AtomicU64> {
        self.cuts.retain(|cut| cut.strong_count() > 0);
        let cut = Arc::new(AtomicU64::new(NO_CUT));
        self.cuts.push(Arc::downgrade(&cut));
        cut
    }

    /// Hides every record after `last` from readers; `None`: all.
    pub(crate) fn cut_after(&mut self, last: Option<Offset>) {
        self.last = last;
        let after = last.unwrap_or_default();
        for cut in self.cuts.iter().filter_map(Weak::upgrade) {
            cut.fetch_min(after.0, Ordering::Relaxed);
        }
    }

    /// The invariant on the segments, for tests.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        for (a, b) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            assert!(a.generation < b.generation, "generations rise");
            assert!(a.base() < b.base(), "bases rise");
        }
        for segment in &self.segments {
            assert!(segment.end <= segment.bytes, "a segment ends in its file");
            assert_eq!(segment.marks[0].offset, segment.base());
            assert!(segment.marks.iter().all(|m| m.position <= segment.end));
        }
    }
}

/// The view behind its lock. The lock is held for looks and small changes, never across I/O.
#[derive(Debug)]
pub(crate) struct Shared<F> {
    view: Mutex<View<F>>,
}

impl<F> Shared<F> {
    pub(crate) fn new(segments: VecDeque<Segment<F>>, last: Option<Offset>) -> Self {
        Self {
            view: Mutex::new(View {
                segments,
                last,
                cuts: Vec::new(),
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, View<F>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Default for Shared<F> {
    fn default() -> Self {
        Self::new(VecDeque::new(), None)
    }
}
