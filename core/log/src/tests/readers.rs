//! Readers beside a log that grows, is trimmed and is cut.

use std::sync::Arc;

use oxkeeper_model::{Offset, Term};

use super::{fill, open, payload, small};
use crate::{Chain, Class, FileDisk, LogPoint, MemoryDisk, Wal, WalError, WalReader};

fn next(reader: &mut WalReader<MemoryDisk>) -> Option<(u64, u64)> {
    let record = reader.next().expect("the log is whole")?;
    Some((record.offset.0, record.term.0))
}

#[test]
fn a_reader_at_the_end_sees_what_is_appended_later() {
    let mut wal = open(&MemoryDisk::new());
    let mut reader = wal.reader(Offset(1)).expect("an empty log has a reader");
    assert_eq!(next(&mut reader), None);
    for offset in 1..=50 {
        fill(&mut wal, offset..=offset, 1, 700);
        assert_eq!(next(&mut reader), Some((offset, 1)));
        assert_eq!(next(&mut reader), None);
    }
    assert_eq!(reader.position(), Offset(51));
}

#[test]
fn a_reader_starts_at_any_entry_of_the_log_and_nowhere_else() {
    let mut wal = open(&MemoryDisk::new());
    wal.reset(LogPoint {
        offset: Offset(9),
        term: Term(1),
        chain: Chain(5),
    })
    .expect("an empty log");
    fill(&mut wal, 10..=300, 1, 100);
    wal.sync().expect("synced");
    for from in 10..=300 {
        let mut reader = wal.reader(Offset(from)).expect("it is there");
        assert_eq!(next(&mut reader), Some((from, 1)));
    }
    assert_eq!(next(&mut wal.reader(Offset(301)).expect("the tail")), None);
    let before = wal.reader(Offset(9)).expect_err("never there");
    assert!(matches!(before, WalError::Trimmed { first: Offset(10) }));
    let behind = wal.reader(Offset(302)).expect_err("not there yet");
    assert!(matches!(behind, WalError::BeyondEnd { last: Offset(300) }));
}

#[test]
fn a_reader_that_is_behind_a_trim_learns_it() {
    let mut wal = open(&MemoryDisk::new());
    fill(&mut wal, 1..=60, 1, 700);
    wal.sync().expect("synced");
    let mut behind = wal.reader(Offset(1)).expect("it is there");
    let mut inside = wal.reader(Offset(1)).expect("it is there");
    assert_eq!(next(&mut behind), Some((1, 1)));
    for offset in 1..=40 {
        assert_eq!(next(&mut inside), Some((offset, 1)));
    }
    wal.trim_below(Offset(41)).expect("trimmed");
    let first = wal.first().expect("not empty");
    assert!(first > Offset(2) && first <= Offset(41));
    let error = behind.next().expect_err("trimmed");
    assert!(matches!(error, WalError::Trimmed { first: at } if at == first));
    // The files are reused while one reader still has an old one open.
    fill(&mut wal, 61..=90, 1, 700);
    wal.sync().expect("synced");
    for offset in 41..=90 {
        assert_eq!(next(&mut inside), Some((offset, 1)));
    }
    assert_eq!(next(&mut inside), None);
}

#[test]
fn a_reader_ahead_of_a_cut_learns_it_even_when_the_log_has_grown_again() {
    let mut wal = open(&MemoryDisk::new());
    fill(&mut wal, 1..=30, 1, 700);
    wal.sync().expect("synced");
    let mut ahead = wal.reader(Offset(26)).expect("it is there");
    let mut at_the_cut = wal.reader(Offset(21)).expect("it is there");
    let mut before = wal.reader(Offset(10)).expect("it is there");
    assert_eq!(next(&mut ahead), Some((26, 1)));
    assert_eq!(next(&mut before), Some((10, 1)));
    wal.truncate_after(Offset(20)).expect("truncated");
    assert_eq!(next(&mut at_the_cut), None);
    fill(&mut wal, 21..=40, 2, 700);
    wal.sync().expect("synced");
    let error = ahead.next().expect_err("27 is another entry now");
    assert!(matches!(error, WalError::BeyondEnd { last: Offset(20) }));
    assert!(ahead.next().is_err(), "it stays so");
    assert_eq!(next(&mut at_the_cut), Some((21, 2)));
    for offset in 11..=40 {
        let term = if offset <= 20 { 1 } else { 2 };
        assert_eq!(next(&mut before), Some((offset, term)));
    }
}

