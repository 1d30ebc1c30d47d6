//! The receiving ends of a shard's links: what they are told is gathered and handed over at once.

use oxkeeper_link::{Event, LinkError, LinkSink};
use oxkeeper_shard::LinkId;

struct OpenSink {
    link: LinkId,
    sink: Box<dyn LinkSink>,
    /// What is to be delivered at the end of the turn.
    events: Vec<Event>,
}

/// All sinks of one shard.
#[derive(Default)]
pub(crate) struct Sinks {
    /// Sorted, as ids only grow.
    open: Vec<OpenSink>,
}

impl Sinks {
    pub(crate) fn open(&mut self, link: LinkId, sink: Box<dyn LinkSink>) {
        let events = Vec::new();
        self.open.push(OpenSink { link, sink, events });
    }

    /// The client does not listen any more.
    pub(crate) fn drop_silently(&mut self, link: LinkId) {
        if let Ok(at) = self.find(link) {
            self.open.remove(at);
        }
    }

    pub(crate) fn event(&mut self, link: LinkId, event: Event) {
        if let Ok(at) = self.find(link) {
            self.open[at].events.push(event);
        }
    }

    /// One call to each sink that has something to hear.
    pub(crate) fn deliver(&mut self) {
        for open in &mut self.open {
            if !open.events.is_empty() {
                open.sink.deliver(&mut open.events);
                open.events.clear();
            }
        }
    }

    /// What was not delivered is dropped: its outcome counts as unknown.
    pub(crate) fn close(&mut self, link: LinkId, reason: LinkError) {
        if let Ok(at) = self.find(link) {
            self.open.remove(at).sink.closed(reason);
        }
    }

    pub(crate) fn close_all(&mut self, reason: LinkError) {
        while let Some(mut open) = self.open.pop() {
            open.sink.closed(reason);
        }
    }

    fn find(&self, link: LinkId) -> Result<usize, usize> {
        self.open.binary_search_by_key(&link, |open| open.link)
    }
}
