//! The log's slow work as values: started by the [`crate::Wal`], run by whoever drives it on any thread, and
//! told back. A job holds all that it needs and touches nothing of the log but files.
//!
//! A job that is dropped without having been run counts as one that never ends.

use std::any::Any;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use oxkeeper_model::Offset;

use crate::chain::LogPoint;
use crate::disk::{Disk, DiskFile, fill};
use crate::error::{WalError, is_no_space};
use crate::format::{
    RECORD_HEADER_BYTES, SEGMENT_SUFFIX, SPARE_SUFFIX, SegmentHeader, TEMPORARY_SUFFIX, encode_end,
    file_name,
};
use crate::limits::FILL_AT_ONCE_BYTES;
use crate::spare::Spare;

/// A file whose syncs may run beside each other. The system tells a failure once, to whoever syncs first, and a
/// second sync would then succeed without the data.
#[derive(Debug)]
pub(crate) struct SyncedFile<F> {
    pub(crate) file: Arc<F>,
    pub(crate) name: String,
    failed: Mutex<bool>,
}

impl<F: DiskFile> SyncedFile<F> {
    pub(crate) fn new(file: Arc<F>, name: String) -> Self {
        Self {
            file,
            name,
            failed: Mutex::new(false),
        }
    }

    fn sync(&self) -> Result<(), WalError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(WalError::Poisoned);
        }
        let synced = self.file.sync_data();
        *failed = synced.is_err();
        synced.map_err(WalError::io("sync", &self.name))
    }
}

/// Makes written entries durable.
#[derive(Debug)]
pub struct SyncJob<D: Disk> {
    pub(crate) file: Arc<SyncedFile<D::File>>,
    pub(crate) generation: u64,
    pub(crate) up_to: Offset,
}

/// What became of a [`SyncJob`].
#[derive(Debug)]
#[must_use = "the log must be told"]
pub struct SyncDone {
    pub(crate) generation: u64,
    pub(crate) up_to: Offset,
    pub(crate) result: Result<(), WalError>,
}

impl<D: Disk> SyncJob<D> {
    /// Blocks until the disk has answered.
    pub fn run(self) -> SyncDone {
        SyncDone {
            generation: self.generation,
            up_to: self.up_to,
            result: self.file.sync(),
        }
    }
}

/// Starts a segment: because the last one is full, because the log was cut, or anew.
#[derive(Debug)]
pub struct SegmentJob<D: Disk> {
    pub(crate) disk: Arc<D>,
    /// The last segment with entries that are not durable yet, and up to which one.
    pub(crate) sync: Option<Arc<SyncedFile<D::File>>>,
    pub(crate) synced: Offset,
    /// Its length is that of the file that it gets in the end.
    pub(crate) header: SegmentHeader,
    /// A prepared file; else one is made.
    pub(crate) spare: Option<Spare>,
    /// Instead, if one cannot be made for lack of space.
    pub(crate) reserve: Option<Spare>,
    /// The segment that it takes over from.
    pub(crate) predecessor: Option<Predecessor<D::File>>,
    /// Segments that are not in the log any more then, newest first.
    pub(crate) replaced: Vec<GivenUp>,
    /// Where the log ends in the predecessor, if it is cut there.
    pub(crate) cut: Option<u64>,
}

/// A segment that was left, and what its end record says.
#[derive(Debug)]
pub(crate) struct Predecessor<F> {
    pub(crate) file: Arc<F>,
    pub(crate) name: String,
    pub(crate) tag: u64,
    pub(crate) position: u64,
    pub(crate) sum: u32,
    pub(crate) last: LogPoint,
}

impl<F: DiskFile> Predecessor<F> {
    /// Writes the end record durably; only when the segment `next` is durable.
    pub(crate) fn close(&self, next: u64) -> Result<(), WalError> {
        let record = encode_end(self.tag, self.sum, self.last, next);
        let written = self.file.write_at(self.position, &record);
        let closed = written.and_then(|()| self.file.sync_data());
        closed.map_err(WalError::io("close", &self.name))
    }
}

/// What became of a [`SegmentJob`].
#[derive(Debug)]
#[must_use = "the log must be told"]
pub struct SegmentDone {
    pub(crate) header: SegmentHeader,
    /// The sum that the segment's first record continues.
    pub(crate) sum: u32,
    pub(crate) cut: Option<u64>,
    /// Everything up to here was synced on the way.
    pub(crate) synced: Option<Offset>,
    /// Files that were not needed or became free.
    pub(crate) spares: Vec<Spare>,
    /// The segment; an error of [`crate::Severity::NoSpace`] has changed nothing.
    pub(crate) result: Result<Started, WalError>,
}

/// A segment's file, a `D::File` of the log that started it, and what to call it.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) file: Arc<dyn Any + Send + Sync>,
    pub(crate) name: String,
}

impl<D: Disk> SegmentJob<D> {
    /// Blocks until all is done or something failed.
    pub fn run(mut self) -> SegmentDone {
        let mut done = SegmentDone {
            header: self.header,
            sum: 0,
            cut: self.cut,
            synced: None,
            spares: Vec::new(),
            result: Err(WalError::Poisoned),
        };
        done.result = self.steps(&mut done);
        done.spares.extend(self.spare.take());
        done.spares.extend(self.reserve.take());
        done
    }

