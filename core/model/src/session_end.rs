//! The end of a session that owned many records.

use std::collections::BTreeMap;

use crate::{Acl, Head, Path, Revision};

/// What a session's end took away, all at one revision.
///
/// A large end is built ahead of its revision and then only shared, by the state machine, the change
/// history and every link: nobody copies it or walks all of it while others wait. Both maps are
/// sorted, so it can be sent in parts (`records.range(after..)`), which become visible together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionEnd {
    /// The records that are deleted.
    pub records: BTreeMap<Path, EndedRecord>,
    /// Their parents, all of which live on. Invariant: `gone` is the number of `records` below.
    pub parents: BTreeMap<Path, EndedParent>,
    /// Sum of the hashes of all paths: what the digest takes in.
    pub fingerprint: u64,
}

/// A record that is deleted with its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRecord {
    /// The last that it had.
    pub acl: Acl,
    pub value_bytes: u32,
}

/// A record that loses children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedParent {
    pub acl: Acl,
    /// How many children it loses.
    pub gone: u32,
    /// Lengths of their values.
    pub value_bytes: u64,
}

impl EndedParent {
    /// Moves the children counters of the parent's head to after the end.
    pub fn follow(&self, head: &mut Head, revision: Revision) {
        let children = &mut head.children;
        // More can only be gone than were there if the head is not that of the revision before.
        children.live = children.live.saturating_sub(self.gone);
        children.last_change = children.last_change.max(revision);
    }
}
