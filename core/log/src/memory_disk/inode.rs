//! A file's content: what reads see, and what a crash leaves.

use super::{DiskCounters, Random};

/// What a disk writes as a whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Inode {
    /// What reads see.
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Since the last sync, in order.
    pub(super) writes: Vec<Write>,
    /// The two differ though nothing was written: a write went astray, or a sync failed.
    pub(super) astray: bool,
    /// Handles on it.
    pub(super) open: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Write {
    /// Where it goes on the disk; not here if it was misdirected.
    pub(super) inode: Option<u64>,
    pub(super) position: usize,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn put(content: &mut [u8], position: usize, bytes: &[u8]) {
    content[position..position + bytes.len()].copy_from_slice(bytes);
}

impl Inode {
    pub(super) fn new(content: Vec<u8>) -> Self {
        Self {
            current: content.clone(),
            durable: content,
            ..Self::default()
        }
    }

    /// Each sector of what was not synced is written or not. Returns the pieces that went elsewhere.
    pub(super) fn crash(
        &mut self,
        random: &mut Random,
        counters: &mut DiskCounters,
    ) -> Vec<(u64, usize, Vec<u8>)> {
        let mut elsewhere = Vec::new();
        // Sometimes all is lost, sometimes nothing, mostly some sectors.
        let kept_in_ten = [0, 3, 7, 9, 10][random.below(5) as usize];
        for write in std::mem::take(&mut self.writes) {
            let mut at = 0;
            while at < write.bytes.len() {
                let room = SECTOR_BYTES - (write.position + at) % SECTOR_BYTES;
                let mut until = write.bytes.len().min(at + room);
                let next = until;
                if random.below(10) >= kept_in_ten {
                    counters.sectors_lost += 1;
                    at = next;
                    continue;
                }
                if kept_in_ten < 10 && random.below(20) == 0 {
                    until = at + random.below((until - at) as u64) as usize;
                    counters.sectors_torn += 1;
                } else {
                    counters.sectors_kept += 1;
                }
                let (position, bytes) = (write.position + at, &write.bytes[at..until]);
                match write.inode {
                    None => put(&mut self.durable, position, bytes),
                    Some(inode) => elsewhere.push((inode, position, bytes.to_vec())),
                }
                at = next;
            }
        }
        elsewhere
    }

    pub(super) fn forget_memory(&mut self) {
        self.current.clone_from(&self.durable);
        self.astray = false;
    }
}
