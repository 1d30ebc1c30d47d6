//! The state machine of a shard.
//!
//! Durability: session rows and access-list rows change too often to be written with every entry,
//! so they are written only by [`ShardState::start_checkpoint`], which freezes the store in the
//! same step. After a crash the store is therefore exactly at a checkpoint, and the log is replayed
//! from its applied offset. A store that made anything else durable is noticed at open.

mod apply;
mod digest;
pub(crate) mod ends;
mod frozen;
mod invariants;
mod load;
mod query;
mod statistics;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use oxkeeper_model::placement::{KeyOrder, ShardDescriptor};
use oxkeeper_model::{
    Answer, Attachment, ChangeSet, CommandOutcome, Digest, Entry, FeatureLevel, Head, Lifetime,
    Offset, Path, Position, Query, Revision, SessionId, SessionWrite, ShardId, ShardUuid,
    SharedHead, Term, limits,
};
use thiserror::Error;

use self::digest::RecentDigests;
use self::ends::EndLimits;
pub use self::frozen::{FrozenRows, FrozenState};
use crate::acls::AclTable;
use crate::graves::Graves;
use crate::hash::HashKey;
use crate::keys;
use crate::preparation::Preparation;
use crate::quota::Quotas;
use crate::records::{Found, Records, Rows, rows_of};
use crate::rows::{self, Meta, RowError};
use crate::sessions::{Session, SessionTable};
use oxkeeper_store::{FlushWait, KeyRange, KeyValueStore, RowReader, StoreError, WriteBatch};

/// Why the shard must stop.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store is damaged: {0}")]
    Row(#[from] RowError),
    #[error("the store is damaged: {0}")]
    Broken(&'static str),
    /// The store kept writes that no checkpoint covers.
    #[error("the store is at offset {applied}, but its last checkpoint is at {checkpoint}")]
    NotAtCheckpoint { applied: Offset, checkpoint: Offset },
    #[error("entry {offset} does not follow {applied}")]
    OutOfOrder { offset: Offset, applied: Offset },
    #[error("the store is that of shard {found}, not of {expected}")]
    OtherShard {
        found: ShardUuid,
        expected: ShardUuid,
    },
    #[error("shards of natural key order are not served yet")]
    NaturalOrder,
    #[error("feature level {0} is not known to this build")]
    UnknownLevel(FeatureLevel),
    #[error("the state machine has stopped after an error")]
    Stopped,
}

/// What one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// There exactly if the command took a revision.
    pub change: Option<Arc<ChangeSet>>,
    pub outcome: CommandOutcome,
}

/// A session as the keeper of deadlines needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    pub id: SessionId,
    pub attachment: Attachment,
    pub timeout_ms: u32,
}

/// A checkpoint under way.
pub struct Checkpoint {
    /// Everything up to here is durable once [`Self::wait`] returns.
    pub offset: Offset,
    flush: FlushWait,
}

impl Checkpoint {
    /// Blocks until the checkpoint is durable. May be called on any thread, while entries are applied.
    pub fn wait(self) -> Result<Offset, StoreError> {
        (self.flush)()?;
        Ok(self.offset)
    }
}

/// Memory that a row takes in an unflushed store, besides its key and value.
const ROW_OVERHEAD_BYTES: usize = 48;

/// Rows of the reap index that one call looks at, per candidate it may return.
const REAP_ROWS_PER_CANDIDATE: usize = 64;

/// One shard, as of its applied offset.
#[derive(Debug)]
pub struct ShardState<S> {
    shard: ShardId,
    store: S,
    meta: Meta,
    sessions: SessionTable,
    acls: AclTable,
    records: Records,
    quotas: Quotas,
    /// Sessions that ended and still have rows.
    graves: Graves,
    /// Sessions whose last row was deleted since the last checkpoint.
    emptied_graves: Vec<SessionId>,
    /// Ends that are being made ready.
    preparations: BTreeMap<SessionId, Preparation>,
    end_limits: EndLimits,
    /// Reused from entry to entry.
    batch: WriteBatch,
    /// What the digest takes in; reused.
    digest_input: Vec<u8>,
    /// What the digest was after each of the last entries.
    digests: RecentDigests,
    dirty_bytes: usize,
    /// After an error nothing works: the memory may be ahead of the store.
    stopped: bool,
    /// Where the next search for records to reap goes on.
    reap_cursor: Option<Path>,
}

