//! Ephemerals stay exactly as long as their session lives: it ends no sooner than its timeout after
//! the shard last heard of it, and not much later.

use std::collections::BTreeMap;

use oxkeeper_sim::Violation;

use crate::history::History;
use crate::truth::Truth;

const PROPERTY: &str = "sessions live exactly as long as they are heard of";

/// When a shard heard of sessions, and when they ended: what the world saw pass.
#[derive(Clone, Debug, Default)]
pub struct Contacts {
    /// In order of time.
    heard_us: BTreeMap<i64, Vec<u64>>,
    ended_us: BTreeMap<i64, u64>,
    /// When a leader began: it cannot know what was heard before.
    led_us: Vec<u64>,
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

    /// `tick_ms`: sessions end at its multiples.
    pub fn check(&self, history: &History, truth: &Truth, tick_ms: u64) -> Result<(), Violation> {
        let timeouts = timeouts(history);
        for (&session, end) in &truth.ends {
            let (Some(&ended), Some(&timeout_us)) =
                (self.ended_us.get(&session), timeouts.get(&session))
            else {
                continue;
            };
            let Some(heard) = self.last(session, ended).filter(|_| end.expired) else {
                continue;
            };
            if ended < heard + timeout_us {
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
