//! Heads in memory: a bounded cache over the store, and in it the changes of the entry that is
//! being applied.
//!
//! A command changes slots of the cache; the entry's end writes every touched record to the batch,
//! once, whatever happened to it in between. A transaction of several operations keeps a journal
//! while it runs, so that a failure puts back exactly what was there.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use oxkeeper_model::{Acl, Head, Path, Revision, SessionEnd, SessionId, SharedHead};

use crate::StateError;
use crate::acls::AclTable;
use crate::graves::Graves;
use crate::hash::{HashKey, KeyedMap};
use crate::keys;
use crate::rows::{Counters, Meta, ValuePlace, decode_head, encode_head, value_place};
use oxkeeper_store::{RowReader, WriteBatch};

/// Heads that stay in memory between entries. About 300 bytes each.
pub(crate) const CACHED_HEADS_MAX: usize = 32_768;

pub(crate) const GONE: StateError = StateError::Broken("a record vanished within a transaction");
const MISCOUNTED: StateError = StateError::Broken("the shard has more than it counted");

/// A record's place in the cache. Good until the entry ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId(u32);

#[derive(Debug)]
struct Slot {
    path: Path,
    /// `None`: deleted by the entry that is being applied, or dead, or the slot is free.
    head: Option<SharedHead>,
    /// The stored head of a record that went with its session, until this entry overwrites the row.
    dead: Option<Box<Head>>,
    /// Index in `touched`; `None`: as in the store.
    touched: Option<u32>,
    /// Used since the last eviction.
    used: bool,
    /// Revision that last moved the children counters while the slot was in memory.
    children_moved: Revision,
}

/// A record that the entry changed.
#[derive(Debug)]
struct Touched {
    slot: SlotId,
    /// What the store has of it.
    before: Option<Before>,
    value: NewValue,
}

#[derive(Debug)]
struct Before {
    value_place: ValuePlace,
    acl: Acl,
}

#[derive(Clone, Debug)]
enum NewValue {
    Unchanged,
    Set(Option<Bytes>),
}

/// Puts back one slot.
#[derive(Debug)]
struct Undo {
    slot: SlotId,
    head: Option<SharedHead>,
    /// The value the entry had set before, if the slot was touched before.
    value: Option<NewValue>,
}

/// A row of the ephemeral or the reap index that comes or goes with the entry.
#[derive(Clone, Debug)]
pub(crate) struct IndexChange {
    pub(crate) index: Index,
    pub(crate) path: Path,
    pub(crate) added: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    Ephemeral(SessionId),
    Reap,
}

/// What [`Records::begin`] remembers.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    counters: Counters,
    puts: u64,
    index_changes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Records {
    slots: Vec<Slot>,
    free: Vec<SlotId>,
    by_path: KeyedMap<Path, SlotId>,
    /// Slots with a dead head; the entry's end frees them, unless it wrote them.
    dead: Vec<SlotId>,
    touched: Vec<Touched>,
    journal: Vec<Undo>,
    journaling: bool,
    mark: Mark,
    index_changes: Vec<IndexChange>,
    /// Changes of slots so far, those that were taken back too.
    mutations: u64,
    pub(crate) counters: Counters,
    /// Puts so far; the next one's version id.
    pub(crate) puts: u64,
    key: Vec<u8>,
}

impl Records {
    pub(crate) fn new(meta: &Meta, hash_key: HashKey) -> Self {
        Self {
            by_path: KeyedMap::with_hasher(hash_key),
            counters: meta.counters,
            puts: meta.puts,
            ..Self::default()
        }
    }

    /// The version id of a put.
    pub(crate) fn take_version_id(&mut self) -> u64 {
        let id = self.puts;
        self.puts += 1;
        id
    }

    /// Finds a record, in memory or in the store.
    pub(crate) fn find(
        &mut self,
        rows: Rows<'_, impl RowReader>,
        path: &str,
    ) -> Result<Option<SlotId>, StateError> {
        if let Some(&slot) = self.by_path.get(path) {
            let found = &mut self.slots[slot.0 as usize];
            found.used = true;
            return Ok(found.head.is_some().then_some(slot));
        }
        Ok(match rows.load(path, &mut self.key)? {
            Found::Nothing => None,
            Found::Dead(head) => {
                let slot = self.add_slot(path.into(), None);
                self.slots[slot.0 as usize].dead = Some(head.into());
                self.dead.push(slot);
                None
            }
            Found::Record(head) => Some(self.add_slot(path.into(), Some(head.into()))),
        })
    }

