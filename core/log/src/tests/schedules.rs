//! Random schedules of calls, crashes and failures against a plain model.

use oxkeeper_model::{Offset, Term};

use super::{open, payload, read_all, try_open};
use crate::memory_disk::Random;
use crate::{MemoryDisk, Wal, WalError};

const SCHEDULES: u64 = 3000;
const STEPS: u64 = 60;

/// An entry is (offset, term, length of the payload).
type Entry = (u64, u64, usize);

/// The log as it should be.
#[derive(Clone, Debug, Default)]
struct Model {
    /// From the first that may still be asked for.
    entries: Vec<Entry>,
    durable: u64,
    /// Highest argument of a trim.
    trimmed: u64,
    term: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.0)
    }

    fn cut(&mut self, after: u64) {
        self.entries.retain(|entry| entry.0 <= after);
        self.durable = self.durable.min(self.last());
    }

    /// Whether the log may be what this model allows: any prefix of the entries that has
    /// all durable ones, from which a trim may have taken the front.
    fn allows(&self, found: &[Entry]) -> Result<(), String> {
        let last = found.last().map_or(0, |entry| entry.0);
        if last < self.durable {
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

struct Run {
    random: Random,
    disk: MemoryDisk,
    wal: Option<Wal<MemoryDisk>>,
    model: Model,
    /// What else the log may be, when a truncation was interrupted.
    or_else: Option<Model>,
    crashes: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = MemoryDisk::new();
        Self {
            wal: Some(open(&disk)),
            random: Random(seed),
            disk,
            model: Model::default(),
            or_else: None,
            crashes: 0,
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
            let offset = match self.model.last() {
                0 => 1 + self.random.below(50),
                last => last + 1,
            };
            let term = self.model.term;
            let payload = payload(offset, term, bytes as usize);
            // A failed append may have left its entry on disk, too.
            self.model.entries.push((offset, term, payload.len()));
            wal.append(Offset(offset), Term(term), &payload)?;
        }
        Ok(())
    }

    fn truncate(&mut self, wal: &mut Wal<MemoryDisk>) -> Result<(), WalError> {
        let last = self.model.last();
        let after = last.saturating_sub(self.random.below(12));
        let mut cut = self.model.clone();
        // Entries before the first in the log count as trimmed: then everything goes.
        let gone = wal.first().is_some_and(|first| Offset(after) < first);
        cut.cut(if gone { 0 } else { after });
        cut.term += 1;
        self.or_else = Some(cut.clone());
        wal.truncate_after(Offset(after))?;
        if after < last {
            self.model = cut;
        }
        self.model.durable = self.model.last();
        self.or_else = None;
        Ok(())
    }

    fn step(&mut self, wal: &mut Wal<MemoryDisk>) -> Result<(), WalError> {
        match self.random.below(20) {
            0..8 => self.append(wal)?,
            8..13 => {
                let durable = wal.sync()?;
                assert_eq!(durable.0, self.model.last());
                self.model.durable = durable.0;
            }
            13 => wal.flush()?,
            14..16 => {
                let offset = self.model.durable.saturating_sub(self.random.below(30));
                self.model.trimmed = self.model.trimmed.max(offset);
                wal.trim_below(Offset(offset))?;
            }
            16 => self.truncate(wal)?,
            17 => {
                wal.preparer().prepare()?;
            }
            _ => {
                wal.flush()?;
                let found = entries_of(wal);
                self.model.allows(&found).expect("a reader sees the log");
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
        let power = self.random.below(3) > 0;
        if power {
            self.disk.crash(self.random.next());
        } else {
            self.disk.heal();
        }
        self.crashes += 1;
        if self.random.below(3) == 0 {
            // The power goes while the log is being opened.
            self.disk.fail_changes_after(self.random.below(6));
            drop(try_open(&self.disk));
            self.disk.crash(self.random.next());
        }
        let mut wal = open(&self.disk);
        if !failed && !power && self.random.below(2) == 0 {
            // A second crash right after recovery must find the same.
            let found = entries_of(&wal);
            drop(wal);
            self.disk.crash(self.random.next());
            wal = open(&self.disk);
            assert_eq!(entries_of(&wal), found, "recovered means durable");
        }
        wal.check();
        let found = entries_of(&wal);
        if let Err(reason) = self.model.allows(&found) {
            let other = self.or_else.as_ref().map(|other| other.allows(&found));
            assert_eq!(other, Some(Ok(())), "{reason}: {found:?}");
        }
        let last = found.last().map_or(0, |entry| entry.0);
        assert_eq!(wal.durable().0, last);
        let term = self.model.term + 1;
        self.model = Model {
            durable: last,
            trimmed: self.model.trimmed,
            term,
            entries: found,
        };
        self.or_else = None;
        self.wal = Some(wal);
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
            // A preparer that failed does no harm to the log; everything else poisons it.
            let dead = failed && wal.sync().is_err();
            if failed && !dead {
                self.model.durable = self.model.last();
            }
            self.wal = Some(wal);
            if dead {
                self.restart(true);
            }
        }
        self.restart(false);
    }
}

#[test]
fn synced_entries_survive_any_schedule_and_nothing_but_a_prefix_of_the_rest() {
    let mut crashes = 0;
    for seed in 0..SCHEDULES {
        let result = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            run.run();
            run.crashes
        });
        match result {
            Ok(count) => crashes += count,
            Err(_) => panic!("the schedule with seed {seed} failed"),
        }
    }
    assert!(crashes > SCHEDULES, "most schedules crash");
}