impl<S: KeyValueStore> ShardState<S> {
    /// Loads what is kept in memory. An empty store is a new shard. `hash_key` should be random: it
    /// keeps clients from choosing names that slow the shard's maps down.
    pub fn open(shard: &ShardDescriptor, store: S, hash_key: HashKey) -> Result<Self, StateError> {
        if shard.key_order == KeyOrder::Natural {
            return Err(StateError::NaturalOrder);
        }
        let meta = load::meta(&store, shard.uuid)?;
        let acls = load::acls(&store, hash_key)?;
        let graves = load::graves(&store)?;
        let quotas = load::quotas(rows_of(&store, &acls, &graves))?;
        let mut sessions = SessionTable::new(hash_key);
        load::scan_rows(&store, &[keys::SESSION], |key, row| {
            let id = keys::session_of(key).ok_or(RowError::Malformed("session"))?;
            match sessions.restore(id, rows::decode_session(row)?) {
                true => Ok(()),
                false => Err(RowError::Malformed("session").into()),
            }
        })?;
        Ok(Self {
            shard: shard.id,
            store,
            records: Records::new(&meta, hash_key),
            digests: RecentDigests::new(meta.applied, meta.digest),
            meta,
            sessions,
            acls,
            quotas,
            graves,
            emptied_graves: Vec::new(),
            preparations: BTreeMap::new(),
            end_limits: EndLimits::default(),
            batch: WriteBatch::default(),
            digest_input: Vec::new(),
            dirty_bytes: 0,
            stopped: false,
            reap_cursor: None,
        })
    }

    /// The last entry that was applied; the next must be the one after it.
    pub fn applied(&self) -> Offset {
        self.meta.applied
    }

    /// The last revision that was taken.
    pub fn revision(&self) -> Revision {
        self.meta.revision
    }

    /// The last revision, with the digest that its change set carried.
    pub fn position(&self) -> Position {
        Position {
            revision: self.meta.revision,
            digest: self.meta.revision_digest,
        }
    }

    /// The term of the last entry that was applied.
    pub fn term(&self) -> Term {
        self.meta.term
    }

    /// What may be used in new entries.
    pub fn feature_level(&self) -> FeatureLevel {
        self.meta.feature_level
    }

    /// The wall clock of the last entry.
    pub fn wall_ms(&self) -> i64 {
        self.meta.wall_ms
    }

    /// The elapsed time of the last entry. That of new entries must not be less.
    pub fn elapsed_ms(&self) -> u64 {
        self.meta.elapsed_ms
    }

    /// Whether the genesis was applied.
    pub fn is_seeded(&self) -> bool {
        self.meta.secret.is_some()
    }

    /// Chained over everything that was applied. Equal on all replicas at equal offsets.
    pub fn digest(&self) -> Digest {
        self.meta.digest
    }

    /// Applies an entry as one atomic batch of the store. Appends to `out` exactly one element per
    /// command, in order. Fails only if the store does, or the log is not the one this state came
    /// from; the state machine has then stopped.
    pub fn apply(
        &mut self,
        offset: Offset,
        entry: &Entry,
        out: &mut Vec<Applied>,
    ) -> Result<(), StateError> {
        self.check_running()?;
        if offset != self.meta.applied.next() {
            return Err(StateError::OutOfOrder {
                offset,
                applied: self.meta.applied,
            });
        }
        let result = self.apply_entry(offset, entry, out);
        self.stopped |= result.is_err();
        result
    }

    /// Answers a read of the state.
    pub fn query(&self, query: &Query) -> Result<Answer, StateError> {
        self.check_running()?;
        self.answer(query)
    }

