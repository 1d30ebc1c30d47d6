//! Tree operations, on the records of the entry that is being applied.
//!
//! The order in which an operation's conditions are looked at is part of ZooKeeper's contract
//! (error priorities): [`oxkeeper_model::TreeOp`] gives it, and each function here keeps it.
//!
//! An operation looks at all its conditions before it changes anything: a transaction of one
//! operation keeps no journal, so there is nothing that could take back half of one. [`Tree::run`]
//! checks it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use oxkeeper_model::{
    Acl, Change, ChangeKind, ChangedValue, Changes, Create, Head, Identity, Lifetime, OpError,
    OpResult, OpResults, Parents, Path, Permission, Revision, SessionId, SharedHead, TreeOp,
    TxnOutcome, parent_of, permits,
};
use smallvec::SmallVec;

use super::StateError;
use crate::keys;
use crate::quota::{QUOTA_ROOT, Quotas, Usage};
use crate::records::{GONE, Records, Rows, SlotId};
use oxkeeper_store::RowReader;

/// One revision's work on the tree.
pub(super) struct Tree<'a, S> {
    pub(super) rows: Rows<'a, S>,
    pub(super) records: &'a mut Records,
    pub(super) quotas: &'a mut Quotas,
    revision: Revision,
    times: Times,
    pub(super) changes: Changes,
    /// Records whose children counters moved, each once.
    parents: SmallVec<[SlotId; 4]>,
    /// What quotas' statistics are still to be moved by.
    pub(super) usage: BTreeMap<Path, Usage>,
    /// Paths that got or lost limits, for the case that a later operation fails.
    pub(super) limits_moved: Vec<(Path, Limits)>,
}

/// What became of a path's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    Set,
    Gone,
}

/// Times of the entry that is being applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) wall_ms: i64,
    pub(super) elapsed_ms: u64,
}

impl Times {
    /// Of a record that is written now.
    fn idle_since_ms(self, lifetime: Lifetime) -> u64 {
        match lifetime.ages() {
            true => self.elapsed_ms,
            false => 0,
        }
    }
}

pub(super) struct TreeChanges {
    pub(super) changes: Changes,
    pub(super) parents: Parents,
}

/// Why an operation did not happen: its own conditions, or the store.
enum Stop {
    Op(OpError),
    State(StateError),
}

impl From<OpError> for Stop {
    fn from(error: OpError) -> Self {
        Self::Op(error)
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// Who asks.
#[derive(Clone, Copy)]
struct Caller<'a> {
    session: SessionId,
    identities: &'a [Identity],
}

impl<'a, S: RowReader> Tree<'a, S> {
    pub(super) fn new(
        rows: Rows<'a, S>,
        records: &'a mut Records,
        quotas: &'a mut Quotas,
        revision: Revision,
        times: Times,
    ) -> Self {
        Self {
            rows,
            records,
            quotas,
            revision,
            times,
            changes: Changes::new(),
            parents: SmallVec::new(),
            usage: BTreeMap::new(),
            limits_moved: Vec::new(),
        }
    }

    /// Runs operations up to the first that fails. Rolling back is the caller's part.
    pub(super) fn run(
        &mut self,
        session: SessionId,
        identities: &[Identity],
        ops: &[TreeOp],
    ) -> Result<TxnOutcome, StateError> {
        let caller = Caller {
            session,
            identities,
        };
        let mut results = OpResults::new();
        for (index, op) in ops.iter().enumerate() {
            if is_about_quotas(op) {
                self.move_statistics()?;
            }
            let before = self.records.mutations();
            match self.operate(caller, op) {
                Ok(result) => results.push(result),
                Err(Stop::Op(_)) if self.records.mutations() != before => {
                    return Err(StateError::Broken("an operation failed after a change"));
                }
                Err(Stop::Op(error)) => {
                    self.forget_quota_changes();
                    return Ok(TxnOutcome::Failed {
                        index: index as u32,
                        error,
                    });
                }
                Err(Stop::State(error)) => return Err(error),
            }
        }
        Ok(TxnOutcome::Applied(results))
    }

    pub(super) fn finish(mut self) -> Result<TreeChanges, StateError> {
        self.move_statistics()?;
        let Self {
            records,
            changes,
            parents,
            ..
        } = self;
        let with_head =
            |slot: SlotId| Some((records.path(slot).clone(), records.head(slot)?.clone()));
        Ok(TreeChanges {
            changes,
            parents: parents.into_iter().filter_map(with_head).collect(),
        })
    }

