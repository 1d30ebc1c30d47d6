//! The links of a shard: who hears of it, and what a link that resumes can still be told.

use std::sync::Arc;

use oxkeeper_link::{Event, LinkError, Opened};
use oxkeeper_model::{ChangeSet, Position};
use oxkeeper_replication::InvariantBroken;

use crate::history::History;
use crate::io::{LinkId, Output};

/// All open links and the change history.
#[derive(Debug)]
pub(crate) struct Links {
    /// Sorted.
    open: Vec<LinkId>,
    history: History,
}

impl Links {
    /// `position`: of the state, before the first change.
    pub(crate) fn new(position: Position, history_bytes_max: usize) -> Self {
        Self {
            open: Vec::new(),
            history: History::new(position, history_bytes_max),
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
    pub(crate) fn changed(
        &mut self,
        now_us: u64,
        change: Arc<ChangeSet>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), InvariantBroken> {
        outputs.extend(self.open.iter().map(|&link| Output::Event {
            link,
            event: Event::Changed(Arc::clone(&change)),
        }));
        self.history.push(now_us, change)
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

#[cfg(test)]
mod tests;