    fn steps(&mut self, done: &mut SegmentDone) -> Result<Started, WalError> {
        if let Some(file) = &self.sync {
            file.sync()?;
        }
        done.synced = Some(self.synced);
        let (from, file) = self.file()?;
        let (mut block, sum) = self.header.encode();
        (done.header, done.sum) = (self.header, sum);
        // The zeros that stand behind the end of a log.
        block.resize(block.len() + RECORD_HEADER_BYTES, 0);
        let name = file_name(self.header.generation, SEGMENT_SUFFIX);
        let described = self.disk.describe(&name);
        let named = file
            .write_at(0, &block)
            .and_then(|()| file.sync_data())
            .and_then(|()| self.disk.rename(&from, &name));
        if let Err(error) = named {
            return Err(self.not_started(&from, error));
        }
        let synced = self.disk.sync_dir();
        synced.map_err(WalError::io("start segment", &described))?;
        if let Some(predecessor) = &self.predecessor {
            predecessor.close(self.header.generation)?;
        }
        for old in &self.replaced {
            done.spares.extend(old.give_up(&*self.disk)?);
        }
        Ok(Started {
            file: Arc::new(file),
            name: described,
        })
    }

    /// The file that becomes the segment, and its present name.
    fn file(&mut self) -> Result<(String, D::File), WalError> {
        if self.spare.is_none() {
            let name = file_name(self.header.generation, TEMPORARY_SUFFIX);
            match self.disk.create(&name, self.header.bytes) {
                Ok(file) => return Ok((name, file)),
                Err(error) if is_no_space(&error) && self.reserve.is_some() => {
                    // Best effort: it is removed when the log is next opened.
                    let _ = self.disk.remove(&name);
                    self.spare = self.reserve.take();
                }
                Err(error) => return Err(self.not_started(&name, error)),
            }
        }
        let Some(spare) = self.spare.take() else {
            return Err(WalError::Poisoned);
        };
        self.header.bytes = spare.bytes;
        let name = file_name(spare.number, SPARE_SUFFIX);
        let file = self.disk.open(&name);
        let file = file.map_err(WalError::io("open", &self.disk.describe(&name)))?;
        Ok((name, file))
    }

    /// The file has no segment's name, so the log is as it was.
    fn not_started(&self, name: &str, error: io::Error) -> WalError {
        let _ = self.disk.remove(name);
        if is_no_space(&error) {
            return WalError::NoSpace {
                bytes: self.header.bytes,
            };
        }
        WalError::io("start segment", &self.disk.describe(name))(error)
    }
}

/// A segment that is not in the log any more.
#[derive(Debug)]
pub(crate) struct GivenUp {
    pub(crate) generation: u64,
    pub(crate) bytes: u64,
    /// Becomes a spare; else it is removed.
    pub(crate) keep: bool,
}

impl GivenUp {
    /// Durable when it returns: a file's old name must not show up with a new header.
    fn give_up<D: Disk>(&self, disk: &D) -> Result<Option<Spare>, WalError> {
        let name = file_name(self.generation, SEGMENT_SUFFIX);
        let gone = match self.keep {
            true => disk.rename(&name, &file_name(self.generation, SPARE_SUFFIX)),
            false => disk.remove(&name),
        };
        let gone = gone.and_then(|()| disk.sync_dir());
        gone.map_err(WalError::io("give up", &disk.describe(&name)))?;
        Ok(self.keep.then_some(Spare {
            number: self.generation,
            bytes: self.bytes,
        }))
    }
}

/// Gives up the oldest segments.
#[derive(Debug)]
pub struct TrimJob<D: Disk> {
    pub(crate) disk: Arc<D>,
    /// Oldest first.
    pub(crate) segments: Vec<GivenUp>,
}

/// What became of a [`TrimJob`].
#[derive(Debug)]
#[must_use = "the log must be told"]
pub struct TrimDone {
    pub(crate) spares: Vec<Spare>,
    pub(crate) result: Result<(), WalError>,
}

impl<D: Disk> TrimJob<D> {
    /// Blocks until all are gone. One at a time: a crash must not leave a gap between two segments.
    pub fn run(self) -> TrimDone {
        let mut spares = Vec::new();
        let mut gone = self.segments.iter().map(|old| old.give_up(&*self.disk));
        let result = gone.try_for_each(|spare| {
            spares.extend(spare?);
            Ok(())
        });
        TrimDone { spares, result }
    }
}

/// Makes a file ready to become a segment.
#[derive(Debug)]
pub struct PrepareJob<D: Disk> {
    pub(crate) disk: Arc<D>,
    pub(crate) spare: Spare,
}

/// What became of a [`PrepareJob`].
#[derive(Debug)]
#[must_use = "the log must be told"]
pub struct PrepareDone {
    pub(crate) result: Result<Spare, WalError>,
}

impl<D: Disk> PrepareJob<D> {
    /// Blocks until the file is written and synced, which takes long for a long one.
    pub fn run(self) -> PrepareDone {
        PrepareDone {
            result: self.steps(),
        }
    }

    fn steps(&self) -> Result<Spare, WalError> {
        let temporary = file_name(self.spare.number, TEMPORARY_SUFFIX);
        let name = file_name(self.spare.number, SPARE_SUFFIX);
        let filled = self.disk.create(&temporary, self.spare.bytes);
        let filled = filled.and_then(|file| match self.spare.bytes > FILL_AT_ONCE_BYTES {
            true => fill(&file, self.spare.bytes, DiskFile::sync_data),
            false => Ok(()),
        });
        let named = filled.and_then(|()| self.disk.rename(&temporary, &name));
        named.map_err(|error| {
            // Best effort: what is left is removed when the log is next opened.
            let _ = self.disk.remove(&temporary);
            if is_no_space(&error) {
                let bytes = self.spare.bytes;
                return WalError::NoSpace { bytes };
            }
            WalError::io("prepare", &self.disk.describe(&temporary))(error)
        })?;
        Ok(self.spare)
    }
}
