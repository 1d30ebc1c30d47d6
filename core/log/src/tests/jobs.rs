//! Slow work is started, run elsewhere and told back.

use std::sync::Arc;

use oxkeeper_model::{Offset, Term};

use super::{fill, offsets, open, payload, small};
use crate::{Class, Disk, MemoryDisk, Room, Severity, SyncJob, Wal, WalError};

fn start_sync(wal: &mut Wal<MemoryDisk>) -> SyncJob<MemoryDisk> {
    wal.start_sync().expect("something is not durable")
}

#[test]
fn entries_are_appended_while_a_sync_is_under_way() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=1, 1, 10);
    wal.sync().expect("synced");
    fill(&mut wal, 2..=3, 1, 10);
    let job = start_sync(&mut wal);
    assert!(wal.start_sync().is_none(), "one at a time");
    fill(&mut wal, 4..=4, 1, 10);
    let done = job.run();
    assert_eq!(wal.durable(), Offset(1), "not told yet");
    assert_eq!(wal.finish_sync(done).expect("synced"), Offset(3));
    let done = start_sync(&mut wal).run();
    assert_eq!(wal.finish_sync(done).expect("synced"), Offset(4));
    assert!(wal.start_sync().is_none(), "all is durable");
    wal.check();
}

#[test]
fn a_sync_that_never_ends_holds_up_nothing_but_what_waits_for_it() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=3, 1, 10);
    let stuck = start_sync(&mut wal);
    fill(&mut wal, 4..=5, 1, 10);
    assert_eq!(offsets(&wal), [1, 2, 3, 4, 5], "readers see all");
    assert_eq!(wal.durable(), Offset(0));
    let error = wal.sync().expect_err("it waits");
    assert!(matches!(error, WalError::Busy(_)) && error.severity() == Severity::Caller);
    let done = stuck.run();
    assert_eq!(wal.finish_sync(done).expect("synced"), Offset(3));
}

#[test]
fn jobs_run_on_other_threads() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=3, 1, 10);
    let job = start_sync(&mut wal);
    let done = std::thread::spawn(|| job.run()).join().expect("no panic");
    assert_eq!(wal.finish_sync(done).expect("synced"), Offset(3));
    let Ok(Room::After(job)) = wal.reserve(8000, Class::Client) else {
        panic!("there is no room");
    };
    let done = std::thread::spawn(|| job.run()).join().expect("no panic");
    wal.finish_segment(done).expect("started");
    wal.check();
}

#[test]
fn a_failed_sync_poisons_the_log_when_it_is_told() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=3, 1, 10);
    let job = start_sync(&mut wal);
    disk.fail_syncs_after(0);
    let done = job.run();
    disk.heal();
    fill(&mut wal, 4..=4, 1, 10);
    let error = wal.finish_sync(done).expect_err("it failed");
    assert!(matches!(error, WalError::Io { .. }));
    assert_eq!(wal.durable(), Offset(0));
    assert!(wal.start_sync().is_none(), "it is never tried again");
    assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
}

#[test]
fn a_failed_sync_is_not_hidden_from_a_segment_that_starts_beside_it() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=3, 1, 10);
    let sync = start_sync(&mut wal);
    let Ok(Room::After(segment)) = wal.reserve(8000, Class::Own) else {
        panic!("there is no room");
    };
    disk.fail_syncs_after(0);
    let failed = sync.run();
    disk.heal();
    // The disk says yes now, without the data.
    let started = segment.run();
    assert!(wal.finish_segment(started).is_err());
    assert_eq!(wal.durable(), Offset(0));
    assert!(wal.finish_sync(failed).is_err());
}

#[test]
fn a_sync_and_a_segment_may_end_in_either_order() {
    for sync_first in [false, true] {
        let disk = MemoryDisk::new();
        let mut wal = open(&disk);
        fill(&mut wal, 1..=3, 1, 10);
        let sync = start_sync(&mut wal);
        let Ok(Room::After(segment)) = wal.reserve(8000, Class::Own) else {
            panic!("there is no room");
        };
        assert!(matches!(wal.reserve(10, Class::Own), Ok(Room::Waits)));
        let busy = wal.append(Offset(4), Term(1), b"", Class::Own);
        assert!(matches!(busy, Err(WalError::Busy(_))));
        let (synced, started) = (sync.run(), segment.run());
        if sync_first {
            assert_eq!(wal.finish_sync(synced).expect("synced"), Offset(3));
            wal.finish_segment(started).expect("started");
        } else {
            wal.finish_segment(started).expect("started");
            assert_eq!(wal.durable(), Offset(3));
            fill(&mut wal, 4..=4, 1, 8000);
            assert_eq!(wal.finish_sync(synced).expect("synced"), Offset(3));
        }
        let next = wal.last_point().offset.0 + 1;
        fill(&mut wal, next..=5, 1, 10);
        assert_eq!(wal.sync().expect("synced"), Offset(5));
        wal.check();
    }
}

