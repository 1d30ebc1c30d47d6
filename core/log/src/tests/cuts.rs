//! What a recovery says before it repairs anything: nothing is dropped in silence.

use std::sync::Arc;

use oxkeeper_model::limits::ENTRY_BYTES_MAX;
use oxkeeper_model::{Offset, ShardUuid, Term};

use super::{cut_of, fill, offsets, open, small, try_open};
use crate::format::{
    CHAINED_SUM_AT, END_RECORD_BYTES, RECORD_HEADER_BYTES, RECORD_SUM_AT, SEGMENT_HEADER_BYTES,
    record_bytes,
};
use crate::{
    BitFlip, Chain, Cut, Disk, LogPoint, MemoryDisk, Recovery, Severity, Wal, WalError, WalOptions,
};

const RECORD: usize = record_bytes(100);

/// A log of `count` entries of 100 bytes, each synced, in files that were used before.
fn log_in_used_files(count: u64) -> (MemoryDisk, u64) {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=200, 1, 150);
    wal.trim_below(Offset(200)).expect("trimmed");
    assert_eq!(wal.spares(), 2);
    // Whatever is appended now goes to files of an earlier use.
    wal.truncate_after(Offset(199)).expect("truncated");
    for offset in 200..200 + count {
        fill(&mut wal, offset..=offset, 2, 100);
        wal.sync().expect("synced");
    }
    (disk, 199 + count)
}

fn segments(disk: &MemoryDisk) -> Vec<String> {
    let mut names = disk.list().expect("listed");
    names.retain(|name| name.ends_with(".wal"));
    names
}

fn look(disk: &MemoryDisk) -> Recovery<MemoryDisk> {
    Recovery::look(Arc::new(disk.clone()), small()).expect("it can be looked at")
}

fn change(disk: &MemoryDisk, name: &str, change: impl FnOnce(&mut [u8])) {
    let mut content = disk.content(name).expect("the file is there");
    change(&mut content);
    disk.put(name, content);
}

/// Where the newest segment's last record begins.
fn last_record(disk: &MemoryDisk) -> (String, usize) {
    let name = segments(disk).pop().expect("there is a segment");
    let content = disk.content(&name).expect("listed");
    let header = |at: usize| u32::from_le_bytes(content[at + 8..at + 12].try_into().unwrap());
    let mut at = SEGMENT_HEADER_BYTES as usize;
    loop {
        let next = at + record_bytes(header(at) as usize);
        if content[next..next + RECORD_HEADER_BYTES]
            .iter()
            .all(|byte| *byte == 0)
        {
            return (name, at);
        }
        at = next;
    }
}

#[test]
fn a_log_that_ended_well_has_no_cut_whatever_its_files_held_before() {
    for count in 1..=60 {
        let (disk, last) = log_in_used_files(count);
        let (wal, cut) = try_open(&disk).expect("it opens");
        assert_eq!((wal.last_point().offset, cut), (Offset(last), None));
    }
}

#[test]
fn a_torn_tail_is_reported_with_its_place_and_again_until_the_log_goes_on() {
    let (disk, last) = log_in_used_files(10);
    let (name, at) = last_record(&disk);
    change(&disk, &name, |content| content[at + 100] ^= 1);
    let expected = Cut {
        file: name.clone(),
        position: at as u64,
        bytes: RECORD as u64,
        first: Offset(last),
        plain: true,
        reason: "wrong checksum of the record".to_owned(),
    };
    assert_eq!(cut_of(&disk), Some(expected.clone()));
    let (mut wal, cut) = try_open(&disk).expect("it opens");
    assert_eq!(cut, Some(expected), "nothing has changed yet");
    assert_eq!(wal.last_point().offset, Offset(last - 1));
    fill(&mut wal, last..=last, 3, 100);
    drop(wal);
    assert_eq!(cut_of(&disk), None);
}

