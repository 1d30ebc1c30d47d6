//! The links of a shard: who hears of it, and what a link that resumes can still be told.

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_link::{Event, LinkError, LinkSink, Opened};
use oxkeeper_model::{ChangeSet, ChangedValue, Revision, limits::CHANGE_HISTORY_MAX};

/// The history's size. Large values push old changes out earlier. What goes in comes out again soon
/// after: a history that the processor's caches hold is twice as cheap as a large one.
const HISTORY_BYTES_MAX: usize = 2 << 20;

/// What a change weighs in the history apart from its path and value.
const CHANGE_BYTES: usize = 256;

/// What a revision weighs apart from its changes.
const CHANGE_SET_BYTES: usize = 128;

/// A link of this shard, in the order of opening; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

struct OpenedLink {
    id: LinkId,
    sink: Box<dyn LinkSink>,
    /// What is to be delivered at the end of the turn.
    events: Vec<Event>,
}

/// All open links and the change history. Lives on the shard thread.
#[derive(Default)]
pub(crate) struct Links {
    /// Sorted by id, as ids only grow.
    open: Vec<OpenedLink>,
    last_id: u64,
    history: History,
}

impl Links {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// `current`: the revision of the state. Everything later is delivered to the link.
    pub(crate) fn open(
        &mut self,
        resume_after: Option<Revision>,
        current: Revision,
        sink: Box<dyn LinkSink>,
    ) -> (LinkId, Opened) {
        self.last_id += 1;
        let id = LinkId(self.last_id);
        let missed = resume_after.and_then(|after| self.history.after(after, current));
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
        let events = missed
            .into_iter()
            .flatten()
            .cloned()
            .map(Event::Changed)
            .collect();
        self.open.push(OpenedLink { id, sink, events });
        (id, opened)
    }

    pub(crate) fn close(&mut self, id: LinkId) {
        if let Ok(at) = self.find(id) {
            self.open.remove(at);
        }
    }

    /// To every link, and into the history.
    pub(crate) fn changed(&mut self, change: Arc<ChangeSet>) {
        for link in &mut self.open {
            link.events.push(Event::Changed(Arc::clone(&change)));
        }
        self.history.push(change);
    }

    /// To one link, if it is still there.
    pub(crate) fn answer(&mut self, id: LinkId, event: Event) {
        if let Ok(at) = self.find(id) {
            self.open[at].events.push(event);
        }
    }

    /// One call to each sink that has something to hear.
    pub(crate) fn deliver(&mut self) {
        for link in &mut self.open {
            if !link.events.is_empty() {
                link.sink.deliver(&mut link.events);
                link.events.clear();
            }
        }
    }

    /// Ends all links. What was not delivered is dropped: its outcome counts as unknown.
    pub(crate) fn close_all(&mut self) {
        for mut link in self.open.drain(..) {
            link.sink.closed(LinkError::Closed);
        }
    }

    fn find(&self, id: LinkId) -> Result<usize, usize> {
        self.open.binary_search_by_key(&id, |link| link.id)
    }
}

/// The last change sets. Invariant: their revisions have no gaps.
#[derive(Default)]
struct History {
    changes: VecDeque<Arc<ChangeSet>>,
    bytes: usize,
}

impl History {
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
            }
        }
    }

    /// Everything after `after` up to `current`; `None` if not all of it is there.
    fn after(
        &self,
        after: Revision,
        current: Revision,
    ) -> Option<impl Iterator<Item = &Arc<ChangeSet>> + use<'_>> {
        let missed = usize::try_from(current.0.checked_sub(after.0)?).ok()?;
        let from = self.changes.len().checked_sub(missed)?;
        Some(self.changes.range(from..))
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
    CHANGE_SET_BYTES + changes.sum::<usize>() + parents.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxkeeper_model::{Changes, Parents};
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u64>>>);

    impl LinkSink for Seen {
        fn deliver(&mut self, events: &mut Vec<Event>) {
            let revision = |event| match event {
                Event::Changed(set) => set.revision.0,
                other => panic!("unexpected {other:?}"),
            };
            self.0
                .lock()
                .unwrap()
                .extend(events.drain(..).map(revision));
        }

        fn closed(&mut self, _: LinkError) {
            self.0.lock().unwrap().push(u64::MAX);
        }
    }

    fn empty(revision: u64) -> Arc<ChangeSet> {
        Arc::new(ChangeSet {
            revision: Revision(revision),
            changes: Changes::new(),
            parents: Parents::new(),
            session_ended: None,
        })
    }

    fn opened(links: &mut Links, after: Option<u64>, current: u64) -> (Seen, Opened) {
        let seen = Seen::default();
        let sink = Box::new(seen.clone());
        let (_, opened) = links.open(after.map(Revision), Revision(current), sink);
        links.deliver();
        (seen, opened)
    }

    #[test]
    fn a_link_resumes_exactly_within_the_history() {
        let mut links = Links::default();
        let last = CHANGE_HISTORY_MAX as u64 + 10;
        (1..=last).for_each(|revision| links.changed(empty(revision)));
        let resumed = |position| Opened {
            position: Revision(position),
            resumed: true,
        };
        let fresh = Opened {
            position: Revision(last),
            resumed: false,
        };

        let (seen, opened_at) = opened(&mut links, Some(last - 2), last);
        assert_eq!(opened_at, resumed(last - 2));
        assert_eq!(*seen.0.lock().unwrap(), [last - 1, last]);
        assert_eq!(
            opened(&mut links, Some(10), last).1,
            resumed(10),
            "the oldest there is"
        );
        assert_eq!(opened(&mut links, Some(last), last).1, resumed(last));
        assert_eq!(opened(&mut links, Some(9), last).1, fresh);
        assert_eq!(
            opened(&mut links, Some(last + 1), last).1,
            fresh,
            "of another history"
        );
        assert_eq!(opened(&mut links, None, last).1, fresh);
    }

    #[test]
    fn large_values_shorten_the_history() {
        let mut history = History::default();
        let mut set = ChangeSet {
            session_ended: None,
            ..(*empty(0)).clone()
        };
        let value = bytes::Bytes::from(vec![0; HISTORY_BYTES_MAX / 4]);
        set.changes.push(oxkeeper_model::Change {
            path: oxkeeper_model::Path::root(),
            kind: oxkeeper_model::ChangeKind::ValueSet,
            head: head(),
            parent_acl: None,
            value: ChangedValue::Set(Some(value)),
        });
        for revision in 1..=10 {
            set.revision = Revision(revision);
            history.push(Arc::new(set.clone()));
        }
        assert_eq!(history.changes.len(), 3);
        assert!(history.bytes <= HISTORY_BYTES_MAX);
    }

    fn head() -> oxkeeper_model::SharedHead {
        oxkeeper_link::contract::root().record.head.into()
    }

    #[test]
    fn closing_a_link_leaves_the_others() {
        let mut links = Links::default();
        let (first, second) = (Seen::default(), Seen::default());
        let (id, _) = links.open(None, Revision(0), Box::new(first.clone()));
        links.open(None, Revision(0), Box::new(second.clone()));
        links.close(id);
        links.changed(empty(1));
        links.answer(id, Event::Changed(empty(2)));
        links.deliver();
        links.close_all();
        assert_eq!(*first.0.lock().unwrap(), []);
        assert_eq!(*second.0.lock().unwrap(), [1, u64::MAX]);
        assert_eq!(links.len(), 0);
    }
}
