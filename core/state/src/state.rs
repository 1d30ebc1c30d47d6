//! The state machine of a shard.
//!
//! Durability: session rows and access-list rows change too often to be written with every entry,
//! so they are written only by [`ShardState::start_checkpoint`], which freezes the store in the
//! same step. After a crash the store is therefore exactly at a checkpoint, and the log is replayed
//! from its applied offset. A store that made anything else durable is noticed at open.

mod apply;
mod digest;
mod invariants;
mod query;
#[cfg(test)]
mod tests;
mod tree;

use std::ops::ControlFlow;
use std::sync::Arc;

use oxkeeper_model::{
    Answer, Attachment, ChangeSet, CommandOutcome, Digest, Entry, FeatureLevel, Head, Lifetime,
    Offset, Path, Position, Query, Revision, SessionId, ShardId, SharedHead, Term, limits,
};
use thiserror::Error;

use self::digest::RecentDigests;
use crate::acls::AclTable;
use crate::keys;
use crate::records::Records;
use crate::rows::{self, Meta, RowError};
use crate::sessions::SessionTable;
use oxkeeper_store::{FlushWait, KeyRange, KeyValueStore, StoreError, WriteBatch, get_vec};

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
    #[error("the log does not start with a genesis")]
    NotSeeded,
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
    /// Loads what is kept in memory. An empty store is a new shard.
    pub fn open(shard: ShardId, store: S) -> Result<Self, StateError> {
        let meta = load_meta(&store)?;
        let mut acls = AclTable::default();
        let mut sessions = SessionTable::default();
        scan_rows(&store, keys::ACL, |key, row| {
            let id = keys::acl_of(key).ok_or(RowError::Malformed("acl"))?;
            let (references, acl) = rows::decode_acl_row(row)?;
            acls.restore(id, acl, references);
            Ok(())
        })?;
        scan_rows(&store, keys::SESSION, |key, row| {
            let id = keys::session_of(key).ok_or(RowError::Malformed("session"))?;
            match sessions.restore(id, rows::decode_session(row)?) {
                true => Ok(()),
                false => Err(RowError::Malformed("session").into()),
            }
        })?;
        Ok(Self {
            shard,
            store,
            records: Records::new(&meta),
            digests: RecentDigests::new(meta.applied, meta.digest),
            meta,
            sessions,
            acls,
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
        let batch = &mut self.batch;
        let mut key = Vec::new();
        batch.clear();
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
        batch.put_with(&[keys::META], |out| self.meta.encode(out));
        batch.put(&[keys::CHECKPOINT], &self.meta.applied.0.to_be_bytes());
        self.store.write(batch)?;
        let flush = self.store.start_flush()?;
        self.dirty_bytes = 0;
        Ok(Checkpoint {
            offset: self.meta.applied,
            flush,
        })
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
        let mut key = Vec::new();
        keys::head(&mut key, path);
        let head = crate::records::load(&self.store, &self.acls, &key)?;
        Ok(head.map(SharedHead::from))
    }
}

fn load_meta(store: &impl KeyValueStore) -> Result<Meta, StateError> {
    let meta = match get_vec(store, &[keys::META])? {
        Some(row) => Meta::decode(&row)?,
        None => Meta::default(),
    };
    let checkpoint = match get_vec(store, &[keys::CHECKPOINT])? {
        Some(row) => {
            let row = row
                .try_into()
                .map_err(|_| RowError::Malformed("checkpoint"))?;
            Offset(u64::from_be_bytes(row))
        }
        None => Offset(0),
    };
    if meta.applied != checkpoint {
        return Err(StateError::NotAtCheckpoint {
            applied: meta.applied,
            checkpoint,
        });
    }
    Ok(meta)
}

/// Visits all rows of a kind until one fails.
fn scan_rows(
    store: &impl KeyValueStore,
    kind: u8,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let mut result = Ok(());
    store.scan(&KeyRange::prefix(&[kind]), &mut |key, row| {
        result = visit(key, row);
        if result.is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    result
}

/// Paths in a range of the reap index, at most `limit`, and whether those are all.
fn paths_in(
    store: &impl KeyValueStore,
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
