//! What a disk does with each call.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Error, ErrorKind};

use super::inode::{Inode, SECTOR_BYTES, Write, put};
use super::{BitFlip, DiskCounters, Random};

#[derive(Debug, Default)]
pub(super) struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    pub(super) names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) capacity: Option<u64>,
    pub(super) counters: DiskCounters,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

/// How many calls still go well; `None`: all.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) writes_left: Option<u64>,
    pub(super) syncs_left: Option<u64>,
    /// All calls that change anything. When it runs out the machine is as good as off.
    pub(super) changes_left: Option<u64>,
    pub(super) writes_until_misdirected: Option<u64>,
}

/// Takes one from a budget.
fn spend(left: &mut Option<u64>) -> io::Result<()> {
    match left {
        None => Ok(()),
        Some(0) => Err(Error::other("injected failure")),
        Some(count) => {
            *count -= 1;
            Ok(())
        }
    }
}

fn rename_in(names: &mut BTreeMap<String, u64>, from: &str, to: &str) -> io::Result<()> {
    let inode = names.remove(from).ok_or(ErrorKind::NotFound)?;
    names.insert(to.to_owned(), inode);
    Ok(())
}

impl State {
    fn change(&mut self) -> io::Result<()> {
        spend(&mut self.faults.changes_left)
    }

