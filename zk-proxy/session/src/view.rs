//! The tree view: a bounded cache of records and child lists, exact as of the link's position.
//!
//! Only the consumer of the link changes it, one revision at a time and with exclusive access, so
//! readers always see a whole revision. What is not cached is [`Lookup::Unknown`], never a guess:
//! the reader then asks the shard, and the answer comes back in order.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hashbrown::HashTable;
use oxkeeper_model::{
    Change, ChangeKind, ChangeSet, ChangedValue, ChildNames, Fetched, Head, Path, Revision,
    SessionEnd, SharedHead,
};
use rustc_hash::FxBuildHasher;

use crate::limits::CHILD_LIST_BUDGET_SHARE;

/// What the view knows of something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup<T> {
    /// There is no such record.
    Absent,
    Present(T),
    /// Not cached.
    Unknown,
}

pub(crate) type ChildSet = BTreeSet<Box<str>>;

/// What of a record a read needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Head,
    Value,
    Children,
}

/// Keeps a record and what is known of it in the view, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    _slot: Option<Arc<()>>,
    /// About what the part takes in a reply, now.
    pub(crate) bytes: usize,
}

impl Pin {
    /// Of a read that needs nothing of the view.
    pub(crate) fn nothing() -> Self {
        Self {
            _slot: None,
            bytes: 0,
        }
    }
}

/// What a slot takes beside its text, value and children: itself, its table entry, its head.
const SLOT_OVERHEAD_BYTES: usize = 400;
/// The same for a name in a child list.
const CHILD_OVERHEAD_BYTES: usize = 40;

pub(crate) struct View {
    /// Last revision that is in the view. Moves with every revision, also of failed transactions.
    position: Revision,
    /// Places of `slots`, by path. Invariant: holds exactly the taken ones.
    by_path: HashTable<u32>,
    /// In no order; the clock hand goes round them.
    slots: Vec<Option<Slot>>,
    /// Places of `slots` that are not taken.
    free: Vec<u32>,
    /// The place of `slots` that is considered next for eviction.
    hand: usize,
    /// Sum of `Slot::bytes`.
    used_bytes: usize,
    budget_bytes: usize,
}

struct Slot {
    path: Path,
    /// Of the path.
    hash: u64,
    /// `None`: there is no such record.
    head: Option<SharedHead>,
    /// `None`: not cached. `Some(None)`: null.
    value: Option<Option<Bytes>>,
    /// `None`: not cached.
    children: Option<ChildSet>,
    children_bytes: usize,
    /// Read since the clock hand passed.
    referenced: AtomicBool,
    /// Others hold it too while the slot must stay.
    pins: OnceLock<Arc<()>>,
    /// What this slot counts for in `View::used_bytes`.
    bytes: usize,
}

impl Slot {
    fn touch(&self) {
        if !self.referenced.load(Ordering::Relaxed) {
            self.referenced.store(true, Ordering::Relaxed);
        }
    }

    fn is_pinned(&self) -> bool {
        let pins = self.pins.get();
        pins.is_some_and(|pins| Arc::strong_count(pins) > 1)
    }

    /// There is no such record, or nothing is known of it yet.
    fn clear(&mut self) {
        self.head = None;
        self.value = None;
        self.children = None;
        self.children_bytes = 0;
        *self.referenced.get_mut() = false;
    }

    fn set_value(&mut self, value: &ChangedValue) {
        match value {
            ChangedValue::Set(value) => self.value = Some(value.clone()),
            ChangedValue::Unchanged => {}
        }
    }

    fn measure(&self) -> usize {
        let value = self.value.as_ref().and_then(Option::as_ref);
        SLOT_OVERHEAD_BYTES + self.path.len() + value.map_or(0, Bytes::len) + self.children_bytes
    }
}

fn hash(path: &str) -> u64 {
    FxBuildHasher.hash_one(path)
}

impl View {
    pub(crate) fn new(position: Revision, budget_bytes: usize) -> Self {
        Self {
            position,
            by_path: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            used_bytes: 0,
            budget_bytes,
        }
    }

    pub(crate) fn position(&self) -> Revision {
        self.position
    }

