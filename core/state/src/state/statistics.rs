//! Keeps the statistics of quotas in step with a transaction; the rules are in [`crate::quota`].
//!
//! What a transaction adds and takes away is summed up per quota and written at its end, or before an
//! operation that could see it.

use bytes::Bytes;
use oxkeeper_model::{Change, ChangeKind, ChangedValue, Head, Path, SessionEnd};

use super::StateError;
use super::tree::{Limits, Tree};
use crate::quota::{self, Role, Usage};
use crate::records::{Found, Records, Rows, SlotId};
use oxkeeper_store::RowReader;

/// What a record counts for.
fn usage_of(head: &Head) -> Usage {
    Usage {
        records: 1,
        bytes: i64::from(head.value_bytes.unwrap_or(0)),
    }
}

impl<S: RowReader> Tree<'_, S> {
    pub(super) fn note_created(&mut self, path: &Path, head: &Head) -> Result<(), StateError> {
        match Role::of(path) {
            Role::None => {}
            Role::Limits(limited) => self.move_limits(limited, Limits::Set),
            Role::Stats(counted) => {
                let usage = self.records.usage_below(self.rows, counted)?;
                self.rewrite(path, quota::counted(usage))?;
            }
        }
        self.count(path, usage_of(head));
        Ok(())
    }

    pub(super) fn note_set(&mut self, path: &Path, bytes_before: Option<u32>, head: &Head) {
        let bytes = |bytes: Option<u32>| i64::from(bytes.unwrap_or(0));
        let usage = Usage {
            records: 0,
            bytes: bytes(head.value_bytes) - bytes(bytes_before),
        };
        self.count(path, usage);
    }

    pub(super) fn note_deleted(&mut self, path: &Path, head: &Head) {
        if let Role::Limits(limited) = Role::of(path) {
            self.move_limits(limited, Limits::Gone);
        }
        self.count(path, -usage_of(head));
    }

    /// All of a session's records went, that of each parent's children at once.
    pub(super) fn note_ended(&mut self, end: &SessionEnd) {
        if self.quotas.is_empty() {
            return;
        }
        // A limited path that went counts for itself, and not for what its siblings count for.
        let gone = |path: &&Path| end.records.contains_key(&***path);
        let limited: Vec<Path> = self.quotas.iter().filter(gone).cloned().collect();
        for path in &limited {
            let bytes = end.records.get(path).map_or(0, |record| record.value_bytes);
            let usage = Usage {
                records: 1,
                bytes: i64::from(bytes),
            };
            self.count(path, -usage);
            if let Some(parent) = path.parent() {
                self.count(parent, usage);
            }
        }
        for (parent, lost) in &end.parents {
            let usage = Usage {
                records: i64::from(lost.gone),
                bytes: lost.value_bytes as i64,
            };
            self.count(parent, -usage);
        }
        let limits = |path: &Path| end.records.contains_key(&*quota::limits_path(path));
        let lost: Vec<Path> = self
            .quotas
            .iter()
            .filter(|path| limits(path))
            .cloned()
            .collect();
        for limited in lost {
            self.move_limits(&limited, Limits::Gone);
        }
    }

    fn count(&mut self, path: &str, usage: Usage) {
        if let Some(limited) = self.quotas.nearest(path) {
            *self.usage.entry(limited.clone()).or_default() += usage;
        }
    }

    fn move_limits(&mut self, limited: &str, limits: Limits) {
        match limits {
            Limits::Set => self.quotas.insert(limited),
            Limits::Gone => self.quotas.remove(limited),
        }
        self.limits_moved.push((limited.into(), limits));
    }

    /// The transaction failed.
    pub(super) fn forget_quota_changes(&mut self) {
        self.usage.clear();
        while let Some((limited, limits)) = self.limits_moved.pop() {
            match limits {
                Limits::Set => self.quotas.remove(&limited),
                Limits::Gone => self.quotas.insert(&limited),
            }
        }
    }

    /// Writes what was summed up.
    pub(super) fn move_statistics(&mut self) -> Result<(), StateError> {
        for (limited, usage) in std::mem::take(&mut self.usage) {
            let path = quota::stats_path(&limited);
            let Some(slot) = self.find(&path)? else {
                continue;
            };
            let value = self.records.value(self.rows.store, slot)?;
            // Null is no text, and like any that is not understood it stays.
            let moved = value.as_ref().and_then(|text| quota::moved(text, usage));
            if let Some(moved) = moved.filter(|moved| Some(moved) != value.as_ref()) {
                self.rewrite_at(slot, path, moved)?;
            }
        }
        Ok(())
    }

    fn rewrite(&mut self, path: &Path, text: Bytes) -> Result<(), StateError> {
        match self.find(path)? {
            Some(slot) => self.rewrite_at(slot, path.clone(), text),
            None => Ok(()),
        }
    }

    fn rewrite_at(&mut self, slot: SlotId, path: Path, text: Bytes) -> Result<(), StateError> {
        let value = Some(text);
        let head = self.records.set_value(slot, value.clone())?;
        self.changes.push(Change {
            path,
            kind: ChangeKind::Recounted,
            head: head.clone(),
            parent_acl: None,
            value: ChangedValue::Set(value.clone()),
        });
        Ok(())
    }
}

impl Records {
    /// Counts the records at and below `path`, in the midst of an entry. As in ZooKeeper this costs
    /// what the tree has there, once, when statistics are made.
    fn usage_below(&self, rows: Rows<'_, impl RowReader>, path: &str) -> Result<Usage, StateError> {
        let mut usage = Usage::default();
        for head in self.changed_below(path) {
            usage += usage_of(head);
        }
        let mut key = Vec::new();
        if !self.is_changed(path)
            && let Found::Record(head) = rows.load(path, &mut key)?
        {
            usage += usage_of(&head);
        }
        let is_stored = |below: &str| !self.is_changed(below);
        rows.each_below(path, is_stored, |_, head| usage += usage_of(&head))?;
        Ok(usage)
    }
}
