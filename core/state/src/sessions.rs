//! The sessions of a shard, all in memory; their rows are written at checkpoints only.

use std::collections::VecDeque;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use oxkeeper_model::{
    Attachment, Head, Nonce, OpResult, SessionError, SessionId, SessionPassword, ShardId,
    TxnOutcome, WriteRefusal, WriteSeq, limits,
};
use rustc_hash::FxHashMap;
use sha2::Sha256;

use crate::hash::{HashKey, KeyedMap};
use crate::rows::{Kept, SessionRow};

/// A session keeps room for so many outcomes, whatever it had at times.
const OUTCOMES_ROOM_KEPT: usize = 16;

/// What a result weighs besides its texts: itself and its head.
const RESULT_BYTES: usize = size_of::<OpResult>() + size_of::<Head>();

/// Of a session that was just opened.
const FIRST_ATTACHMENT: Attachment = Attachment(1);

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) attachment: Attachment,
    /// Of the open or attach that made this attachment.
    nonce: Nonce,
    pub(crate) timeout_ms: u32,
    /// Of this attachment.
    last_seq: WriteSeq,
    /// Outcomes that were not acknowledged. Invariant: their numbers grow, up to `last_seq`.
    outcomes: VecDeque<Kept>,
    /// Memory of `outcomes`, about.
    outcome_bytes: usize,
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
    fn new(nonce: Nonce, timeout_ms: u32) -> Self {
        Self {
            attachment: FIRST_ATTACHMENT,
            nonce,
            timeout_ms,
            last_seq: WriteSeq(0),
            outcomes: VecDeque::new(),
            outcome_bytes: 0,
            ephemerals: 0,
            unsaved: false,
            stored: false,
        }
    }

    fn is_as_opened(&self) -> bool {
        self.attachment == FIRST_ATTACHMENT
    }

    /// Forgets outcomes that have arrived.
    fn acknowledge(&mut self, acknowledged: WriteSeq) {
        let done = self
            .outcomes
            .partition_point(|kept| kept.seq <= acknowledged);
        let freed = self.outcomes.drain(..done).map(|kept| kept_bytes(&kept));
        self.outcome_bytes -= freed.sum::<usize>();
        if self.outcomes.len() < self.outcomes.capacity() / 4 {
            self.outcomes
                .shrink_to(OUTCOMES_ROOM_KEPT.max(self.outcomes.len() * 2));
        }
    }

    /// How many more outcomes may be kept. The last one may be larger than the room there is.
    pub(crate) fn outcome_room(&self) -> usize {
        match self.outcome_bytes < limits::KEPT_OUTCOME_BYTES_MAX {
            true => limits::KEPT_OUTCOMES_MAX.saturating_sub(self.outcomes.len()),
            false => 0,
        }
    }

    /// Memory that the session takes, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.outcomes.capacity() * size_of::<Kept>() + self.outcome_bytes
    }

    pub(crate) fn kept(&self, seq: WriteSeq) -> Option<&Kept> {
        let at = self.outcomes.binary_search_by_key(&seq, |kept| kept.seq);
        self.outcomes.get(at.ok()?)
    }

    fn admit(&self, attachment: Attachment, seq: WriteSeq, follows: WriteSeq) -> Admission {
        if attachment != self.attachment {
            return Admission::Refused(WriteRefusal::SessionMoved);
        }
        if let Some(kept) = self.kept(seq) {
            return Admission::Again(kept.clone());
        }
        match follows == self.last_seq && seq > self.last_seq {
            true => Admission::Proceed,
            false => Admission::Refused(WriteRefusal::OutOfSequence {
                last: self.last_seq,
            }),
        }
    }
}

/// Memory that an outcome takes, about; its heads are shared with others for a while.
fn kept_bytes(kept: &Kept) -> usize {
    let result_bytes = |result: &OpResult| match result {
        OpResult::Created { path, .. } => RESULT_BYTES + path.len(),
        OpResult::Got { value, .. } => RESULT_BYTES + value.as_ref().map_or(0, Bytes::len),
        OpResult::ValueSet { .. } | OpResult::AclSet { .. } => RESULT_BYTES,
        OpResult::Deleted | OpResult::Checked => size_of::<OpResult>(),
    };
    match &kept.outcome {
        TxnOutcome::Applied(results) => results.iter().map(result_bytes).sum(),
        TxnOutcome::Failed { .. } => 0,
    }
}

#[derive(Debug)]
pub(crate) struct SessionTable {
    live: FxHashMap<SessionId, Session>,
    /// Sessions that were not attached since they were opened, by the nonce of their opening.
    opened: KeyedMap<Nonce, SessionId>,
    unsaved: Vec<SessionId>,
    /// Sessions that ended and still have a row.
    ended: Vec<SessionId>,
}