    /// The link starts here: nothing is known of before.
    pub(crate) fn start_at(&mut self, position: Revision) {
        *self = Self::new(position, self.budget_bytes);
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    pub(crate) fn head(&self, path: &str) -> Lookup<&Head> {
        let Some(slot) = self.find(path) else {
            return Lookup::Unknown;
        };
        slot.touch();
        slot.head.as_deref().map_or(Lookup::Absent, Lookup::Present)
    }

    /// The head with the value.
    pub(crate) fn record(&self, path: &str) -> Lookup<(&Head, Option<&Bytes>)> {
        let Some(slot) = self.find(path) else {
            return Lookup::Unknown;
        };
        slot.touch();
        match (&slot.head, &slot.value) {
            (None, _) => Lookup::Absent,
            (Some(head), Some(value)) => Lookup::Present((head, value.as_ref())),
            (Some(_), None) => Lookup::Unknown,
        }
    }

    /// The head with the names of the children.
    pub(crate) fn children(&self, path: &str) -> Lookup<(&Head, &ChildSet)> {
        let Some(slot) = self.find(path) else {
            return Lookup::Unknown;
        };
        slot.touch();
        match (&slot.head, &slot.children) {
            (None, _) => Lookup::Absent,
            (Some(head), Some(children)) => Lookup::Present((head, children)),
            (Some(_), None) => Lookup::Unknown,
        }
    }

    /// Keeps what is known of `path` if that is all of `part`. It then stays known, through every
    /// change, until the pin is dropped.
    pub(crate) fn pin(&self, path: &str, part: Part) -> Option<Pin> {
        let slot = self.find(if path.is_empty() { "/" } else { path })?;
        let bytes = match (part, &slot.head) {
            (_, None) | (Part::Head, _) => 0,
            (Part::Value, _) => slot.value.as_ref()?.as_ref().map_or(0, Bytes::len),
            (Part::Children, _) => slot.children.as_ref().map(|_| slot.children_bytes)?,
        };
        let pins = slot.pins.get_or_init(Arc::default);
        Some(Pin {
            _slot: Some(Arc::clone(pins)),
            bytes,
        })
    }

    /// Takes in one revision.
    pub(crate) fn apply(&mut self, set: &ChangeSet) {
        assert_eq!(
            set.revision,
            self.position.next(),
            "the link promises exactly the next revision"
        );
        self.position = set.revision;
        for change in &set.changes {
            self.apply_change(change);
        }
        for (path, head) in &set.parents {
            self.follow(path, false, |slot| slot.head = Some(head.clone()));
        }
        if let Some(end) = &set.end {
            self.apply_end(end, set.revision);
        }
        self.evict();
    }

    /// A session ended that owned much.
    fn apply_end(&mut self, end: &SessionEnd, revision: Revision) {
        for path in end.records.keys() {
            self.forget(path);
        }
        for (path, parent) in &end.parents {
            if let Some(at) = self.place(path) {
                self.change_slot(at, |slot| {
                    if let Some(head) = &mut slot.head {
                        parent.follow(Arc::make_mut(head), revision);
                    }
                });
            }
        }
    }

    /// There is no record at `path` any more.
    fn forget(&mut self, path: &Path) {
        self.change_children_of_parent(path, false);
        if let Some(at) = self.place(path) {
            self.change_slot(at, Slot::clear);
        }
    }

    fn apply_change(&mut self, change: &Change) {
        match change.kind {
            ChangeKind::Created => {
                let parent_is_read = self.change_children_of_parent(&change.path, true);
                self.follow(&change.path, parent_is_read, |slot| {
                    slot.clear();
                    slot.head = Some(change.head.clone());
                    slot.set_value(&change.value);
                    // A new record has no children, and that is known.
                    slot.children = Some(ChildSet::new());
                });
            }
            ChangeKind::ValueSet | ChangeKind::AclSet | ChangeKind::Recounted => {
                self.follow(&change.path, false, |slot| {
                    slot.head = Some(change.head.clone());
                    slot.set_value(&change.value);
                });
            }
            ChangeKind::Deleted => self.forget(&change.path),
        }
    }

    /// Takes in a record that the shard was asked for, `None` if there is none.
    pub(crate) fn insert_fetched(&mut self, path: &Path, fetched: Option<&Fetched>) {
        self.update(path, |slot| {
            match fetched {
                None => slot.clear(),
                Some(fetched) => {
                    slot.head = Some(fetched.head.clone());
                    if let Some(value) = &fetched.value {
                        slot.value = Some(value.clone());
                    }
                }
            }
            slot.touch();
        });
        self.evict();
    }

    /// Takes in a child list that the shard was asked for, unless it is too long to keep.
    pub(crate) fn insert_children(&mut self, path: &Path, found: Option<&ChildNames>) {
        let Some(found) = found else {
            self.insert_fetched(path, None);
            return;
        };
        let bytes = found
            .names
            .iter()
            .map(|name| name.len() + CHILD_OVERHEAD_BYTES)
            .sum();
        let is_kept = bytes <= self.budget_bytes / CHILD_LIST_BUDGET_SHARE;
        self.update(path, |slot| {
            slot.head = Some(found.head.clone());
            if is_kept {
                slot.children = Some(found.names.iter().cloned().collect());
                slot.children_bytes = bytes;
            }
            slot.touch();
        });
        self.evict();
    }

    /// Says whether the parent was read since the clock hand passed.
    fn change_children_of_parent(&mut self, child: &Path, added: bool) -> bool {
        let Some(at) = child.parent().and_then(|parent| self.place(parent)) else {
            return false;
        };
        let children_bytes_max = self.budget_bytes / CHILD_LIST_BUDGET_SHARE;
        let name = child.name();
        let bytes = name.len() + CHILD_OVERHEAD_BYTES;
        let mut is_read = false;
        self.change_slot(at, |slot| {
            is_read = *slot.referenced.get_mut();
            let Some(children) = &mut slot.children else {
                return;
            };
            if added && children.insert(name.into()) {
                slot.children_bytes += bytes;
            } else if !added && children.remove(name) {
                slot.children_bytes -= bytes;
            }
            if slot.children_bytes > children_bytes_max && !slot.is_pinned() {
                slot.children_bytes = 0;
                slot.children = None;
            }
        });
        is_read
    }

    /// Where the slot of a path is.
    fn place(&self, path: &str) -> Option<usize> {
        let slot = |at: u32| self.slots[at as usize].as_ref();
        let is_at = |&at: &u32| slot(at).is_some_and(|slot| *slot.path == *path);
        self.by_path.find(hash(path), is_at).map(|&at| at as usize)
    }

    fn find(&self, path: &str) -> Option<&Slot> {
        self.slots[self.place(path)?].as_ref()
    }

    /// Changes the slot of a path; one that is not there yet knows nothing.
    fn update(&mut self, path: &Path, change: impl FnOnce(&mut Slot)) {
        let at = self.place(path).unwrap_or_else(|| self.take_place(path));
        self.change_slot(at, change);
    }

    /// Takes in what a write did. A record that nobody has read gets a slot only while there is room,
    /// or if it is `likely` to be read soon: writes alone push nothing out.
    fn follow(&mut self, path: &Path, likely: bool, change: impl FnOnce(&mut Slot)) {
        let at = match self.place(path) {
            Some(at) => at,
            None if likely || self.has_room() => self.take_place(path),
            None => return,
        };
        self.change_slot(at, change);
    }

    fn has_room(&self) -> bool {
        self.used_bytes + 2 * SLOT_OVERHEAD_BYTES <= self.budget_bytes
    }

    fn change_slot(&mut self, at: usize, change: impl FnOnce(&mut Slot)) {
        let Some(slot) = &mut self.slots[at] else {
            return;
        };
        let before = slot.bytes;
        change(slot);
        slot.bytes = slot.measure();
        self.used_bytes = self.used_bytes + slot.bytes - before;
    }

    fn take_place(&mut self, path: &Path) -> usize {
        let hash = hash(path);
        let slot = Slot {
            path: path.clone(),
            hash,
            head: None,
            value: None,
            children: None,
            children_bytes: 0,
            referenced: AtomicBool::new(false),
            pins: OnceLock::new(),
            bytes: 0,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = Some(slot);
                at
            }
            None => {
                self.slots.push(Some(slot));
                self.slots.len() as u32 - 1
            }
        };
        let slots = &self.slots;
        let hash_of = |&at: &u32| slots[at as usize].as_ref().map_or(0, |slot| slot.hash);
        self.by_path.insert_unique(hash, at, hash_of);
        at as usize
    }

