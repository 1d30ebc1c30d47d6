//! The end of a session, in bounded steps: prepared ahead, decided at one revision, swept later.
//!
//! A session may own so many records that deleting them would hold up everybody else on the shard. So
//! - [`ShardState::prepare_end`] gathers what the end will take away, in portions, while others
//!   write; changes in between are followed. It changes nothing that anybody could see;
//! - the command that ends the session then *buries* it: the work depends on the caches' size, not
//!   on what the session owns (see [`crate::graves`]). All of it is gone at once, at one revision;
//! - every entry deletes some of the rows that are left.
//!
//! Why not delete in portions while other commands wait: they would wait for the sum of the portions.
//! Why not let the portions be seen: parents would show children that are gone.
//!
//! A replica that did not prepare gathers everything when it applies the command, with the same
//! result. Sessions that own little are ended at once, and their records are listed one by one.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use oxkeeper_model::{Acl, ChangeSet, Path, SessionId, SharedHead, limits};

use super::tree::TreeChanges;
use super::{ShardState, StateError};
use crate::graves::Grave;
use crate::keys;
use crate::preparation::{Preparation, Progress};
use crate::records::{Found, Index, rows_of};
use crate::rows::{Counters, ValuePlace, value_place};
use oxkeeper_store::{KeyRange, KeyValueStore};

/// From where on a session's end is prepared and swept. Replicas must agree on both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndLimits {
    /// An end that takes away more records does not list them as changes.
    pub(crate) listed_records_max: u64,
    /// Rows of records that one entry deletes.
    pub(crate) swept_records_max: usize,
}

impl Default for EndLimits {
    fn default() -> Self {
        Self {
            listed_records_max: limits::END_LISTED_RECORDS_MAX,
            swept_records_max: limits::SWEPT_RECORDS_MAX,
        }
    }
}

pub(super) const MISCOUNTED: StateError =
    StateError::Broken("a session does not own what it counts");

impl<S: KeyValueStore> ShardState<S> {
    /// Makes ready the end of a session that may be large, looking at `records_max` of its records
    /// at most; true when it is ready. To be called again until then, between entries, before the
    /// end is proposed. May be left out: it only bounds the work of applying the end.
    pub fn prepare_end(
        &mut self,
        session: SessionId,
        records_max: usize,
    ) -> Result<bool, StateError> {
        self.check_running()?;
        if !self.is_large(session) {
            return Ok(true);
        }
        let prepared = self.preparations.remove(&session);
        let mut preparation = prepared.unwrap_or_else(|| Preparation::new(session));
        let gathered = self.gather(&mut preparation, records_max);
        let ready = preparation.is_complete();
        self.preparations.insert(session, preparation);
        gathered.map(|()| ready)
    }

    /// The session goes on living: what was prepared is forgotten.
    pub fn abandon_end(&mut self, session: SessionId) {
        self.preparations.remove(&session);
    }

    /// Whether rows of ended sessions are left, which entries would delete.
    pub fn has_to_sweep(&self) -> bool {
        !self.graves.is_empty()
    }

    fn is_large(&self, session: SessionId) -> bool {
        let session = self.sessions.get(session);
        session.is_some_and(|session| session.ephemerals > self.end_limits.listed_records_max)
    }

    /// Ends a session: its records go at one revision, and every parent's children with them.
    pub(super) fn end_session(&mut self, session: SessionId) -> Result<ChangeSet, StateError> {
        self.abandon_unless_large(session);
        match self.is_large(session) {
            true => self.bury(session),
            false => self.delete_owned(session),
        }
    }

    fn abandon_unless_large(&mut self, session: SessionId) {
        if !self.is_large(session) {
            self.preparations.remove(&session);
        }
    }

