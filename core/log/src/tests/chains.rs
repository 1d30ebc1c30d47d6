//! The chain is the same on every replica, and tells any two histories apart.

use std::sync::Arc;

use oxkeeper_model::{Offset, Term};

use super::read_all;
use crate::memory_disk::Random;
use crate::{Chain, Class, LogPoint, MemoryDisk, Recovery, Wal, WalError, WalOptions};

type Entry = (Term, Vec<u8>);

/// A replica with a way of its own to use its disk.
struct Replica {
    disk: MemoryDisk,
    options: WalOptions,
    wal: Wal<MemoryDisk>,
}

impl Replica {
    fn new(random: &mut Random) -> Self {
        let segment_bytes = 8192 << random.below(4);
        let options = WalOptions {
            segment_bytes,
            first_segment_bytes: segment_bytes >> random.below(2),
            recycle_segments: random.below(3) as usize,
            reserve_bytes: random.below(2) * 8192,
            ..WalOptions::default()
        };
        let disk = MemoryDisk::seeded(random.next());
        let (wal, _) = Wal::open(Arc::new(disk.clone()), options.clone()).expect("a new log");
        Self { disk, options, wal }
    }

    fn append(&mut self, entry: &Entry) {
        let offset = self.wal.last_point().offset.next();
        let expected = self.wal.last_point().after(offset, entry.0, &entry.1);
        let chain = self.wal.append(offset, entry.0, &entry.1, Class::Client);
        assert_eq!(chain.expect("appended"), expected.chain);
        assert_eq!(self.wal.last_point(), expected);
    }

    /// Something that other replicas do at other times.
    fn disturb(&mut self, random: &mut Random) {
        let last = self.wal.last_point().offset;
        match random.below(6) {
            0 => drop(self.wal.sync().expect("synced")),
            1 => self.wal.trim_below(Offset(last.0 / 2)).expect("trimmed"),
            2 => {
                // An entry of a leader whose term came to nothing.
                self.append(&(self.wal.last_point().term, b"lost".to_vec()));
                self.wal.truncate_after(last).expect("truncated");
            }
            3 => {
                self.wal.sync().expect("synced");
                self.disk.crash(random.next());
                let disk = Arc::new(self.disk.clone());
                let (wal, cut) = Wal::open(disk, self.options.clone()).expect("it opens");
                assert_eq!(cut, None);
                self.wal = wal;
            }
            _ => {}
        }
        self.wal.check();
    }
}

#[test]
fn chains_of_replicas_are_equal_at_every_offset() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut replicas: Vec<_> = (0..3).map(|_| Replica::new(&mut random)).collect();
        let mut history = vec![LogPoint::START];
        let mut term = Term(0);
        for offset in 1..=80 {
            term.0 += u64::from(random.below(8) == 0);
            let payload = random.next().to_le_bytes();
            let entry = (term, payload.repeat(random.below(200) as usize));
            let last = history[history.len() - 1];
            history.push(last.after(Offset(offset), entry.0, &entry.1));
            for replica in &mut replicas {
                replica.append(&entry);
                replica.disturb(&mut random);
            }
        }
        for replica in &replicas {
            let first = replica.wal.first().expect("not empty");
            for point in &history[first.0 as usize - 1..] {
                let known = replica.wal.point_at(point.offset).expect("it is there");
                assert_eq!(known, *point, "seed {seed}");
                assert_eq!(replica.wal.chain_at(point.offset).ok(), Some(point.chain));
            }
            for record in read_all(&replica.wal) {
                assert_eq!(record.chain, history[record.offset.0 as usize].chain);
            }
            for asked in 0..=term.0 + 1 {
                let below = |point: &&LogPoint| point.term.0 <= asked;
                let known = &history[first.0 as usize - 1..];
                let expected = known.iter().rfind(below).map(|point| point.offset);
                let expected = expected.filter(|offset| offset.0 > 0);
                assert_eq!(replica.wal.last_at_or_below(Term(asked)), expected);
            }
        }
    }
}

#[test]
fn a_follower_sees_where_its_log_leaves_the_leaders() {
    let log = |terms: &[u64]| {
        let disk = MemoryDisk::new();
        let (mut wal, _) = Wal::open(Arc::new(disk), WalOptions::default()).expect("a new log");
        for (offset, &term) in (1..).zip(terms) {
            wal.append(Offset(offset), Term(term), b"same", Class::Client)
                .expect("appended");
        }
        wal
    };
    let leader = log(&[1, 1, 1, 3, 3, 3]);
    let mut follower = log(&[1, 1, 1, 2, 2]);
    assert_ne!(
        follower.chain_at(Offset(4)).ok(),
        leader.chain_at(Offset(4)).ok()
    );
    // What its leader tells it: the last entry of its own that is not above the follower's term.
    let common = leader.last_at_or_below(Term(2)).expect("it has one");
    assert_eq!(common, Offset(3));
    assert_eq!(follower.chain_at(common).ok(), leader.chain_at(common).ok());
    follower.truncate_after(common).expect("truncated");
    let mut point = follower.last_point();
    let mut reader = leader.reader(common.next()).expect("it is there");
    while let Some(record) = reader.next().expect("the log is whole") {
        point = point.after(record.offset, record.term, &record.payload);
        assert_eq!(point.chain, record.chain, "checked before it is appended");
        follower
            .append(record.offset, record.term, &record.payload, Class::Client)
            .expect("appended");
    }
    assert_eq!(follower.last_point(), leader.last_point());
}

#[test]
fn a_log_after_a_snapshot_continues_the_chain() {
    let disk = MemoryDisk::new();
    let options = WalOptions::default();
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), options.clone()).expect("a new log");
    let start = LogPoint {
        offset: Offset(500),
        term: Term(7),
        chain: Chain(0xabc),
    };
    wal.reset(start).expect("an empty log");
    assert_eq!(wal.last_at_or_below(Term(7)), Some(Offset(500)));
    assert_eq!(wal.last_at_or_below(Term(6)), None);
    drop(wal);
    let recovery = Recovery::look(Arc::new(disk), options).expect("it is whole");
    assert_eq!(recovery.ends(), (start, start));
    let mut wal = recovery.repair().expect("a healthy disk");
    let chain = wal.append(Offset(501), Term(8), b"x", Class::Own);
    let expected = Chain(0xabc).after(Offset(501), Term(8), b"x");
    assert_eq!(chain.expect("appended"), expected);
    assert_eq!(wal.chain_at(Offset(500)).ok(), Some(Chain(0xabc)));
    let trimmed = wal.chain_at(Offset(499)).expect_err("it is not known");
    assert!(matches!(trimmed, WalError::Trimmed { first: Offset(501) }));
    let beyond = wal.chain_at(Offset(502)).expect_err("it is not there");
    assert!(matches!(beyond, WalError::BeyondEnd { last: Offset(501) }));
}

#[test]
fn points_of_a_long_log_are_found_from_the_nearest_mark() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = Wal::open(Arc::new(disk), WalOptions::default()).expect("a new log");
    let mut chains = vec![Chain::START];
    for offset in 1..=3000 {
        let payload = vec![offset as u8; 200];
        let chain = wal.append(Offset(offset), Term(1), &payload, Class::Client);
        chains.push(chain.expect("appended"));
    }
    for offset in (0..=3000).rev().step_by(7) {
        let chain = wal.chain_at(Offset(offset as u64)).expect("it is there");
        assert_eq!(chain, chains[offset]);
    }
}