    /// Second-chance eviction until the budget holds or only pinned slots are left: what was read since
    /// the hand last passed stays.
    fn evict(&mut self) {
        let mut left = 2 * self.slots.len();
        while self.used_bytes > self.budget_bytes && left > 0 {
            left -= 1;
            let at = self.hand;
            self.hand = (at + 1) % self.slots.len();
            let is_spared =
                |slot: &mut Slot| std::mem::take(slot.referenced.get_mut()) || slot.is_pinned();
            if let Some(slot) = self.slots[at].take_if(|slot| !is_spared(slot)) {
                self.used_bytes -= slot.bytes;
                let entry = self
                    .by_path
                    .find_entry(slot.hash, |&place| place as usize == at);
                if let Ok(entry) = entry {
                    entry.remove();
                }
                self.free.push(at as u32);
            }
        }
    }

    /// The bookkeeping agrees with the slots.
    #[cfg(test)]
    fn check_invariants(&self) {
        let taken = || self.slots.iter().flatten();
        assert_eq!(self.by_path.len(), taken().count());
        assert_eq!(self.by_path.len() + self.free.len(), self.slots.len());
        assert!(taken().all(|slot| self.find(&slot.path).is_some()));
        assert_eq!(taken().map(Slot::measure).sum::<usize>(), self.used_bytes);
    }
}

#[cfg(test)]
mod tests;
