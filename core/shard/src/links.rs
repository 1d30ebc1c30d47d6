//! The links of a shard: who hears of it, and what a link that resumes can still be told.

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_link::{Event, LinkError, Opened};
use oxkeeper_model::{ChangeSet, ChangedValue, Position, limits::CHANGE_HISTORY_MAX};

use crate::io::{LinkId, Output};

/// The history's size. Large values push old changes out earlier. What goes in comes out again soon
/// after: a history that the processor's caches hold is twice as cheap as a large one.
const HISTORY_BYTES_MAX: usize = 2 << 20;

/// What a change weighs in the history apart from its path and value.
const CHANGE_BYTES: usize = 256;

/// What a revision weighs apart from its changes.
const CHANGE_SET_BYTES: usize = 128;

/// All open links and the change history.
#[derive(Debug)]
pub(crate) struct Links {
    /// Sorted.
    open: Vec<LinkId>,
    history: History,
}

impl Links {
    /// `position`: of the state, before the first change.
    pub(crate) fn new(position: Position) -> Self {
        Self {
            open: Vec::new(),
            history: History::new(position),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn contains(&self, link: LinkId) -> bool {
        self.open.binary_search(&link).is_ok()
    }

    /// `current`: the position of the state. Everything later is told to the link.
    pub(crate) fn open(
        &mut self,
        link: LinkId,
        resume_after: Option<Position>,
        current: Position,
        outputs: &mut Vec<Output>,
    ) {
        let missed = resume_after.and_then(|after| self.history.after(after));
        let opened = match (&missed, resume_after) {
            (Some(_), Some(after)) => Opened {
                position: after,
                resumed: true,
            },
            _ => Opened {
                position: current,
                resumed: false,
            },
        };
        let event = Event::Opened(opened);
        outputs.push(Output::Event { link, event });
        let missed = missed.into_iter().flatten().map(|change| Output::Event {
            link,
            event: Event::Changed(Arc::clone(change)),
        });
        outputs.extend(missed);
        if let Err(at) = self.open.binary_search(&link) {
            self.open.insert(at, link);
        }
    }

    pub(crate) fn close(&mut self, link: LinkId) {
        if let Ok(at) = self.open.binary_search(&link) {
            self.open.remove(at);
        }
    }

    /// To every link, and into the history.
    pub(crate) fn changed(&mut self, change: Arc<ChangeSet>, outputs: &mut Vec<Output>) {
        outputs.extend(self.open.iter().map(|&link| Output::Event {
            link,
            event: Event::Changed(Arc::clone(&change)),
        }));
        self.history.push(change);
    }

    /// To one link, if it is still there.
    pub(crate) fn answer(&self, link: LinkId, event: Event, outputs: &mut Vec<Output>) {
        if self.contains(link) {
            outputs.push(Output::Event { link, event });
        }
    }

    /// Ends all links. What was not told has an unknown outcome.
    pub(crate) fn close_all(&mut self, outputs: &mut Vec<Output>) {
        let reason = LinkError::Closed;
        outputs.extend(
            self.open
                .drain(..)
                .map(|link| Output::Closed { link, reason }),
        );
    }
}

/// The last change sets. Invariant: their revisions have no gaps.
#[derive(Debug)]
struct History {
    /// Before the first of them.
    start: Position,
    changes: VecDeque<Arc<ChangeSet>>,
    bytes: usize,
}

impl History {
    fn new(start: Position) -> Self {
        Self {
            start,
            changes: VecDeque::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, change: Arc<ChangeSet>) {
        debug_assert!(
            self.changes
                .back()
                .is_none_or(|last| last.revision.next() == change.revision),
            "a gap in the revisions"
        );
        self.bytes += change_set_bytes(&change);
        self.changes.push_back(change);
        while self.changes.len() > CHANGE_HISTORY_MAX
            || (self.bytes > HISTORY_BYTES_MAX && self.changes.len() > 1)
        {
            if let Some(old) = self.changes.pop_front() {
                self.bytes -= change_set_bytes(&old);
                self.start = old.position();
            }
        }
    }

    /// Everything after `after`; `None` if not all of it is there, or if it is of another history.
    fn after(&self, after: Position) -> Option<impl Iterator<Item = &Arc<ChangeSet>> + use<'_>> {
        let seen = after.revision.0.checked_sub(self.start.revision.0)?;
        let seen = usize::try_from(seen).ok()?;
        let there = match seen.checked_sub(1) {
            None => self.start,
            Some(last) => self.changes.get(last)?.position(),
        };
        (there == after).then(|| self.changes.range(seen..))
    }
}

fn change_set_bytes(set: &ChangeSet) -> usize {
    let value_bytes = |value: &ChangedValue| match value {
        ChangedValue::Set(Some(value)) => value.len(),
        ChangedValue::Set(None) | ChangedValue::Unchanged | ChangedValue::Omitted => 0,
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
mod tests;
