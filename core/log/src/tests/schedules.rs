//! Random schedules of calls, crashes and failures against a plain model.

use std::sync::Arc;

use oxkeeper_model::{Offset, Term};

use super::{payload, read_all, small};
use crate::memory_disk::Random;
use crate::{
    Class, DiskCounters, LogPoint, MemoryDisk, PrepareDone, PrepareJob, Room, SegmentDone,
    SegmentJob, Severity, SyncDone, SyncJob, TrimDone, TrimJob, Wal, WalError, WalOptions,
};

const SCHEDULES: u64 = 3000;
const STEPS: u64 = 60;

/// An entry is (offset, term, length of the payload).
type Entry = (u64, u64, usize);

/// The log as it should be.
#[derive(Clone, Debug, Default)]
struct Model {
    /// From the first that may still be asked for.
    entries: Vec<Entry>,
    /// What an empty log continues.
    start: u64,
    durable: u64,
    /// Highest argument of a trim.
    trimmed: u64,
    term: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.entries.last().map_or(self.start, |entry| entry.0)
    }

    fn cut(&mut self, after: u64) {
        self.entries.retain(|entry| entry.0 <= after);
        if self.entries.is_empty() {
            self.start = after;
        }
        self.durable = self.durable.min(self.last());
    }

    /// Whether the log may be what this model allows: any prefix of the entries that has
    /// all durable ones, from which a trim may have taken the front.
    fn allows(&self, last: LogPoint, found: &[Entry]) -> Result<(), String> {
        let last = last.offset.0;
        if last < self.durable || last > self.last() {
            return Err(format!("{} was durable, the last is {last}", self.durable));
        }
        let Some(first) = found.first() else {
            return Ok(());
        };
        let Some(at) = self.entries.iter().position(|entry| entry.0 == first.0) else {
            return Err(format!("{first:?} was never there"));
        };
        if at > 0 && first.0 > self.trimmed {
            return Err(format!("the log starts at {first:?}, trimmed was less"));
        }
        if !self.entries[at..].starts_with(found) {
            return Err("not a prefix".to_owned());
        }
        Ok(())
    }
}

fn entries_of(wal: &Wal<MemoryDisk>) -> Vec<Entry> {
    let entry = |record: crate::LogRecord| {
        let (offset, term) = (record.offset.0, record.term.0);
        let bytes = record.payload.len();
        assert_eq!(record.payload, payload(offset, term, bytes));
        (offset, term, bytes)
    };
    read_all(wal).into_iter().map(entry).collect()
}

/// What was started: before it is run, or after and not told back.
#[derive(Debug)]
enum Started<J, D> {
    Job(J),
    Done(D),
}

/// Operations of which the driver has not told the end.
#[derive(Debug, Default)]
struct Jobs {
    sync: Option<Started<SyncJob<MemoryDisk>, SyncDone>>,
    segment: Option<Started<SegmentJob<MemoryDisk>, SegmentDone>>,
    trim: Option<Started<TrimJob<MemoryDisk>, TrimDone>>,
    prepare: Option<Started<PrepareJob<MemoryDisk>, PrepareDone>>,
}

/// What the schedules did, so that a test can show that it tried what it says.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    crashes: u64,
    cuts: u64,
    crashes_with_jobs: u64,
    full: u64,
    disk: DiskCounters,
}

struct Run {
    random: Random,
    disk: MemoryDisk,
    wal: Option<Wal<MemoryDisk>>,
    jobs: Jobs,
    model: Model,
    /// What else the log may be, when a truncation was interrupted.
    or_else: Option<Model>,
    tally: Tally,
}

