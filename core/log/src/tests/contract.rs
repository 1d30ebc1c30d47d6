//! What holds on any disk; run on both.

use std::sync::Arc;

use oxkeeper_model::limits::ENTRY_BYTES_MAX;
use oxkeeper_model::{Offset, Term};

use super::{fill, offsets, payload, read_all, small};
use crate::{
    Chain, Class, Disk, FileDisk, LogPoint, MemoryDisk, Severity, Wal, WalError, dump_disk,
};

fn open<D: Disk>(disk: &Arc<D>) -> Wal<D> {
    let (wal, cut) = Wal::open(disk.clone(), small()).expect("the log opens");
    assert_eq!(cut, None);
    wal.check();
    wal
}

fn names<D: Disk>(disk: &Arc<D>, suffix: &str) -> usize {
    let names = disk.list().expect("the folder lists");
    names.iter().filter(|name| name.ends_with(suffix)).count()
}

/// Where a snapshot may have ended.
fn point(offset: u64, term: u64) -> LogPoint {
    LogPoint {
        offset: Offset(offset),
        term: Term(term),
        chain: Chain(offset * 1000 + term),
    }
}

macro_rules! on_both_disks {
    ($($name:ident)*) => {
        mod memory {
            $(#[test]
            fn $name() {
                super::$name(std::sync::Arc::new(super::MemoryDisk::new()));
            })*
        }
        mod files {
            $(#[test]
            fn $name() {
                let dir = tempfile::tempdir().expect("a folder");
                let disk = super::FileDisk::new(dir.path().join("log")).expect("a folder");
                super::$name(std::sync::Arc::new(disk));
            })*
        }
    };
}

on_both_disks! {
    a_new_log_is_empty_and_starts_where_it_is_told
    entries_come_back_in_order_after_reopening
    an_entry_must_follow_the_last
    a_record_larger_than_a_segment_has_a_segment_of_its_own
    the_largest_entry_fits_and_a_larger_one_is_refused
    trimmed_segments_are_reused_up_to_the_limit
    trimming_keeps_the_last_entry
    truncation_drops_the_tail_and_the_log_goes_on_in_a_later_term
    truncation_before_the_first_entry_empties_the_log
    a_dump_shows_every_record_and_why_the_log_ends
    spares_are_made_when_the_segment_is_half_used
}

fn a_new_log_is_empty_and_starts_where_it_is_told<D: Disk>(disk: Arc<D>) {
    let mut wal = open(&disk);
    assert_eq!((wal.first(), wal.last()), (None, None));
    assert_eq!(wal.durable(), Offset(0));
    assert_eq!(wal.sync().expect("nothing to do"), Offset(0));
    wal.reset(point(16, 2)).expect("an empty log");
    assert_eq!(wal.last_point(), point(16, 2));
    fill(&mut wal, 17..=19, 2, 10);
    assert_eq!(wal.first(), Some(Offset(17)));
    assert_eq!(wal.last(), Some((Offset(19), Term(2))));
    assert_eq!(wal.durable(), Offset(16));
    assert_eq!(wal.sync().expect("synced"), Offset(19));
    assert_eq!(wal.durable(), Offset(19));
    wal.check();
    drop(wal);
    let wal = open(&disk);
    assert_eq!(wal.first(), Some(Offset(17)));
    assert_eq!(wal.durable(), Offset(19));
}

fn entries_come_back_in_order_after_reopening<D: Disk>(disk: Arc<D>) {
    let mut wal = open(&disk);
    for offset in 1..=100 {
        fill(
            &mut wal,
            offset..=offset,
            offset / 10,
            (offset * 7) as usize,
        );
        if offset % 5 == 0 {
            wal.sync().expect("synced");
        }
    }
    wal.check();
    let before = read_all(&wal);
    assert_eq!(before.len(), 100);
    assert!(names(&disk, ".wal") > 3, "several segments");
    drop(wal);
    let mut wal = open(&disk);
    assert_eq!(read_all(&wal), before);
    for record in &before {
        let (offset, term) = (record.offset.0, record.term.0);
        assert_eq!(record.payload, payload(offset, term, (offset * 7) as usize));
    }
    fill(&mut wal, 101..=101, 10, 0);
    wal.sync().expect("synced");
    assert_eq!(offsets(&wal), (1..=101).collect::<Vec<_>>());
}

