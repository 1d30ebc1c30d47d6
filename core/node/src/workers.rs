//! The threads that do what takes long, so that the shard goes on meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use oxkeeper_model::ShardId;
use oxkeeper_shard::{Operation, ShardStats};

use crate::clock::elapsed_ns;
use crate::queue::Queue;

/// A shard's.
pub(crate) struct Workers {
    flush: Worker,
    prepare_log: Worker,
}

impl Workers {
    pub(crate) fn start(
        shard: ShardId,
        queue: &Arc<Queue>,
        stats: &Arc<ShardStats>,
    ) -> std::io::Result<Self> {
        let stats = Arc::clone(stats);
        let flushed = move |started| stats.checkpoint_ns.record(elapsed_ns(started));
        let prepared = |_| ();
        Ok(Self {
            flush: Worker::start(format!("flush-{shard}"), queue, flushed)?,
            prepare_log: Worker::start(format!("segments-{shard}"), queue, prepared)?,
        })
    }

    pub(crate) fn flush(&self, operation: Operation) {
        self.flush.run(operation);
    }

    pub(crate) fn prepare_log(&self, operation: Operation) {
        self.prepare_log.run(operation);
    }
}

/// Ends its thread, after the operation under way, when it is dropped.
struct Worker {
    work: Option<SyncSender<Operation>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(
        name: String,
        queue: &Arc<Queue>,
        done: impl Fn(Instant) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, work) = sync_channel::<Operation>(1);
        let queue = Arc::clone(queue);
        let life = move || {
            for operation in work {
                let started = Instant::now();
                let completion = operation.run();
                done(started);
                queue.completed(completion);
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(life)?;
        Ok(Self {
            work: Some(sender),
            thread: Some(thread),
        })
    }

    /// Never waits: the shard has one operation of a kind at a time. One that the thread does not take
    /// any more (it panicked) never ends.
    fn run(&self, operation: Operation) {
        if let Some(work) = &self.work {
            let _ = work.try_send(operation);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic there leaves the files as after a crash.
            let _ = thread.join();
        }
    }
}
