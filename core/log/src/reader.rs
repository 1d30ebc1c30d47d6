//! The log's reading end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use oxkeeper_model::{Offset, Term};

use crate::chain::Chain;
use crate::cursor::Cursor;
use crate::disk::Disk;
use crate::error::WalError;
use crate::view::{NO_CUT, Shared};

/// An entry as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub offset: Offset,
    pub term: Term,
    /// Over everything up to this entry.
    pub chain: Chain,
    /// A slice of the piece that was read; copy what is kept for long.
    pub payload: Bytes,
}

/// Reads entries in order and follows the end of the log. Independent of the log's thread.
#[derive(Debug)]
pub struct WalReader<D: Disk> {
    shared: Arc<Shared<D::File>>,
    /// The entry that is returned next.
    next: Offset,
    /// Where the log was cut since the last look; see `View::tell_cut`.
    cut: Arc<AtomicU64>,
    open: Option<OpenSegment<D::File>>,
}

#[derive(Debug)]
struct OpenSegment<F> {
    generation: u64,
    file: Arc<F>,
    name: String,
    cursor: Cursor,
}

impl<D: Disk> WalReader<D> {
    pub(crate) fn new(shared: Arc<Shared<D::File>>, from: Offset) -> Self {
        let cut = shared.lock().register();
        Self {
            shared,
            next: from,
            cut,
            open: None,
        }
    }

    /// The offset that `next` will return.
    pub fn position(&self) -> Offset {
        self.next
    }

    /// The next entry; `None` if there is none yet, so that a later call may have one.
    /// Entries are seen once they are appended, which is before they are durable.
    #[allow(clippy::should_implement_trait)] // the name that everyone expects; an Iterator would end at the tail
    pub fn next(&mut self) -> Result<Option<LogRecord>, WalError> {
        let Some(limit) = self.locate()? else {
            return Ok(None);
        };
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        loop {
            let peeked = open.cursor.peek(&*open.file, limit);
            let stop = match peeked.map_err(WalError::io("read", &open.name))? {
                Ok(record) if record.offset < self.next => {
                    open.cursor.skip(&record);
                    continue;
                }
                Ok(record) => {
                    self.next = record.offset.next();
                    return Ok(Some(LogRecord {
                        offset: record.offset,
                        term: record.term,
                        chain: record.chain,
                        payload: open.cursor.take(&record),
                    }));
                }
                Err(stop) => stop,
            };
            let error = WalError::damaged(&open.name, open.cursor.place().position, stop);
            // The segment may have been given up, and its file reused, since it was looked up.
            let generation = open.generation;
            self.open = None;
            self.locate()?;
            return match &self.open {
                Some(open) if open.generation == generation => Err(error),
                _ => Ok(None),
            };
        }
    }

    /// Opens the segment of the next entry and says up to where it may be read; `None` if the entry is not there.
    fn locate(&mut self) -> Result<Option<u64>, WalError> {
        let view = self.shared.lock();
        let cut = Offset(self.cut.load(Ordering::Relaxed));
        if cut.0 != NO_CUT {
            if self.next > Offset(cut.0 + 1) {
                return Err(WalError::BeyondEnd { last: cut });
            }
            self.cut.store(NO_CUT, Ordering::Relaxed);
        }
        let (Some(first), Some(last)) = (view.first(), view.last) else {
            return Ok(None);
        };
        if self.next < first {
            return Err(WalError::Trimmed { first });
        }
        if self.next > last {
            return Ok(None);
        }
        let Some(segment) = view.segment_of(self.next) else {
            return Err(WalError::Trimmed { first });
        };
        let same = self.open.as_ref();
        if same.is_none_or(|open| open.generation != segment.generation) {
            self.open = Some(OpenSegment {
                generation: segment.generation,
                file: segment.file.clone(),
                name: segment.name.clone(),
                cursor: Cursor::new(segment.tag, segment.mark_before(self.next)),
            });
        }
        Ok(Some(segment.end))
    }

    /// Bytes of memory that the reader holds for what it reads.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.open
            .as_ref()
            .map_or(0, |open| open.cursor.memory_bytes())
    }
}