    fn add_slot(&mut self, path: Path, head: Option<SharedHead>) -> SlotId {
        let content = Slot {
            path: path.clone(),
            head,
            dead: None,
            touched: None,
            used: true,
            children_moved: Revision(0),
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot.0 as usize] = content;
                slot
            }
            None => {
                self.slots.push(content);
                SlotId(self.slots.len() as u32 - 1)
            }
        };
        self.by_path.insert(path, slot);
        slot
    }

    pub(crate) fn path(&self, slot: SlotId) -> &Path {
        &self.slots[slot.0 as usize].path
    }

    /// `None` if the record was deleted by this entry.
    pub(crate) fn head(&self, slot: SlotId) -> Option<&SharedHead> {
        self.slots[slot.0 as usize].head.as_ref()
    }

    /// The head, if the record is in memory; for reads between entries.
    pub(crate) fn cached(&self, path: &str) -> Option<&SharedHead> {
        self.by_path.get(path).and_then(|&slot| self.head(slot))
    }

    /// What is in memory of a path, in the midst of an entry: `Some(None)` is a record that is gone.
    pub(crate) fn peek(&self, path: &str) -> Option<Option<&SharedHead>> {
        let slot = self.by_path.get(path)?;
        Some(self.head(*slot))
    }

    /// Whether the row of `path` in the store is not what this entry has made of it.
    pub(crate) fn is_changed(&self, path: &str) -> bool {
        let slot = self.by_path.get(path);
        slot.is_some_and(|slot| self.slots[slot.0 as usize].touched.is_some())
    }

    /// Heads at and below `path` that this entry changed.
    pub(crate) fn changed_below<'a>(
        &'a self,
        path: &'a str,
    ) -> impl Iterator<Item = &'a SharedHead> + 'a {
        let slots = self
            .touched
            .iter()
            .map(|touched| &self.slots[touched.slot.0 as usize]);
        let below = move |slot: &&Slot| {
            let rest = slot.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        slots.filter(below).filter_map(|slot| slot.head.as_ref())
    }

    /// Starts a transaction; only one that may fail halfway needs a journal.
    pub(crate) fn begin(&mut self, journaling: bool) {
        self.journal.clear();
        self.journaling = journaling;
        self.mark = Mark {
            counters: self.counters,
            puts: self.puts,
            index_changes: self.index_changes.len(),
        };
    }

    /// Takes back everything since [`Self::begin`].
    pub(crate) fn roll_back(&mut self) {
        while let Some(undo) = self.journal.pop() {
            let slot = &mut self.slots[undo.slot.0 as usize];
            slot.head = undo.head;
            match (undo.value, slot.touched) {
                (Some(value), Some(at)) => self.touched[at as usize].value = value,
                _ => {
                    slot.touched = None;
                    self.touched.pop();
                    if slot.head.is_none() {
                        self.free_slot(undo.slot);
                    }
                }
            }
        }
        self.counters = self.mark.counters;
        self.puts = self.mark.puts;
        self.index_changes.truncate(self.mark.index_changes);
    }

    /// Rows of the indexes that changed since [`Self::begin`].
    pub(crate) fn index_changes_of_transaction(&self) -> &[IndexChange] {
        &self.index_changes[self.mark.index_changes..]
    }

    /// Rows of the indexes that changed in this entry and are not in the store yet.
    pub(crate) fn index_changes(&self) -> &[IndexChange] {
        &self.index_changes
    }

    /// The head, to be changed. The record must be there.
    pub(crate) fn head_mut(&mut self, slot: SlotId) -> Option<&mut Head> {
        self.touch(slot);
        self.slots[slot.0 as usize].head.as_mut().map(Arc::make_mut)
    }

    /// Notes that `revision` moved a record's children counters; says whether that is news.
    pub(crate) fn mark_parent(&mut self, slot: SlotId, revision: Revision) -> bool {
        let moved = &mut self.slots[slot.0 as usize].children_moved;
        let is_news = *moved != revision;
        *moved = revision;
        is_news
    }

    /// Tells whether anything was changed in between.
    pub(crate) fn mutations(&self) -> (u64, u64) {
        (self.mutations, self.puts)
    }

    /// Marks a slot as changed by the entry; returns its index in `touched`.
    fn touch(&mut self, id: SlotId) -> usize {
        self.mutations += 1;
        let slot = &mut self.slots[id.0 as usize];
        if self.journaling {
            let value = slot
                .touched
                .map(|at| self.touched[at as usize].value.clone());
            self.journal.push(Undo {
                slot: id,
                head: slot.head.clone(),
                value,
            });
        }
        if let Some(at) = slot.touched {
            return at as usize;
        }
        let stored = slot.head.as_deref().or(slot.dead.as_deref());
        let before = stored.map(|head| Before {
            value_place: value_place(head),
            acl: head.acl.clone(),
        });
        slot.touched = Some(self.touched.len() as u32);
        self.touched.push(Touched {
            slot: id,
            before,
            value: NewValue::Unchanged,
        });
        self.touched.len() - 1
    }

    /// Adds a record at a path that has none.
    pub(crate) fn insert(&mut self, path: Path, head: SharedHead, value: Option<Bytes>) -> SlotId {
        let slot = match self.by_path.get(&path) {
            Some(&slot) => slot,
            None => self.add_slot(path, None),
        };
        let at = self.touch(slot);
        self.counters.add(self.weight(slot, &head));
        self.index(slot, &head, true);
        self.slots[slot.0 as usize].head = Some(head);
        self.touched[at].value = NewValue::Set(value);
        slot
    }

    /// Sets the value; the head's `value_bytes` too, nothing else of it.
    pub(crate) fn set_value(
        &mut self,
        slot: SlotId,
        value: Option<Bytes>,
    ) -> Result<&mut SharedHead, StateError> {
        let at = self.touch(slot);
        let head = self.slots[slot.0 as usize].head.as_mut();
        let shared = head.ok_or(GONE)?;
        let head = Arc::make_mut(shared);
        let bytes = value.as_ref().map(|value| value.len() as u32);
        let of_value = |bytes: Option<u32>| Counters {
            data_bytes: u64::from(bytes.unwrap_or(0)),
            ..Counters::default()
        };
        let taken = self.counters.take(of_value(head.value_bytes));
        taken.ok_or(MISCOUNTED)?;
        self.counters.add(of_value(bytes));
        head.value_bytes = bytes;
        self.touched[at].value = NewValue::Set(value);
        Ok(shared)
    }

    /// Removes a record; returns its last head.
    pub(crate) fn remove(&mut self, slot: SlotId) -> Result<SharedHead, StateError> {
        let at = self.touch(slot);
        let head = self.slots[slot.0 as usize].head.take().ok_or(GONE)?;
        let weight = self.weight(slot, &head);
        self.counters.take(weight).ok_or(MISCOUNTED)?;
        self.index(slot, &head, false);
        self.touched[at].value = NewValue::Unchanged;
        Ok(head)
    }

    /// Takes a session's end in: what is in memory of its records and their parents is brought to
    /// after it. Looks at no more than the cache holds. Returns the records whose rows this entry
    /// itself had changed; it deletes them now.
    pub(crate) fn bury(
        &mut self,
        grave: SessionId,
        ended: Revision,
        end: &SessionEnd,
    ) -> Vec<Path> {
        let mut deleted = Vec::new();
        for id in self.cached_of(&end.records) {
            let slot = &mut self.slots[id.0 as usize];
            let Some(at) = slot.touched else {
                self.free_slot(id);
                continue;
            };
            slot.head = None;
            self.touched[at as usize].value = NewValue::Unchanged;
            deleted.push(slot.path.clone());
            self.index_changes.push(IndexChange {
                index: Index::Ephemeral(grave),
                path: slot.path.clone(),
                added: false,
            });
        }
        for id in self.cached_of(&end.parents) {
            let slot = &mut self.slots[id.0 as usize];
            if let (Some(head), Some(parent)) = (&mut slot.head, end.parents.get(&slot.path)) {
                parent.follow(Arc::make_mut(head), ended);
            }
        }
        deleted
    }

    /// Slots of those paths that are in memory.
    fn cached_of<V>(&self, paths: &BTreeMap<Path, V>) -> Vec<SlotId> {
        if paths.len() <= self.by_path.len() {
            let slot = |path| self.by_path.get(path).copied();
            return paths.keys().filter_map(slot).collect();
        }
        let in_use = |slot: &Slot| slot.head.is_some() && paths.contains_key(&slot.path);
        let slots = self.slots.iter().enumerate();
        slots
            .filter(|(_, slot)| in_use(slot))
            .map(|(at, _)| SlotId(at as u32))
            .collect()
    }

    /// What the counters have of a record.
    fn weight(&self, slot: SlotId, head: &Head) -> Counters {
        Counters {
            records: 1,
            ephemerals: u64::from(head.session.is_some()),
            data_bytes: self.path(slot).len() as u64 + u64::from(head.value_bytes.unwrap_or(0)),
        }
    }

    /// Index rows of a record that comes or goes.
    fn index(&mut self, slot: SlotId, head: &Head, added: bool) {
        let path = &self.slots[slot.0 as usize].path;
        if let Some(session) = head.session {
            let index = Index::Ephemeral(session);
            self.index_changes.push(IndexChange {
                index,
                path: path.clone(),
                added,
            });
        }
        if head.lifetime.ages() {
            self.index_changes.push(IndexChange {
                index: Index::Reap,
                path: path.clone(),
                added,
            });
        }
    }

    /// The record's value.
    pub(crate) fn value(
        &mut self,
        store: &impl RowReader,
        slot: SlotId,
    ) -> Result<Option<Bytes>, StateError> {
        let Slot {
            path,
            head,
            touched,
            ..
        } = &self.slots[slot.0 as usize];
        let touched = touched.map(|at| &self.touched[at as usize]);
        if let Some(NewValue::Set(value)) = touched.map(|touched| &touched.value) {
            return Ok(value.clone());
        }
        let Some(head) = head else { return Ok(None) };
        // The entry may have moved the value's place, but not in the store yet.
        let before = touched.and_then(|touched| touched.before.as_ref());
        let place = before.map_or_else(|| value_place(head), |before| before.value_place);
        load_value(store, path, head, place, &mut self.key)
    }

    /// Writes everything the entry changed to the batch and starts the next one.
    pub(crate) fn commit(&mut self, to: &mut Commit<'_, impl RowReader>) -> Result<(), StateError> {
        self.settle_dead(to)?;
        for at in 0..self.touched.len() {
            self.commit_record(at, to)?;
        }
        self.touched.clear();
        for change in self.index_changes.drain(..) {
            match change.index {
                Index::Ephemeral(session) => keys::ephemeral(&mut self.key, session, &change.path),
                Index::Reap => keys::reap(&mut self.key, &change.path),
            }
            if change.added {
                to.batch.put(&self.key, &[]);
            } else {
                to.batch.delete(&self.key);
            }
        }
        self.evict(CACHED_HEADS_MAX);
        Ok(())
    }

    /// Rows that this entry overwrites are no longer their dead owner's. Before any parent is
    /// written: its row counts the dead that are left.
    fn settle_dead(&mut self, to: &mut Commit<'_, impl RowReader>) -> Result<(), StateError> {
        for id in std::mem::take(&mut self.dead) {
            let slot = &mut self.slots[id.0 as usize];
            let Some(dead) = slot.dead.take() else {
                continue;
            };
            if slot.touched.is_none() {
                self.free_slot(id);
                continue;
            }
            let owner = dead
                .session
                .ok_or(StateError::Broken("dead without owner"))?;
            if !to.graves.settle(owner, &slot.path) {
                return Err(StateError::Broken("a dead record is in no grave"));
            }
            keys::ephemeral(&mut self.key, owner, &slot.path);
            to.batch.delete(&self.key);
        }
        Ok(())
    }

    fn commit_record(
        &mut self,
        at: usize,
        to: &mut Commit<'_, impl RowReader>,
    ) -> Result<(), StateError> {
        let Touched {
            slot: id,
            before,
            value,
        } = &self.touched[at];
        let slot = &mut self.slots[id.0 as usize];
        to.count_acls(
            before.as_ref().map(|before| &before.acl),
            slot.head.as_deref(),
        );
        let before_place = before
            .as_ref()
            .map_or(ValuePlace::Nowhere, |before| before.value_place);
        let place = slot
            .head
            .as_deref()
            .map_or(ValuePlace::Nowhere, value_place);
        keys::head(&mut self.key, &slot.path);
        let value = match value {
            _ if place == ValuePlace::Nowhere => None,
            NewValue::Set(value) => value.clone(),
            NewValue::Unchanged if before_place == ValuePlace::AfterHead => {
                Some(load_inline(to.store, &self.key)?)
            }
            NewValue::Unchanged => None,
        };
        match &slot.head {
            Some(head) => to.put_head(&self.key, &slot.path, head, place, value.as_ref())?,
            None if before.is_some() => to.batch.delete(&self.key),
            None => {}
        }
        match value {
            Some(value) if place == ValuePlace::OwnRow => {
                keys::value(&mut self.key, &slot.path);
                to.batch.put(&self.key, &value);
            }
            _ if before_place == ValuePlace::OwnRow && place != ValuePlace::OwnRow => {
                keys::value(&mut self.key, &slot.path);
                to.batch.delete(&self.key);
            }
            _ => {}
        }
        slot.touched = None;
        let (id, deleted) = (*id, slot.head.is_none());
        if deleted {
            self.free_slot(id);
        }
        Ok(())
    }

    fn free_slot(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.0 as usize];
        self.by_path.remove(&slot.path);
        (slot.head, slot.dead, slot.touched) = (None, None, None);
        self.free.push(id);
    }

    /// Forgets what was not used since the last time, once there is more than `max`.
    fn evict(&mut self, max: usize) {
        if self.by_path.len() <= max {
            return;
        }
        let excess = self.by_path.len() - max / 2;
        let mut evicted = 0;
        for pass in 0..2 {
            for at in 0..self.slots.len() {
                let slot = &mut self.slots[at];
                if slot.head.is_none() {
                    continue;
                }
                if slot.used && pass == 0 {
                    slot.used = false;
                } else if evicted < excess {
                    self.free_slot(SlotId(at as u32));
                    evicted += 1;
                }
            }
            // What is left over fits: the second pass is for a cache full of used records.
            if self.by_path.len() <= max {
                break;
            }
        }
    }
}