#[test]
fn looking_writes_nothing() {
    let (disk, _) = log_in_used_files(10);
    let (name, at) = last_record(&disk);
    change(&disk, &name, |content| content[at] ^= 1);
    let before = (disk.counters().writes, disk.list().expect("listed"));
    assert!(look(&disk).cut().is_some());
    assert_eq!(
        (disk.counters().writes, disk.list().expect("listed")),
        before
    );
}

#[test]
fn a_cut_of_what_was_synced_is_refused_unless_it_is_accepted() {
    let (disk, last) = log_in_used_files(10);
    let (name, at) = last_record(&disk);
    change(&disk, &name, |content| content[at - 3 * RECORD + 70] ^= 1);
    let recovery = look(&disk);
    let cut = recovery.cut().expect("there is one").clone();
    assert!(!cut.plain, "{cut}");
    assert_eq!(cut.first, Offset(last - 3));
    assert_eq!(
        (cut.file.as_str(), cut.position),
        (name.as_str(), (at - 3 * RECORD) as u64)
    );
    assert_eq!(cut.bytes, 4 * RECORD as u64);
    let error = try_open(&disk).expect_err("nobody accepted it");
    assert!(matches!(error, WalError::Damaged { .. }), "{error}");
    let mut wal = recovery.repair().expect("it was accepted");
    assert_eq!(wal.last_point().offset, Offset(last - 4));
    fill(&mut wal, last - 3..=last, 3, 100);
    wal.sync().expect("synced");
    drop(wal);
    let (wal, cut) = try_open(&disk).expect("it opens");
    assert_eq!((wal.last(), cut), (Some((Offset(last), Term(3))), None));
}

#[test]
fn damage_in_a_closed_segment_can_be_cut_by_choice() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=60, 1, 500);
    wal.sync().expect("synced");
    drop(wal);
    let names = segments(&disk);
    assert!(names.len() > 4);
    let at = SEGMENT_HEADER_BYTES as usize + 2 * record_bytes(500) + 100;
    change(&disk, &names[1], |content| content[at] ^= 1);
    let recovery = look(&disk);
    let cut = recovery.cut().expect("there is one");
    assert!(
        !cut.plain && cut.file == names[1] && cut.reason.contains(&names[2]),
        "{cut}"
    );
    let first = cut.first.0;
    let mut wal = recovery.repair().expect("it was accepted");
    fill(&mut wal, first..=first + 1, 2, 10);
    wal.sync().expect("synced");
    assert_eq!(offsets(&wal), (1..=first + 1).collect::<Vec<_>>());
    drop(wal);
    assert_eq!(cut_of(&disk), None);
    assert_eq!(segments(&disk).len(), 3, "what followed is gone");
}

#[test]
fn a_whole_record_that_is_not_understood_is_never_a_torn_tail() {
    let (disk, _) = log_in_used_files(10);
    let (name, at) = last_record(&disk);
    let unknown = |field: usize, value: u32| {
        let copy = disk.copy();
        change(&copy, &name, |content| {
            let record = &mut content[at..at + RECORD];
            record[field..field + 4].copy_from_slice(&value.to_le_bytes());
            let sum = crc32c::crc32c(&record[..RECORD_SUM_AT]);
            record[RECORD_SUM_AT..CHAINED_SUM_AT].copy_from_slice(&sum.to_le_bytes());
        });
        let error = try_open(&copy).expect_err("it is not understood");
        assert_eq!(error.severity(), Severity::Fatal);
        match error {
            WalError::UnknownRecord {
                file,
                position,
                reason,
            } => {
                assert_eq!((file, position), (name.clone(), at as u64));
                reason
            }
            error => panic!("{error}"),
        }
    };
    assert!(unknown(12, 7).contains("unknown kind of record 7"));
    let beyond = ENTRY_BYTES_MAX as u32 + 1;
    assert!(unknown(8, beyond).contains(&beyond.to_string()));
}