#[test]
fn what_replaces_segments_waits_for_what_gives_them_up() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=60, 1, 500);
    wal.sync().expect("synced");
    let trim = wal.start_trim(Offset(30)).expect("there is something");
    assert!(wal.start_trim(Offset(40)).is_none(), "one at a time");
    assert_eq!(wal.first(), Some(Offset(29)), "readers know at once");
    let busy = wal.start_truncate(Offset(50)).expect_err("it waits");
    assert!(matches!(busy, WalError::Busy("a trim")));
    wal.finish_trim(trim.run()).expect("trimmed");
    let cut = wal
        .start_truncate(Offset(50))
        .expect("alone")
        .expect("a job");
    assert_eq!(wal.last_point().offset, Offset(60), "not told yet");
    assert!(wal.start_trim(Offset(40)).is_none());
    wal.finish_segment(cut.run()).expect("truncated");
    assert_eq!(offsets(&wal), (29..=50).collect::<Vec<_>>());
    wal.check();
    drop(wal);
    assert_eq!(offsets(&open(&disk)), (29..=50).collect::<Vec<_>>());
}

#[test]
fn a_job_that_ran_and_was_not_told_is_what_a_crash_may_find() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=20, 1, 500);
    wal.sync().expect("synced");
    let cut = wal
        .start_truncate(Offset(9))
        .expect("alone")
        .expect("a job");
    drop(cut.run());
    drop(wal);
    disk.crash(1);
    assert_eq!(offsets(&open(&disk)), (1..=9).collect::<Vec<_>>());
}

#[test]
fn an_idle_log_takes_little_and_a_busy_one_grows_to_full_segments() {
    let disk = MemoryDisk::new();
    let options = crate::WalOptions {
        segment_bytes: 2 << 20,
        ..crate::WalOptions::default()
    };
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), options.clone()).expect("a new log");
    fill(&mut wal, 1..=20, 1, 500);
    wal.sync().expect("synced");
    let idle = disk.used_bytes();
    assert!(idle <= 320 << 10, "{idle}");
    let mut lengths = Vec::new();
    let mut newest = String::new();
    for offset in 21..240 {
        if let Some(job) = wal.start_prepare() {
            wal.finish_prepare(job.run()).expect("prepared");
        }
        fill(&mut wal, offset..=offset, 1, 64 << 10);
        let names = disk.list().expect("listed");
        let name = names.iter().rfind(|name| name.ends_with(".wal"));
        let name = name.expect("a segment");
        if *name != newest {
            newest.clone_from(name);
            lengths.push(disk.content(name).expect("listed").len());
        }
        if offset % 16 == 0 {
            wal.sync().expect("synced");
            wal.trim_below(Offset(offset)).expect("trimmed");
        }
    }
    let full = options.segment_bytes as usize;
    assert_eq!(
        lengths[..4],
        [256 << 10, 1 << 20, full, full],
        "{lengths:?}"
    );
    assert!(lengths[4..].iter().all(|&length| length == full));
    assert!(wal.spares() <= options.recycle_segments);
}

#[test]
fn an_entry_of_any_length_has_room_after_reserving() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    let lengths = [
        0,
        1,
        4096,
        8192 - 4096 - 64 - 56,
        8192 - 4096 - 64 - 48,
        8192,
        70_000,
    ];
    for (offset, length) in (1..).zip(lengths) {
        if let Room::After(job) = wal.reserve(length, Class::Client).expect("a healthy disk") {
            wal.finish_segment(job.run()).expect("started");
        }
        assert!(matches!(
            wal.reserve(length, Class::Client),
            Ok(Room::Ready)
        ));
        let files = disk.list().expect("listed");
        let payload = vec![7; length];
        wal.append(Offset(offset), Term(1), &payload, Class::Client)
            .expect("reserved");
        assert_eq!(disk.list().expect("listed"), files, "append only writes");
    }
    wal.sync().expect("synced");
    drop(wal);
    let (wal, cut) = Wal::open(Arc::new(disk), small()).expect("it opens");
    assert_eq!((wal.last_point().offset, cut), (Offset(7), None));
}

#[test]
fn a_started_sync_is_one_write_and_one_sync_for_each_entry() {
    let disk = MemoryDisk::new();
    let (mut wal, _) =
        Wal::open(Arc::new(disk.clone()), crate::WalOptions::default()).expect("a new log");
    fill(&mut wal, 1..=1, 1, 10);
    wal.sync().expect("synced");
    let before = disk.counters();
    for offset in 2..=51 {
        wal.append(
            Offset(offset),
            Term(1),
            &payload(offset, 1, 100),
            Class::Client,
        )
        .expect("appended");
        let job = start_sync(&mut wal);
        wal.finish_sync(job.run()).expect("synced");
    }
    let after = disk.counters();
    assert_eq!(after.writes - before.writes, 50);
    assert_eq!(after.syncs - before.syncs, 50);
}
