//! The thread that flushes a shard's store, so that the shard goes on meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use oxkeeper_model::ShardId;
use oxkeeper_shard::{Operation, ShardStats};

use crate::clock::elapsed_ns;
use crate::queue::Queue;

/// Ends its thread, after the flush under way, when it is dropped.
pub(crate) struct Flusher {
    work: Option<SyncSender<Operation>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(crate) fn start(
        shard: ShardId,
        queue: Arc<Queue>,
        stats: Arc<ShardStats>,
    ) -> std::io::Result<Self> {
        let (sender, work) = sync_channel::<Operation>(1);
        let flush = move || {
            for operation in work {
                let started = Instant::now();
                let completion = operation.run();
                stats.checkpoint_ns.record(elapsed_ns(started));
                queue.completed(completion);
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("flush-{shard}"))
            .spawn(flush)?;
        Ok(Self {
            work: Some(sender),
            thread: Some(thread),
        })
    }

    /// Never waits: the shard has one flush at a time. An operation that the thread does not take
    /// any more (it panicked) never ends.
    pub(crate) fn run(&self, operation: Operation) {
        if let Some(work) = &self.work {
            let _ = work.try_send(operation);
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic there leaves the store as the last complete flush did.
            let _ = thread.join();
        }
    }
}
