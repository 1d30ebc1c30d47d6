//! The sessions of a shard, all in memory; their rows are written at checkpoints only.

use std::collections::VecDeque;

use hmac::{Hmac, KeyInit, Mac};
use oxkeeper_model::{
    Attachment, Revision, SessionId, SessionPassword, ShardId, TxnOutcome, WriteRefusal, WriteSeq,
    limits,
};
use rustc_hash::FxHashMap;
use sha2::Sha256;

use crate::rows::SessionRow;

/// A kept outcome with the revision of its transaction.
pub(crate) type Kept = (Revision, TxnOutcome);

/// Room for outcomes that a session keeps although it has none.
const IDLE_OUTCOMES_CAPACITY: usize = 4;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) attachment: Attachment,
    pub(crate) timeout_ms: u32,
    /// Of this attachment.
    last_seq: WriteSeq,
    /// Outcomes that were not acknowledged. Invariant: the last one is that of `last_seq`, and
    /// their numbers have no gaps.
    outcomes: VecDeque<Kept>,
    /// Records it owns. Invariant: equals its rows in the ephemeral index.
    pub(crate) ephemerals: u64,
    /// Whether the table has it among the unsaved.
    unsaved: bool,
    /// Whether the store has a row of it.
    stored: bool,
}

/// What to do with a write.
#[derive(Debug)]
pub(crate) enum Admission {
    Proceed,
    Again(Kept),
    Refused(WriteRefusal),
}

impl Session {
    fn new(timeout_ms: u32) -> Self {
        Self {
            attachment: Attachment(1),
            timeout_ms,
            last_seq: WriteSeq(0),
            outcomes: VecDeque::new(),
            ephemerals: 0,
            unsaved: false,
            stored: false,
        }
    }

    /// Forgets outcomes that have arrived.
    fn acknowledge(&mut self, acknowledged: WriteSeq) {
        let first = self.last_seq.0 - self.outcomes.len() as u64;
        let done = acknowledged
            .0
            .saturating_sub(first)
            .min(self.outcomes.len() as u64);
        self.outcomes.drain(..done as usize);
        if self.outcomes.is_empty() && self.outcomes.capacity() > IDLE_OUTCOMES_CAPACITY * 16 {
            self.outcomes.shrink_to(IDLE_OUTCOMES_CAPACITY);
        }
    }

    fn kept(&self, seq: WriteSeq) -> Option<&Kept> {
        let first = self.last_seq.0 - self.outcomes.len() as u64;
        let at = seq.0.checked_sub(first)?.checked_sub(1)?;
        self.outcomes.get(usize::try_from(at).ok()?)
    }

