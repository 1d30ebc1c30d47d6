//! The tree view: a bounded cache of records and child lists, exact as of the link's position.
//!
//! Only the consumer of the link changes it, one revision at a time and with exclusive access, so
//! readers always see a whole revision. What is not cached is [`Lookup::Unknown`], never a guess:
//! the reader then asks the shard, and the answer comes back in order.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use oxkeeper_client::{ChildNames, Fetched};
use oxkeeper_model::{Change, ChangeKind, ChangeSet, ChangedValue, Head, Path, Revision};
use rustc_hash::FxHashMap;

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

/// Allocations around a slot beside its texts and value: table entry, head, queue entry.
const SLOT_OVERHEAD_BYTES: usize = 480;
/// The same for a name in a child list.
const CHILD_OVERHEAD_BYTES: usize = 40;

pub(crate) struct View {
    /// Last revision that is in the view. Moves with every revision, also of failed transactions.
    position: Revision,
    /// Boxed, as a table that grows by doubling has many empty places.
    slots: FxHashMap<Path, Box<Slot>>,
    /// Keys in the order in which they are considered for eviction.
    /// Invariant: holds every key of `slots` exactly once.
    clock: VecDeque<Path>,
    /// Sum of `Slot::bytes`.
    used_bytes: usize,
    budget_bytes: usize,
}

struct Slot {
    /// `None`: there is no such record.
    head: Option<Head>,
    /// `None`: not cached. `Some(None)`: null.
    value: Option<Option<Bytes>>,
    /// `None`: not cached.
    children: Option<ChildSet>,
    children_bytes: usize,
    /// Read since the clock hand passed.
    referenced: AtomicBool,
    /// What this slot counts for in `View::used_bytes`.
    bytes: usize,
}

impl Slot {
    fn new(head: Option<Head>) -> Self {
        Self {
            head,
            value: None,
            children: None,
            children_bytes: 0,
            referenced: AtomicBool::new(false),
            bytes: 0,
        }
    }

    fn touch(&self) {
        if !self.referenced.load(Ordering::Relaxed) {
            self.referenced.store(true, Ordering::Relaxed);
        }
    }

    fn measure(&self, path: &str) -> usize {
        let value = self
            .value
            .as_ref()
            .and_then(Option::as_ref)
            .map_or(0, Bytes::len);
        SLOT_OVERHEAD_BYTES + path.len() + value + self.children_bytes
    }
}

