//! What a transaction changed, in the form that caches and watches need.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{Acl, Digest, Path, Position, Revision, SessionEnd, SessionId, SharedHead};

/// All changes of one revision, in the order of the operations. Empty for a failed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSet {
    pub revision: Revision,
    pub changes: Changes,
    /// Parents whose children counters moved, with their heads after the whole transaction,
    /// each once; not the ones that were deleted by it.
    pub parents: Parents,
    /// The session that ended with this revision.
    pub session_ended: Option<SessionId>,
    /// What went with it, if that is too much to be listed in `changes` and `parents`, which are
    /// then empty.
    pub end: Option<Arc<SessionEnd>>,
    /// Of the shard's history after this revision.
    pub digest: Digest,
}

impl ChangeSet {
    /// A revision that changed no record.
    pub fn empty(revision: Revision) -> Self {
        Self {
            revision,
            changes: Changes::new(),
            parents: Parents::new(),
            session_ended: None,
            end: None,
            digest: Digest::default(),
        }
    }

    pub fn position(&self) -> Position {
        Position {
            revision: self.revision,
            digest: self.digest,
        }
    }
}

/// In the order of the operations. Most transactions have one.
pub type Changes = SmallVec<[Change; 1]>;

/// Parents with their heads.
pub type Parents = SmallVec<[(Path, SharedHead); 1]>;

/// One record's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: Path,
    pub kind: ChangeKind,
    /// The head after the change; of a deleted record, the last one it had.
    pub head: SharedHead,
    /// The parent's access list at that moment, for created and deleted records.
    pub parent_acl: Option<Acl>,
    pub value: ChangedValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    ValueSet,
    AclSet,
    Deleted,
    /// The shard itself rewrote the value: it keeps statistics there. No revision, time or version
    /// of the record moves, and no watch hears of it.
    Recounted,
}

/// The value after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedValue {
    Unchanged,
    Set(Option<Bytes>),
}
