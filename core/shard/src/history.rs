//! What a link that resumes can still be told: the last change sets.
//!
//! Costs nothing while all links are within one process, as they end only with the shard. For
//! links that may break it is a ring, bounded in bytes and in age.

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_model::{ChangeSet, ChangedValue, Position};
use oxkeeper_replication::InvariantBroken;

use crate::limits::{CHANGE_BYTES, CHANGE_SET_BYTES, HISTORY_AGE_MAX_US};

/// Invariant: the revisions have no gaps.
#[derive(Debug)]
pub(crate) struct History {
    bytes_max: usize,
    /// Before the first of them.
    start: Position,
    /// With the time when each was told.
    changes: VecDeque<(u64, Arc<ChangeSet>)>,
    bytes: usize,
}

impl History {
    /// `bytes_max`: 0 keeps nothing.
    pub(crate) fn new(start: Position, bytes_max: usize) -> Self {
        Self {
            bytes_max,
            start,
            changes: VecDeque::new(),
            bytes: 0,
        }
    }

    fn end(&self) -> Position {
        self.changes
            .back()
            .map_or(self.start, |(_, last)| last.position())
    }

    pub(crate) fn push(
        &mut self,
        now_us: u64,
        change: Arc<ChangeSet>,
    ) -> Result<(), InvariantBroken> {
        if change.revision != self.end().revision.next() {
            return Err(InvariantBroken("a gap in the revisions"));
        }
        if self.bytes_max == 0 {
            self.start = change.position();
            return Ok(());
        }
        self.bytes += change_set_bytes(&change);
        self.changes.push_back((now_us, change));
        self.drop_old(now_us);
        Ok(())
    }

    fn drop_old(&mut self, now_us: u64) {
        while let Some((at_us, _)) = self.changes.front()
            && (self.bytes > self.bytes_max || at_us + HISTORY_AGE_MAX_US < now_us)
            && let Some((_, old)) = self.changes.pop_front()
        {
            self.bytes -= change_set_bytes(&old);
            self.start = old.position();
        }
    }

    /// Everything after `after`; `None` if not all of it is there, or if it is of another history.
    pub(crate) fn after(
        &self,
        after: Position,
    ) -> Option<impl Iterator<Item = &Arc<ChangeSet>> + use<'_>> {
        let seen = after.revision.0.checked_sub(self.start.revision.0)?;
        let seen = usize::try_from(seen).ok()?;
        let there = match seen.checked_sub(1) {
            None => self.start,
            Some(last) => self.changes.get(last)?.1.position(),
        };
        (there == after).then(|| self.changes.range(seen..).map(|(_, set)| set))
    }
}

fn change_set_bytes(set: &ChangeSet) -> usize {
    let value_bytes = |value: &ChangedValue| match value {
        ChangedValue::Set(Some(value)) => value.len(),
        ChangedValue::Set(None) | ChangedValue::Unchanged => 0,
    };
    let changes = set
        .changes
        .iter()
        .map(|c| CHANGE_BYTES + c.path.len() + value_bytes(&c.value));
    let parents = set
        .parents
        .iter()
        .map(|(path, _)| CHANGE_BYTES + path.len());
    // Of a large end all records weigh what the longest of their kind may: nobody walks through them.
    let ended = set.end.as_ref();
    let ended = ended.map_or(0, |end| end.records.len() + end.parents.len());
    let listed = changes.sum::<usize>() + parents.sum::<usize>();
    CHANGE_SET_BYTES + listed + ended * CHANGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxkeeper_model::{Digest, Revision};

    const SET_BYTES: usize = CHANGE_SET_BYTES;

    fn at(revision: u64) -> Position {
        Position {
            revision: Revision(revision),
            digest: Digest::default(),
        }
    }

    fn empty(revision: u64) -> Arc<ChangeSet> {
        Arc::new(ChangeSet::empty(Revision(revision)))
    }

    fn after(history: &History, revision: u64) -> Option<usize> {
        history.after(at(revision)).map(Iterator::count)
    }

    #[test]
    fn it_reaches_back_as_far_as_its_bytes_do() {
        let mut history = History::new(at(0), 10 * SET_BYTES);
        for revision in 1..=25 {
            history.push(0, empty(revision)).unwrap();
        }
        let reach: Vec<_> = (13..=26)
            .map(|revision| after(&history, revision))
            .collect();
        let mut expected = vec![None, None];
        expected.extend((0..=10).rev().map(Some));
        expected.push(None);
        assert_eq!(reach, expected);
        let other = Position {
            digest: Digest(1),
            ..at(20)
        };
        assert!(history.after(other).is_none(), "of another history");
    }

    #[test]
    fn it_reaches_back_as_far_as_its_age_does() {
        let mut history = History::new(at(0), usize::MAX);
        for revision in 1..=10 {
            history.push(revision * 1_000_000, empty(revision)).unwrap();
        }
        assert_eq!(after(&history, 4), Some(6), "five seconds before the last");
        assert_eq!(after(&history, 3), None);
    }

    #[test]
    fn large_values_shorten_it() {
        let mut history = History::new(at(0), 4 << 20);
        let mut set = (*empty(0)).clone();
        let value = bytes::Bytes::from(vec![0; 1 << 20]);
        set.changes.push(oxkeeper_model::Change {
            path: oxkeeper_model::Path::root(),
            kind: oxkeeper_model::ChangeKind::ValueSet,
            head: oxkeeper_link::contract::root().record.head.into(),
            parent_acl: None,
            value: ChangedValue::Set(Some(value)),
        });
        for revision in 1..=10 {
            set.revision = Revision(revision);
            history.push(0, Arc::new(set.clone())).unwrap();
        }
        assert_eq!(history.changes.len(), 3);
    }

    #[test]
    fn switched_off_it_knows_the_present_only_and_a_gap_is_noticed_all_the_same() {
        let mut history = History::new(at(0), 0);
        history.push(0, empty(1)).unwrap();
        assert_eq!((after(&history, 0), after(&history, 1)), (None, Some(0)));
        assert_eq!(history.bytes, 0);
        assert!(history.push(0, empty(3)).is_err());
    }
}