    fn operate(&mut self, caller: Caller<'_>, op: &TreeOp) -> Result<OpResult, Stop> {
        match op {
            TreeOp::Create(create) => self.create(caller, create),
            TreeOp::SetValue {
                path,
                value,
                expected_version,
            } => self.set_value(caller, path, value, *expected_version),
            TreeOp::SetAcl {
                path,
                acl,
                expected_version,
            } => self.set_acl(caller, path, acl, *expected_version),
            TreeOp::Delete {
                path,
                expected_version,
            } => self.delete(caller, path, *expected_version),
            TreeOp::Check {
                path,
                expected_version,
            } => {
                let (_, head) = self.permitted(caller, path, Permission::Read)?;
                check_version(head.modifications_count, *expected_version)?;
                Ok(OpResult::Checked)
            }
            TreeOp::Get { path } => {
                let (slot, head) = self.permitted(caller, path, Permission::Read)?;
                let head = head.clone();
                let value = self.records.value(self.rows.store, slot)?;
                Ok(OpResult::Got { head, value })
            }
            TreeOp::Refused { code } => Err(Stop::Op(OpError::FrontEnd(*code))),
        }
    }

    pub(super) fn find(&mut self, path: &str) -> Result<Option<SlotId>, StateError> {
        self.records.find(self.rows, path)
    }

    /// The record at `path`, if there is one and the caller has `permission` on it.
    fn permitted(
        &mut self,
        caller: Caller<'_>,
        path: &str,
        permission: Permission,
    ) -> Result<(SlotId, &SharedHead), Stop> {
        let slot = self.find(path)?.ok_or(OpError::NoNode)?;
        let head = self.records.head(slot).ok_or(GONE)?;
        if !permits(&head.acl, caller.identities, permission) {
            return Err(Stop::Op(OpError::NoAuth));
        }
        Ok((slot, head))
    }

    fn create(&mut self, caller: Caller<'_>, new: &Create) -> Result<OpResult, Stop> {
        // The root is its own parent here: creating it finds that it exists.
        let parent_path = match &*new.path {
            "/" => "/",
            path => parent_of(path).ok_or(OpError::BadArguments)?,
        };
        let (parent, parent_head) = self.permitted(caller, parent_path, Permission::Create)?;
        let path = match new.sequential {
            true => Path::from(format!(
                "{}{:010}",
                new.path, parent_head.children.created_ever
            )),
            false => new.path.clone(),
        };
        let (parent_lifetime, parent_acl) = (parent_head.lifetime, parent_head.acl.clone());
        if new.malformed || !has_key(&path) {
            return Err(Stop::Op(OpError::BadArguments));
        }
        if self.find(&path)?.is_some() {
            return Err(Stop::Op(OpError::NodeExists));
        }
        if parent_lifetime == Lifetime::Ephemeral {
            return Err(Stop::Op(OpError::NoChildrenForEphemerals));
        }
        let head = SharedHead::from(self.new_head(caller.session, new));
        self.move_children(parent, true)?;
        self.records
            .insert(path.clone(), head.clone(), new.value.clone());
        self.changes.push(Change {
            path: path.clone(),
            kind: ChangeKind::Created,
            head: head.clone(),
            parent_acl: Some(parent_acl),
            value: ChangedValue::Set(new.value.clone()),
        });
        self.note_created(&path, &head)?;
        Ok(OpResult::Created { path, head })
    }

    fn new_head(&mut self, session: SessionId, new: &Create) -> Head {
        let acl = self.rows.acls.shared(&new.acl);
        Head {
            version_id: self.records.take_version_id(),
            session: (new.lifetime == Lifetime::Ephemeral).then_some(session),
            lifetime: new.lifetime,
            idle_since_ms: self.times.idle_since_ms(new.lifetime),
            value_bytes: new.value.as_ref().map(|value| value.len() as u32),
            ..Head::new(self.revision, self.times.wall_ms, acl)
        }
    }

    fn set_value(
        &mut self,
        caller: Caller<'_>,
        path: &Path,
        value: &Option<Bytes>,
        expected_version: Option<i32>,
    ) -> Result<OpResult, Stop> {
        let (slot, head) = self.permitted(caller, path, Permission::Write)?;
        check_version(head.modifications_count, expected_version)?;
        let bytes_before = head.value_bytes;
        let (revision, times) = (self.revision, self.times);
        let version_id = self.records.take_version_id();
        let shared = self.records.set_value(slot, value.clone())?;
        let head = Arc::make_mut(shared);
        head.modified_revision = revision;
        head.modified_at_ms = times.wall_ms;
        head.idle_since_ms = times.idle_since_ms(head.lifetime);
        head.modifications_count = next_version(head.modifications_count);
        head.version_id = version_id;
        let head = shared.clone();
        self.note_set(path, bytes_before, &head);
        self.changes.push(Change {
            path: path.clone(),
            kind: ChangeKind::ValueSet,
            head: head.clone(),
            parent_acl: None,
            value: ChangedValue::Set(value.clone()),
        });
        Ok(OpResult::ValueSet { head })
    }

