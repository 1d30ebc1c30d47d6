//! Checkpoints: the store is flushed on another thread, then the log is trimmed.
//!
//! The flush freezes what the store holds at one log offset; the log is trimmed only below what
//! was flushed, and only after it was. So a crash at any moment finds in the log everything
//! that the store lacks.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use oxkeeper_model::{Offset, ShardId};
use oxkeeper_store::{Checkpoint, StoreError};

use crate::clock::elapsed_ns;
use crate::queue::{Item, Queue};

/// What the flush thread reports to the shard thread.
pub(crate) struct Flushed {
    /// What is durable now.
    result: Result<Offset, StoreError>,
}

/// The shard thread's end.
pub(crate) struct Checkpoints {
    dirty_bytes_max: usize,
    commands_max: u64,
    /// Commands that were applied since the last checkpoint began.
    commands: u64,
    /// When the one began that is under way; at most one at a time.
    under_way: Option<Instant>,
    /// To the flush thread, and the thread; both are gone after `wait`.
    flusher: Option<(SyncSender<Checkpoint>, JoinHandle<()>)>,
}

impl Checkpoints {
    pub(crate) fn start(
        shard: ShardId,
        dirty_bytes_max: usize,
        commands_max: u64,
        queue: Arc<Queue>,
    ) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel::<Checkpoint>(1);
        let thread = std::thread::Builder::new()
            .name(format!("flush-{shard}"))
            .spawn(move || {
                for checkpoint in jobs {
                    let result = checkpoint.wait();
                    // A shard that has ended does not wait for it.
                    queue.control(Item::Flushed(Flushed { result }));
                }
            })?;
        let flusher = Some((sender, thread));
        Ok(Self {
            dirty_bytes_max,
            commands_max,
            commands: 0,
            under_way: None,
            flusher,
        })
    }

    pub(crate) fn applied(&mut self, commands: usize) {
        self.commands += commands as u64;
    }

    pub(crate) fn is_due(&self, dirty_bytes: usize) -> bool {
        self.under_way.is_none()
            && (dirty_bytes >= self.dirty_bytes_max || self.commands >= self.commands_max)
    }

    /// Waits for the checkpoint on the flush thread.
    pub(crate) fn begin(&mut self, checkpoint: Checkpoint) {
        self.commands = 0;
        self.under_way = Some(Instant::now());
        if let Some((sender, _)) = &self.flusher {
            // Never full: one at a time. A flush thread that panicked shows when it is joined.
            let _ = sender.try_send(checkpoint);
        }
    }

    /// Up to where the store is durable now, and how many nanoseconds it took.
    pub(crate) fn finish(&mut self, flushed: Flushed) -> Result<(Offset, u64), StoreError> {
        let offset = flushed.result?;
        let ns = self.under_way.take().map_or(0, elapsed_ns);
        Ok((offset, ns))
    }

    /// Waits for the flush under way, if there is one, and ends the thread.
    pub(crate) fn wait(&mut self) {
        if let Some((sender, thread)) = self.flusher.take() {
            drop(sender);
            // A panic there leaves the store as the last complete flush did.
            let _ = thread.join();
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wait();
    }
}
