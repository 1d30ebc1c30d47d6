//! A folder in memory that can crash and fail, for tests and the simulator.
//!
//! Same seeds, same calls, same outcome. The model of a crash: what was synced is there; of the
//! writes since, each sector is there or not, and one may be cut in the middle; of the
//! names changed since `sync_dir`, each change happened or not, unless it builds on one that did not.
//!
//! Slow and stuck disks need nothing here: the log's syncs are jobs, and whoever runs them decides when.

mod inode;
mod state;

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};
use state::State;

/// A folder in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryFile {
    state: Arc<Mutex<State>>,
    inode: u64,
}

/// What a disk has done so far; a simulation proves with it that what it wanted to happen did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    pub writes: u64,
    pub written_bytes: u64,
    pub syncs: u64,
    pub crashes: u64,
    /// Sectors of unsynced writes that a crash dropped, kept, and cut in the middle.
    pub sectors_lost: u64,
    pub sectors_kept: u64,
    pub sectors_torn: u64,
    /// Unsynced changes of names that a crash dropped.
    pub names_lost: u64,
    pub bits_flipped: u64,
    pub writes_failed: u64,
    pub writes_misdirected: u64,
    pub syncs_failed: u64,
    /// Calls that found the disk full.
    pub full: u64,
}

/// A bit that was flipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitFlip {
    pub file: String,
    pub position: u64,
    pub bit: u8,
}

impl MemoryDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk whose numbers and whose own decisions come from `seed`.
    pub fn seeded(seed: u64) -> Self {
        let disk = Self::new();
        disk.lock().random = Random(seed);
        disk
    }

    /// Lets `count` more writes succeed and fails the rest; a part of a failed write may have happened.
    pub fn fail_writes_after(&self, count: u64) {
        self.lock().faults.writes_left = Some(count);
    }

    /// Lets `count` more `sync_data` succeed and fails the rest. A failed one drops what it should have
    /// written, while reads still show it, as Linux does.
    pub fn fail_syncs_after(&self, count: u64) {
        self.lock().faults.syncs_left = Some(count);
    }

    /// Lets `count` more calls of any kind that changes something succeed and fails the rest.
    pub fn fail_changes_after(&self, count: u64) {
        self.lock().faults.changes_left = Some(count);
    }

    /// The write after `count` more lands somewhere else in some file, once; reads show it at the right
    /// place until a crash.
    pub fn misdirect_write_after(&self, count: u64) {
        self.lock().faults.writes_until_misdirected = Some(count);
    }

    /// Ends all injected failures that were asked for.
    pub fn heal(&self) {
        self.lock().faults = state::Faults::default();
    }

    /// Bytes that all files together may take; `None`: any number. What is there stays.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Bytes that all files take now.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Power loss and restart: only what was durable is surely left. Ends injected failures.
    /// Files that are open now must not be used again.
    pub fn crash(&self, seed: u64) {
        self.lock().crash(&mut Random(seed));
    }

    /// Flips a bit on the disk and in what reads see.
    pub fn flip(&self, flip: &BitFlip) -> io::Result<()> {
        self.lock().flip(flip)
    }

    /// Flips some bit where a file holds something, and says which; `None` if all is zeros.
    pub fn flip_any(&self, seed: u64) -> Option<BitFlip> {
        let mut state = self.lock();
        let flip = state.choose_flip(&mut Random(seed))?;
        state.flip(&flip).ok()?;
        Some(flip)
    }

    pub fn counters(&self) -> DiskCounters {
        self.lock().counters
    }

    /// Successful calls of `sync_data` so far.
    pub fn syncs(&self) -> u64 {
        self.counters().syncs
    }

    /// A file's content as reads see it.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().content(name)
    }

    /// Makes a file with this content, durably, or replaces it.
    pub fn put(&self, name: &str, content: Vec<u8>) {
        self.lock().put(name, content);
    }

    /// An independent copy of what reads see now.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        let state = self.lock();
        copy.lock().random = state.random.clone();
        for name in state.names.keys() {
            copy.put(name, state.content(name).unwrap_or_default());
        }
        copy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, state: &mut State, inode: u64) -> MemoryFile {
        state.opened(inode);
        MemoryFile {
            state: self.state.clone(),
            inode,
        }
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let mut state = self.lock();
        let inode = *state.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(self.file(&mut state, inode))
    }

    fn open_to_read(&self, name: &str) -> io::Result<MemoryFile> {
        self.open(name)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<MemoryFile> {
        let mut state = self.lock();
        let inode = state.create(name, bytes)?;
        Ok(self.file(&mut state, inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.lock().rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.lock().sync_dir()
    }

    fn salt(&self) -> u64 {
        self.lock().random.next()
    }
}

impl MemoryFile {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.lock().closed(self.inode);
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().inode(self.inode)?.current.len() as u64)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let content = &state.inode(self.inode)?.current;
        let start = usize::try_from(position).map_or(content.len(), |at| at.min(content.len()));
        let bytes = buffer.len().min(content.len() - start);
        buffer[..bytes].copy_from_slice(&content[start..start + bytes]);
        Ok(bytes)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.lock().write(self.inode, position, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.lock().sync(self.inode)
    }
}

/// splitmix64: enough for tests, and the same everywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `limit` − 1; 0 if `limit` is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

#[cfg(test)]
mod tests;