fn options() -> WalOptions {
    WalOptions {
        reserve_bytes: 8192,
        segment_bytes: 16384,
        first_segment_bytes: 8192,
        ..small()
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = MemoryDisk::seeded(seed);
        let (wal, _) = Wal::open(Arc::new(disk.clone()), options()).expect("a new log");
        let mut random = Random(seed);
        if random.below(3) == 0 {
            disk.set_capacity(Some(40_000 + random.below(60_000)));
        }
        Self {
            wal: Some(wal),
            random,
            disk,
            jobs: Jobs::default(),
            model: Model::default(),
            or_else: None,
            tally: Tally::default(),
        }
    }

    /// A full disk, or an operation that is under way, refuses and changes nothing.
    fn unless_refused(&mut self, result: Result<(), WalError>) -> Result<bool, WalError> {
        match result {
            Err(error) if error.severity() != Severity::Fatal => {
                self.tally.full += u64::from(error.severity() == Severity::NoSpace);
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    fn append(&mut self, wal: &mut Wal<MemoryDisk>) -> Result<(), WalError> {
        for _ in 0..=self.random.below(6) {
            if self.random.below(10) == 0 {
                self.model.term += 1;
            }
            let bytes = match self.random.below(20) {
                0 => 9000 + self.random.below(9000),
                1..6 => self.random.below(2000),
                _ => 20 + self.random.below(4) * 60,
            };
            let offset = self.model.last() + 1;
            let term = self.model.term;
            let payload = payload(offset, term, bytes as usize);
            let class = match self.random.below(4) {
                0 => Class::Own,
                _ => Class::Client,
            };
            if self.random.below(2) == 0
                && let Ok(Room::After(job)) = wal.reserve(payload.len(), class)
            {
                self.jobs.segment = Some(Started::Job(job));
                return Ok(());
            }
            let before = wal.last_point();
            // A failed append may have left its entry on disk, too.
            self.model.entries.push((offset, term, payload.len()));
            let appended = wal.append(Offset(offset), Term(term), &payload, class);
            if !self.unless_refused(appended.map(|_| ()))? {
                self.model.entries.pop();
                assert_eq!(wal.last_point(), before, "refused means unchanged");
                return Ok(());
            }
        }
        Ok(())
    }

    fn truncate(&mut self, wal: &mut Wal<MemoryDisk>) -> Result<(), WalError> {
        let last = self.model.last();
        let after = last.saturating_sub(self.random.below(12));
        if wal.first().is_some_and(|first| Offset(after + 1) < first) {
            return Ok(());
        }
        let mut cut = self.model.clone();
        cut.cut(after);
        cut.term += 1;
        self.or_else = Some(cut.clone());
        let truncated = wal.truncate_after(Offset(after));
        if self.unless_refused(truncated)? {
            if after < last {
                self.model = cut;
            }
            self.model.durable = self.model.last();
        }
        self.or_else = None;
        Ok(())
    }

    fn sync(&mut self, wal: &mut Wal<MemoryDisk>) -> Result<(), WalError> {
        match wal.sync() {
            Ok(durable) => {
                assert_eq!(durable.0, self.model.last());
                self.model.durable = durable.0;
                Ok(())
            }
            Err(error) => self.unless_refused(Err(error)).map(|_| ()),
        }
    }

    /// Starts an operation, or brings one of those under way a step further.
    fn drive(&mut self, wal: &mut Wal<MemoryDisk>) -> Result<(), WalError> {
        match self.random.below(4) {
            0 => {
                self.jobs.sync = match self.jobs.sync.take() {
                    None => wal.start_sync().map(Started::Job),
                    Some(Started::Job(job)) => Some(Started::Done(job.run())),
                    Some(Started::Done(done)) => {
                        let durable = wal.finish_sync(done)?.0;
                        self.model.durable = self.model.durable.max(durable);
                        None
                    }
                }
            }
            1 => {
                self.jobs.segment = match self.jobs.segment.take() {
                    Some(Started::Job(job)) => Some(Started::Done(job.run())),
                    Some(Started::Done(done)) => {
                        let started = wal.finish_segment(done);
                        self.unless_refused(started)?;
                        self.model.durable = self.model.durable.max(wal.durable().0);
                        None
                    }
                    None => None,
                }
            }
            2 => {
                self.jobs.trim = match self.jobs.trim.take() {
                    None => {
                        let offset = self.model.durable.saturating_sub(self.random.below(30));
                        self.model.trimmed = self.model.trimmed.max(offset);
                        wal.start_trim(Offset(offset)).map(Started::Job)
                    }
                    Some(Started::Job(job)) => Some(Started::Done(job.run())),
                    Some(Started::Done(done)) => {
                        wal.finish_trim(done)?;
                        None
                    }
                }
            }
            _ => {
                self.jobs.prepare = match self.jobs.prepare.take() {
                    None => wal.start_prepare().map(Started::Job),
                    Some(Started::Job(job)) => Some(Started::Done(job.run())),
                    Some(Started::Done(done)) => {
                        let prepared = wal.finish_prepare(done);
                        self.unless_refused(prepared)?;
                        None
                    }
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, wal: &mut Wal<MemoryDisk>) -> Result<(), WalError> {
        match self.random.below(26) {
            0..8 => self.append(wal)?,
            8..11 => self.sync(wal)?,
            11..20 => self.drive(wal)?,
            20..22 => {
                let offset = self.model.durable.saturating_sub(self.random.below(30));
                self.model.trimmed = self.model.trimmed.max(offset);
                wal.trim_below(Offset(offset))?;
            }
            22..24 => self.truncate(wal)?,
            _ => {
                let found = entries_of(wal);
                self.model
                    .allows(wal.last_point(), &found)
                    .expect("a reader sees the log");
                assert_eq!(found.len(), {
                    let first = wal.first().map_or(u64::MAX, |first| first.0);
                    let seen = |entry: &&Entry| entry.0 >= first;
                    self.model.entries.iter().filter(seen).count()
                });
            }
        }
        wal.check();
        Ok(())
    }

    /// Ends the process, with or without the machine, and opens what is left.
    fn restart(&mut self, failed: bool) {
        self.wal = None;
        // With the process goes what was started and not run.
        let jobs = std::mem::take(&mut self.jobs);
        let any = jobs.sync.is_some() || jobs.segment.is_some() || jobs.trim.is_some();
        self.tally.crashes_with_jobs += u64::from(any);
        let power = self.random.below(3) > 0;
        if power {
            self.disk.crash(self.random.next());
        } else {
            self.disk.heal();
        }
        self.tally.crashes += 1;
        if self.random.below(3) == 0 {
            // The power goes while the log is being opened.
            self.disk.fail_changes_after(self.random.below(6));
            let _ = Wal::open(Arc::new(self.disk.clone()), options());
            self.disk.crash(self.random.next());
        }
        let mut wal = self.open();
        if !failed && !power && self.random.below(2) == 0 {
            // A second crash right after recovery must find the same.
            let found = entries_of(&wal);
            drop(wal);
            self.disk.crash(self.random.next());
            wal = self.open();
            assert_eq!(entries_of(&wal), found, "recovered means durable");
        }
        wal.check();
        let found = entries_of(&wal);
        let last = wal.last_point();
        if let Err(reason) = self.model.allows(last, &found) {
            let other = self.or_else.as_ref();
            let other = other.map(|other| other.allows(last, &found));
            assert_eq!(other, Some(Ok(())), "{reason}: {found:?}");
        }
        assert_eq!(wal.durable(), last.offset);
        let term = self.model.term + 1;
        self.model = Model {
            start: last.offset.0,
            durable: last.offset.0,
            trimmed: self.model.trimmed,
            term,
            entries: found,
        };
        self.or_else = None;
        self.wal = Some(wal);
    }

    fn open(&mut self) -> Wal<MemoryDisk> {
        let disk = Arc::new(self.disk.clone());
        let (wal, cut) = Wal::open(disk, options()).expect("a crash explains every cut");
        self.tally.cuts += u64::from(cut.is_some());
        wal
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            if self.random.below(12) == 0 {
                self.restart(false);
            }
            if self.random.below(15) == 0 {
                let calls = self.random.below(12);
                match self.random.below(3) {
                    0 => self.disk.fail_writes_after(calls),
                    1 => self.disk.fail_syncs_after(calls),
                    _ => self.disk.fail_changes_after(calls),
                }
            }
            let Some(mut wal) = self.wal.take() else {
                return;
            };
            let result = self.step(&mut wal);
            let failed = result.is_err();
            // A preparation that failed does no harm to the log; everything else poisons it.
            let dead =
                failed && matches!(wal.sync(), Err(error) if error.severity() == Severity::Fatal);
            if failed && !dead {
                self.model.durable = self.model.durable.max(wal.durable().0);
            }
            self.wal = Some(wal);
            if dead {
                self.restart(true);
            }
        }
        self.restart(false);
        self.tally.disk = self.disk.counters();
    }
}

#[test]
fn synced_entries_survive_any_schedule_and_nothing_but_a_prefix_of_the_rest() {
    let mut all = Tally::default();
    for seed in 0..SCHEDULES {
        let result = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            run.run();
            run.tally
        });
        let Ok(tally) = result else {
            panic!("the schedule with seed {seed} failed");
        };
        all.crashes += tally.crashes;
        all.cuts += tally.cuts;
        all.crashes_with_jobs += tally.crashes_with_jobs;
        all.full += tally.full;
        all.disk.sectors_torn += tally.disk.sectors_torn;
        all.disk.sectors_lost += tally.disk.sectors_lost;
        all.disk.names_lost += tally.disk.names_lost;
        all.disk.syncs_failed += tally.disk.syncs_failed;
    }
    assert!(all.crashes > SCHEDULES, "most schedules crash: {all:?}");
    assert!(all.cuts > SCHEDULES / 10, "tails are torn: {all:?}");
    assert!(all.crashes_with_jobs > SCHEDULES / 10, "{all:?}");
    assert!(all.full > SCHEDULES / 10, "disks are full: {all:?}");
    assert!(all.disk.sectors_torn > 0 && all.disk.sectors_lost > 0);
    assert!(all.disk.names_lost > 0 && all.disk.syncs_failed > 0);
}
