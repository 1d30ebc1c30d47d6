//! A machine with one shard on it: its disk, its store, and the shard as long as it runs.

use std::sync::Arc;

use oxkeeper_log::{MemoryDisk, Recovery, WalOptions};
use oxkeeper_model::{Now, Offset};
use oxkeeper_shard::{
    Input, MemoryTerm, Output, Shard, ShardError, ShardOptions, ShardParts, ShardStats,
};
use oxkeeper_store::MemoryStore;

use crate::Violation;
use crate::chronicle::Chronicle;
use crate::disk::{DiskLie, SimDisk};
use crate::store::{SimStore, StoreLie};

/// How a machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// The power fails: what was not synced may be there or not, in parts.
    PowerLoss,
    /// The process is killed: the files stay as they were written.
    Kill,
}

/// What a node is made with.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    pub shard: ShardOptions,
    pub log: WalOptions,
    /// Decides what crashes leave.
    pub seed: u64,
    pub disk_lie: Option<DiskLie>,
    pub store_lie: Option<StoreLie>,
}

/// One machine.
pub struct Node {
    options: NodeOptions,
    disk: SimDisk,
    store: SimStore,
    term: MemoryTerm,
    chronicle: Chronicle,
    shard: Option<Shard<SimDisk, SimStore>>,
    /// Counts the starts, so that what an earlier one began is known.
    incarnation: u64,
}

impl Node {
    pub fn new(options: NodeOptions) -> Self {
        let disk = SimDisk::new(MemoryDisk::seeded(options.seed), options.disk_lie);
        let chronicle = Chronicle::new(options.log.clone());
        let witness = chronicle.clone();
        // A log that cannot be read shows when it is next opened.
        disk.set_witness(move |disk| drop(witness.absorb(disk)));
        Self {
            disk,
            store: SimStore::new(MemoryStore::new(), options.store_lie),
            term: MemoryTerm::default(),
            chronicle,
            shard: None,
            incarnation: 0,
            options,
        }
    }

    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub fn is_up(&self) -> bool {
        self.shard.is_some()
    }

    pub fn shard(&self) -> Option<&Shard<SimDisk, SimStore>> {
        self.shard.as_ref()
    }

    pub fn disk(&self) -> &MemoryDisk {
        self.disk.inner()
    }

    pub fn store(&self) -> &MemoryStore {
        self.store.inner()
    }

    pub fn chronicle(&self) -> &Chronicle {
        &self.chronicle
    }

    /// Opens the shard and gives it the next term.
    pub fn start(&mut self, now: Now, outputs: &mut Vec<Output>) -> Result<(), ShardError> {
        if self.options.disk_lie == Some(DiskLie::HidesDamage) {
            self.hide_damage();
        }
        let parts = ShardParts {
            disk: Arc::new(self.disk.clone()),
            log_options: self.options.log.clone(),
            store: self.store.clone(),
            term: Arc::new(self.term.clone()),
            stats: Arc::new(ShardStats::default()),
        };
        let shard = Shard::open(self.options.shard.clone(), parts, now)?;
        self.incarnation += 1;
        let term = shard.term().next();
        self.shard = Some(shard);
        self.give(now, Input::NewTerm { term }, outputs);
        Ok(())
    }

    fn hide_damage(&self) {
        let disk = Arc::new(self.disk.inner().clone());
        if let Ok(recovery) = Recovery::look(disk, self.options.log.clone()) {
            // Whether plain or not. The shard says what is left to say.
            let _ = recovery.repair();
        }
    }

    /// One step of the shard. Stands in for the coordinator: what is fenced shall lead.
    pub fn step(
        &mut self,
        now: Now,
        input: Input,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Violation> {
        let begun = outputs.len();
        self.give(now, input, outputs);
        let fenced = outputs[begun..].iter().find_map(|output| match output {
            Output::Fenced { term, .. } => Some(*term),
            _ => None,
        });
        if let Some(term) = fenced {
            let ensemble = vec![self.options.shard.node];
            self.give(now, Input::BecomeLeader { term, ensemble }, outputs);
        }
        // One that has ended has dropped what it had in flight.
        match outputs[begun..]
            .iter()
            .any(|output| matches!(output, Output::Ended(_)))
        {
            true => Ok(()),
            false => self.check(),
        }
    }

    fn give(&mut self, now: Now, input: Input, outputs: &mut Vec<Output>) {
        if let Some(shard) = &mut self.shard {
            shard.step(now, input, outputs);
        }
    }

    fn check(&self) -> Result<(), Violation> {
        let Some(shard) = &self.shard else {
            return Ok(());
        };
        let broken = |what: String| Violation::new("the shard keeps its invariants", what);
        shard
            .check_invariants()
            .map_err(|error| broken(error.to_string()))
    }

    /// What is costly to look at: all rows of the state against what it keeps in memory.
    pub fn check_state(&self) -> Result<(), Violation> {
        match &self.shard {
            None => Ok(()),
            Some(shard) => shard
                .state()
                .check_invariants()
                .map_err(|what| Violation::new("the state keeps its invariants", what)),
        }
    }

    /// The process is gone. What it had begun must not be run any more.
    pub fn go_down(&mut self, how: Down, seed: u64) {
        self.shard = None;
        self.store.crash(seed);
        match how {
            Down::PowerLoss => self.disk.inner().crash(seed),
            Down::Kill => self.disk.inner().heal(),
        }
    }

    /// The last entry that the shard has applied.
    pub fn applied(&self) -> Offset {
        self.shard
            .as_ref()
            .map_or(Offset(0), |shard| shard.applied())
    }
}
