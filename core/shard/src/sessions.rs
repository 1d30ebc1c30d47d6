//! When sessions expire: the leader's deadlines, in memory only.
//!
//! A plain state machine: time comes in as an argument. Deadlines are rounded up to the next
//! tick, as ZooKeeper does, so that sessions end in groups and a touch is one store.
//!
//! Heartbeats are not logged, so a new leader knows nothing of them: it grants every session
//! its full timeout. And while this process was stalled (a slow disk, a stopped machine) it
//! could hear no heartbeat: the table's clock does not count such a gap.

use std::collections::BTreeMap;

use oxkeeper_model::{Attachment, SessionId, WriteSeq};
use rustc_hash::FxHashMap;

/// A gap between two observations counts as at most so many ticks.
const GAP_TICKS_MAX: u64 = 2;

#[derive(Clone, Copy, Debug)]
struct Deadline {
    attachment: Attachment,
    timeout_ms: u32,
    /// Expires when this tick begins. Moved by every touch.
    tick: u64,
    /// What its heartbeats have acknowledged so far.
    acknowledged: WriteSeq,
    /// The one tick in `due` where this session is looked at; at most `tick`, since a touch
    /// leaves it where it is. `None` while its expiry is in the log.
    queued: Option<u64>,
}

/// The deadlines of a shard's sessions.
#[derive(Debug)]
pub(crate) struct SessionDeadlines {
    tick_ms: u64,
    /// The table's own clock: `now_ms` without the stalls.
    clock_ms: u64,
    observed_ms: Option<u64>,
    sessions: FxHashMap<SessionId, Deadline>,
    /// Sessions to look at when a tick begins. May hold ones that have gone or moved on.
    due: BTreeMap<u64, Vec<SessionId>>,
}

