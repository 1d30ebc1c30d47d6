//! Files that wait to become segments.
//!
//! A file whose blocks were written before syncs faster than one that grows or that was
//! only reserved, so trimmed segments are kept, and a [`Preparer`] fills fresh ones with zeros.
//! It belongs on a thread of its own, since that takes long.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::format::{SPARE_SUFFIX, TEMPORARY_SUFFIX, file_name};

/// Zeros written and synced at once, small so that the log's own syncs wait little behind them.
const FILL_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Pool {
    state: Mutex<PoolState>,
    changed: Condvar,
    /// The next file number; none is used twice.
    next_number: AtomicU64,
}

#[derive(Debug)]
struct PoolState {
    /// Numbers of the spare files, all of the usual segment length and durable in content.
    spares: Vec<u64>,
    closed: bool,
}

impl Pool {
    pub(crate) fn new(spares: Vec<u64>, next_number: u64) -> Self {
        Self {
            state: Mutex::new(PoolState {
                spares,
                closed: false,
            }),
            changed: Condvar::new(),
            next_number: AtomicU64::new(next_number),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn take(&self) -> Option<u64> {
        let spare = self.lock().spares.pop();
        self.changed.notify_all();
        spare
    }

    pub(crate) fn give(&self, number: u64) {
        self.lock().spares.push(number);
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().spares.len()
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

/// Makes spare files ahead of need. Without one the log reserves its next segment itself,
/// which works but syncs slower until the file is reused.
#[derive(Debug)]
pub struct Preparer<D: Disk> {
    pub(crate) disk: Arc<D>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) segment_bytes: u64,
    pub(crate) wanted: usize,
}

impl<D: Disk> Preparer<D> {
    /// Makes one spare file if there are too few; says whether it did.
    pub fn prepare(&self) -> Result<bool, WalError> {
        if self.pool.count() >= self.wanted {
            return Ok(false);
        }
        let number = self.pool.number();
        let temporary = file_name(number, TEMPORARY_SUFFIX);
        let done = self.fill(&temporary).and_then(|()| {
            self.disk
                .rename(&temporary, &file_name(number, SPARE_SUFFIX))
        });
        if let Err(source) = done {
            // Best effort: what is left is removed when the log is next opened.
            let _ = self.disk.remove(&temporary);
            let file = self.disk.describe(&temporary);
            return Err(WalError::io("prepare", &file)(source));
        }
        self.pool.give(number);
        Ok(true)
    }

    /// Keeps enough spare files until the log is dropped. Blocks; for a thread of its own, which must have
    /// ended before the folder is opened again. After an error the log goes on without it.
    pub fn run(&self) -> Result<(), WalError> {
        loop {
            {
                let mut state = self.pool.lock();
                while !state.closed && state.spares.len() >= self.wanted {
                    let woken = self.pool.changed.wait(state);
                    state = woken.unwrap_or_else(PoisonError::into_inner);
                }
                if state.closed {
                    return Ok(());
                }
            }
            self.prepare()?;
        }
    }

    fn fill(&self, name: &str) -> io::Result<()> {
        let file = self.disk.create(name, self.segment_bytes)?;
        let zeros = vec![0; FILL_BYTES.min(self.segment_bytes as usize)];
        let mut position = 0;
        while position < self.segment_bytes {
            let bytes = (self.segment_bytes - position).min(zeros.len() as u64);
            file.write_at(position, &zeros[..bytes as usize])?;
            file.sync_data()?;
            position += bytes;
        }
        Ok(())
    }
}
