//! What befalls the world.

use oxkeeper_shard::{Input, OperationKind};
use oxkeeper_sim::{Down, Violation};

use super::{Event, World};
use crate::swarm::FaultKind;

/// How the disk is just now.
#[derive(Debug, Default)]
pub(super) struct DiskState {
    /// Operations take so many times as long.
    slow: u64,
    /// Operations end only after this.
    stuck_us: u64,
    /// A call will fail; how the machine goes down then.
    failing: Option<Down>,
    /// How often recovery is to be interrupted.
    interrupted: u64,
    /// Something that was durable has changed; nobody has said so yet.
    pub(super) flipped: bool,
    /// The shard was told to stop.
    stopping: bool,
}

/// How long a disk is slow or stuck.
const DISK_TROUBLE_US: (u64, u64) = (300_000, 4_000_000);

/// A fault that could not happen now is tried again after this.
const AGAIN_US: u64 = 200_000;

/// How long a shard may go on refusing for lack of space when there is some again.
const SPACE_NOTICED_US: u64 = 6_000_000;

/// What a flush of the store takes, in syncs of the log.
const FLUSH_TIMES: u64 = 20;

/// The longest that an operation takes on a disk that is not stuck.
const OPERATION_US_MAX: u64 = 2_000_000;

/// How far the wall clock jumps, one way or the other.
const JUMP_MS_MAX: u64 = 3_600_000;

impl DiskState {
    /// How the machine goes down if the shard ends like this; `None` if it should not have ended.
    pub(super) fn ends_with(&self, error: Option<&str>) -> Option<Down> {
        match error {
            None => self.stopping.then_some(Down::Kill),
            Some(_) => self.failing,
        }
    }
}

impl DiskState {
    /// The machine is down: what was asked of its disk has happened, or never will.
    pub(super) fn went_down(&mut self) {
        self.failing = None;
        self.stopping = false;
    }
}

impl World {
    pub(super) fn fault(&mut self, kind: FaultKind) {
        let needs_node = !matches!(kind, FaultKind::WallJump | FaultKind::ProxyRestart);
        let goes_down = matches!(
            kind,
            FaultKind::PowerLoss | FaultKind::Kill | FaultKind::BitFlip
        );
        let busy = self.disk.failing.is_some() && !goes_down || self.disk.stopping;
        if needs_node && (!self.node.is_up() || busy) {
            return self.schedule.after(AGAIN_US, Event::Fault(kind));
        }
        self.say(format_args!("fault: {kind:?}"));
        self.counters.count("faults");
        self.counters.count(kind.name());
        match kind {
            FaultKind::PowerLoss => self.go_down(Down::PowerLoss),
            FaultKind::Kill => self.go_down(Down::Kill),
            FaultKind::CrashInRecovery => {
                self.disk.interrupted = self.random.between(1, 3);
                self.go_down(Down::PowerLoss);
            }
            FaultKind::CrashAmidCall => {
                self.disk.failing = Some(Down::PowerLoss);
                let calls = self.random.below(12);
                self.node.disk().fail_changes_after(calls);
            }
            FaultKind::BitFlip => self.flip_bit(),
            FaultKind::FullDisk => self.fill_disk(),
            FaultKind::FailedSync => {
                self.disk.failing = Some(Down::Kill);
                self.node.disk().fail_syncs_after(0);
            }
            FaultKind::SlowDisk => {
                self.disk.slow = 50;
                let wait_us = self.random.between(DISK_TROUBLE_US.0, DISK_TROUBLE_US.1);
                self.schedule.after(wait_us, Event::DiskIsFast);
            }
            FaultKind::StuckDisk => {
                let wait_us = self.random.between(DISK_TROUBLE_US.0, DISK_TROUBLE_US.1);
                self.disk.stuck_us = self.now_us() + wait_us;
            }
            FaultKind::BrokenLink => {
                let links: Vec<u64> = self.links.keys().copied().collect();
                if !links.is_empty() {
                    let link = *self.random.pick(&links);
                    self.break_link(link);
                }
            }
            FaultKind::WallJump => {
                let jump = self.random.below(2 * JUMP_MS_MAX) as i64 - JUMP_MS_MAX as i64;
                self.wall_offset_ms += jump;
                let ahead_ms = super::WALL_MS + self.wall_offset_ms;
                self.contacts
                    .wall_ms
                    .push((self.schedule.now_us(), ahead_ms));
            }
            FaultKind::ProxyRestart => {
                let proxy = self.random.below(self.proxies.len() as u64) as usize;
                self.renew_proxy(proxy);
            }
            FaultKind::OrderlyRestart => {
                self.disk.stopping = true;
                self.step_node(Input::Stop);
            }
        }
    }

    pub(super) fn disk_is_fast(&mut self) {
        self.disk.slow = 0;
    }

    /// The power fails, and something that was durable has changed when it is back.
    fn flip_bit(&mut self) {
        self.go_down(Down::PowerLoss);
        let disk = self.node.disk().clone();
        if let Err(what) = self.node.chronicle().absorb(&disk) {
            return self.found(Violation::new("the log can be read", what));
        }
        let seed = self.random.next_u64();
        let flip = disk.flip_any(seed);
        self.say(format_args!("a bit has flipped: {flip:?}"));
        self.disk.flipped = flip.is_some();
    }

    /// Damage may end in a refusal to start, or in a word about what is lost; the run ends with it.
    pub(super) fn damage_was_told(&mut self, how: &'static str) {
        self.counters.count(how);
        self.ended_by_damage = true;
        self.is_over = true;
    }

    fn fill_disk(&mut self) {
        let (disk, store) = (self.node.disk(), self.node.store());
        disk.set_capacity(Some(disk.used_bytes()));
        let store_bytes = self.random.below(2) * 1_000_000;
        store.set_capacity((store_bytes > 0).then_some(0));
        let now_us = self.schedule.now_us();
        let wait_us = self.random.between(1_000_000, 6_000_000);
        // Until the shard has noticed that there is space again.
        let over_us = now_us + wait_us + SPACE_NOTICED_US;
        self.history.full_us.push((now_us, over_us));
        self.schedule.after(wait_us, Event::DiskHasSpace);
    }

    pub(super) fn disk_has_space(&mut self) {
        self.say(format_args!("the disk has space"));
        self.node.disk().set_capacity(None);
        self.node.store().set_capacity(None);
    }

    /// When an operation that starts now has ended.
    pub(super) fn operation_us(&mut self, kind: OperationKind) -> u64 {
        let long = match kind {
            OperationKind::Flush => FLUSH_TIMES,
            _ => 1,
        };
        let took_us = self.random.between(10, self.swarm.disk_us) * self.disk.slow.max(1) * long;
        let took_us = took_us.min(OPERATION_US_MAX);
        let late_us = self.random.below(2_000);
        (self.now_us() + took_us).max(self.disk.stuck_us + late_us)
    }

    /// Whether the recovery that begins is to be interrupted.
    pub(super) fn begin_recovery(&mut self) -> bool {
        if self.disk.interrupted == 0 {
            return false;
        }
        self.disk.interrupted -= 1;
        let calls = self.random.below(10);
        self.node.disk().fail_changes_after(calls);
        // It may come up before the calls are used up, and fail later.
        self.disk.failing = Some(Down::PowerLoss);
        true
    }
}
