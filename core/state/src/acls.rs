//! The interned access lists of a shard: records with equal lists share one, in memory and on disk.
//!
//! How many records have a list is counted, so that a list nobody has is forgotten. A list may have
//! 10,000s of entries: its content is hashed once, when it comes in; from then on it is known by its
//! place in memory.

use std::sync::Arc;

use oxkeeper_model::{Acl, AclEntry};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::hash::HashKey;

#[derive(Debug)]
struct Interned {
    acl: Acl,
    /// Of its content.
    hash: u64,
    /// Records that have the list. Invariant: equals the heads that name it.
    references: u64,
}

/// Numbers are given in apply order and never reused, so that replicas agree on them.
#[derive(Debug, Default)]
pub(crate) struct AclTable {
    hash_key: HashKey,
    by_id: FxHashMap<u64, Interned>,
    /// By the place of the shared list.
    by_place: FxHashMap<usize, u64>,
    /// By the hash of their content; those of other lists with the same hash too.
    by_hash: FxHashMap<u64, SmallVec<[u64; 1]>>,
    /// Lists whose rows differ from the store's.
    unsaved: FxHashSet<u64>,
    /// The list that was looked up last: most records of a tree have the same.
    last: Option<(Acl, u64)>,
}

/// Where a list lies.
fn place(acl: &Acl) -> usize {
    acl.as_ptr() as usize
}

impl AclTable {
    pub(crate) fn new(hash_key: HashKey) -> Self {
        Self {
            hash_key,
            ..Self::default()
        }
    }

    /// Puts back a list that was stored.
    pub(crate) fn restore(&mut self, id: u64, acl: Acl, references: u64) {
        let hash = self.hash(&acl);
        self.by_place.insert(place(&acl), id);
        self.by_hash.entry(hash).or_default().push(id);
        let interned = Interned {
            acl,
            hash,
            references,
        };
        self.by_id.insert(id, interned);
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
        self.find(acl)
            .and_then(|id| self.get(id))
            .unwrap_or_else(|| acl.clone())
    }

    /// The number of a list that some record has.
    pub(crate) fn id(&self, acl: &Acl) -> Option<u64> {
        if let Some((last, id)) = &self.last
            && Arc::ptr_eq(last, acl)
        {
            return Some(*id);
        }
        self.by_place
            .get(&place(acl))
            .copied()
            .or_else(|| self.find(acl))
    }

    /// By its content.
    fn find(&self, acl: &Acl) -> Option<u64> {
        let same = self.by_hash.get(&self.hash(acl))?;
        let is_it = |id: &&u64| {
            self.by_id
                .get(id)
                .is_some_and(|interned| interned.acl == *acl)
        };
        same.iter().find(is_it).copied()
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
            self.forget(id);
        }
    }

    fn forget(&mut self, id: u64) {
        let Some(Interned { acl, hash, .. }) = self.by_id.remove(&id) else {
            return;
        };
        self.by_place.remove(&place(&acl));
        if let Some(same) = self.by_hash.get_mut(&hash) {
            same.retain(|each| *each != id);
            if same.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
        self.last = None;
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

    /// Of the content, under the shard's key: clients choose it.
    fn hash(&self, acl: &[AclEntry]) -> u64 {
        use std::hash::{BuildHasher, Hash};
        let mut hasher = self.hash_key.build_hasher();
        acl.hash(&mut hasher);
        std::hash::Hasher::finish(&hasher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: usize, name: &str) -> Acl {
        let entry = |number| AclEntry {
            permissions: 31,
            scheme: "digest".into(),
            id: format!("{name}{number}").into(),
        };
        (0..entries).map(entry).collect()
    }

    #[test]
    fn equal_lists_share_one_number_until_nobody_has_them() {
        let mut table = AclTable::new(HashKey(7));
        let (mut next, acl) = (u64::from(u32::MAX), list(3, "a"));
        table.retain(&acl, &mut next);
        table.retain(&table.shared(&list(3, "a")), &mut next);
        table.retain(&list(3, "b"), &mut next);
        assert_eq!(table.id(&list(3, "a")), Some(u64::from(u32::MAX)));
        assert_eq!(
            table.id(&list(3, "b")),
            Some(1 << 32),
            "numbers do not wrap at 32 bits"
        );
        assert!(Arc::ptr_eq(&table.shared(&list(3, "a")), &acl));
        table.release(&list(3, "a"));
        assert!(table.id(&acl).is_some());
        table.release(&acl);
        assert_eq!((table.id(&acl), table.id(&list(3, "a"))), (None, None));
        table.retain(&acl, &mut next);
        assert_eq!(table.id(&acl), Some((1 << 32) + 1), "never reused");
        assert_eq!(table.take_unsaved().len(), 3);
    }

    #[test]
    fn a_shared_list_is_found_without_looking_at_its_entries() {
        let mut table = AclTable::new(HashKey(7));
        let (mut next, long, other) = (0, list(50_000, "a"), list(1, "b"));
        table.retain(&long, &mut next);
        table.retain(&other, &mut next);
        // As many looks as entries: the square of them would take minutes.
        for _ in 0..50_000 {
            assert_eq!((table.id(&long), table.id(&other)), (Some(0), Some(1)));
        }
    }

    #[test]
    fn empty_lists_are_one() {
        let mut table = AclTable::new(HashKey(7));
        let mut next = 0;
        let (a, b): (Acl, Acl) = ([].into(), [].into());
        table.retain(&a, &mut next);
        table.retain(&b, &mut next);
        assert_eq!((table.id(&a), table.id(&b), next), (Some(0), Some(0), 1));
        table.release(&b);
        table.release(&a);
        assert_eq!(table.id(&a), None);
    }
}