impl SessionTable {
    pub(crate) fn new(hash_key: HashKey) -> Self {
        Self {
            live: FxHashMap::default(),
            opened: KeyedMap::with_hasher(hash_key),
            unsaved: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Puts back a session that was stored.
    pub(crate) fn restore(&mut self, id: SessionId, row: SessionRow<Vec<Kept>>) -> bool {
        let consistent = row.outcomes.is_sorted_by(|a, b| a.seq < b.seq)
            && row
                .outcomes
                .last()
                .is_none_or(|last| last.seq <= row.last_seq);
        let session = Session {
            attachment: row.attachment,
            nonce: row.nonce,
            timeout_ms: row.timeout_ms,
            last_seq: row.last_seq,
            outcome_bytes: row.outcomes.iter().map(kept_bytes).sum(),
            outcomes: row.outcomes.into(),
            ephemerals: row.ephemerals,
            unsaved: false,
            stored: true,
        };
        if session.is_as_opened() {
            self.opened.insert(session.nonce, id);
        }
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

    pub(crate) fn open(&mut self, id: SessionId, nonce: Nonce, timeout_ms: u32) {
        self.opened.insert(nonce, id);
        self.live.insert(id, Session::new(nonce, timeout_ms));
        self.get_mut(id);
    }

    /// The session that was opened with `nonce`, until it is attached.
    pub(crate) fn opened_with(&self, nonce: Nonce) -> Option<SessionId> {
        self.opened.get(&nonce).copied()
    }

    /// Binds the session to a new connection; numbers and outcomes of the old one are gone.
    pub(crate) fn attach(
        &mut self,
        id: SessionId,
        replaces: Attachment,
        nonce: Nonce,
        timeout_ms: u32,
    ) -> Result<(), SessionError> {
        let session = self.get_mut(id).ok_or(SessionError::Expired)?;
        let again =
            session.attachment.0.checked_sub(1) == Some(replaces.0) && session.nonce == nonce;
        if again {
            return Ok(());
        }
        if session.attachment != replaces {
            return Err(SessionError::Moved);
        }
        let opened = session.is_as_opened().then_some(session.nonce);
        session.attachment = session.attachment.next();
        session.nonce = nonce;
        session.timeout_ms = timeout_ms;
        session.last_seq = WriteSeq(0);
        (session.outcomes, session.outcome_bytes) = (VecDeque::new(), 0);
        if let Some(opened) = opened {
            self.opened.remove(&opened);
        }
        Ok(())
    }

    /// Forgets outcomes that have arrived, if `attachment` is the session's.
    pub(crate) fn acknowledge(&mut self, id: SessionId, attachment: Attachment, up_to: WriteSeq) {
        if let Some(session) = self.get_mut(id)
            && session.attachment == attachment
        {
            session.acknowledge(up_to);
        }
    }

    /// Whether a write may happen; takes its acknowledgement of earlier ones.
    pub(crate) fn admit(
        &mut self,
        id: SessionId,
        attachment: Attachment,
        (seq, follows): (WriteSeq, WriteSeq),
        acknowledged: WriteSeq,
    ) -> Admission {
        let Some(session) = self.get_mut(id) else {
            return Admission::Refused(WriteRefusal::SessionExpired);
        };
        if attachment == session.attachment {
            session.acknowledge(acknowledged);
        }
        session.admit(attachment, seq, follows)
    }

    /// Keeps the outcome of the session's next write.
    pub(crate) fn keep(&mut self, id: SessionId, kept: Kept) {
        if let Some(session) = self.get_mut(id) {
            session.last_seq = kept.seq;
            session.outcome_bytes += kept_bytes(&kept);
            session.outcomes.push_back(kept);
        }
    }

    pub(crate) fn end(&mut self, id: SessionId) {
        let Some(session) = self.live.remove(&id) else {
            return;
        };
        if session.is_as_opened() {
            self.opened.remove(&session.nonce);
        }
        if session.stored {
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
    /// Whether the weight of its outcomes is what they weigh, for the check of invariants.
    pub(crate) fn is_weighed(&self) -> bool {
        self.outcome_bytes == self.outcomes.iter().map(kept_bytes).sum::<usize>()
    }

    pub(crate) fn row(&self) -> SessionRow<impl ExactSizeIterator<Item = &Kept> + Clone> {
        SessionRow {
            attachment: self.attachment,
            nonce: self.nonce,
            timeout_ms: self.timeout_ms,
            last_seq: self.last_seq,
            ephemerals: self.ephemerals,
            outcomes: self.outcomes.iter(),
        }
    }
}

/// Bits of a session id below the shard's.
const COUNTER_BITS: u32 = 48;

/// The id of the session that a shard opened as its `count`th: the shard in the upper 16 bits, so
/// never 0 and positive; no clock, so that no id comes back. `None` when all are used up.
pub(crate) fn session_id(shard: ShardId, count: u64) -> Option<SessionId> {
    let shard = u64::from(shard.0) + 1;
    let fits = count < 1 << COUNTER_BITS && shard < 1 << (63 - COUNTER_BITS);
    fits.then_some(SessionId((shard << COUNTER_BITS | count) as i64))
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