    /// Deletes what the session owns, sorted by path.
    fn delete_owned(&mut self, session: SessionId) -> Result<ChangeSet, StateError> {
        let revision = self.take_revision();
        let owned = self.sessions.get(session);
        let paths = match owned.is_some_and(|session| session.ephemerals > 0) {
            true => self.ephemerals_of(session)?,
            false => BTreeSet::new(),
        };
        self.records.begin(false);
        let mut tree = self.tree(revision);
        for path in &paths {
            tree.remove_by_path(path)?;
        }
        let TreeChanges { changes, parents } = tree.finish()?;
        self.sessions.end(session);
        Ok(ChangeSet {
            changes,
            parents,
            session_ended: Some(session),
            ..ChangeSet::empty(revision)
        })
    }

    /// Paths of a session's records, in the midst of an entry.
    fn ephemerals_of(&self, session: SessionId) -> Result<BTreeSet<Path>, StateError> {
        let mut prefix = Vec::new();
        keys::ephemeral(&mut prefix, session, "");
        let mut paths = BTreeSet::new();
        self.store.scan(&KeyRange::prefix(&prefix), &mut |key, _| {
            paths.extend(keys::ephemeral_of(key).map(|(_, path)| Path::from(path)));
            ControlFlow::Continue(())
        })?;
        for change in self.records.index_changes() {
            match change.index {
                Index::Ephemeral(owner) if owner == session && change.added => {
                    paths.insert(change.path.clone());
                }
                Index::Ephemeral(owner) if owner == session => {
                    paths.remove(&change.path);
                }
                _ => {}
            }
        }
        Ok(paths)
    }

    /// Ends a session without touching the rows of its records.
    fn bury(&mut self, session: SessionId) -> Result<ChangeSet, StateError> {
        let prepared = self.preparations.remove(&session);
        let mut preparation = prepared.unwrap_or_else(|| Preparation::new(session));
        self.gather(&mut preparation, usize::MAX)?;
        let (end, data_bytes) = preparation.finish();
        let count = end.records.len() as u64;
        if self.sessions.get(session).map(|session| session.ephemerals) != Some(count) {
            return Err(MISCOUNTED);
        }
        let revision = self.take_revision();
        self.records.begin(false);
        let end = Arc::new(end);
        let mut grave = Grave::new(session, revision, Arc::clone(&end));
        for path in self.records.bury(session, revision, &end) {
            if !grave.settle(&path) {
                return Err(MISCOUNTED);
            }
        }
        let taken = self.records.counters.take(Counters {
            records: count,
            ephemerals: count,
            data_bytes,
        });
        taken.ok_or(MISCOUNTED)?;
        self.sessions.end(session);
        self.graves.push(grave);
        let mut tree = self.tree(revision);
        tree.note_ended(&end);
        let TreeChanges { changes, parents } = tree.finish()?;
        Ok(ChangeSet {
            changes,
            parents,
            session_ended: Some(session),
            end: Some(end),
            ..ChangeSet::empty(revision)
        })
    }

    /// Looks at `records_max` more of a session's records; in the midst of an entry also at those
    /// that the entry made.
    fn gather(
        &mut self,
        preparation: &mut Preparation,
        records_max: usize,
    ) -> Result<(), StateError> {
        let session = preparation.session();
        let mut key = Vec::new();
        keys::ephemeral(&mut key, session, "");
        let mut range = KeyRange::prefix(&key);
        match &preparation.progress {
            Progress::All => return Ok(()),
            Progress::Nothing => {}
            Progress::UpTo(path) => {
                keys::ephemeral(&mut key, session, path);
                range = range.after(&key);
            }
        }
        let (mut paths, mut complete) = (Vec::new(), true);
        self.store.scan(&range, &mut |key, _| {
            if paths.len() >= records_max {
                complete = false;
                return ControlFlow::Break(());
            }
            paths.extend(keys::ephemeral_of(key).map(|(_, path)| Path::from(path)));
            ControlFlow::Continue(())
        })?;
        for path in &paths {
            self.gather_record(preparation, path)?;
        }
        for change in self.records.index_changes() {
            if change.added && change.index == Index::Ephemeral(session) {
                self.gather_record(preparation, &change.path)?;
            }
        }
        match (complete, paths.pop()) {
            (true, _) => preparation.progress = Progress::All,
            (false, Some(last)) => preparation.progress = Progress::UpTo(last),
            (false, None) => {}
        }
        Ok(())
    }