    fn set_acl(
        &mut self,
        caller: Caller<'_>,
        path: &Path,
        acl: &Acl,
        expected_version: Option<i32>,
    ) -> Result<OpResult, Stop> {
        let (slot, head) = self.permitted(caller, path, Permission::Admin)?;
        check_version(head.acl_version, expected_version)?;
        let acl = self.rows.acls.shared(acl);
        let head = self.records.head_mut(slot).ok_or(GONE)?;
        head.acl = acl;
        head.acl_version = next_version(head.acl_version);
        let head = self.records.head(slot).ok_or(GONE)?.clone();
        self.changes.push(Change {
            path: path.clone(),
            kind: ChangeKind::AclSet,
            head: head.clone(),
            parent_acl: None,
            value: ChangedValue::Unchanged,
        });
        Ok(OpResult::AclSet { head })
    }

    fn delete(
        &mut self,
        caller: Caller<'_>,
        path: &Path,
        expected_version: Option<i32>,
    ) -> Result<OpResult, Stop> {
        let parent_path = path.parent().ok_or(OpError::BadArguments)?;
        let (parent, _) = self.permitted(caller, parent_path, Permission::Delete)?;
        let slot = self.find(path)?.ok_or(OpError::NoNode)?;
        let head = self.records.head(slot).ok_or(GONE)?;
        check_version(head.modifications_count, expected_version)?;
        if head.children.live > 0 {
            return Err(Stop::Op(OpError::NotEmpty));
        }
        self.remove(slot, parent)?;
        Ok(OpResult::Deleted)
    }

    /// Deletes a record without looking at permissions, for the state machine's own deletions.
    pub(super) fn remove_by_path(&mut self, path: &Path) -> Result<(), StateError> {
        let parent_path = path
            .parent()
            .ok_or(StateError::Broken("a record without parent"))?;
        let parent = self.find(parent_path)?;
        let parent = parent.ok_or(StateError::Broken("a record's parent is missing"))?;
        let slot = self
            .find(path)?
            .ok_or(StateError::Broken("an indexed record is missing"))?;
        self.remove(slot, parent)
    }

    fn remove(&mut self, slot: SlotId, parent: SlotId) -> Result<(), StateError> {
        let path = self.records.path(slot).clone();
        let head = self.records.remove(slot)?;
        let parent_acl = self.move_children(parent, false)?;
        self.note_deleted(&path, &head);
        self.changes.push(Change {
            path,
            kind: ChangeKind::Deleted,
            head,
            parent_acl: Some(parent_acl),
            value: ChangedValue::Unchanged,
        });
        Ok(())
    }

    /// Counts a child that came or went; returns the parent's access list.
    fn move_children(&mut self, parent: SlotId, created: bool) -> Result<Acl, StateError> {
        let revision = self.revision;
        let head = self.records.head_mut(parent).ok_or(GONE)?;
        let children = &mut head.children;
        if created {
            children.live += 1;
            children.created_ever += 1;
        } else {
            let live = children.live.checked_sub(1);
            children.live = live.ok_or(StateError::Broken("more children deleted than live"))?;
        }
        children.last_change = revision;
        let acl = head.acl.clone();
        if self.records.mark_parent(parent, revision) {
            self.parents.push(parent);
        }
        Ok(acl)
    }
}

/// Whether the operation may see statistics, or what they depend on.
fn is_about_quotas(op: &TreeOp) -> bool {
    match op {
        TreeOp::Create(Create { path, .. })
        | TreeOp::SetValue { path, .. }
        | TreeOp::SetAcl { path, .. }
        | TreeOp::Delete { path, .. }
        | TreeOp::Check { path, .. }
        | TreeOp::Get { path } => path.starts_with(QUOTA_ROOT),
        TreeOp::Refused { .. } => false,
    }
}

/// Whether the store has a key for a path, and finds it below its parent.
fn has_key(path: &str) -> bool {
    keys::is_in_tree(path) && keys::depth(path) <= keys::DEPTH_MAX
}

fn check_version(version: i32, expected: Option<i32>) -> Result<(), OpError> {
    match expected {
        Some(expected) if expected != version => Err(OpError::BadVersion),
        _ => Ok(()),
    }
}

/// One more, but never −1, which means "any" in a request.
fn next_version(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}
