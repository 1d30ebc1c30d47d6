//! The interned access lists of a shard: records with equal lists share one, in memory and on disk.
//!
//! How many records have a list is counted, so that a list nobody has is forgotten.

use std::sync::Arc;

use oxkeeper_model::Acl;
use rustc_hash::{FxHashMap, FxHashSet};

#[derive(Debug)]
struct Interned {
    acl: Acl,
    /// Records that have the list. Invariant: equals the heads that name it.
    references: u64,
}

/// Numbers are given in apply order and never reused, so that replicas agree on them.
#[derive(Debug, Default)]
pub(crate) struct AclTable {
    by_id: FxHashMap<u64, Interned>,
    ids: FxHashMap<Acl, u64>,
    /// Lists whose rows differ from the store's.
    unsaved: FxHashSet<u64>,
    /// The list that was looked up last: most records of a tree have the same.
    last: Option<(Acl, u64)>,
}

impl AclTable {
    /// Puts back a list that was stored.
    pub(crate) fn restore(&mut self, id: u64, acl: Acl, references: u64) {
        self.ids.insert(acl.clone(), id);
        self.by_id.insert(id, Interned { acl, references });
    }

    pub(crate) fn get(&self, id: u64) -> Option<Acl> {
        self.by_id.get(&id).map(|interned| interned.acl.clone())
    }

    /// The shared list that equals `acl`; `acl` itself if there is none yet.
    pub(crate) fn shared(&self, acl: &Acl) -> Acl {
        if let Some((last, _)) = &self.last
            && last == acl
        {
            return last.clone();
        }
        self.ids
            .get_key_value(acl)
            .map_or(acl, |(shared, _)| shared)
            .clone()
    }

    /// The number of a list that some record has.
    pub(crate) fn id(&self, acl: &Acl) -> Option<u64> {
        if let Some((last, id)) = &self.last
            && Arc::ptr_eq(last, acl)
        {
            return Some(*id);
        }
        self.ids.get(acl).copied()
    }

    /// One more record has `acl`. Takes a number from `next_id` if the list is new.
    pub(crate) fn retain(&mut self, acl: &Acl, next_id: &mut u64) {
        let id = match self.id(acl) {
            Some(id) => id,
            None => {
                let id = *next_id;
                *next_id += 1;
                self.restore(id, acl.clone(), 0);
                id
            }
        };
        if let Some(interned) = self.by_id.get_mut(&id) {
            interned.references += 1;
            self.last = Some((interned.acl.clone(), id));
        }
        self.unsaved.insert(id);
    }

    /// One record less has `acl`.
    pub(crate) fn release(&mut self, acl: &Acl) {
        let Some(id) = self.id(acl) else { return };
        self.unsaved.insert(id);
        let Some(interned) = self.by_id.get_mut(&id) else {
            return;
        };
        interned.references -= 1;
        if interned.references == 0 {
            self.by_id.remove(&id);
            self.ids.remove(acl);
            self.last = None;
        }
    }

    /// Lists to store, `None` for those to delete; they count as stored from now on.
    pub(crate) fn take_unsaved(&mut self) -> Vec<(u64, Option<(u64, Acl)>)> {
        let mut ids: Vec<u64> = self.unsaved.drain().collect();
        ids.sort_unstable();
        let row = |id| {
            let interned: &Interned = self.by_id.get(&id)?;
            Some((interned.references, interned.acl.clone()))
        };
        ids.into_iter().map(|id| (id, row(id))).collect()
    }

    /// All lists with their counts, for the check of invariants.
    pub(crate) fn references(&self) -> impl Iterator<Item = (&Acl, u64)> {
        self.by_id
            .values()
            .map(|interned| (&interned.acl, interned.references))
    }
}
