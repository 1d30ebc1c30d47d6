//! What a seed decides before the run begins: sizes, times, and which faults there are at all. Few kinds
//! at once, so that a loud one does not hide the others.

use oxkeeper_log::WalOptions;
use oxkeeper_model::ShardUuid;
use oxkeeper_sim::Random;

use crate::client::Habits;
use crate::sabotage::Bug;

/// The one shard there is.
pub(crate) const SHARD_UUID: ShardUuid = ShardUuid([9; 16]);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    PowerLoss,
    Kill,
    /// The power fails amid a call that changes the disk.
    CrashAmidCall,
    /// The power fails again, and again, while the node comes up.
    CrashInRecovery,
    FailedSync,
    SlowDisk,
    StuckDisk,
    BrokenLink,
    WallJump,
    ProxyRestart,
    OrderlyRestart,
    /// A bit of what was durable flips while the power is off.
    BitFlip,
    FullDisk,
}

impl FaultKind {
    pub const ALL: [Self; 13] = [
        Self::PowerLoss,
        Self::Kill,
        Self::CrashAmidCall,
        Self::CrashInRecovery,
        Self::FailedSync,
        Self::SlowDisk,
        Self::StuckDisk,
        Self::BrokenLink,
        Self::WallJump,
        Self::ProxyRestart,
        Self::OrderlyRestart,
        Self::BitFlip,
        Self::FullDisk,
    ];
}

/// Everything that was decided.
#[derive(Clone, Debug)]
pub struct Swarm {
    pub clients: Vec<Habits>,
    pub proxies: usize,
    pub log: WalOptions,
    pub checkpoint_dirty_bytes: usize,
    pub checkpoint_commands: u64,
    pub session_tick_ms: u32,
    pub reap_interval_ms: u32,
    pub view_cache_bytes: usize,
    pub history_bytes_max: usize,
    pub beat_us: u64,
    /// One way, at most.
    pub network_us: u64,
    pub disk_us: u64,
    pub down_us: u64,
    /// How long a proxy waits before it opens its link again, at most.
    pub reopen_us: u64,
    /// Kinds and times.
    pub faults: Vec<(u64, FaultKind)>,
}

/// Faults come in this part of a run.
const FAULTS_US: (u64, u64) = (3_000_000, 50_000_000);

impl FaultKind {
    /// The counter's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::PowerLoss => "fault: power loss",
            Self::Kill => "fault: kill",
            Self::CrashAmidCall => "fault: crash amid a call of the disk",
            Self::CrashInRecovery => "fault: crash in recovery",
            Self::FailedSync => "fault: failed sync",
            Self::SlowDisk => "fault: slow disk",
            Self::StuckDisk => "fault: stuck disk",
            Self::BrokenLink => "fault: broken link",
            Self::WallJump => "fault: jump of the wall clock",
            Self::ProxyRestart => "fault: restart of a proxy",
            Self::OrderlyRestart => "fault: orderly restart",
            Self::BitFlip => "fault: flipped bit",
            Self::FullDisk => "fault: full disk",
        }
    }
}

/// Bits flip in this part: the run may end with it.
const FLIPS_US: (u64, u64) = (52_000_000, 58_000_000);

impl Swarm {
    /// With a bug planted, the kinds of fault that it needs come too.
    pub fn draw(random: &mut Random, bug: Option<Bug>) -> Self {
        let needed = bug.map_or(&[][..], Bug::needs);
        let faults = draw_faults(random, needed);
        let clients = random.between(5, 8);
        Self {
            clients: (0..clients).map(|_| draw_habits(random)).collect(),
            proxies: random.between(1, 2) as usize,
            log: WalOptions {
                uuid: SHARD_UUID,
                segment_bytes: *random.pick(&[16 << 10, 32 << 10, 64 << 10]),
                first_segment_bytes: 8 << 10,
                recycle_segments: random.below(4) as usize,
                prepare_segments: random.below(2) as usize,
                reserve_bytes: 16 << 10,
            },
            checkpoint_dirty_bytes: *random.pick(&[20 << 10, 100 << 10, 1 << 20]),
            checkpoint_commands: *random.pick(&[30, 100, 300, 1_000]),
            session_tick_ms: *random.pick(&[100, 250, 500]),
            reap_interval_ms: *random.pick(&[200, 1_000]),
            view_cache_bytes: *random.pick(&[4 << 10, 64 << 10, 1 << 20]),
            history_bytes_max: *random.pick(&[0, 4 << 10, 1 << 20]),
            beat_us: *random.pick(&[200_000, 500_000]),
            network_us: *random.pick(&[200, 2_000, 20_000]),
            disk_us: *random.pick(&[100, 2_000, 10_000]),
            reopen_us: *random.pick(&[10_000, 200_000, 3_000_000]),
            down_us: *random.pick(&[10_000, 300_000, 2_000_000]),
            faults,
        }
    }
}

fn draw_faults(random: &mut Random, needed: &[FaultKind]) -> Vec<(u64, FaultKind)> {
    let mut kinds: Vec<FaultKind> = (0..random.between(1, 4))
        .map(|_| *random.pick(&FaultKind::ALL))
        .collect();
    kinds.extend(needed);
    // Where flips are what it is about, each is a chance.
    let flips_early = needed.contains(&FaultKind::BitFlip);
    let count = random.between(3, 8);
    let mut faults: Vec<(u64, FaultKind)> = (0..count)
        .map(|_| {
            let kind = *random.pick(&kinds);
            let (from_us, to_us) = match kind {
                FaultKind::BitFlip if !flips_early => FLIPS_US,
                _ => FAULTS_US,
            };
            (random.between(from_us, to_us), kind)
        })
        .collect();
    // Before a run may end by damage there is something to lose, and something that went wrong.
    for fault in &mut faults[..2] {
        if fault.1 == FaultKind::BitFlip && !flips_early {
            let at_us = random.between(FAULTS_US.0, FAULTS_US.1);
            *fault = (at_us, FaultKind::PowerLoss);
        }
    }
    faults.sort_unstable_by_key(|(at_us, _)| *at_us);
    faults
}

fn draw_habits(random: &mut Random) -> Habits {
    Habits {
        timeout_ms: *random.pick(&[4_000, 4_000, 6_000]),
        burst_max: *random.pick(&[2, 4, 8]),
        pause_us_max: *random.pick(&[400_000, 600_000, 800_000]),
        patience_us: *random.pick(&[1_500_000, 2_500_000]),
        silences: random.below(4),
        disconnects: random.below(8),
        closes: random.below(3),
        wrong_passwords: 10,
        credentials: match random.below(3) {
            0 => vec!["bob:secret"],
            1 => vec!["bob:secret", "eve:secret"],
            _ => Vec::new(),
        },
        data_bytes_max: *random.pick(&[100, 1_000, 6_000]),
    }
}