#[test]
fn a_missing_newest_segment_is_noticed() {
    // Left for the next one because it was full, and because the log was cut there.
    for truncated in [false, true] {
        let disk = MemoryDisk::new();
        let mut wal = open(&disk);
        fill(&mut wal, 1..=20, 1, 500);
        // Seven entries each.
        let mut first = (segments(&disk).len() as u64 - 1) * 7 + 1;
        if truncated {
            wal.truncate_after(Offset(15)).expect("truncated");
            first = 16;
        }
        wal.sync().expect("synced");
        drop(wal);
        let newest = segments(&disk).pop().expect("a segment");
        disk.remove(&newest).expect("removed");
        let text = try_open(&disk).expect_err("a file is missing").to_string();
        let says = format!("the log goes on in {newest}, which is missing");
        assert!(text.contains(&says), "{text}");
        let dumped = crate::dump_disk(&disk, &mut std::io::sink()).expect("dumped");
        assert!(dumped.damage[0].contains(&says), "{dumped:?}");
        let recovery = look(&disk);
        let cut = recovery.cut().expect("there is one");
        assert!(!cut.plain && cut.first == Offset(first), "{cut} {first}");
        assert!(recovery.repair().is_ok(), "it can be accepted");
    }
}

#[test]
fn a_folder_whose_only_segment_is_missing_is_not_a_new_log() {
    let options = WalOptions {
        reserve_bytes: 8192,
        ..small()
    };
    let disk = MemoryDisk::new();
    let open = || Wal::open(Arc::new(disk.clone()), options.clone());
    drop(open().expect("a new log"));
    assert_eq!(segments(&disk).len(), 1, "it has its first segment at once");
    disk.remove(&segments(&disk)[0]).expect("removed");
    let text = open().expect_err("it is missing").to_string();
    assert!(
        text.contains("all segments of the log are missing"),
        "{text}"
    );
}

#[test]
fn an_end_record_that_a_crash_prevented_is_written_when_the_log_is_opened() {
    let mut prevented = 0;
    for calls in 0..40 {
        let disk = MemoryDisk::new();
        let mut wal = open(&disk);
        disk.fail_changes_after(calls);
        for offset in 1..=10 {
            let payload = super::payload(offset, 1, 500);
            let appended = wal.append(Offset(offset), Term(1), &payload, crate::Class::Own);
            if appended.and_then(|_| wal.sync()).is_err() {
                break;
            }
        }
        drop(wal);
        disk.crash(calls);
        let names = segments(&disk);
        prevented += usize::from(names.len() == 2);
        drop(open(&disk));
        if let [first, newest] = &segments(&disk)[..] {
            disk.remove(newest).expect("removed");
            let error = try_open(&disk).expect_err("a file is missing");
            assert!(error.to_string().contains(newest), "{first} {error}");
        }
    }
    assert!(prevented > 0);
}

#[test]
fn a_log_of_another_shard_is_refused() {
    let (disk, _) = log_in_used_files(3);
    let options = WalOptions {
        uuid: ShardUuid(*b"another shard's."),
        ..small()
    };
    let error = Recovery::look(Arc::new(disk), options).expect_err("it is another's");
    let text = error.to_string();
    assert!(matches!(error, WalError::OtherShard { .. }), "{text}");
    assert!(
        text.contains("belongs to shard 00000000000000000000000000000000"),
        "{text}"
    );
}

#[test]
fn whatever_is_in_the_folder_can_be_given_up_for_a_new_log() {
    let start = LogPoint {
        offset: Offset(1000),
        term: Term(5),
        chain: Chain(77),
    };
    for calls in 0..30 {
        let (disk, last) = log_in_used_files(10);
        let names = segments(&disk);
        change(&disk, &names[0], |content| content[4] ^= 1);
        assert!(try_open(&disk).is_err());
        disk.fail_changes_after(calls);
        let discarded = Wal::discard(Arc::new(disk.clone()), small(), start);
        let done = discarded.is_ok();
        drop(discarded);
        disk.crash(calls);
        match try_open(&disk) {
            Ok((wal, _)) => assert_eq!(wal.last_point(), start),
            Err(_) => assert!(!done, "{last}"),
        }
    }
}

