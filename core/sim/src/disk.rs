//! The disk of a simulated machine: the log's in-memory disk, the plans of whoever wants it to lie, and
//! the witness that must see what the log gives up.

use std::fmt;
use std::io;
use std::sync::Arc;

use oxkeeper_log::{Disk, DiskFile, MemoryDisk, MemoryFile};
use parking_lot::Mutex;

/// A way in which a disk can break its promises. Planted by tests that want to see it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskLie {
    /// Says that content is durable, and does nothing for it.
    SyncsNothing,
    /// A failed sync is tried again, and believed the second time.
    RetriesSyncs,
    /// Damage is cut off when the log is opened, as if a crash had torn its end.
    HidesDamage,
    /// Names are said to be durable, and are not.
    SyncsNoNames,
}

/// Called before the log gives a file up.
type Witness = dyn Fn(&MemoryDisk) + Send + Sync;

/// A folder in memory with faults. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    inner: MemoryDisk,
    lie: Option<DiskLie>,
    witness: Arc<Mutex<Option<Box<Witness>>>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[derive(Debug)]
pub struct SimFile {
    inner: MemoryFile,
    lie: Option<DiskLie>,
}

impl SimDisk {
    pub fn new(inner: MemoryDisk, lie: Option<DiskLie>) -> Self {
        Self {
            inner,
            lie,
            witness: Arc::default(),
        }
    }

    /// The disk without the lies: where faults are asked for.
    pub fn inner(&self) -> &MemoryDisk {
        &self.inner
    }

    pub fn set_witness(&self, witness: impl Fn(&MemoryDisk) + Send + Sync + 'static) {
        *self.witness.lock() = Some(Box::new(witness));
    }

    fn file(&self, inner: MemoryFile) -> SimFile {
        SimFile {
            inner,
            lie: self.lie,
        }
    }

    fn giving_up(&self, name: &str) {
        if name.ends_with(".wal")
            && let Some(witness) = &*self.witness.lock()
        {
            witness(&self.inner);
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        Ok(self.file(self.inner.open(name)?))
    }

    fn open_to_read(&self, name: &str) -> io::Result<SimFile> {
        Ok(self.file(self.inner.open_to_read(name)?))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<SimFile> {
        Ok(self.file(self.inner.create(name, bytes)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.giving_up(from);
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.giving_up(name);
        self.inner.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        match self.lie {
            Some(DiskLie::SyncsNoNames) => Ok(()),
            _ => self.inner.sync_dir(),
        }
    }

    fn salt(&self) -> u64 {
        self.inner.salt()
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(position, buffer)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(position, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.lie {
            Some(DiskLie::SyncsNothing) => Ok(()),
            // The first failure has dropped what was to be written; nothing is left to fail.
            Some(DiskLie::RetriesSyncs) => self.inner.sync_data().or(Ok(())),
            _ => self.inner.sync_data(),
        }
    }
}