fn an_entry_must_follow_the_last<D: Disk>(disk: Arc<D>) {
    let mut wal = open(&disk);
    let refused = |wal: &mut Wal<D>, offset, term| {
        let result = wal.append(Offset(offset), Term(term), b"", Class::Client);
        let error = result.expect_err("it does not follow");
        assert!(matches!(error, WalError::OutOfOrder { .. }));
        assert_eq!(error.severity(), Severity::Caller);
    };
    refused(&mut wal, 0, 1);
    refused(&mut wal, 2, 1);
    refused(&mut wal, u64::MAX, 1);
    wal.reset(point(4, 2)).expect("an empty log");
    refused(&mut wal, 5, 1);
    fill(&mut wal, 5..=6, 3, 10);
    refused(&mut wal, 6, 3);
    refused(&mut wal, 8, 3);
    refused(&mut wal, 7, 2);
    fill(&mut wal, 7..=7, 3, 10);
    wal.sync().expect("a refused entry is no failure");
    assert_eq!(offsets(&wal), [5, 6, 7]);
}

fn a_record_larger_than_a_segment_has_a_segment_of_its_own<D: Disk>(disk: Arc<D>) {
    let mut wal = open(&disk);
    fill(&mut wal, 1..=1, 1, 10);
    fill(&mut wal, 2..=2, 1, 100_000);
    fill(&mut wal, 3..=3, 1, 5_000);
    wal.sync().expect("synced");
    wal.check();
    assert_eq!(names(&disk, ".wal"), 3);
    drop(wal);
    let mut wal = open(&disk);
    assert_eq!(read_all(&wal)[1].payload, payload(2, 1, 100_000));
    wal.trim_below(Offset(3)).expect("trimmed");
    assert_eq!(offsets(&wal), [3]);
    assert_eq!(wal.spares(), 1, "the long file is not kept");
}

fn the_largest_entry_fits_and_a_larger_one_is_refused<D: Disk>(disk: Arc<D>) {
    let mut wal = open(&disk);
    let mut entry = vec![7; ENTRY_BYTES_MAX + 1];
    let result = wal.append(Offset(1), Term(1), &entry, Class::Client);
    let error = result.expect_err("it is too large");
    assert!(matches!(error, WalError::TooLarge { .. }));
    assert_eq!(error.severity(), Severity::Caller);
    entry.pop();
    wal.append(Offset(1), Term(1), &entry, Class::Client)
        .expect("it fits");
    wal.sync().expect("synced");
    drop(wal);
    assert!(read_all(&open(&disk))[0].payload == entry);
}

fn trimmed_segments_are_reused_up_to_the_limit<D: Disk>(disk: Arc<D>) {
    let mut wal = open(&disk);
    fill(&mut wal, 1..=60, 1, 500);
    wal.sync().expect("synced");
    let segments = names(&disk, ".wal");
    assert!(segments >= 8);
    wal.trim_below(Offset(60)).expect("trimmed");
    wal.check();
    assert_eq!(names(&disk, ".wal"), 1);
    assert_eq!(names(&disk, ".spare"), 2);
    assert_eq!(wal.spares(), 2);
    let first = wal.first().expect("not empty");
    assert!(first <= Offset(60));
    fill(&mut wal, 61..=75, 1, 500);
    wal.sync().expect("synced");
    assert_eq!(names(&disk, ".spare"), 0, "they are segments again");
    assert_eq!(offsets(&wal), (first.0..=75).collect::<Vec<_>>());
    drop(wal);
    let wal = open(&disk);
    assert_eq!(offsets(&wal), (first.0..=75).collect::<Vec<_>>());
}

fn trimming_keeps_the_last_entry<D: Disk>(disk: Arc<D>) {
    let mut wal = open(&disk);
    fill(&mut wal, 1..=60, 1, 500);
    wal.sync().expect("synced");
    wal.trim_below(Offset(1000)).expect("trimmed");
    assert_eq!(wal.last(), Some((Offset(60), Term(1))));
    wal.truncate_after(Offset(59)).expect("truncated");
    wal.trim_below(Offset(1000)).expect("trimmed");
    wal.check();
    drop(wal);
    assert_eq!(open(&disk).last(), Some((Offset(59), Term(1))));
}

