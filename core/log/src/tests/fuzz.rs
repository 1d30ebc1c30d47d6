//! Bounded fuzz runs with fixed seeds.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use oxkeeper_model::{Offset, Term};

use super::{fill, open, payload, read_all};
use crate::fuzzing::{examine, examine_disk};
use crate::memory_disk::Random;
use crate::{Disk, MemoryDisk, WalError};

const IMAGES: u64 = 60_000;
const INPUTS: u64 = 60_000;
/// The fields of a segment's header.
const HEADER_BYTES: usize = 88;
const TIME_MAX: Duration = Duration::from_secs(10);

/// Every payload that was ever appended, by offset.
type History = HashMap<u64, HashSet<Vec<u8>>>;

/// A log with several segments, reused files, a truncation and several syncs.
fn image(seed: u64) -> (MemoryDisk, History) {
    let mut random = Random(seed);
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    let mut history = History::new();
    for term in 1..=8 {
        let next = wal.last_point().offset.0 + 1;
        let bytes = 10 + random.below(400) as usize;
        let until = next + random.below(12);
        fill(&mut wal, next..=until, term, bytes);
        for offset in next..=until {
            let all = history.entry(offset).or_default();
            all.insert(payload(offset, term, bytes));
        }
        wal.sync().expect("synced");
        match random.below(4) {
            0 => wal
                .truncate_after(Offset(until - random.below(4).min(until - 1)))
                .expect("truncated"),
            1 => wal.trim_below(Offset(until / 2)).expect("trimmed"),
            _ => {}
        }
    }
    (disk, history)
}

/// One to three changes to one file.
fn mutate(disk: &MemoryDisk, random: &mut Random) {
    let names = disk.list().expect("listed");
    let name = &names[random.below(names.len() as u64) as usize];
    let mut content = disk.content(name).expect("listed");
    for _ in 0..=random.below(3) {
        let length = content.len() as u64;
        let at = random.below(length) as usize;
        // Most of a file is unused; half of the changes go to where records are.
        let at = match random.below(2) {
            0 => (4096 + random.below(2500) as usize).min(content.len().saturating_sub(1)),
            _ => at,
        };
        if content.is_empty() {
            break;
        }
        let span = (random.below(600) as usize).min(content.len() - at);
        match random.below(8) {
            0..3 => content[at] ^= 1 << random.below(8),
            3 => content[at..at + span].fill(0),
            4 => content.truncate(at),
            5 => {
                let from = random.below(length - span as u64 + 1) as usize;
                content.copy_within(from..from + span, at);
            }
            6 => content[at] = random.next() as u8,
            _ => {
                let value = random.next().to_le_bytes();
                let span = span.min(8);
                content[at..at + span].copy_from_slice(&value[..span]);
            }
        }
    }
    match random.below(40) {
        0 => disk.remove(name).expect("removed"),
        1 => disk.put(&names[random.below(names.len() as u64) as usize], content),
        _ => disk.put(name, content),
    }
}

#[test]
fn changed_images_never_panic_and_never_give_a_wrong_entry() {
    let started = Instant::now();
    let images: Vec<_> = (0..32).map(image).collect();
    let (mut opened, mut damaged) = (0, 0);
    for seed in 0..IMAGES {
        let mut random = Random(seed);
        let (disk, history) = &images[random.below(images.len() as u64) as usize];
        let disk = disk.copy();
        mutate(&disk, &mut random);
        let error = examine_disk(&disk, |offset, _, payload| {
            let right = history.get(&offset.0);
            assert!(
                right.is_some_and(|all| all.contains(payload)),
                "seed {seed}: entry {offset} was never appended so"
            );
        });
        match error {
            None => opened += 1,
            Some(_) => damaged += 1,
        }
        if started.elapsed() > TIME_MAX {
            break;
        }
    }
    assert!(opened > 100 && damaged > 100, "{opened} {damaged}");
}

#[test]
fn arbitrary_bytes_never_panic() {
    let started = Instant::now();
    for seed in 0..INPUTS {
        let mut random = Random(seed);
        let bytes = random.below(3_000) as usize;
        let mut data = Vec::with_capacity(bytes);
        // Runs of zeros and small numbers go further than noise.
        while data.len() < bytes {
            match random.below(4) {
                0 => data.extend(random.next().to_le_bytes()),
                1 => data.push(random.below(64) as u8),
                2 => data.extend((random.below(200) as u32).to_le_bytes()),
                _ => data.resize(data.len() + random.below(40) as usize, 0),
            }
        }
        if let Some(choice) = data.first_mut() {
            *choice = random.next() as u8;
        }
        examine(&data);
        if started.elapsed() > TIME_MAX {
            break;
        }
    }
}

#[test]
fn repaired_checksums_let_arbitrary_bytes_become_entries() {
    // Otherwise the run above would show nothing about what stands behind the checksums.
    let mut data = vec![0; 1 + HEADER_BYTES + 600];
    data[0] = 4 | 8 | 16 | 32 | 64;
    data[1 + 12] = 1;
    data[1 + 40] = 77;
    data[1 + 56] = 8;
    data[1 + HEADER_BYTES + 8] = 100;
    let disk = crate::fuzzing::disk_of(&data);
    let mut offsets = Vec::new();
    let error = examine_disk(&disk, |offset, _, _| offsets.push(offset.0));
    assert!(error.is_none(), "{error:?}");
    assert!(offsets.len() > 5 && offsets[0] == 9, "{offsets:?}");
}

#[test]
fn the_examination_notices_damage() {
    let (disk, _) = image(1);
    let whole = disk.copy();
    assert!(examine_disk(&whole, |_, _, _| ()).is_none());
    let names = disk.list().expect("listed");
    let name = names.iter().find(|name| name.ends_with(".wal"));
    let name = name.expect("a segment");
    let mut content = disk.content(name).expect("listed");
    content[4096 + 60] ^= 1;
    disk.put(name, content);
    let error = examine_disk(&disk, |_, _, _| ());
    assert!(matches!(error, Some(WalError::Damaged { .. })), "{error:?}");
}

#[test]
fn an_image_of_the_fuzz_run_has_all_kinds_of_history() {
    let mut files = HashSet::new();
    for seed in 0..32 {
        let (disk, _) = image(seed);
        let names = disk.list().expect("listed");
        files.insert(names.iter().filter(|n| n.ends_with(".wal")).count());
        assert!(!read_all(&open(&disk)).is_empty());
        assert!(open(&disk).last() >= Some((Offset(1), Term(1))));
    }
    assert!(files.len() > 2, "{files:?}");
}