    /// All live sessions, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> + '_ {
        self.sessions.iter().map(|(id, session)| SessionView {
            id,
            attachment: session.attachment,
            timeout_ms: session.timeout_ms,
        })
    }

    pub fn session(&self, id: SessionId) -> Option<SessionView> {
        let session = self.sessions.get(id)?;
        let (attachment, timeout_ms) = (session.attachment, session.timeout_ms);
        Some(SessionView {
            id,
            attachment,
            timeout_ms,
        })
    }

    /// How many more writes of a session may enter the log before it acknowledges outcomes; those
    /// that are in the log and not applied count too. Beyond that they wait. One of an unknown session
    /// need not: it is refused.
    pub fn outcome_room(&self, session: SessionId) -> usize {
        let session = self.sessions.get(session);
        session.map_or(limits::KEPT_OUTCOMES_MAX, Session::outcome_room)
    }

    /// Whether a write was done before, and its outcome is kept: it takes no room.
    pub fn is_repeated(&self, write: &SessionWrite) -> bool {
        let session = self.sessions.get(write.session);
        session.is_some_and(|session| {
            session.attachment == write.attachment && session.kept(write.seq).is_some()
        })
    }

    /// Memory that a session takes, about; with all outcomes that it has not acknowledged.
    pub fn session_bytes(&self, session: SessionId) -> usize {
        self.sessions.get(session).map_or(0, Session::memory_bytes)
    }

    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Container and TTL records whose time has come at `elapsed_ms`, at most `limit`. Looks at a part
    /// of them per call, and goes on from there with the next: call it at intervals.
    pub fn reap_candidates(
        &mut self,
        elapsed_ms: u64,
        limit: usize,
    ) -> Result<Vec<Path>, StateError> {
        self.check_running()?;
        let mut range = KeyRange::prefix(&[keys::REAP]);
        if let Some(cursor) = self.reap_cursor.take() {
            let mut key = Vec::new();
            keys::reap(&mut key, &cursor);
            range = range.after(&key);
        }
        let (paths, complete) = paths_in(
            &self.store,
            &range,
            limit.saturating_mul(REAP_ROWS_PER_CANDIDATE),
        )?;
        let mut candidates = Vec::new();
        for path in &paths {
            if candidates.len() == limit {
                break;
            }
            let head = self
                .head(path)?
                .ok_or(StateError::Broken("a reap row without record"))?;
            if is_due(&head, elapsed_ms) {
                candidates.push(path.clone());
            }
        }
        let last = match candidates.last() {
            Some(last) if candidates.len() == limit => Some(last.clone()),
            _ if complete => None,
            _ => paths.last().cloned(),
        };
        self.reap_cursor = last;
        Ok(candidates)
    }

    /// Writes what is kept in memory only and freezes the store, so that everything up to the
    /// returned checkpoint's offset becomes durable, and nothing after it.
    pub fn start_checkpoint(&mut self) -> Result<Checkpoint, StateError> {
        self.check_running()?;
        let result = self.write_checkpoint();
        self.stopped |= result.is_err();
        result
    }

    /// To be told when a checkpoint is durable: its memory is no longer needed.
    pub fn checkpoint_ended(&mut self) {
        self.store.release_flushed();
    }

    /// The state as it is now, to be read on another thread while entries are applied.
    pub fn freeze(&mut self) -> Result<FrozenRows<S::Frozen>, StateError> {
        self.check_running()?;
        // Rows that are kept in memory have to be in the store. It is not flushed: after a crash they
        // are as they were at the last checkpoint.
        self.batch.clear();
        self.batch_unsaved();
        let frozen = self.write_batch().and_then(|()| self.store.freeze());
        self.stopped |= frozen.is_err();
        Ok(FrozenRows {
            rows: frozen?,
            position: self.position(),
        })
    }

    /// Memory that unflushed writes take in the store, about. Zero after a checkpoint was started.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// The store, to look at. Writing to it breaks the state.
    pub fn store(&self) -> &S {
        &self.store
    }

    fn check_running(&self) -> Result<(), StateError> {
        if self.stopped {
            Err(StateError::Stopped)
        } else {
            Ok(())
        }
    }

    fn write_checkpoint(&mut self) -> Result<Checkpoint, StateError> {
        self.batch.clear();
        self.batch_unsaved();
        let applied = self.meta.applied;
        let batch = &mut self.batch;
        batch.put_with(&[keys::META], |out| self.meta.encode(out));
        batch.put(&[keys::CHECKPOINT], &applied.0.to_be_bytes());
        self.store.write(batch)?;
        let flush = self.store.start_flush()?;
        self.dirty_bytes = 0;
        Ok(Checkpoint {
            offset: applied,
            flush,
        })
    }

    /// Adds to the batch what is not written with every entry.
    fn batch_unsaved(&mut self) {
        let batch = &mut self.batch;
        let mut key = Vec::new();
        for (id, row) in self.acls.take_unsaved() {
            keys::acl(&mut key, id);
            match row {
                Some((references, acl)) => {
                    batch.put_with(&key, |out| rows::encode_acl_row(out, references, &acl));
                }
                None => batch.delete(&key),
            }
        }
        self.sessions.save(|id, session| {
            keys::session(&mut key, id);
            match session {
                Some(session) => {
                    let row = session.row();
                    batch.put_with(&key, |out| rows::encode_session(out, &row));
                }
                None => batch.delete(&key),
            }
        });
        for session in self.emptied_graves.drain(..) {
            keys::grave(&mut key, session);
            batch.delete(&key);
        }
        for grave in self.graves.iter() {
            keys::grave(&mut key, grave.session);
            batch.put(&key, &grave.ended.0.to_be_bytes());
        }
    }

    fn write_batch(&mut self) -> Result<(), StoreError> {
        self.dirty_bytes += self.batch.as_bytes().len() + self.batch.len() * ROW_OVERHEAD_BYTES;
        self.store.write(&self.batch)
    }

    /// A record's head, between entries.
    fn head(&self, path: &str) -> Result<Option<SharedHead>, StateError> {
        if let Some(head) = self.records.cached(path) {
            return Ok(Some(head.clone()));
        }
        self.load(path)
    }

    /// A record's head as the store has it.
    fn load(&self, path: &str) -> Result<Option<SharedHead>, StateError> {
        match self.rows().load(path, &mut Vec::new())? {
            Found::Record(head) => Ok(Some(head.into())),
            Found::Dead(_) | Found::Nothing => Ok(None),
        }
    }

    fn rows(&self) -> Rows<'_, S> {
        rows_of(&self.store, &self.acls, &self.graves)
    }
}

/// Paths in a range of the reap index, at most `limit`, and whether those are all.
fn paths_in(
    store: &impl RowReader,
    range: &KeyRange,
    limit: usize,
) -> Result<(Vec<Path>, bool), StateError> {
    let (mut paths, mut complete) = (Vec::new(), true);
    store.scan(range, &mut |key, _| {
        if paths.len() == limit {
            complete = false;
            return ControlFlow::Break(());
        }
        paths.extend(keys::reap_of(key).map(Path::from));
        ControlFlow::Continue(())
    })?;
    Ok((paths, complete))
}

/// Whether time deletes this record now.
fn is_due(head: &Head, elapsed_ms: u64) -> bool {
    if head.children.live > 0 {
        return false;
    }
    let idle_ms = elapsed_ms.saturating_sub(head.idle_since_ms);
    match head.lifetime {
        Lifetime::Persistent | Lifetime::Ephemeral => false,
        Lifetime::Container if head.children.created_ever > 0 => true,
        Lifetime::Container => {
            limits::CONTAINER_NEVER_USED_MS.is_some_and(|max_ms| idle_ms > max_ms)
        }
        Lifetime::Ttl { ttl_ms } => idle_ms > ttl_ms,
    }
}