fn truncation_drops_the_tail_and_the_log_goes_on_in_a_later_term<D: Disk>(disk: Arc<D>) {
    for cut in [40, 33, 20, 19, 1] {
        let mut wal = open(&disk);
        let next = wal.last().map_or(1, |(last, _)| last.0 + 1);
        let term = 100 - cut;
        fill(&mut wal, next..=40, term, 500);
        wal.truncate_after(Offset(cut)).expect("truncated");
        wal.check();
        assert_eq!(wal.last().map(|(last, _)| last.0), Some(cut));
        assert_eq!(wal.durable(), Offset(cut));
        assert_eq!(offsets(&wal), (1..=cut).collect::<Vec<_>>());
        drop(wal);
        let mut wal = open(&disk);
        assert_eq!(offsets(&wal), (1..=cut).collect::<Vec<_>>());
        fill(&mut wal, cut + 1..=cut + 3, term + 1, 500);
        wal.sync().expect("synced");
        drop(wal);
        let wal = open(&disk);
        assert_eq!(wal.last(), Some((Offset(cut + 3), Term(term + 1))));
        assert_eq!(offsets(&wal), (1..=cut + 3).collect::<Vec<_>>());
    }
}

fn truncation_before_the_first_entry_empties_the_log<D: Disk>(disk: Arc<D>) {
    let mut wal = open(&disk);
    wal.reset(point(9, 1)).expect("an empty log");
    fill(&mut wal, 10..=40, 1, 500);
    let error = wal.truncate_after(Offset(8)).expect_err("it is not known");
    assert!(matches!(error, WalError::Trimmed { first: Offset(10) }));
    wal.truncate_after(Offset(9)).expect("truncated");
    wal.check();
    assert_eq!((wal.first(), wal.last()), (None, None));
    assert_eq!(wal.durable(), Offset(9));
    drop(wal);
    let mut wal = open(&disk);
    assert_eq!((wal.first(), wal.last()), (None, None));
    assert_eq!(wal.last_point(), point(9, 1));
    wal.reset(point(999, 1)).expect("emptied");
    fill(&mut wal, 1000..=1001, 1, 10);
    wal.sync().expect("synced");
    wal.check();
    assert_eq!(offsets(&wal), [1000, 1001]);
    drop(wal);
    assert_eq!(offsets(&open(&disk)), [1000, 1001]);
}

fn a_dump_shows_every_record_and_why_the_log_ends<D: Disk>(disk: Arc<D>) {
    let mut wal = open(&disk);
    fill(&mut wal, 1..=20, 3, 500);
    wal.sync().expect("synced");
    let mut out = Vec::new();
    let dumped = dump_disk(&*disk, &mut out).expect("dumped");
    let text = String::from_utf8(out).expect("text");
    assert_eq!(dumped.records, 20);
    assert_eq!(dumped.last, Some((Offset(20), Term(3))));
    assert!(dumped.damage.is_empty());
    assert!(text.contains("offset 1 term 3 bytes 500 at 4096 synced 0 chain "));
    assert!(text.contains("offset 20 term 3 bytes 500 at "));
    assert!(text.contains(": nothing was written here"), "{text}");
}

fn spares_are_made_when_the_segment_is_half_used<D: Disk>(disk: Arc<D>) {
    let mut wal = open(&disk);
    assert!(wal.start_prepare().is_none(), "an idle log takes nothing");
    fill(&mut wal, 1..=4, 1, 500);
    let job = wal.start_prepare().expect("half of the segment is used");
    assert!(wal.start_prepare().is_none(), "one at a time");
    wal.finish_prepare(job.run()).expect("prepared");
    assert_eq!(wal.spares(), 1);
    assert!(wal.start_prepare().is_none(), "one is enough");
    fill(&mut wal, 5..=10, 1, 500);
    assert_eq!((wal.spares(), names(&disk, ".spare")), (0, 0), "it is used");
    wal.sync().expect("synced");
    drop(wal);
    assert_eq!(offsets(&open(&disk)), (1..=10).collect::<Vec<_>>());
    assert_eq!(names(&disk, ".tmp"), 0);
}