    fn admit(&self, attachment: Attachment, seq: WriteSeq) -> Admission {
        if attachment != self.attachment {
            return Admission::Refused(WriteRefusal::SessionMoved);
        }
        if let Some(kept) = self.kept(seq) {
            return Admission::Again(kept.clone());
        }
        let is_next = seq.0 == self.last_seq.0.wrapping_add(1);
        if is_next && self.outcomes.len() < limits::UNACKNOWLEDGED_OUTCOMES_MAX {
            return Admission::Proceed;
        }
        Admission::Refused(WriteRefusal::OutOfSequence {
            last: self.last_seq,
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct SessionTable {
    live: FxHashMap<SessionId, Session>,
    unsaved: Vec<SessionId>,
    /// Sessions that ended and still have a row.
    ended: Vec<SessionId>,
}

impl SessionTable {
    /// Puts back a session that was stored.
    pub(crate) fn restore(&mut self, id: SessionId, row: SessionRow<Vec<Kept>>) -> bool {
        let consistent = row.last_seq.0 >= row.outcomes.len() as u64;
        let session = Session {
            attachment: row.attachment,
            timeout_ms: row.timeout_ms,
            last_seq: row.last_seq,
            outcomes: row.outcomes.into(),
            ephemerals: row.ephemerals,
            unsaved: false,
            stored: true,
        };
        self.live.insert(id, session);
        consistent
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.live.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.live.iter().map(|(&id, session)| (id, session))
    }

    /// The session, to be changed.
    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        let session = self.live.get_mut(&id)?;
        if !session.unsaved {
            session.unsaved = true;
            self.unsaved.push(id);
        }
        Some(session)
    }

    pub(crate) fn open(&mut self, id: SessionId, timeout_ms: u32) {
        self.live.insert(id, Session::new(timeout_ms));
        self.get_mut(id);
    }

    /// Binds the session to a new connection; numbers and outcomes of the old one are gone.
    pub(crate) fn attach(&mut self, id: SessionId, timeout_ms: u32) -> Option<Attachment> {
        let session = self.get_mut(id)?;
        session.attachment = session.attachment.next();
        session.timeout_ms = timeout_ms;
        session.last_seq = WriteSeq(0);
        session.outcomes = VecDeque::new();
        Some(session.attachment)
    }

    /// Whether a write may happen; takes its acknowledgement of earlier ones.
    pub(crate) fn admit(
        &mut self,
        id: SessionId,
        attachment: Attachment,
        seq: WriteSeq,
        acknowledged: WriteSeq,
    ) -> Admission {
        let Some(session) = self.get_mut(id) else {
            return Admission::Refused(WriteRefusal::SessionExpired);
        };
        if attachment == session.attachment {
            session.acknowledge(acknowledged);
        }
        session.admit(attachment, seq)
    }

    /// Keeps the outcome of the session's next write.
    pub(crate) fn keep(&mut self, id: SessionId, kept: Kept) {
        if let Some(session) = self.get_mut(id) {
            session.last_seq = session.last_seq.next();
            session.outcomes.push_back(kept);
        }
    }

    pub(crate) fn end(&mut self, id: SessionId) {
        if self.live.remove(&id).is_some_and(|session| session.stored) {
            self.ended.push(id);
        }
    }

    /// Hands out every row that differs from the store; it counts as stored from then on.
    pub(crate) fn save(&mut self, mut row: impl FnMut(SessionId, Option<&Session>)) {
        for id in self.ended.drain(..) {
            row(id, None);
        }
        for id in self.unsaved.drain(..) {
            if let Some(session) = self.live.get_mut(&id) {
                session.unsaved = false;
                session.stored = true;
                row(id, Some(session));
            }
        }
    }
}

impl Session {
    pub(crate) fn row(&self) -> SessionRow<impl ExactSizeIterator<Item = &Kept> + Clone> {
        SessionRow {
            attachment: self.attachment,
            timeout_ms: self.timeout_ms,
            last_seq: self.last_seq,
            ephemerals: self.ephemerals,
            outcomes: self.outcomes.iter(),
        }
    }
}

/// Low bits of a session id; the byte above names the shard, as ZooKeeper's names the server.
const COUNTER_BITS: u32 = 56;
const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;

/// The id of the next session, and its low bits. They follow the log time, so that an id never
/// comes back; and they grow, so that two sessions of one millisecond differ.
pub(crate) fn next_session(shard: ShardId, last: u64, log_time_ms: i64) -> (SessionId, u64) {
    let by_time = ((log_time_ms as u64) << 16) & COUNTER_MASK;
    let counter = match last {
        COUNTER_MASK.. => by_time,
        last => by_time.max(last + 1),
    };
    // 1 to 255: the id is never 0.
    let server = u64::from(shard.0 % 255 + 1);
    (
        SessionId((server << COUNTER_BITS | counter) as i64),
        counter,
    )
}

/// A session's password: the first half of the MAC of its id.
pub(crate) fn password_of(secret: &[u8; 32], session: SessionId) -> SessionPassword {
    let mut password = SessionPassword::default();
    // HMAC takes keys of any length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) {
        mac.update(&session.0.to_be_bytes());
        let length = password.len();
        password.copy_from_slice(&mac.finalize().into_bytes()[..length]);
    }
    password
}
