//! Planted bugs: what a broken part between the real ones would do. Tests plant them, to see that the
//! checkers find them; nothing that is shipped has them.

mod frames;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use oxkeeper_link::{Event, Request};
use oxkeeper_model::{ClientCommand, CommandOutcome, Now, SessionWrite, WriteSeq};
use oxkeeper_sim::{DiskLie, StoreLie};

use crate::swarm::FaultKind;
use frames::{Frame, frames};

/// A bug to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Syncs of the log are said to be done, and are not.
    AcknowledgedBeforeSync,
    /// A failed sync is tried again, and believed the second time.
    RetriedSync,
    /// Names in the log's folder are said to be durable, and are not.
    UnsyncedNames,
    /// A damaged log is cut as if its end had been torn. Shows too rarely to be among those of the tests.
    DamageTakenForTear,
    /// The store keeps what no checkpoint covers: it is ahead of the durable log.
    StoreAheadOfLog,
    /// A new leader's clock runs ten times as fast: sessions end too early after a restart.
    HastyClockAfterRestart,
    /// The clock that ages are counted by goes back.
    ClockGoesBack,
    /// Signs of life are lost on the way to the shard.
    LostHeartbeats,
    /// A session's end leaves the counters of its parents as they were.
    ParentsLeftAlone,
    /// Outcomes come late: a read behind a write sees what was written later.
    LateOutcomes,
    /// Events come behind the reply that shows what they tell of.
    EventAfterData,
    /// An event now and then is lost.
    LostEvents,
    /// An event now and then comes twice.
    DoubledEvents,
    /// A write that is sent again counts as a new one.
    AppliedAgain,
    /// A write is lost on the way, and what follows it is accepted.
    GapInWritesAccepted,
    /// A link that begins anew is taken for one that goes on.
    GapTakenForResume,
    /// After a gap nobody is told what was missed.
    WatchesLostAtGap,
    /// Outcomes are forgotten before they have arrived.
    OutcomesForgottenEarly,
    /// Whatever password comes with a session is taken for the right one.
    AnyPassword,
}

/// The write that a request is.
fn write(request: &mut Request) -> Option<&mut SessionWrite> {
    match request {
        Request::Command {
            command: ClientCommand::Write(write),
            ..
        } => Some(write),
        _ => None,
    }
}

impl Bug {
    pub const ALL: &[Self] = &[
        Self::AcknowledgedBeforeSync,
        Self::RetriedSync,
        Self::UnsyncedNames,
        Self::StoreAheadOfLog,
        Self::HastyClockAfterRestart,
        Self::ClockGoesBack,
        Self::LostHeartbeats,
        Self::ParentsLeftAlone,
        Self::LateOutcomes,
        Self::EventAfterData,
        Self::LostEvents,
        Self::DoubledEvents,
        Self::AppliedAgain,
        Self::GapInWritesAccepted,
        Self::GapTakenForResume,
        Self::WatchesLostAtGap,
        Self::OutcomesForgottenEarly,
        Self::AnyPassword,
    ];

    /// Faults without which it cannot show.
    pub fn needs(self) -> &'static [FaultKind] {
        match self {
            Self::AcknowledgedBeforeSync | Self::UnsyncedNames | Self::StoreAheadOfLog => {
                &[FaultKind::PowerLoss, FaultKind::PowerLoss]
            }
            Self::RetriedSync => &[FaultKind::FailedSync, FaultKind::PowerLoss],
            Self::DamageTakenForTear => &[FaultKind::BitFlip; 8],
            Self::HastyClockAfterRestart => &[FaultKind::Kill],
            Self::AppliedAgain | Self::OutcomesForgottenEarly => &[
                FaultKind::BrokenLink,
                FaultKind::BrokenLink,
                FaultKind::BrokenLink,
            ],
            Self::GapTakenForResume | Self::WatchesLostAtGap => {
                &[FaultKind::Kill, FaultKind::BrokenLink, FaultKind::Kill]
            }
            _ => &[],
        }
    }
}

/// Of so many events one is chosen.
const CHOSEN_EVENTS: u64 = 7;

/// Of so many writes one is lost.
const LOST_WRITES: u64 = 97;

/// How far the clock goes back that must not.
const BACK_US: u64 = 2_000_000;

/// The bug that is planted, if any, and what it needs to remember.
#[derive(Debug, Default)]
pub(crate) struct Sabotage {
    bug: Option<Bug>,
    /// Counts what it might have done something to.
    seen: u64,
    /// When the node came up last; `None` before its first restart.
    restarted_us: Option<u64>,
    passwords: BTreeMap<i64, [u8; 16]>,
    /// The last number of each session and attachment, as the shard was told it.
    numbers: BTreeMap<(i64, u64), u64>,
    /// A gap was met, and no reply has been sent since.
    after_gap: bool,
}