/// Where an entry's changes go.
pub(crate) struct Commit<'a, S> {
    pub(crate) store: &'a S,
    pub(crate) batch: &'a mut WriteBatch,
    pub(crate) acls: &'a mut AclTable,
    pub(crate) graves: &'a mut Graves,
    pub(crate) next_acl_id: &'a mut u64,
}

impl<S> Commit<'_, S> {
    fn count_acls(&mut self, before: Option<&Acl>, head: Option<&Head>) {
        let after = head.map(|head| &head.acl);
        if before == after {
            return;
        }
        if let Some(acl) = after {
            self.acls.retain(acl, self.next_acl_id);
        }
        if let Some(acl) = before {
            self.acls.release(acl);
        }
    }

    fn put_head(
        &mut self,
        key: &[u8],
        path: &str,
        head: &Head,
        place: ValuePlace,
        value: Option<&Bytes>,
    ) -> Result<(), StateError> {
        let acl_id = self
            .acls
            .id(&head.acl)
            .ok_or(StateError::Broken("unknown access list"))?;
        let mut with_dead = None;
        let live = self.graves.stored_live(path, head.children.live);
        if live != head.children.live {
            with_dead.insert(head.clone()).children.live = live;
        }
        let head = with_dead.as_ref().unwrap_or(head);
        if place != ValuePlace::AfterHead {
            self.batch
                .put_with(key, |out| encode_head(out, head, acl_id));
            return Ok(());
        }
        let value = value.ok_or(StateError::Broken("a value moved behind its head unread"))?;
        self.batch.put_with(key, |out| {
            encode_head(out, head, acl_id);
            out.extend_from_slice(value);
        });
        Ok(())
    }
}

