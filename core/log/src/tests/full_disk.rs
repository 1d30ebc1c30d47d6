//! A full disk refuses, poisons nothing, and ends by itself.

use std::sync::Arc;

use oxkeeper_model::{Offset, Term};

use super::{fill, offsets, payload, small};
use crate::{Class, MemoryDisk, Room, Severity, Wal, WalError, WalOptions};

fn options() -> WalOptions {
    WalOptions {
        reserve_bytes: 16 << 10,
        ..small()
    }
}

fn open(disk: &MemoryDisk) -> Wal<MemoryDisk> {
    let disk = Arc::new(disk.clone());
    Wal::open(disk, options()).expect("the log opens").0
}

fn append(wal: &mut Wal<MemoryDisk>, class: Class) -> Result<(), WalError> {
    let offset = wal.last_point().offset.next();
    let payload = payload(offset.0, 1, 500);
    wal.append(offset, Term(1), &payload, class).map(|_| ())
}

/// Appends until the disk is full, and says how many there was room for.
fn fill_disk(wal: &mut Wal<MemoryDisk>, class: Class) -> u64 {
    let before = wal.last_point();
    loop {
        let last = wal.last_point();
        match append(wal, class) {
            Ok(()) => wal.check(),
            Err(error) => {
                assert_eq!(error.severity(), Severity::NoSpace, "{error}");
                assert_eq!(wal.last_point(), last, "nothing has changed");
                wal.check();
                return last.offset.0 - before.offset.0;
            }
        }
    }
}

fn full() -> (MemoryDisk, Wal<MemoryDisk>) {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=20, 1, 500);
    wal.sync().expect("synced");
    disk.set_capacity(Some(disk.used_bytes() + 10_000));
    assert!(
        fill_disk(&mut wal, Class::Client) >= 7,
        "a file more, and no other"
    );
    assert!(disk.counters().full > 0);
    (disk, wal)
}

#[test]
fn clients_are_refused_and_the_shards_own_entries_go_on_from_the_reserve() {
    let (disk, mut wal) = full();
    let written = wal.last_point();
    assert_eq!(wal.sync().expect("nothing is poisoned"), written.offset);
    assert_eq!(offsets(&wal).len() as u64, written.offset.0, "reads go on");
    append(&mut wal, Class::Own).expect("from the reserve");
    let refused = append(&mut wal, Class::Client).expect_err("its room is the shard's own");
    assert!(matches!(refused, WalError::NoSpace { .. }));
    let refused = wal
        .reserve(1, Class::Client)
        .expect_err("however short it is");
    assert!(refused.to_string().contains("no space on the disk"));
    assert!(matches!(wal.reserve(1, Class::Own), Ok(Room::Ready)));
    // 16 KiB, less the header and the end record, in records of 560 bytes.
    assert_eq!(1 + fill_disk(&mut wal, Class::Own), 21);
    let last = wal.last_point().offset;
    assert_eq!(wal.sync().expect("synced"), last);
    drop(wal);
    let mut wal = open(&disk);
    assert_eq!(wal.last_point().offset, last, "a full disk opens");
    let refused = append(&mut wal, Class::Client).expect_err("still full");
    assert_eq!(refused.severity(), Severity::NoSpace);
}

#[test]
fn service_resumes_by_itself_when_there_is_space() {
    let (disk, mut wal) = full();
    fill_disk(&mut wal, Class::Own);
    let job = wal.start_prepare().expect("the reserve is missing");
    let error = wal.finish_prepare(job.run()).expect_err("still full");
    assert_eq!(error.severity(), Severity::NoSpace);
    disk.set_capacity(None);
    append(&mut wal, Class::Client).expect_err("the reserve comes first");
    let job = wal.start_prepare().expect("it is offered again");
    wal.finish_prepare(job.run()).expect("there is space");
    append(&mut wal, Class::Client).expect("served again");
    let last = wal.sync().expect("synced");
    drop(wal);
    assert_eq!(open(&disk).last_point().offset, last);
}

#[test]
fn trimming_makes_space() {
    let (disk, mut wal) = full();
    wal.sync().expect("synced");
    wal.trim_below(wal.last_point().offset).expect("trimmed");
    assert!(wal.spares() > 0);
    append(&mut wal, Class::Client).expect("in a file of an earlier use");
    drop(wal);
    assert!(open(&disk).last().is_some());
}

#[test]
fn a_full_disk_is_truncated_with_the_reserve() {
    let (disk, mut wal) = full();
    wal.truncate_after(Offset(10)).expect("from the reserve");
    wal.check();
    drop(wal);
    assert_eq!(offsets(&open(&disk)), (1..=10).collect::<Vec<_>>());
}

#[test]
fn without_reserve_and_space_a_truncation_changes_nothing() {
    let (disk, mut wal) = full();
    fill_disk(&mut wal, Class::Own);
    let last = wal.sync().expect("synced");
    let error = wal.truncate_after(Offset(10)).expect_err("no room");
    assert_eq!(error.severity(), Severity::NoSpace);
    assert_eq!(wal.last_point().offset, last);
    wal.check();
    drop(wal);
    assert_eq!(open(&disk).last_point().offset, last);
}

#[test]
fn a_disk_that_is_full_from_the_start_refuses_and_recovers() {
    let disk = MemoryDisk::new();
    disk.set_capacity(Some(1_000));
    let mut wal = open(&disk);
    for class in [Class::Client, Class::Own] {
        let error = append(&mut wal, class).expect_err("no room");
        assert_eq!(error.severity(), Severity::NoSpace);
    }
    disk.set_capacity(None);
    append(&mut wal, Class::Own).expect("there is space");
    let job = wal.start_prepare().expect("the reserve is missing");
    wal.finish_prepare(job.run()).expect("there is space");
    append(&mut wal, Class::Client).expect("there is space");
    assert_eq!(wal.sync().expect("synced"), Offset(2));
}

#[test]
fn clients_wait_while_a_segment_is_started_for_the_shards_own_entries() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    let job = loop {
        match wal.reserve(500, Class::Own).expect("there is space") {
            Room::Ready => append(&mut wal, Class::Own).expect("there is room"),
            Room::After(job) => break job,
            Room::Waits => panic!("nothing is under way"),
        }
    };
    // The job has the reserve with it, in case that it finds the disk full.
    let room = wal.reserve(500, Class::Client);
    assert!(matches!(room, Ok(Room::Waits)), "{room:?}");
    wal.finish_segment(job.run()).expect("started");
    append(&mut wal, Class::Client).expect("there is space");
}