impl Sabotage {
    pub(crate) fn new(bug: Option<Bug>) -> Self {
        Self {
            bug,
            ..Self::default()
        }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(crate) fn disk_lie(&self) -> Option<DiskLie> {
        match self.bug? {
            Bug::AcknowledgedBeforeSync => Some(DiskLie::SyncsNothing),
            Bug::RetriedSync => Some(DiskLie::RetriesSyncs),
            Bug::UnsyncedNames => Some(DiskLie::SyncsNoNames),
            Bug::DamageTakenForTear => Some(DiskLie::HidesDamage),
            _ => None,
        }
    }

    pub(crate) fn store_lie(&self) -> Option<StoreLie> {
        self.is(Bug::StoreAheadOfLog)
            .then_some(StoreLie::KeepsEverything)
    }

    pub(crate) fn restarted(&mut self, now_us: u64) {
        if now_us > 0 {
            self.restarted_us = Some(now_us);
        }
    }

    /// What the shard is told of time.
    pub(crate) fn shard_now(&self, now: Now) -> Now {
        let mut told = now;
        match (self.bug, self.restarted_us) {
            (Some(Bug::HastyClockAfterRestart), Some(restarted_us)) => {
                told.monotonic_us += 9 * (now.monotonic_us - restarted_us);
            }
            (Some(Bug::ClockGoesBack), _) if (now.monotonic_us / BACK_US) % 8 == 7 => {
                told.monotonic_us = now.monotonic_us.saturating_sub(BACK_US);
            }
            _ => {}
        }
        told
    }

    /// What a link brings to a front end.
    pub(crate) fn on_events(&mut self, events: &mut Vec<Event>) {
        for event in events.iter_mut() {
            match event {
                Event::Opened(opened) => {
                    self.after_gap = !opened.resumed && opened.position.revision.0 > 0;
                    opened.resumed |= self.is(Bug::GapTakenForResume);
                }
                Event::Outcome {
                    outcome: CommandOutcome::SessionGranted(Ok(grant)),
                    ..
                } => {
                    self.passwords.insert(grant.session.0, grant.password);
                }
                Event::Changed(set)
                    if self.is(Bug::ParentsLeftAlone) && set.session_ended.is_some() =>
                {
                    Arc::make_mut(set).parents.clear();
                }
                _ => {}
            }
        }
        if self.is(Bug::LateOutcomes) {
            self.delay_outcomes(events);
        }
    }

    /// Moves outcomes behind the changes that came after them.
    fn delay_outcomes(&mut self, events: &mut Vec<Event>) {
        let is_outcome = |event: &Event| matches!(event, Event::Outcome { .. });
        let (outcomes, mut rest): (Vec<Event>, Vec<Event>) = events.drain(..).partition(is_outcome);
        rest.extend(outcomes);
        *events = rest;
    }

    /// What a link brings to the shard.
    pub(crate) fn on_requests(&mut self, requests: &mut Vec<Request>) {
        match self.bug {
            Some(Bug::LostHeartbeats) => {
                requests.retain(|request| !matches!(request, Request::Heartbeat { .. }));
            }
            Some(Bug::AppliedAgain | Bug::GapInWritesAccepted) => self.renumber(requests),
            Some(Bug::OutcomesForgottenEarly) => {
                for write in requests.iter_mut().filter_map(write) {
                    write.acknowledged = WriteSeq(write.seq.0 - 1);
                }
            }
            Some(Bug::AnyPassword) => {
                for request in requests {
                    if let Request::Command {
                        command:
                            ClientCommand::Attach {
                                session, password, ..
                            },
                        ..
                    } = request
                        && let Some(right) = self.passwords.get(&session.0)
                    {
                        *password = *right;
                    }
                }
            }
            _ => {}
        }
    }

    /// Gives every write the next number, as if it had none; of those that may be lost, loses some.
    fn renumber(&mut self, requests: &mut Vec<Request>) {
        let loses = self.is(Bug::GapInWritesAccepted);
        requests.retain_mut(|request| {
            let Some(write) = write(request) else {
                return true;
            };
            self.seen += 1;
            if loses && self.seen.is_multiple_of(LOST_WRITES) {
                return false;
            }
            let lane = (write.session.0, write.attachment.0);
            let last = self.numbers.entry(lane).or_default();
            write.follows = WriteSeq(*last);
            *last += 1;
            (write.seq, write.acknowledged) = (WriteSeq(*last), WriteSeq(0));
            true
        });
        // A close comes last.
        for request in requests {
            if let Request::Command {
                command:
                    ClientCommand::CloseSession {
                        session,
                        attachment,
                        seq,
                        follows,
                    },
                ..
            } = request
            {
                let last = self.numbers.get(&(session.0, attachment.0));
                *follows = WriteSeq(last.copied().unwrap_or_default());
                *seq = follows.next();
            }
        }
    }

    /// What a proxy sends to a client at once.
    pub(crate) fn on_bytes(&mut self, bytes: &mut BytesMut) {
        if !matches!(
            self.bug,
            Some(
                Bug::EventAfterData | Bug::LostEvents | Bug::DoubledEvents | Bug::WatchesLostAtGap
            )
        ) {
            return;
        }
        let mut changed = BytesMut::new();
        let mut behind: Option<BytesMut> = None;
        for Frame { bytes, is_event } in frames(bytes) {
            self.seen += u64::from(is_event);
            let chosen = is_event && self.seen.is_multiple_of(CHOSEN_EVENTS);
            if chosen && self.is(Bug::EventAfterData) && behind.is_none() {
                behind = Some(bytes);
                continue;
            }
            let hidden = is_event && self.after_gap && self.is(Bug::WatchesLostAtGap);
            self.after_gap &= is_event;
            if hidden || chosen && self.is(Bug::LostEvents) {
                continue;
            }
            changed.extend_from_slice(&bytes);
            if chosen && self.is(Bug::DoubledEvents) {
                changed.extend_from_slice(&bytes);
            }
            if !is_event && let Some(event) = behind.take() {
                changed.extend_from_slice(&event);
            }
        }
        changed.extend_from_slice(&behind.unwrap_or_default());
        *bytes = changed;
    }
}
