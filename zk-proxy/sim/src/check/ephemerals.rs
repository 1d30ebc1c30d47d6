//! Ephemerals stay exactly as long as their session lives: it ends no sooner than its timeout after
//! the shard last heard of it, and not much later.

use std::collections::BTreeMap;

use oxkeeper_sim::Violation;

use crate::history::History;
use crate::truth::Truth;

const PROPERTY: &str = "sessions live exactly as long as they are heard of";

/// How long a command waits for a disk that is stuck, at most.
const DISK_WAIT_US_MAX: u64 = 5_000_000;

/// When a shard heard of sessions, and when they ended: what the world saw pass.
#[derive(Clone, Debug, Default)]
pub struct Contacts {
    /// In order of time.
    heard_us: BTreeMap<i64, Vec<u64>>,
    ended_us: BTreeMap<i64, u64>,
    /// When a leader began: it cannot know what was heard before.
    led_us: Vec<u64>,
    /// Where the wall clock stood at the start of the run and from later moments on: what it was
    /// ahead of the run's time. Milliseconds.
    pub wall_ms: Vec<(u64, i64)>,
    /// When nothing was disturbed any more, and when the run was over.
    pub calm_us: (u64, u64),
}

impl Contacts {
    pub fn heard(&mut self, session: i64, at_us: u64) {
        self.heard_us.entry(session).or_default().push(at_us);
    }

    pub fn ended(&mut self, session: i64, at_us: u64) {
        self.ended_us.entry(session).or_insert(at_us);
    }

    pub fn led(&mut self, at_us: u64) {
        self.led_us.push(at_us);
    }

    /// The last time before `until_us` from which the session's time counted.
    fn last(&self, session: i64, until_us: u64) -> Option<u64> {
        let before = |times: &[u64]| times.iter().copied().filter(|&at| at <= until_us).max();
        let heard = self.heard_us.get(&session).and_then(|times| before(times));
        heard.max(before(&self.led_us))
    }

    /// Whether the session was silent for its timeout so shortly before that its end may have been
    /// decided then, and have waited for the disk.
    fn was_silent(&self, session: i64, ended_us: u64, timeout_us: u64) -> bool {
        let heard = self.heard_us.get(&session).into_iter().flatten();
        let mut times: Vec<u64> = heard.chain(&self.led_us).copied().collect();
        times.sort_unstable();
        times.windows(2).any(|pair| {
            let recent = pair[1] <= ended_us && ended_us - pair[1] <= DISK_WAIT_US_MAX;
            recent && pair[1] - pair[0] >= timeout_us
        })
    }

    /// The last moment before `until_us` at which the wall clock showed `stamp_ms`.
    fn moment(&self, stamp_ms: i64, until_us: u64) -> Option<u64> {
        let ends = self.wall_ms.iter().skip(1).map(|(from_us, _)| *from_us);
        let spans = self.wall_ms.iter().zip(ends.chain([u64::MAX]));
        let moments = spans.filter_map(|(&(from_us, ahead_ms), to_us)| {
            let at_us = u64::try_from(stamp_ms - ahead_ms).ok()? * 1_000;
            // A stamp has no microseconds.
            let last_us = at_us;
            (from_us <= last_us && at_us <= to_us && at_us <= until_us).then_some(last_us)
        });
        moments.max()
    }

    /// `tick_ms`: sessions end at its multiples.
    pub fn check(&self, history: &History, truth: &Truth, tick_ms: u64) -> Result<(), Violation> {
        let timeouts = timeouts(history);
        for (&session, end) in &truth.ends {
            let (Some(&ended), Some(&timeout_us)) =
                (self.ended_us.get(&session), timeouts.get(&session))
            else {
                continue;
            };
            // What was heard after the end was decided came too late.
            let stamp_ms = truth.state(end.zxid).map(|state| state.at.wall_ms);
            let decided = stamp_ms.and_then(|stamp_ms| self.moment(stamp_ms, ended));
            let ended = decided.unwrap_or(ended);
            let Some(heard) = self.last(session, ended).filter(|_| end.expired) else {
                continue;
            };
            if ended < heard + timeout_us && !self.was_silent(session, ended, timeout_us) {
                return Err(Violation::new(
                    PROPERTY,
                    format!(
                        "session {session:#x} was ended {} ms after it was heard of, its timeout is {} ms",
                        (ended - heard) / 1_000,
                        timeout_us / 1_000
                    ),
                ));
            }
        }
        self.check_gone(truth, &timeouts, tick_ms)
    }

    /// Whoever has been silent for long while nothing was disturbed has no ephemerals any more.
    fn check_gone(
        &self,
        truth: &Truth,
        timeouts: &BTreeMap<i64, u64>,
        tick_ms: u64,
    ) -> Result<(), Violation> {
        let (calm, over) = self.calm_us;
        for (&session, &timeout_us) in timeouts {
            let Some(heard) = self.last(session, over) else {
                continue;
            };
            let latest = heard.max(calm) + timeout_us + 3 * tick_ms * 1_000;
            let left = truth.tree().ephemerals(session).count();
            if latest < over && !truth.ends.contains_key(&session) {
                return Err(Violation::new(
                    PROPERTY,
                    format!(
                        "session {session:#x} has not been heard of for {} ms, and {left} of its znodes are there",
                        (over - heard) / 1_000
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// The longest timeout that each session was ever granted, in microseconds.
fn timeouts(history: &History) -> BTreeMap<i64, u64> {
    let mut timeouts = BTreeMap::new();
    for granted in history
        .connections
        .iter()
        .filter_map(|it| it.granted.as_ref())
    {
        if granted.session != 0 {
            let timeout: &mut u64 = timeouts.entry(granted.session).or_default();
            *timeout = (*timeout).max(granted.timeout_ms as u64 * 1_000);
        }
    }
    timeouts
}