impl View {
    pub(crate) fn new(position: Revision, budget_bytes: usize) -> Self {
        Self {
            position,
            slots: FxHashMap::default(),
            clock: VecDeque::new(),
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
        let Some(slot) = self.slots.get(path) else {
            return Lookup::Unknown;
        };
        slot.touch();
        slot.head.as_ref().map_or(Lookup::Absent, Lookup::Present)
    }

    /// The head with the value.
    pub(crate) fn record(&self, path: &str) -> Lookup<(&Head, Option<&Bytes>)> {
        let Some(slot) = self.slots.get(path) else {
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
        let Some(slot) = self.slots.get(path) else {
            return Lookup::Unknown;
        };
        slot.touch();
        match (&slot.head, &slot.children) {
            (None, _) => Lookup::Absent,
            (Some(head), Some(children)) => Lookup::Present((head, children)),
            (Some(_), None) => Lookup::Unknown,
        }
    }

    /// Takes in one revision.
    pub(crate) fn apply(&mut self, set: &ChangeSet) {
        debug_assert!(set.revision > self.position);
        self.position = set.revision;
        for change in &set.changes {
            self.apply_change(change);
        }
        for (path, head) in &set.parents {
            self.put_head(path, head.clone());
        }
        self.evict();
    }

    fn apply_change(&mut self, change: &Change) {
        match change.kind {
            ChangeKind::Created => {
                self.forget(&change.path);
                self.put_head(&change.path, change.head.clone());
                self.put_value(change);
                // A new record has no children, and that is known.
                self.update(&change.path, |slot| slot.children = Some(ChildSet::new()));
                self.change_children_of_parent(&change.path, true);
            }
            ChangeKind::ValueSet => {
                self.put_head(&change.path, change.head.clone());
                self.put_value(change);
            }
            ChangeKind::AclSet => self.put_head(&change.path, change.head.clone()),
            ChangeKind::Deleted => {
                self.forget(&change.path);
                self.change_children_of_parent(&change.path, false);
            }
        }
    }

    /// Takes in a record that the shard was asked for, `None` if there is none.
    pub(crate) fn insert_fetched(&mut self, path: &Path, fetched: Option<&Fetched>) {
        match fetched {
            None => self.update(path, |slot| {
                *slot = Slot {
                    bytes: slot.bytes,
                    ..Slot::new(None)
                };
            }),
            Some(fetched) => {
                self.put_head(path, fetched.head.clone());
                if let Some(value) = &fetched.value {
                    self.update(path, |slot| slot.value = Some(value.clone()));
                }
            }
        }
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
        self.put_head(path, found.head.clone());
        if bytes <= self.budget_bytes / CHILD_LIST_BUDGET_SHARE {
            let names = found.names.iter().cloned().collect();
            self.update(path, |slot| {
                slot.children = Some(names);
                slot.children_bytes = bytes;
            });
        }
        self.evict();
    }

    fn put_head(&mut self, path: &Path, head: Head) {
        self.update(path, |slot| slot.head = Some(head));
    }

    fn put_value(&mut self, change: &Change) {
        self.update(&change.path, |slot| match &change.value {
            ChangedValue::Set(value) => slot.value = Some(value.clone()),
            ChangedValue::Omitted => slot.value = None,
            ChangedValue::Unchanged => {}
        });
    }

    /// Known to be absent from now on, if anything was known at all; a record that was never
    /// looked at is not worth a slot.
    fn forget(&mut self, path: &Path) {
        if self.slots.contains_key(path) {
            self.update(path, |slot| {
                *slot = Slot {
                    bytes: slot.bytes,
                    ..Slot::new(None)
                }
            });
        }
    }

    fn change_children_of_parent(&mut self, child: &Path, added: bool) {
        let Some(parent) = child.parent() else { return };
        let Some(slot) = self.slots.get_mut(parent) else {
            return;
        };
        let Some(children) = &mut slot.children else {
            return;
        };
        let name = child.name();
        let bytes = name.len() + CHILD_OVERHEAD_BYTES;
        if added && children.insert(name.into()) {
            slot.children_bytes += bytes;
            slot.bytes += bytes;
            self.used_bytes += bytes;
        } else if !added && children.remove(name) {
            slot.children_bytes -= bytes;
            slot.bytes -= bytes;
            self.used_bytes -= bytes;
        }
        if slot.children_bytes > self.budget_bytes / CHILD_LIST_BUDGET_SHARE {
            self.used_bytes -= slot.children_bytes;
            slot.bytes -= slot.children_bytes;
            slot.children_bytes = 0;
            slot.children = None;
        }
    }

    fn update(&mut self, path: &Path, change: impl FnOnce(&mut Slot)) {
        let slot = match self.slots.get_mut(path) {
            Some(slot) => slot,
            None => {
                self.clock.push_back(path.clone());
                self.slots
                    .entry(path.clone())
                    .or_insert_with(|| Box::new(Slot::new(None)))
            }
        };
        let before = slot.bytes;
        change(slot);
        slot.bytes = slot.measure(path);
        self.used_bytes = self.used_bytes + slot.bytes - before;
    }

    /// Second-chance eviction until the budget holds: what was read since the hand last passed stays.
    fn evict(&mut self) {
        while self.used_bytes > self.budget_bytes {
            let Some(path) = self.clock.pop_front() else {
                return;
            };
            let Some(slot) = self.slots.get(&path) else {
                continue;
            };
            if slot.referenced.swap(false, Ordering::Relaxed) {
                self.clock.push_back(path);
            } else if let Some(slot) = self.slots.remove(&path) {
                self.used_bytes -= slot.bytes;
            }
        }
    }

    /// The bookkeeping agrees with the slots.
    #[cfg(test)]
    fn check_invariants(&self) {
        assert_eq!(self.clock.len(), self.slots.len());
        assert!(self.clock.iter().all(|path| self.slots.contains_key(path)));
        let used: usize = self
            .slots
            .iter()
            .map(|(path, slot)| slot.measure(path))
            .sum();
        assert_eq!(used, self.used_bytes);
    }
}

#[cfg(test)]
mod tests;