#[test]
fn a_reader_on_another_thread_keeps_up_with_appends_and_trims() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = FileDisk::new(dir.path()).expect("a folder");
    let (mut wal, _) = Wal::open(Arc::new(disk), small()).expect("the log opens");
    let mut reader = wal.reader(Offset(1)).expect("an empty log has a reader");
    const ENTRIES: u64 = 3000;
    let (position, seen) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut expected = 1;
        while expected <= ENTRIES {
            let Some(record) = reader.next().expect("never trimmed before it is read") else {
                std::thread::yield_now();
                continue;
            };
            assert_eq!(record.offset, Offset(expected));
            assert_eq!(record.payload, payload(expected, 1, 300));
            let _ = position.send(record.offset);
            expected += 1;
        }
    });
    for offset in 1..=ENTRIES {
        let payload = payload(offset, 1, 300);
        wal.append(Offset(offset), Term(1), &payload, Class::Client)
            .expect("appended");
        if offset % 300 == 0 {
            wal.sync().expect("synced");
        }
        if let Some(read) = seen.try_iter().last() {
            wal.trim_below(read).expect("trimmed");
        }
    }
    thread.join().expect("the reader saw every entry");
}

#[test]
fn a_reader_whose_file_is_reused_under_it_never_returns_another_entry() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    let mut reader = wal.reader(Offset(1)).expect("an empty log has a reader");
    let mut last_seen = 0;
    for round in 0..200 {
        let from = round * 5 + 1;
        fill(&mut wal, from..=from + 4, 1, 900);
        wal.sync().expect("synced");
        if round % 3 == 0 {
            match reader.next() {
                Ok(Some(record)) => {
                    assert_eq!(record.payload, payload(record.offset.0, 1, 900));
                    assert_eq!(record.offset.0, last_seen + 1);
                    last_seen = record.offset.0;
                }
                Ok(None) => panic!("there is more"),
                Err(WalError::Trimmed { first }) => {
                    reader = wal.reader(first).expect("it is there");
                    last_seen = first.0 - 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        wal.trim_below(Offset(from)).expect("trimmed");
    }
    assert!(last_seen > 100);
}

#[test]
fn readers_do_not_meet_what_a_truncation_under_way_writes() {
    let mut wal = open(&MemoryDisk::new());
    fill(&mut wal, 1..=30, 1, 200);
    let mut before = wal.reader(Offset(5)).expect("it is there");
    let mut at_the_cut = wal.reader(Offset(8)).expect("it is there");
    let mut ahead = wal.reader(Offset(20)).expect("it is there");
    for reader in [&mut before, &mut at_the_cut, &mut ahead] {
        assert!(next(reader).is_some());
    }
    assert_eq!(next(&mut at_the_cut), Some((9, 1)));
    assert_eq!(next(&mut at_the_cut), Some((10, 1)));
    let job = wal
        .start_truncate(Offset(10))
        .expect("alone")
        .expect("a job");
    let done = job.run();
    assert_eq!(next(&mut at_the_cut), None);
    for offset in 6..=10 {
        assert_eq!(next(&mut before), Some((offset, 1)));
    }
    assert_eq!(next(&mut before), None);
    assert!(matches!(
        ahead.next(),
        Err(WalError::BeyondEnd { last: Offset(10) })
    ));
    wal.finish_segment(done).expect("truncated");
    fill(&mut wal, 11..=12, 2, 200);
    for reader in [&mut before, &mut at_the_cut] {
        assert_eq!(next(reader), Some((11, 2)));
    }
}

#[test]
fn a_truncation_for_which_there_is_no_space_hides_nothing() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk);
    fill(&mut wal, 1..=5, 1, 200);
    disk.set_capacity(Some(disk.used_bytes()));
    wal.truncate_after(Offset(2)).expect_err("no space");
    wal.reset(LogPoint::START).expect_err("no space");
    wal.check();
    let mut reader = wal.reader(Offset(1)).expect("it is there");
    for offset in 1..=5 {
        assert_eq!(next(&mut reader), Some((offset, 1)));
    }
}