    fn gather_record(&self, preparation: &mut Preparation, path: &Path) -> Result<(), StateError> {
        if preparation.has(path) {
            return Ok(());
        }
        let Some(head) = self.current(path)? else {
            return Ok(());
        };
        if head.session != Some(preparation.session()) {
            return Ok(());
        }
        let parent_path = path.parent().unwrap_or_default();
        let parent_acl = match preparation.parent_acl(parent_path) {
            Some(acl) => acl,
            None => self.acl_of(parent_path)?,
        };
        preparation.add(path, &head, &parent_acl);
        Ok(())
    }

    fn acl_of(&self, path: &str) -> Result<Acl, StateError> {
        let head = self.current(path)?;
        let head = head.ok_or(StateError::Broken("a record's parent is missing"))?;
        Ok(head.acl.clone())
    }

    /// A record's head, also in the midst of an entry.
    pub(super) fn current(&self, path: &str) -> Result<Option<SharedHead>, StateError> {
        match self.records.peek(path) {
            Some(head) => Ok(head.cloned()),
            None => self.load(path),
        }
    }

    /// Deletes rows of buried sessions. The entry is in the store already: this is a batch of its
    /// own, which a crash loses or keeps together with it.
    pub(super) fn sweep(&mut self) -> Result<(), StateError> {
        let mut room = self.end_limits.swept_records_max;
        self.batch.clear();
        while room > 0
            && let Some(grave) = self.graves.next()
        {
            let (session, swept_to) = (grave.session, grave.swept_to.take());
            let paths = self.dead_paths(session, swept_to, room)?;
            for path in &paths {
                self.sweep_record(session, path)?;
            }
            room -= paths.len();
            if room > 0 {
                self.graves.remove(session);
                self.emptied_graves.push(session);
            } else if let Some(grave) = self.graves.next() {
                grave.swept_to = paths.last().cloned();
            }
        }
        self.commit_records()?;
        Ok(self.write_batch()?)
    }

    /// Of the rows of a session, the next ones.
    fn dead_paths(
        &self,
        session: SessionId,
        swept_to: Option<Path>,
        room: usize,
    ) -> Result<Vec<Path>, StateError> {
        let mut key = Vec::new();
        keys::ephemeral(&mut key, session, "");
        let mut range = KeyRange::prefix(&key);
        if let Some(swept_to) = swept_to {
            keys::ephemeral(&mut key, session, &swept_to);
            range = range.after(&key);
        }
        let mut paths: Vec<Path> = Vec::new();
        self.store.scan(&range, &mut |key, _| {
            paths.extend(keys::ephemeral_of(key).map(|(_, path)| Path::from(path)));
            match paths.len() < room {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(paths)
    }

    fn sweep_record(&mut self, session: SessionId, path: &Path) -> Result<(), StateError> {
        let key = &mut Vec::new();
        let head = match self.rows().load(path, key)? {
            Found::Dead(head) if head.session == Some(session) => head,
            _ => return Err(StateError::Broken("a dead record's row is missing")),
        };
        self.batch.delete(key);
        if value_place(&head) == ValuePlace::OwnRow {
            keys::value(key, path);
            self.batch.delete(key);
        }
        keys::ephemeral(key, session, path);
        self.batch.delete(key);
        // The parent's row counts the dead below it: it is read before, and written after, one goes.
        let rows = rows_of(&self.store, &self.acls, &self.graves);
        let parent = path.parent().unwrap_or_default();
        if let Some(slot) = self.records.find(rows, parent)? {
            self.records.head_mut(slot);
        }
        self.acls.release(&head.acl);
        match self.graves.settle(session, path) {
            true => Ok(()),
            false => Err(StateError::Broken("a dead record is in no grave")),
        }
    }
}