    pub(super) fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        let gone = || Error::from(ErrorKind::NotFound);
        self.inodes.get_mut(&inode).ok_or_else(gone)
    }

    pub(super) fn content(&self, name: &str) -> Option<Vec<u8>> {
        let inode = self.inodes.get(self.names.get(name)?)?;
        Some(inode.current.clone())
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let lengths = self.inodes.values().map(|inode| inode.current.len() as u64);
        lengths.sum()
    }

    fn check_space(&mut self, more: u64) -> io::Result<()> {
        let full = self
            .capacity
            .is_some_and(|capacity| more > 0 && self.used_bytes() + more > capacity);
        if full {
            self.counters.full += 1;
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn add(&mut self, content: Vec<u8>) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode::new(content));
        self.next_inode
    }

    pub(super) fn opened(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.open += 1;
        }
    }

    pub(super) fn closed(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.open = inode.open.saturating_sub(1);
        }
        self.free();
    }

    /// Forgets files that have no name, not even after a crash, and no handle.
    fn free(&mut self) {
        let mut named: BTreeSet<u64> = self.names.values().copied().collect();
        named.extend(self.durable_names.values());
        named.extend(self.name_changes.iter().filter_map(|change| match change {
            NameChange::Create(_, inode) => Some(inode),
            NameChange::Rename(..) | NameChange::Remove(_) => None,
        }));
        self.inodes
            .retain(|number, inode| inode.open > 0 || named.contains(number));
    }

    pub(super) fn put(&mut self, name: &str, content: Vec<u8>) {
        let inode = self.add(content);
        self.names.insert(name.to_owned(), inode);
        self.durable_names.insert(name.to_owned(), inode);
        self.free();
    }

    pub(super) fn create(&mut self, name: &str, bytes: u64) -> io::Result<u64> {
        self.change()?;
        if self.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.check_space(bytes)?;
        let inode = self.add(vec![0; bytes as usize]);
        self.names.insert(name.to_owned(), inode);
        let change = NameChange::Create(name.to_owned(), inode);
        self.name_changes.push(change);
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change()?;
        rename_in(&mut self.names, from, to)?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        self.name_changes.push(change);
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change()?;
        self.names.remove(name).ok_or(ErrorKind::NotFound)?;
        self.name_changes.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self) -> io::Result<()> {
        self.change()?;
        self.durable_names = self.names.clone();
        self.name_changes.clear();
        self.free();
        Ok(())
    }

    pub(super) fn write(&mut self, inode: u64, position: u64, bytes: &[u8]) -> io::Result<()> {
        let allowed = self
            .change()
            .and_then(|()| spend(&mut self.faults.writes_left));
        let mut bytes = bytes;
        if allowed.is_err() {
            let part = self.random.below(bytes.len() as u64) as usize;
            bytes = &bytes[..part];
            self.counters.writes_failed += 1;
        }
        let position = usize::try_from(position).map_err(|_| ErrorKind::InvalidInput)?;
        let end = position + bytes.len();
        let grows = end.saturating_sub(self.inode(inode)?.current.len());
        self.check_space(grows as u64)?;
        let target = self.misdirect(inode, position, bytes.len());
        let file = self.inode(inode)?;
        if grows > 0 {
            file.current.resize(end, 0);
            file.durable.resize(end, 0);
        }
        put(&mut file.current, position, bytes);
        let (elsewhere, position) = match target {
            Some((other, at)) => (Some(other), at),
            None => (None, position),
        };
        file.astray |= elsewhere.is_some();
        file.writes.push(Write {
            inode: elsewhere,
            position,
            bytes: bytes.to_vec(),
        });
        self.counters.writes += 1;
        self.counters.written_bytes += bytes.len() as u64;
        allowed
    }

    /// Another place for the write if it is the one that shall go astray.
    fn misdirect(&mut self, inode: u64, position: usize, bytes: usize) -> Option<(u64, usize)> {
        let left = self.faults.writes_until_misdirected?;
        self.faults.writes_until_misdirected = left.checked_sub(1);
        if left > 0 {
            return None;
        }
        // It keeps its place within the sector.
        let shift = position % SECTOR_BYTES;
        let places = |other: &Inode| {
            let room = other.current.len().checked_sub(shift + bytes);
            room.map_or(0, |room| room / SECTOR_BYTES + 1)
        };
        let all = self.inodes.iter().flat_map(|(&number, other)| {
            let at = move |sector| (number, sector * SECTOR_BYTES + shift);
            (0..places(other)).map(at)
        });
        let others: Vec<_> = all.filter(|&place| place != (inode, position)).collect();
        let chosen = self.random.below(others.len() as u64) as usize;
        let place = *others.get(chosen)?;
        self.counters.writes_misdirected += 1;
        Some(place)
    }

    pub(super) fn sync(&mut self, inode: u64) -> io::Result<()> {
        let allowed = self
            .change()
            .and_then(|()| spend(&mut self.faults.syncs_left));
        let file = self.inode(inode)?;
        let writes = std::mem::take(&mut file.writes);
        if let Err(error) = allowed {
            file.astray |= !writes.is_empty();
            self.counters.syncs_failed += 1;
            return Err(error);
        }
        for write in writes {
            match write.inode {
                Some(other) => self.land(other, write.position, &write.bytes),
                None => put(
                    &mut self.inode(inode)?.durable,
                    write.position,
                    &write.bytes,
                ),
            }
        }
        self.counters.syncs += 1;
        Ok(())
    }

    /// A misdirected write: on the medium, but not in what reads see.
    fn land(&mut self, inode: u64, position: usize, bytes: &[u8]) {
        if let Some(file) = self.inodes.get_mut(&inode) {
            // A file that was cut meanwhile has no such place.
            if position + bytes.len() <= file.durable.len() {
                put(&mut file.durable, position, bytes);
                file.astray = true;
            }
        }
    }

    pub(super) fn crash(&mut self, random: &mut Random) {
        self.faults = Faults::default();
        self.counters.crashes += 1;
        self.crash_names(random);
        let mut elsewhere = Vec::new();
        for inode in self.inodes.values_mut() {
            if !inode.writes.is_empty() {
                inode.astray = true;
                elsewhere.extend(inode.crash(random, &mut self.counters));
            }
        }
        for (inode, position, bytes) in elsewhere {
            self.land(inode, position, &bytes);
        }
        let astray = self.inodes.values_mut().filter(|inode| inode.astray);
        astray.for_each(Inode::forget_memory);
        self.free();
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
                self.counters.names_lost += 1;
                continue;
            }
            match change {
                NameChange::Create(name, inode) => {
                    names.insert(name, inode);
                }
                NameChange::Rename(from, to) => {
                    let _ = rename_in(&mut names, &from, &to);
                }
                NameChange::Remove(name) => {
                    names.remove(&name);
                }
            }
        }
        self.names = names.clone();
        self.durable_names = names;
    }

    pub(super) fn flip(&mut self, flip: &BitFlip) -> io::Result<()> {
        let inode = *self.names.get(&flip.file).ok_or(ErrorKind::NotFound)?;
        let file = self.inode(inode)?;
        let at = usize::try_from(flip.position).map_err(|_| ErrorKind::InvalidInput)?;
        let contents = [file.current.get_mut(at), file.durable.get_mut(at)];
        for byte in contents {
            *byte.ok_or(ErrorKind::UnexpectedEof)? ^= 1 << (flip.bit % 8);
        }
        self.counters.bits_flipped += 1;
        Ok(())
    }

    pub(super) fn choose_flip(&self, random: &mut Random) -> Option<BitFlip> {
        let used = |(name, inode): (&String, &u64)| {
            let content = &self.inodes.get(inode)?.current;
            let used = content.iter().filter(|&&byte| byte != 0).count();
            (used > 0).then(|| (name.clone(), content, used as u64))
        };
        let files: Vec<_> = self.names.iter().filter_map(used).collect();
        let chosen = random.below(files.len() as u64) as usize;
        let (name, content, used) = files.into_iter().nth(chosen)?;
        let nth = random.below(used) as usize;
        let bytes = content.iter().enumerate();
        let (position, _) = bytes.filter(|(_, byte)| **byte != 0).nth(nth)?;
        Some(BitFlip {
            file: name,
            position: position as u64,
            bit: random.below(8) as u8,
        })
    }
}
