//! Ended sessions whose rows are still in the store.
//!
//! The end of a session that owns 100,000 records must not hold up everybody else while as many rows
//! are deleted. So at the end's revision the session is *buried*: nothing is written, and whoever
//! reads rows leaves out what it owned. A head row whose owner is buried is no record, and a parent
//! has as many children less as have such rows. Each entry from then on deletes a bounded number
//! of the rows, in the order of their paths, until the grave is empty: that is part of applying the
//! entry, so that replicas have the same rows at the same offset.
//!
//! The stored counters of a parent always say how many child rows there are, the dead ones too; in
//! memory they are right. Hence: every head that is read is taken through
//! [`Graves::disinter`], every head that is written through [`Graves::stored_live`], and a parent is
//! written again in the batch that deletes one of its dead children.

use std::collections::BTreeMap;
use std::sync::Arc;

use oxkeeper_model::{Acl, EndedParent, Head, Path, Revision, SessionEnd, SessionId, parent_of};

/// A session that has ended and still has rows.
#[derive(Clone, Debug)]
pub(crate) struct Grave {
    pub(crate) session: SessionId,
    /// The revision of its end.
    pub(crate) ended: Revision,
    /// How many rows of each parent were dead then; after a restart, at the checkpoint.
    dead: Arc<SessionEnd>,
    /// How many of them have gone. Invariant: the rest are the session's rows of the ephemeral index.
    gone: BTreeMap<Path, u32>,
    /// Up to here no row is left: a scan from the start would pass over all that were deleted.
    pub(crate) swept_to: Option<Path>,
}

impl Grave {
    pub(crate) fn new(session: SessionId, ended: Revision, dead: Arc<SessionEnd>) -> Self {
        Self {
            session,
            ended,
            dead,
            gone: BTreeMap::new(),
            swept_to: None,
        }
    }

    /// From the dead rows that a restart finds.
    pub(crate) fn restore(session: SessionId, ended: Revision, dead: &[Path]) -> Self {
        let (mut end, no_acl) = (SessionEnd::default(), Acl::from([]));
        for path in dead {
            let Some(parent) = path.parent() else {
                continue;
            };
            let parent = end.parents.entry(parent.into());
            let parent = parent.or_insert_with(|| EndedParent {
                acl: no_acl.clone(),
                gone: 0,
                value_bytes: 0,
            });
            parent.gone += 1;
        }
        Self::new(session, ended, Arc::new(end))
    }

    /// Dead rows below `parent` that are still there.
    pub(crate) fn left(&self, parent: &str) -> u32 {
        let Some(dead) = self.dead.parents.get(parent) else {
            return 0;
        };
        dead.gone - self.gone.get(parent).copied().unwrap_or(0)
    }

    /// Parents with the dead rows below them, for the check of invariants.
    pub(crate) fn all_left(&self) -> impl Iterator<Item = (&Path, u32)> {
        let parents = self.dead.parents.keys();
        parents.map(|parent| (parent, self.left(parent)))
    }

    /// The dead row at `path` is being deleted. Says no if there was none.
    #[must_use]
    pub(crate) fn settle(&mut self, path: &str) -> bool {
        let Some(parent) = parent_of(path).filter(|parent| self.left(parent) > 0) else {
            return false;
        };
        *self.gone.entry(parent.into()).or_default() += 1;
        true
    }
}

/// In the order of their ends. Few: only sessions that owned much come here.
#[derive(Debug, Default)]
pub(crate) struct Graves(Vec<Grave>);

impl Graves {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Grave> {
        self.0.iter()
    }

    /// The one whose rows are deleted next.
    pub(crate) fn next(&mut self) -> Option<&mut Grave> {
        self.0.first_mut()
    }

    pub(crate) fn holds(&self, session: SessionId) -> bool {
        self.0.iter().any(|grave| grave.session == session)
    }

    pub(crate) fn push(&mut self, grave: Grave) {
        self.0.push(grave);
    }

    pub(crate) fn remove(&mut self, session: SessionId) {
        self.0.retain(|grave| grave.session != session);
    }

    /// Whether a row's head is that of a record which went with its session.
    pub(crate) fn is_dead(&self, head: &Head) -> bool {
        !self.0.is_empty() && head.session.is_some_and(|owner| self.holds(owner))
    }

    /// Turns the stored head of a record into what it is: without the children that are dead.
    /// Says no if the row counts fewer children than are dead.
    #[must_use]
    pub(crate) fn disinter(&self, path: &str, head: &mut Head) -> bool {
        for grave in &self.0 {
            let dead = grave.left(path);
            if dead == 0 {
                continue;
            }
            let Some(live) = head.children.live.checked_sub(dead) else {
                return false;
            };
            head.children.live = live;
            head.children.last_change = head.children.last_change.max(grave.ended);
        }
        true
    }

    /// The number of children that is stored for a record that has `live`.
    pub(crate) fn stored_live(&self, path: &str, live: u32) -> u32 {
        live + self.0.iter().map(|grave| grave.left(path)).sum::<u32>()
    }

    /// A dead row of `session` is being deleted. Says no if there was none.
    #[must_use]
    pub(crate) fn settle(&mut self, session: SessionId, path: &str) -> bool {
        let grave = self.0.iter_mut().find(|grave| grave.session == session);
        grave.is_some_and(|grave| grave.settle(path))
    }
}