/// Where records are read from.
#[derive(Debug)]
pub(crate) struct Rows<'a, S> {
    pub(crate) store: &'a S,
    pub(crate) acls: &'a AclTable,
    pub(crate) graves: &'a Graves,
}

impl<S> Clone for Rows<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Rows<'_, S> {}

pub(crate) fn rows_of<'a, S>(store: &'a S, acls: &'a AclTable, graves: &'a Graves) -> Rows<'a, S> {
    Rows {
        store,
        acls,
        graves,
    }
}

/// What the store has at a path.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    /// The head of a record that went with its session.
    Dead(Head),
    Record(Head),
}

impl<S: RowReader> Rows<'_, S> {
    /// Reads what is at `path`; `key` is scratch space.
    pub(crate) fn load(self, path: &str, key: &mut Vec<u8>) -> Result<Found, StateError> {
        keys::head(key, path);
        let mut found = None;
        self.store.get(key, &mut |row| {
            found = Some(self.decode(path, row));
        })?;
        found.unwrap_or(Ok(Found::Nothing))
    }

    /// Visits the heads of the records below `path` that `wanted` names; the rows of others are not
    /// read. Looked for level by level: below a level without rows there are none.
    pub(crate) fn each_below(
        self,
        path: &str,
        wanted: impl Fn(&str) -> bool,
        mut visit: impl FnMut(&str, Head),
    ) -> Result<(), StateError> {
        let mut scratch = String::new();
        for level in 1.. {
            let (mut is_empty, mut result) = (true, Ok(()));
            let range = keys::descendants_at(path, level);
            self.store.scan(&range, &mut |key, row| {
                is_empty = false;
                let Some(below) = keys::path_of(key, &mut scratch).filter(|below| wanted(below))
                else {
                    return ControlFlow::Continue(());
                };
                match self.decode(below, row) {
                    Ok(Found::Record(head)) => visit(below, head),
                    Ok(_) => {}
                    Err(error) => {
                        result = Err(error);
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            })?;
            result?;
            if is_empty {
                break;
            }
        }
        Ok(())
    }

    /// Whether the row of a head is of a record that went with its session. Cheap while there are none.
    pub(crate) fn is_dead(self, path: &str, row: &[u8]) -> Result<bool, StateError> {
        Ok(!self.graves.is_empty() && matches!(self.decode(path, row)?, Found::Dead(_)))
    }

    /// What the row of the head at `path` says.
    pub(crate) fn decode(self, path: &str, row: &[u8]) -> Result<Found, StateError> {
        let (mut head, _) = decode_head(row, |id| self.acls.get(id))?;
        if self.graves.is_dead(&head) {
            return Ok(Found::Dead(head));
        }
        match self.graves.disinter(path, &mut head) {
            true => Ok(Found::Record(head)),
            false => Err(StateError::Broken("more children are dead than stored")),
        }
    }
}

/// Reads a record's value from where the store has it; `key` is scratch space.
pub(crate) fn load_value(
    store: &impl RowReader,
    path: &str,
    head: &Head,
    place: ValuePlace,
    key: &mut Vec<u8>,
) -> Result<Option<Bytes>, StateError> {
    match place {
        ValuePlace::Nowhere => Ok(head.value_bytes.map(|_| Bytes::new())),
        ValuePlace::AfterHead => {
            keys::head(key, path);
            load_inline(store, key).map(Some)
        }
        ValuePlace::OwnRow => {
            keys::value(key, path);
            let mut value = None;
            store.get(key, &mut |row| value = Some(Bytes::copy_from_slice(row)))?;
            Ok(Some(value.ok_or(StateError::Broken(
                "a record has lost its value",
            ))?))
        }
    }
}

/// Reads the value after the head at `key`.
fn load_inline(store: &impl RowReader, key: &[u8]) -> Result<Bytes, StateError> {
    let no_acl: Acl = [].into();
    let mut value = None;
    store.get(key, &mut |row| {
        // Its access list may be one that this entry has just dropped; it is not needed here.
        let decoded = decode_head(row, |_| Some(no_acl.clone()));
        value = Some(decoded.map(|(_, value)| Bytes::copy_from_slice(value)));
    })?;
    value
        .transpose()?
        .ok_or(StateError::Broken("a record has lost its head"))
}
