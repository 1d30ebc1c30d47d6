//! Torn tails, damage, and failures of the disk.

use std::sync::Arc;

use oxkeeper_model::{Offset, Term};

use super::{fill, offsets, open, payload, small, try_open};
use crate::format::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, record_bytes};
use crate::limits::OFFSET_MAX;
use crate::{Class, Cut, Disk, FileDisk, LogPoint, MemoryDisk, Wal, WalError, WalOptions};

const FIRST_FILE: &str = "0000000000000001.wal";

/// A log of ten entries of 100 bytes in one segment, each synced.
fn ten() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    for offset in 1..=10 {
        fill(&mut wal, offset..=offset, 1, 100);
        wal.sync().expect("synced");
    }
    disk
}

fn start_of(index: usize) -> usize {
    SEGMENT_HEADER_BYTES as usize + index * record_bytes(100)
}

/// A copy of the disk with the first segment changed.
fn changed(disk: &MemoryDisk, change: impl FnOnce(&mut Vec<u8>)) -> MemoryDisk {
    let copy = disk.copy();
    let mut content = copy.content(FIRST_FILE).expect("the first segment");
    change(&mut content);
    copy.put(FIRST_FILE, content);
    copy
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_log_goes_on() {
    let disk = ten();
    let start = start_of(9);
    for kept in 0..record_bytes(100) {
        // Zeros behind the tear, and something of an earlier use of the file.
        for rest in [0, 0x5a] {
            let torn = changed(&disk, |content| {
                content[start + kept..start + record_bytes(100)].fill(rest);
            });
            // The last 4 bytes are padding, so zeros there change nothing.
            let whole = rest == 0 && kept >= record_bytes(100) - 4;
            let last = if whole { 10 } else { 9 };
            let mut wal = open(&torn);
            assert_eq!(offsets(&wal).last(), Some(&last), "{kept} {rest}");
            fill(&mut wal, last + 1..=last + 2, 2, 100);
            wal.sync().expect("synced");
            drop(wal);
            assert_eq!(offsets(&open(&torn)), (1..=last + 2).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_record_that_was_cut_never_comes_back() {
    // 10 and 11 were never synced; 11 survived and 10 did not.
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=9, 1, 100);
    wal.sync().expect("synced");
    fill(&mut wal, 10..=11, 1, 100);
    drop(wal);
    let torn = changed(&disk, |content| content[start_of(9)] ^= 1);
    let mut wal = open(&torn);
    assert_eq!(wal.last(), Some((Offset(9), Term(1))));
    // The very same entry again: 11 would continue it.
    fill(&mut wal, 10..=10, 1, 100);
    wal.sync().expect("synced");
    drop(wal);
    assert_eq!(open(&torn).last(), Some((Offset(10), Term(1))));
}

#[test]
fn a_truncated_record_never_comes_back() {
    let disk = ten();
    let mut wal = open(&disk);
    wal.truncate_after(Offset(8)).expect("truncated");
    fill(&mut wal, 9..=9, 1, 100);
    wal.sync().expect("synced");
    drop(wal);
    for seed in 0..50 {
        let copy = disk.copy();
        copy.crash(seed);
        assert_eq!(open(&copy).last(), Some((Offset(9), Term(1))));
    }
}

#[test]
fn any_flipped_bit_before_the_last_record_is_damage_with_its_place() {
    let disk = ten();
    for index in 0..9 {
        for byte in 0..record_bytes(100) {
            let bit = (byte * 5 + index) % 8;
            let bad = changed(&disk, |content| {
                content[start_of(index) + byte] ^= 1 << bit;
            });
            match try_open(&bad) {
                Err(WalError::Damaged { file, position, .. }) => {
                    assert_eq!(file, FIRST_FILE);
                    assert_eq!(position, start_of(index) as u64);
                }
                Err(error) => panic!("{error}"),
                Ok(_) => panic!("record {index} byte {byte} bit {bit} went unseen"),
            }
        }
    }
}

#[test]
fn a_zeroed_record_in_the_middle_is_damage() {
    let bad = changed(&ten(), |content| {
        content[start_of(4)..start_of(5)].fill(0);
    });
    let error = try_open(&bad).expect_err("entry 5 was durable");
    let text = error.to_string();
    assert!(text.contains(FIRST_FILE), "{text}");
    assert!(text.contains(&start_of(4).to_string()), "{text}");
}

#[test]
fn records_of_one_sync_may_be_torn_in_any_order() {
    // None of the three was durable when another was written.
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=7, 1, 100);
    wal.sync().expect("synced");
    fill(&mut wal, 8..=10, 1, 100);
    wal.sync().expect("synced");
    drop(wal);
    for (index, last) in [(7, 7), (8, 8), (9, 9)] {
        let torn = changed(&disk, |content| content[start_of(index) + 50] ^= 4);
        assert_eq!(offsets(&open(&torn)), (1..=last).collect::<Vec<_>>());
    }
    let bad = changed(&disk, |content| content[start_of(6) + 50] ^= 4);
    assert!(matches!(try_open(&bad), Err(WalError::Damaged { .. })));
}

#[test]
fn a_segment_that_ends_before_the_next_begins_is_damage() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=50, 1, 500);
    wal.sync().expect("synced");
    drop(wal);
    let names = disk.list().expect("listed");
    assert!(names.len() > 3);
    let without = |name: &str| {
        let copy = disk.copy();
        copy.remove(name).expect("removed");
        try_open(&copy)
    };
    assert!(without(&names[0]).is_ok(), "as if trimmed");
    assert!(matches!(without(&names[1]), Err(WalError::Damaged { .. })));
    // Its last record is gone, of which no record in the same segment can tell.
    let content = disk.content(FIRST_FILE).expect("the first segment");
    let records = (content.len() - SEGMENT_HEADER_BYTES as usize) / record_bytes(500);
    let last = SEGMENT_HEADER_BYTES as usize + (records - 1) * record_bytes(500);
    let bad = changed(&disk, |content| content[last..].fill(0));
    match try_open(&bad) {
        Err(WalError::Damaged { position, .. }) => assert_eq!(position, last as u64),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_segment_of_another_log_is_not_taken_for_the_one_it_replaces() {
    let log_of_term = |term| {
        let disk = MemoryDisk::new();
        let mut wal = open(&disk);
        fill(&mut wal, 1..=50, term, 500);
        wal.sync().expect("synced");
        disk
    };
    let other = log_of_term(2).content(FIRST_FILE).expect("a segment");
    let mixed = changed(&log_of_term(1), |content| *content = other);
    match try_open(&mixed) {
        Err(WalError::Damaged { position, file, .. }) => {
            assert_eq!((file.as_str(), position), ("0000000000000002.wal", 0));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bad_segment_header_is_named_and_a_later_version_too() {
    let bad = changed(&ten(), |content| content[20] ^= 1);
    let error = try_open(&bad).expect_err("the header is bad");
    assert!(matches!(error, WalError::Damaged { position: 0, .. }));
    for (version, says) in [
        (1, "before version 2 cannot be read"),
        (3, "a later version"),
    ] {
        let other = changed(&ten(), |content| content[8] = version);
        let error = try_open(&other).expect_err("another version");
        assert!(matches!(error, WalError::UnknownVersion { .. }));
        let text = error.to_string();
        assert!(text.contains(FIRST_FILE) && text.contains(says), "{text}");
    }
}

#[test]
fn what_an_earlier_use_left_in_a_file_is_not_read() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    // All records have one length, so that old ones stand exactly where new ones would.
    fill(&mut wal, 1..=80, 1, 1000);
    wal.sync().expect("synced");
    wal.trim_below(Offset(80)).expect("trimmed");
    assert_eq!(wal.spares(), 2);
    fill(&mut wal, 81..=88, 1, 1000);
    wal.sync().expect("synced");
    let first = wal.first().expect("not empty").0;
    drop(wal);
    assert_eq!(offsets(&open(&disk)), (first..=88).collect::<Vec<_>>());
}

#[test]
fn a_failed_sync_poisons_the_log() {
    let disk = ten();
    let mut wal = open(&disk);
    fill(&mut wal, 11..=11, 1, 100);
    disk.fail_syncs_after(0);
    assert!(matches!(wal.sync(), Err(WalError::Io { .. })));
    disk.heal();
    assert_eq!(wal.durable(), Offset(10));
    assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
    let append = wal.append(Offset(12), Term(1), b"", Class::Own);
    assert!(matches!(append, Err(WalError::Poisoned)));
    let trim = wal.trim_below(Offset(5));
    assert!(matches!(trim, Err(WalError::Poisoned)));
    let truncate = wal.truncate_after(Offset(5));
    assert!(matches!(truncate, Err(WalError::Poisoned)));
}

#[test]
fn a_failed_write_poisons_the_log() {
    let disk = ten();
    let mut wal = open(&disk);
    disk.fail_writes_after(0);
    let append = wal.append(Offset(11), Term(1), &payload(11, 1, 100), Class::Own);
    assert!(matches!(append, Err(WalError::Io { .. })));
    disk.heal();
    assert_eq!(wal.last(), Some((Offset(10), Term(1))));
    assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
    drop(wal);
    assert_eq!(open(&disk).last(), Some((Offset(10), Term(1))));
}

#[test]
fn what_a_failed_sync_left_in_memory_is_durable_after_reopening() {
    // The process ends but the machine goes on: reads still show what the sync dropped.
    let disk = ten();
    let mut wal = open(&disk);
    fill(&mut wal, 11..=12, 1, 100);
    disk.fail_syncs_after(0);
    assert!(wal.sync().is_err());
    drop(wal);
    disk.heal();
    let wal = open(&disk);
    let durable = wal.durable();
    assert_eq!(durable, Offset(12));
    drop(wal);
    for seed in 0..20 {
        let copy = disk.clone();
        copy.crash(seed);
        assert_eq!(open(&copy).durable(), durable);
    }
}

#[test]
fn opening_syncs_once_and_an_idle_sync_does_nothing() {
    let disk = ten();
    let before = disk.syncs();
    let mut wal = open(&disk);
    assert_eq!(disk.syncs(), before + 1);
    wal.sync().expect("nothing to do");
    assert_eq!(disk.syncs(), before + 1);
    fill(&mut wal, 11..=30, 1, 50);
    wal.sync().expect("synced");
    assert_eq!(disk.syncs(), before + 2, "one sync for twenty entries");
}

#[test]
fn a_file_cut_short_or_flipped_on_the_real_disk_is_told_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = || -> Result<(Wal<FileDisk>, Option<Cut>), WalError> {
        let disk = FileDisk::new(dir.path()).expect("a folder");
        let options = WalOptions {
            reserve_bytes: 0,
            ..WalOptions::default()
        };
        Wal::open(Arc::new(disk), options)
    };
    let (mut wal, _) = open().expect("the log opens");
    for offset in 1..=10 {
        fill(&mut wal, offset..=offset, 1, 100);
        wal.sync().expect("synced");
    }
    drop(wal);
    let path = dir.path().join(FIRST_FILE);
    let whole = std::fs::read(&path).expect("read");
    std::fs::write(&path, &whole[..start_of(9) + RECORD_HEADER_BYTES]).expect("written");
    let text = open()
        .expect_err("no crash makes a file shorter")
        .to_string();
    assert!(text.contains("the file had 65536 bytes"), "{text}");
    let mut torn = whole.clone();
    torn[start_of(9) + RECORD_HEADER_BYTES..start_of(10)].fill(0);
    std::fs::write(&path, &torn).expect("written");
    let (wal, cut) = open().expect("a torn tail");
    assert_eq!(wal.last(), Some((Offset(9), Term(1))));
    assert_eq!(cut.expect("it is said").file, path.display().to_string());
    drop(wal);
    let mut bad = whole.clone();
    bad[start_of(3) + 60] ^= 8;
    std::fs::write(&path, &bad).expect("written");
    let error = open().expect_err("entry 4 was durable");
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.contains(&start_of(3).to_string()), "{text}");
    std::fs::write(&path, &whole).expect("written");
    let (wal, cut) = open().expect("whole again");
    assert_eq!(cut, None);
    let mut reader = wal.reader(Offset(10)).expect("it is there");
    let record = reader.next().expect("whole").expect("entry 10");
    assert_eq!(record.payload, payload(10, 1, 100));
}

#[test]
fn files_of_the_log_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("shard-0").join("log");
    let disk = FileDisk::new(&folder).expect("a folder");
    let (mut wal, _) = Wal::open(Arc::new(disk), small()).expect("the log opens");
    fill(&mut wal, 1..=20, 1, 500);
    let job = wal.start_prepare().expect("half of the segment is used");
    wal.finish_prepare(job.run()).expect("prepared");
    let mode = |path: &std::path::Path| {
        let metadata = std::fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(
        (mode(&folder), mode(&dir.path().join("shard-0"))),
        (0o700, 0o700)
    );
    let files: Vec<_> = std::fs::read_dir(&folder).expect("listed").collect();
    assert!(files.len() > 3);
    for file in files {
        assert_eq!(mode(&file.expect("listed").path()), 0o600);
    }
}

#[test]
fn offsets_end_at_their_limit() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    let before = |offset: u64| LogPoint {
        offset: Offset(offset),
        ..LogPoint::START
    };
    let error = wal
        .reset(before(OFFSET_MAX.0))
        .expect_err("nothing can follow");
    assert!(matches!(error, WalError::OutOfOrder { .. }));
    wal.reset(before(OFFSET_MAX.0 - 1)).expect("one can follow");
    fill(&mut wal, OFFSET_MAX.0..=OFFSET_MAX.0, 1, 10);
    let append = wal.append(OFFSET_MAX.next(), Term(1), b"", Class::Own);
    assert!(matches!(append, Err(WalError::OutOfOrder { .. })));
    wal.sync().expect("synced");
    drop(wal);
    assert_eq!(open(&disk).last_point().offset, OFFSET_MAX);
}

#[test]
fn a_truncation_interrupted_twice_happened_or_did_not() {
    // The process dies in the truncation, then the power goes while the log is opened again.
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=40, 1, 700);
    wal.sync().expect("synced");
    drop(wal);
    let (mut whole, mut cut) = (0, 0);
    for calls in 0..10 {
        for calls_at_open in 0..8 {
            for seed in 0..16 {
                let disk = disk.copy();
                let mut wal = open(&disk);
                disk.fail_changes_after(calls);
                let _ = wal.truncate_after(Offset(5));
                drop(wal);
                disk.heal();
                disk.fail_changes_after(calls_at_open);
                let _ = try_open(&disk);
                disk.crash(seed);
                match offsets(&open(&disk)).len() {
                    40 => whole += 1,
                    5 => cut += 1,
                    other => panic!("{other} entries: {calls} {calls_at_open} {seed}"),
                }
            }
        }
    }
    assert!(whole > 0 && cut > 0, "{whole} {cut}");
}