impl SessionDeadlines {
    /// `tick_ms` must not be 0.
    pub(crate) fn new(tick_ms: u32) -> Self {
        Self {
            tick_ms: u64::from(tick_ms.max(1)),
            clock_ms: 0,
            observed_ms: None,
            sessions: FxHashMap::default(),
            due: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Monotonic time. To be called at least once per tick while there are sessions.
    pub(crate) fn observe(&mut self, now_ms: u64) {
        let gap_ms = now_ms.saturating_sub(self.observed_ms.unwrap_or(now_ms));
        self.clock_ms += gap_ms.min(GAP_TICKS_MAX * self.tick_ms);
        self.observed_ms = Some(now_ms);
    }

    /// How long until a session may be due; `None` without sessions.
    pub(crate) fn wait_ms(&self) -> Option<u64> {
        let (&tick, _) = self.due.first_key_value()?;
        let to_next_tick = self.tick_ms - self.clock_ms % self.tick_ms;
        Some(
            (tick * self.tick_ms)
                .saturating_sub(self.clock_ms)
                .min(to_next_tick),
        )
    }

    /// A session was opened or attached, or this leader found it in the state.
    pub(crate) fn grant(&mut self, session: SessionId, attachment: Attachment, timeout_ms: u32) {
        let tick = self.deadline_tick(timeout_ms);
        let queued = self
            .sessions
            .get(&session)
            .and_then(|deadline| deadline.queued);
        // A shorter timeout than before must be looked at earlier; the old place is then stale.
        let queued = match queued {
            Some(queued) if queued <= tick => queued,
            _ => {
                self.due.entry(tick).or_default().push(session);
                tick
            }
        };
        let deadline = Deadline {
            attachment,
            timeout_ms,
            tick,
            acknowledged: WriteSeq(0),
            queued: Some(queued),
        };
        self.sessions.insert(session, deadline);
    }

    /// The session was heard of, by whoever has this attachment of it.
    pub(crate) fn touch(&mut self, session: SessionId, attachment: Attachment) {
        let clock_ms = self.clock_ms;
        let tick_ms = self.tick_ms;
        if let Some(deadline) = self.sessions.get_mut(&session)
            && deadline.attachment == attachment
        {
            let tick = tick_after(clock_ms, deadline.timeout_ms, tick_ms);
            deadline.tick = deadline.tick.max(tick);
        }
    }

    /// The attachment that is known.
    pub(crate) fn attachment(&self, session: SessionId) -> Option<Attachment> {
        Some(self.sessions.get(&session)?.attachment)
    }

    /// Whether a heartbeat acknowledges more than those before it.
    pub(crate) fn acknowledge(
        &mut self,
        session: SessionId,
        attachment: Attachment,
        up_to: WriteSeq,
    ) -> bool {
        match self.sessions.get_mut(&session) {
            Some(known) if known.attachment == attachment && known.acknowledged < up_to => {
                known.acknowledged = up_to;
                true
            }
            _ => false,
        }
    }

    /// The session has ended.
    pub(crate) fn end(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// Appends at most `limit` sessions whose time is over; each once, until it is granted again.
    pub(crate) fn expire_due(&mut self, limit: usize, expired: &mut Vec<(SessionId, Attachment)>) {
        let current = self.clock_ms / self.tick_ms;
        let mut left = limit;
        while left > 0
            && let Some(mut bucket) = self.due.first_entry()
            && *bucket.key() <= current
        {
            let tick = *bucket.key();
            let Some(session) = bucket.get_mut().pop() else {
                bucket.remove();
                continue;
            };
            let Some(deadline) = self.sessions.get_mut(&session) else {
                continue;
            };
            if deadline.queued != Some(tick) {
                continue;
            }
            if deadline.tick > current {
                deadline.queued = Some(deadline.tick);
                let tick = deadline.tick;
                self.due.entry(tick).or_default().push(session);
                continue;
            }
            deadline.queued = None;
            expired.push((session, deadline.attachment));
            left -= 1;
        }
    }

    fn deadline_tick(&self, timeout_ms: u32) -> u64 {
        tick_after(self.clock_ms, timeout_ms, self.tick_ms)
    }
}

/// The first tick that begins after the whole timeout, as in ZooKeeper's expiry queue.
fn tick_after(clock_ms: u64, timeout_ms: u32, tick_ms: u64) -> u64 {
    (clock_ms + u64::from(timeout_ms)) / tick_ms + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: SessionId = SessionId(1);
    const FIRST: Attachment = Attachment(1);

    fn table() -> SessionDeadlines {
        let mut table = SessionDeadlines::new(100);
        table.observe(5_000);
        table
    }

    /// Observes every 50 ms up to `now_ms` and returns what expired, and when.
    fn run(table: &mut SessionDeadlines, until_ms: u64) -> Vec<(u64, SessionId)> {
        let mut ended = Vec::new();
        let mut now_ms = table.observed_ms.expect("observed before");
        while now_ms < until_ms {
            now_ms += 50;
            table.observe(now_ms);
            let mut expired = Vec::new();
            table.expire_due(usize::MAX, &mut expired);
            ended.extend(expired.into_iter().map(|(session, _)| (now_ms, session)));
        }
        ended
    }

    #[test]
    fn a_silent_session_expires_at_the_first_tick_after_its_timeout() {
        let mut table = table();
        table.grant(A, FIRST, 250);
        assert_eq!(run(&mut table, 6_000), [(5_300, A)]);
        let mut exact = self::table();
        exact.grant(A, FIRST, 300);
        assert_eq!(
            run(&mut exact, 6_000),
            [(5_400, A)],
            "never before the whole timeout"
        );
    }

    #[test]
    fn a_touch_postpones_the_end_by_a_full_timeout() {
        let mut table = table();
        table.grant(A, FIRST, 250);
        assert_eq!(run(&mut table, 5_250), []);
        table.touch(A, FIRST);
        assert_eq!(run(&mut table, 6_000), [(5_600, A)]);
    }

    #[test]
    fn an_expired_session_is_reported_once_until_it_is_granted_again() {
        let mut table = table();
        table.grant(A, FIRST, 100);
        assert_eq!(run(&mut table, 8_000).len(), 1);
        table.touch(A, FIRST);
        assert_eq!(run(&mut table, 9_000), [], "its end is in the log");
        table.grant(A, Attachment(2), 100);
        let mut expired = Vec::new();
        table.observe(9_200);
        table.expire_due(usize::MAX, &mut expired);
        assert_eq!(expired, [(A, Attachment(2))]);
    }

    #[test]
    fn a_shorter_timeout_takes_effect_with_the_attach() {
        let mut table = table();
        table.grant(A, FIRST, 10_000);
        table.grant(A, Attachment(2), 100);
        assert_eq!(run(&mut table, 20_000), [(5_200, A)]);
    }

    #[test]
    fn an_ended_session_does_not_expire() {
        let mut table = table();
        table.grant(A, FIRST, 100);
        table.end(A);
        assert_eq!(run(&mut table, 6_000), []);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_stall_of_this_process_ends_no_session() {
        let mut table = table();
        table.grant(A, FIRST, 1_000);
        table.observe(5_100);
        table.observe(60_000);
        let mut expired = Vec::new();
        table.expire_due(usize::MAX, &mut expired);
        assert_eq!(expired, []);
        assert_eq!(run(&mut table, 62_000).len(), 1);
    }

    #[test]
    fn the_limit_leaves_the_rest_for_the_next_call() {
        let mut table = table();
        for id in 1..=5 {
            table.grant(SessionId(id), FIRST, 100);
        }
        table.observe(5_200);
        let mut expired = Vec::new();
        table.expire_due(3, &mut expired);
        assert_eq!((expired.len(), table.wait_ms()), (3, Some(0)));
        table.expire_due(3, &mut expired);
        assert_eq!((expired.len(), table.wait_ms()), (5, None));
    }

    proptest! {
        /// Against the plain rule, looked up in a list.
        #[test]
        fn sessions_end_when_the_plain_rule_says(
            steps in proptest::collection::vec((0u8..4, 1i64..5, 1u32..1_000), 1..200)
        ) {
            let mut table = table();
            let mut plain: BTreeMap<i64, (u32, u64)> = BTreeMap::new();
            let mut now_ms = 5_000;
            for (what, id, ms) in steps {
                let session = SessionId(id);
                let deadline = |timeout_ms: u32| {
                    ((now_ms - 5_000 + u64::from(timeout_ms)) / 100 + 1) * 100 + 5_000
                };
                match what {
                    0 => {
                        table.grant(session, FIRST, ms);
                        plain.insert(id, (ms, deadline(ms)));
                    }
                    1 => {
                        table.touch(session, FIRST);
                        if let Some((timeout_ms, at_ms)) = plain.get_mut(&id) {
                            *at_ms = deadline(*timeout_ms).max(*at_ms);
                        }
                    }
                    2 => {
                        table.end(session);
                        plain.remove(&id);
                    }
                    _ => {
                        now_ms += u64::from(ms) % 200;
                        table.observe(now_ms);
                        let mut expired = Vec::new();
                        table.expire_due(usize::MAX, &mut expired);
                        let mut ended: Vec<i64> = expired.iter().map(|(s, _)| s.0).collect();
                        ended.sort_unstable();
                        let expected: Vec<i64> = plain.iter()
                            .filter(|(_, (_, at_ms))| *at_ms <= now_ms).map(|(id, _)| *id).collect();
                        prop_assert_eq!(&ended, &expected);
                        for id in ended {
                            table.end(SessionId(id));
                            plain.remove(&id);
                        }
                    }
                }
            }
        }
    }
}
