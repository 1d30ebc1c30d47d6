//! A folder in memory that can crash and fail, for tests and the simulator.
//!
//! Same seed, same calls, same outcome. The model of a crash: what was synced is there; of the
//! writes since, each sector is there or not, and one may be cut in the middle; of the
//! names changed since `sync_dir`, each change happened or not, unless it builds on one that did not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A folder in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryFile {
    state: Arc<Mutex<State>>,
    inode: usize,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    salts: u64,
    faults: Faults,
    syncs: u64,
}

#[derive(Debug, Default)]
struct Inode {
    /// What reads see.
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync, in order.
    writes: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

/// How many calls still succeed; `None`: all.
#[derive(Debug, Default)]
struct Faults {
    writes_left: Option<u64>,
    syncs_left: Option<u64>,
    /// All calls that change anything. When it runs out the machine is as good as off.
    changes_left: Option<u64>,
}

impl MemoryDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `count` more writes succeed and fails the rest; half of a failed write may have happened.
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

    /// Ends all injected failures.
    pub fn heal(&self) {
        self.lock().faults = Faults::default();
    }

    /// Power loss and restart: only what was durable is surely left. Ends injected failures.
    /// Files that are open now must not be used again.
    pub fn crash(&self, seed: u64) {
        let mut random = Random(seed);
        let mut state = self.lock();
        state.faults = Faults::default();
        state.crash_names(&mut random);
        for inode in &mut state.inodes {
            inode.crash(&mut random);
        }
    }

    /// Successful calls of `sync_data` so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// A file's content as reads see it.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = state.names.get(name)?;
        Some(state.inodes[*inode].current.clone())
    }

    /// Makes a file with this content, durably, or replaces it.
    pub fn put(&self, name: &str, content: Vec<u8>) {
        let mut state = self.lock();
        state.inodes.push(Inode {
            current: content.clone(),
            durable: content,
            writes: Vec::new(),
        });
        let inode = state.inodes.len() - 1;
        state.names.insert(name.to_owned(), inode);
        state.durable_names.insert(name.to_owned(), inode);
    }

    /// An independent copy of what reads see now.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        let state = self.lock();
        for (name, &inode) in &state.names {
            copy.put(name, state.inodes[inode].current.clone());
        }
        copy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn injected() -> Error {
    Error::other("injected failure")
}

/// Takes one from a budget.
fn spend(left: &mut Option<u64>) -> io::Result<()> {
    match left {
        None => Ok(()),
        Some(0) => Err(injected()),
        Some(count) => {
            *count -= 1;
            Ok(())
        }
    }
}

impl State {
    fn change(&mut self) -> io::Result<()> {
        spend(&mut self.faults.changes_left)
    }

    fn rename_in(names: &mut BTreeMap<String, usize>, from: &str, to: &str) -> io::Result<()> {
        let inode = names.remove(from).ok_or(ErrorKind::NotFound)?;
        names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn crash_names(&mut self, random: &mut Random) {
        let mut missed: BTreeSet<String> = BTreeSet::new();
        let mut names = self.durable_names.clone();
        for change in std::mem::take(&mut self.name_changes) {
            let touched: Vec<String> = match &change {
                NameChange::Create(name, _) | NameChange::Remove(name) => vec![name.clone()],
                NameChange::Rename(from, to) => vec![from.clone(), to.clone()],
            };
            if random.below(2) == 0 || touched.iter().any(|name| missed.contains(name)) {
                missed.extend(touched);
                continue;
            }
            match change {
                NameChange::Create(name, inode) => {
                    names.insert(name, inode);
                }
                NameChange::Rename(from, to) => {
                    let _ = Self::rename_in(&mut names, &from, &to);
                }
                NameChange::Remove(name) => {
                    names.remove(&name);
                }
            }
        }
        self.names = names.clone();
        self.durable_names = names;
    }
}

impl Inode {
    fn apply(content: &mut [u8], position: usize, bytes: &[u8]) {
        content[position..position + bytes.len()].copy_from_slice(bytes);
    }

    fn crash(&mut self, random: &mut Random) {
        // Sometimes all is lost, sometimes nothing, mostly some sectors.
        let kept_in_ten = [0, 3, 7, 9, 10][random.below(5) as usize];
        for (position, bytes) in std::mem::take(&mut self.writes) {
            let mut at = 0;
            while at < bytes.len() {
                let room = SECTOR_BYTES - (position + at) % SECTOR_BYTES;
                let mut until = bytes.len().min(at + room);
                let next = until;
                if random.below(10) < kept_in_ten {
                    if kept_in_ten < 10 && random.below(20) == 0 {
                        until = at + random.below((until - at) as u64) as usize;
                    }
                    Self::apply(&mut self.durable, position + at, &bytes[at..until]);
                }
                at = next;
            }
        }
        self.current.clone_from(&self.durable);
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let inode = *self.lock().names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(MemoryFile {
            state: self.state.clone(),
            inode,
        })
    }

    fn open_to_read(&self, name: &str) -> io::Result<MemoryFile> {
        self.open(name)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<MemoryFile> {
        let mut state = self.lock();
        state.change()?;
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let zeros = vec![0; bytes as usize];
        state.inodes.push(Inode {
            current: zeros.clone(),
            durable: zeros,
            writes: Vec::new(),
        });
        let inode = state.inodes.len() - 1;
        state.names.insert(name.to_owned(), inode);
        let change = NameChange::Create(name.to_owned(), inode);
        state.name_changes.push(change);
        Ok(MemoryFile {
            state: self.state.clone(),
            inode,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        State::rename_in(&mut state.names, from, to)?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        state.name_changes.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        state.names.remove(name).ok_or(ErrorKind::NotFound)?;
        state.name_changes.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }

    /// A counter: runs must repeat.
    fn salt(&self) -> u64 {
        let mut state = self.lock();
        state.salts += 1;
        state.salts
    }
}

impl MemoryFile {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().inodes[self.inode].current.len() as u64)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.lock();
        let content = &state.inodes[self.inode].current;
        let start = usize::try_from(position).map_or(content.len(), |at| at.min(content.len()));
        let bytes = buffer.len().min(content.len() - start);
        buffer[..bytes].copy_from_slice(&content[start..start + bytes]);
        Ok(bytes)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let allowed = state
            .change()
            .and_then(|()| spend(&mut state.faults.writes_left));
        let bytes = if allowed.is_err() {
            &bytes[..bytes.len() / 2]
        } else {
            bytes
        };
        let inode = &mut state.inodes[self.inode];
        let position = usize::try_from(position).map_err(|_| ErrorKind::InvalidInput)?;
        if position + bytes.len() > inode.current.len() {
            inode.current.resize(position + bytes.len(), 0);
            inode.durable.resize(position + bytes.len(), 0);
        }
        Inode::apply(&mut inode.current, position, bytes);
        inode.writes.push((position, bytes.to_vec()));
        allowed
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.lock();
        let allowed = state
            .change()
            .and_then(|()| spend(&mut state.faults.syncs_left));
        let inode = &mut state.inodes[self.inode];
        let writes = std::mem::take(&mut inode.writes);
        allowed?;
        for (position, bytes) in writes {
            Inode::apply(&mut inode.durable, position, &bytes);
        }
        state.syncs += 1;
        Ok(())
    }
}

/// splitmix64: enough for tests, and the same everywhere.
#[derive(Clone, Debug)]
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