/// All bytes that hold acknowledged data or what leads to it.
fn used(disk: &MemoryDisk) -> Vec<(String, usize)> {
    let mut used = Vec::new();
    let names = segments(disk);
    for name in &names {
        let content = disk.content(name).expect("listed");
        let mut at = SEGMENT_HEADER_BYTES as usize;
        let tag = &content[40..48];
        while content.len() - at >= RECORD_HEADER_BYTES
            && content[at..at + 8] == *tag
            && content[at + 12] == 0
        {
            let length = content[at + 8..at + 12].try_into().unwrap();
            at += record_bytes(u32::from_le_bytes(length) as usize);
        }
        assert!(at + END_RECORD_BYTES as usize <= content.len());
        used.extend((0..at).map(|position| (name.clone(), position)));
    }
    used
}

#[test]
fn every_flipped_bit_in_acknowledged_data_is_an_error_or_a_reported_cut() {
    let (disk, last) = log_in_used_files(50);
    assert!(segments(&disk).len() > 1);
    let (mut errors, mut cuts) = (0, 0);
    for (index, (file, position)) in used(&disk).into_iter().enumerate() {
        // All bits of the header's fields and of every third byte of records, one of any other byte.
        let zeros = (88..SEGMENT_HEADER_BYTES as usize).contains(&position);
        let few = zeros || (position >= SEGMENT_HEADER_BYTES as usize && index % 3 > 0);
        let bits = if few { 0..1 } else { 0..8 };
        for bit in bits {
            let flip = BitFlip {
                file: file.clone(),
                position: position as u64,
                bit: (bit + (index % 8) as u8) % 8,
            };
            disk.flip(&flip).expect("it is there");
            match Recovery::look(Arc::new(disk.clone()), small()) {
                Err(error) => {
                    errors += 1;
                    assert_eq!(error.severity(), Severity::Fatal);
                }
                Ok(recovery) => {
                    let cut = recovery
                        .cut()
                        .unwrap_or_else(|| panic!("{flip:?} is silent"));
                    let (_, end) = recovery.ends();
                    assert!(cut.first <= Offset(last) && end.offset < cut.first, "{cut}");
                    // Only the very last record looks as if it might have been torn.
                    assert_eq!(cut.plain, cut.first == Offset(last), "{flip:?} {cut}");
                    cuts += 1;
                }
            }
            disk.flip(&flip).expect("it is there");
        }
    }
    assert!(errors > 500 && cuts > 5_000, "{errors} {cuts}");
    assert_eq!(cut_of(&disk), None);
}

#[test]
fn a_write_that_landed_elsewhere_is_an_error_or_a_reported_cut() {
    let mut found = 0;
    for seed in 0..200 {
        let disk = MemoryDisk::seeded(seed);
        let mut wal = open(&disk);
        fill(&mut wal, 1..=10, 1, 100);
        wal.sync().expect("synced");
        disk.misdirect_write_after(seed % 15);
        for offset in 11..=30 {
            fill(&mut wal, offset..=offset, 1, 100);
            wal.sync().expect("the disk says so");
        }
        drop(wal);
        disk.crash(seed);
        if disk.counters().writes_misdirected == 0 {
            continue;
        }
        found += 1;
        match Recovery::look(Arc::new(disk), small()) {
            Err(error) => assert_eq!(error.severity(), Severity::Fatal),
            Ok(recovery) => {
                let whole = recovery.ends().1.offset == Offset(30);
                assert!(
                    whole || recovery.cut().is_some_and(|cut| !cut.plain),
                    "seed {seed}"
                );
            }
        }
    }
    assert!(found > 100, "{found}");
}
