//! The link within one process: requests into the shard's queue, events straight to the sink.

use std::sync::Arc;

use oxkeeper_link::{Link, LinkError, LinkSink, Request, Shard};
use oxkeeper_model::Position;
use oxkeeper_shard::LinkId;

use crate::queue::{Item, OpenLink, Queue};

/// A shard of this process. Sinks are called on the shard's thread.
pub(crate) struct LocalShard {
    pub(crate) queue: Arc<Queue>,
}

impl Shard for LocalShard {
    fn open(
        &self,
        resume_after: Option<Position>,
        sink: Box<dyn LinkSink>,
    ) -> Result<Arc<dyn Link>, LinkError> {
        let open = |link| OpenLink {
            link,
            resume_after,
            sink,
        };
        let id = self.queue.open(open).ok_or(LinkError::Closed)?;
        let queue = Arc::clone(&self.queue);
        Ok(Arc::new(LocalLink { id, queue }))
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
