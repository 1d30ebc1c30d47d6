//! Checkpoints: the store is flushed on another thread, then the log is trimmed.
//!
//! A disk that is too slow for the flushes holds up the shard, not the memory: see
//! [`DIRTY_FACTOR_MAX`].
//!
//! The flush freezes what the store holds at one log offset; the log is trimmed only below what
//! was flushed, and only after it was. So a crash at any moment finds in the log everything
//! that the store lacks.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use oxkeeper_model::{Offset, ShardId};
use oxkeeper_state::Checkpoint;
use oxkeeper_store::StoreError;

use crate::clock::elapsed_ns;
use crate::queue::{Item, Queue};

/// When so many times the size at which a checkpoint is due has gathered behind the one under
/// way, the shard waits for it.
const DIRTY_FACTOR_MAX: usize = 8;

/// Up to where the store is durable now.
type Flushed = Result<Offset, StoreError>;

/// A checkpoint that was made durable.
pub(crate) struct Done {
    pub(crate) offset: Offset,
    pub(crate) ns: u64,
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
    /// From the flush thread.
    flushed: Receiver<Flushed>,
}

impl Checkpoints {
    pub(crate) fn start(
        shard: ShardId,
        dirty_bytes_max: usize,
        commands_max: u64,
        queue: Arc<Queue>,
    ) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel::<Checkpoint>(1);
        let (report, flushed) = sync_channel(1);
        let work = move || {
            for checkpoint in jobs {
                // A shard that has ended does not wait for it.
                let _ = report.send(checkpoint.wait());
                queue.control(Item::Flushed);
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("flush-{shard}"))
            .spawn(work)?;
        Ok(Self {
            dirty_bytes_max,
            commands_max,
            commands: 0,
            under_way: None,
            flusher: Some((sender, thread)),
            flushed,
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
    pub(crate) fn begin(&mut self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.commands = 0;
        self.under_way = Some(Instant::now());
        let flusher = self.flusher.as_ref();
        // Never full: one at a time.
        let sent = flusher.is_some_and(|(sender, _)| sender.try_send(checkpoint).is_ok());
        if sent { Ok(()) } else { Err(flusher_gone()) }
    }

    /// Whether the flush is so far behind that nothing more may be applied before its end.
    pub(crate) fn is_behind(&self, dirty_bytes: usize) -> bool {
        self.under_way.is_some() && dirty_bytes / DIRTY_FACTOR_MAX >= self.dirty_bytes_max
    }

    /// What has become durable, if anything.
    pub(crate) fn poll(&mut self) -> Result<Option<Done>, StoreError> {
        self.flushed
            .try_recv()
            .ok()
            .map(|flushed| self.done(flushed))
            .transpose()
    }

    /// Waits for the checkpoint under way.
    pub(crate) fn block(&mut self) -> Result<Done, StoreError> {
        let flushed = self.flushed.recv().map_err(|_| flusher_gone())?;
        self.done(flushed)
    }

    fn done(&mut self, flushed: Flushed) -> Result<Done, StoreError> {
        let ns = self.under_way.take().map_or(0, elapsed_ns);
        Ok(Done {
            offset: flushed?,
            ns,
        })
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

fn flusher_gone() -> StoreError {
    StoreError::new("flushing the store", "the flush thread has ended")
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wait();
    }
}
