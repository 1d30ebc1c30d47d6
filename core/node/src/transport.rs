//! The link within one process: requests into the shard's queue, events straight to the sink.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use oxkeeper_link::{Link, LinkError, LinkSink, Opened, Request, Shard};
use oxkeeper_model::Position;
use oxkeeper_shard::LinkId;

use crate::queue::{Item, OpenLink, Queue};

/// A shard of this process. Sinks are called on the shard's thread.
pub(crate) struct LocalShard {
    pub(crate) queue: Arc<Queue>,
}

impl Shard for LocalShard {
    /// Waits for the shard's thread: not to be called from a sink.
    fn open(
        &self,
        resume_after: Option<Position>,
        sink: Box<dyn LinkSink>,
    ) -> Result<(Arc<dyn Link>, Opened), LinkError> {
        let (reply, opened) = sync_channel(1);
        let open = |link| OpenLink {
            link,
            resume_after,
            sink,
            reply,
        };
        let id = self.queue.open(open).ok_or(LinkError::Closed)?;
        let opened = opened.recv().map_err(|_| LinkError::Closed)?;
        let queue = Arc::clone(&self.queue);
        Ok((Arc::new(LocalLink { id, queue }), opened))
    }
}

/// Closes the link when it is dropped.
struct LocalLink {
    id: LinkId,
    queue: Arc<Queue>,
}

impl Link for LocalLink {
    fn send(&self, requests: &mut Vec<Request>) -> Result<(), LinkError> {
        self.queue.send(self.id, requests)
    }
}

impl Drop for LocalLink {
    fn drop(&mut self) {
        self.queue.control(Item::Close { link: self.id });
    }
}
