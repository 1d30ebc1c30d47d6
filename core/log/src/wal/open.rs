//! How a log comes up, in two steps: look, then repair.

use std::sync::Arc;

use oxkeeper_model::Offset;

use super::{UnderWay, Wal, WalOptions};
use crate::chain::LogPoint;
use crate::disk::{Disk, DiskFile};
use crate::error::{Severity, WalError};
use crate::format::{
    RECORD_HEADER_BYTES, SEGMENT_SUFFIX, SPARE_SUFFIX, TEMPORARY_SUFFIX, file_name,
};
use crate::jobs::Predecessor;
use crate::limits::REWRITE_BYTES;
use crate::recover::{self, Cut, Files, Found};
use crate::spare::{Pool, Spare};
use crate::terms::TermIndex;
use crate::view::Shared;

/// What [`Recovery::look`] found. Nothing has been written yet, so whoever must remember first
/// that something was cut can do so between the steps; a crash then finds the same again.
#[derive(Debug)]
pub struct Recovery<D: Disk> {
    disk: Arc<D>,
    options: WalOptions,
    found: Found<D::File>,
}

impl<D: Disk> Recovery<D> {
    /// Reads and checks the whole log. An error means that there is nothing to go on from.
    pub fn look(disk: Arc<D>, options: WalOptions) -> Result<Self, WalError> {
        let found = recover::inspect(&*disk, options.uuid)?;
        Ok(Self {
            disk,
            options,
            found,
        })
    }

    /// What `repair` would drop.
    pub fn cut(&self) -> Option<&Cut> {
        self.found.cut.as_ref()
    }

    /// The entry before the first one, and the last one, after the cut.
    pub fn ends(&self) -> (LogPoint, LogPoint) {
        (self.found.start, self.found.last)
    }

    /// Opens the log without what is cut, plain or not, and makes everything else durable again. The log
    /// goes on in a new segment after a cut; until then every look finds the cut again.
    pub fn repair(self) -> Result<Wal<D>, WalError> {
        let options = self.options.rounded();
        let found = self.found;
        let mut pool = Pool::new(options.reserve_bytes);
        tidy(&*self.disk, &found, &options, &mut pool)?;
        rewrite_unproven(&found)?;
        close_segments(&found)?;
        let mut wal = Wal::empty(self.disk, options, pool, &found.files);
        if found.cut.is_none()
            && let Some(segment) = found.segments.back()
        {
            wal.active = Some(segment.into());
        }
        wal.start = found.start;
        wal.last = found.last;
        wal.last_sum = found.last_sum;
        wal.durable = found.last.offset;
        wal.end = found.end;
        wal.terms = found.terms;
        let last = wal.first().map(|_| found.last.offset);
        wal.shared = Arc::new(Shared::new(found.segments, last));
        wal.make_files()?;
        Ok(wal)
    }
}

impl<D: Disk> Wal<D> {
    /// Opens the log, and cuts what a crash can have torn; the caller should say so. Any other cut is an
    /// error: [`Recovery`] is for those who can get the data again.
    pub fn open(disk: Arc<D>, options: WalOptions) -> Result<(Self, Option<Cut>), WalError> {
        let recovery = Recovery::look(disk, options)?;
        let cut = recovery.cut().cloned();
        match cut {
            Some(cut) if !cut.plain => {
                let reason = format!("{}; entries from {} on are lost", cut.reason, cut.first);
                Err(WalError::damaged(&cut.file, cut.position, reason))
            }
            cut => Ok((recovery.repair()?, cut)),
        }
    }

    /// Gives up whatever is in the folder, damaged or not, for an empty log that continues `start`.
    /// A crash leaves the old log or the new one.
    pub fn discard(disk: Arc<D>, options: WalOptions, start: LogPoint) -> Result<Self, WalError> {
        let options = options.rounded();
        let files = Files::list(&*disk)?;
        let pool = Pool::new(options.reserve_bytes);
        let mut wal = Self::empty(disk.clone(), options.clone(), pool, &files);
        wal.reset(start)?;
        // The folder has a new log; what is left of the old one goes as after any crash.
        drop(wal);
        Recovery::look(disk, options)?.repair()
    }

    fn empty(disk: Arc<D>, options: WalOptions, pool: Pool, files: &Files) -> Self {
        Self {
            disk,
            options,
            shared: Arc::default(),
            pool,
            next_number: files.next_number(),
            active: None,
            start: LogPoint::START,
            last: LogPoint::START,
            terms: TermIndex::default(),
            last_sum: 0,
            durable: Offset(0),
            end: Default::default(),
            buffer: Vec::new(),
            under_way: UnderWay::default(),
            poisoned: false,
        }
    }

    /// The first segment of a new log, then the reserve. A full disk is no reason not to open.
    fn make_files(&mut self) -> Result<(), WalError> {
        let made = match self.first().is_none() && self.active.is_none() {
            true => self.reset(self.last),
            false => Ok(()),
        };
        let made = made.and_then(|()| match self.pool.lacks_reserve() {
            true => self.prepare(),
            false => Ok(()),
        });
        match made {
            Err(error) if error.severity() != Severity::NoSpace => Err(error),
            _ => Ok(()),
        }
    }
}

/// Removes what is not the log and keeps the spare files that are wanted.
fn tidy<D: Disk>(
    disk: &D,
    found: &Found<D::File>,
    options: &WalOptions,
    pool: &mut Pool,
) -> Result<(), WalError> {
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
            let is_reserve = pool.lacks_reserve() && bytes == options.reserve_bytes;
            let is_spare = bytes == options.segment_bytes
                && pool.count(options.segment_bytes) < options.recycle_segments;
            match is_reserve || is_spare {
                true => pool.give(Spare { number, bytes }),
                false => disk.remove(&name)?,
            }
        }
        disk.sync_dir()
    };
    work().map_err(WalError::io("tidy", &disk.describe("")))
}

/// Writes again, and syncs, the end of the log that nothing shows to be on disk. The system may hold it in memory
/// only, and after a failed sync it may even think it clean, so that a sync alone would do nothing.
fn rewrite_unproven<F: DiskFile>(found: &Found<F>) -> Result<(), WalError> {
    let Some(segment) = found.segments.back() else {
        return Ok(());
    };
    let unproven = found.proven.next().max(segment.base());
    let mut position = segment.mark_before(unproven).position;
    // With the zeros behind it, unless something else stands there.
    let zeros = if found.cut.is_none() {
        RECORD_HEADER_BYTES as u64
    } else {
        0
    };
    let end = (segment.end + zeros).min(segment.bytes);
    let mut copy = || -> std::io::Result<()> {
        let mut piece = vec![0; REWRITE_BYTES.min((end - position) as usize)];
        while position < end {
            let wanted = (end - position).min(piece.len() as u64) as usize;
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

/// A crash may have come between a segment's start and the end record of the one before.
fn close_segments<F: DiskFile>(found: &Found<F>) -> Result<(), WalError> {
    let next = found.segments.iter().skip(1).map(|next| next.generation);
    for (segment, next) in found.segments.iter().zip(next) {
        let unclosed = found.unclosed.iter();
        for (_, place, last) in unclosed.filter(|(of, ..)| *of == segment.generation) {
            let predecessor = Predecessor {
                file: segment.file.clone(),
                name: segment.name.clone(),
                tag: segment.tag,
                position: place.position,
                sum: place.sum,
                last: *last,
            };
            predecessor.close(next)?;
        }
    }
    Ok(())
}
