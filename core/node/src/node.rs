//! The node: its shards' threads, and the handles on them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use oxkeeper_link::Shard;
use oxkeeper_log::{Disk, FileDisk, WalOptions};
use oxkeeper_model::placement::{ShardDescriptor, Shards};
use oxkeeper_model::{ShardId, ShardUuid};
use oxkeeper_shard::ShardStats;
use oxkeeper_store::{KeyValueStore, StoreError};
use parking_lot::Mutex;
use tracing::{error, warn};

use crate::error::{NodeError, ShardFailure};
use crate::folder::{DataFolder, NAMESPACE};
use crate::founded::FoundedFile;
use crate::options::NodeOptions;
use crate::queue::{Item, Queue};
use crate::small_file::make_own_dir;
use crate::startup::{self, StartParts};
use crate::term_file::TermFile;
use crate::transport::LocalShard;

/// A running node. Dropping it ends the shards as they are, as a crash would, but in order:
/// what is not durable is not answered. [`Node::shutdown`] is the orderly end.
pub struct Node {
    shards: Shards,
    running: Vec<RunningShard>,
    /// Held until the threads have ended.
    _folder: Option<DataFolder>,
}

/// The outside of a shard's thread.
struct RunningShard {
    id: ShardId,
    queue: Arc<Queue>,
    status: Arc<Status>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Outlives the thread.
#[derive(Default)]
struct Status {
    stats: Arc<ShardStats>,
    /// Why it stopped by itself.
    failed: OnceLock<String>,
}

impl Node {
    /// Starts all shards from the files in `data_dir`, which is made if missing. `open_store`
    /// gets an own folder for each shard's store. Returns when all shards serve.
    pub fn start<S: KeyValueStore>(
        options: NodeOptions,
        data_dir: &Path,
        mut open_store: impl FnMut(ShardId, &Path) -> Result<S, StoreError>,
    ) -> Result<Self, NodeError> {
        let folder = DataFolder::open(data_dir, options.node, options.shards)?;
        let shards = Shards::new(folder.manifest().shards.clone())?;
        let parts = |shard: &ShardDescriptor| {
            let ShardDescriptor {
                id: shard, uuid, ..
            } = *shard;
            let failed = |failure| NodeError::Shard { shard, failure };
            let path = folder.shard(shard)?;
            let log = path.join("log");
            make_own_dir(&log)?;
            let disk = FileDisk::new(&log).map_err(|source| {
                failed(ShardFailure::LogFolder {
                    path: log.display().to_string(),
                    source,
                })
            })?;
            let store = open_store(shard, &path.join("store"))
                .map_err(|error| failed(ShardFailure::Store(error)))?;
            Ok(StartParts {
                disk: Arc::new(disk),
                log_options: log_options(uuid),
                store,
                term: Arc::new(TermFile::new(&path)),
                founded: Some(FoundedFile::new(&path, uuid)),
            })
        };
        let mut node = Self::start_shards(options, shards, parts)?;
        node._folder = Some(folder);
        Ok(node)
    }

    /// Starts all shards from parts that the caller made, without a folder: their uuids are all alike.
    pub fn start_with<D: Disk, S: KeyValueStore>(
        options: NodeOptions,
        mut parts: impl FnMut(ShardId) -> Result<StartParts<D, S>, NodeError>,
    ) -> Result<Self, NodeError> {
        let uuids = vec![ShardUuid::default(); options.shards as usize];
        let shards = Shards::found(NAMESPACE, ShardId(0), &uuids)?;
        Self::start_shards(options, shards, |shard| parts(shard.id))
    }

    fn start_shards<D: Disk, S: KeyValueStore>(
        options: NodeOptions,
        shards: Shards,
        mut parts: impl FnMut(&ShardDescriptor) -> Result<StartParts<D, S>, NodeError>,
    ) -> Result<Self, NodeError> {
        let options = Arc::new(options);
        let mut node = Self {
            shards,
            running: Vec::new(),
            _folder: None,
        };
        let mut started = Vec::new();
        // All at once: each replays its log.
        for shard in node.shards.iter() {
            let parts = parts(shard)?;
            let (running, result) = RunningShard::spawn(shard, Arc::clone(&options), parts)?;
            node.running.push(running);
            started.push(result);
        }
        for (shard, result) in node.shards.ids().zip(started) {
            let gone = || Err(ShardFailure::Panicked("while it started".to_owned()));
            result
                .recv()
                .unwrap_or_else(|_| gone())
                .map_err(|failure| NodeError::Shard { shard, failure })?;
        }
        Ok(node)
    }

    /// The shards of the namespace.
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// A shard that links can be opened to; `None` if there is no such shard.
    pub fn shard(&self, shard: ShardId) -> Option<Arc<dyn Shard>> {
        let running = self.running(shard)?;
        Some(Arc::new(LocalShard {
            queue: Arc::clone(&running.queue),
        }))
    }

    /// What a shard has counted so far.
    pub fn stats(&self, shard: ShardId) -> Option<Arc<ShardStats>> {
        Some(Arc::clone(&self.running(shard)?.status.stats))
    }

    /// Requests that wait for a shard.
    pub fn queue_length(&self, shard: ShardId) -> Option<usize> {
        Some(self.running(shard)?.queue.len())
    }

    /// The first shard that has stopped by itself, and why. The process should end then.
    pub fn failed(&self) -> Option<(ShardId, &str)> {
        let failure = |running: &'_ RunningShard| running.status.failed.get().is_some();
        let running = self.running.iter().find(|running| failure(running))?;
        Some((running.id, running.status.failed.get()?))
    }

    /// Works off what is queued, refuses anything more, makes everything durable in the stores,
    /// closes the links, and returns when all threads have ended. Repeating it does nothing.
    pub fn shutdown(&self) {
        for running in &self.running {
            running.queue.control(Item::Stop);
        }
        self.join();
    }

    fn join(&self) {
        for running in &self.running {
            for thread in running.threads.lock().drain(..) {
                // Panics were caught and told inside.
                let _ = thread.join();
            }
        }
    }

    fn running(&self, shard: ShardId) -> Option<&RunningShard> {
        self.running.iter().find(|running| running.id == shard)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for running in &self.running {
            running.queue.abort();
        }
        self.join();
    }
}

type Started = Receiver<Result<(), ShardFailure>>;

impl RunningShard {
    fn spawn<D: Disk, S: KeyValueStore>(
        descriptor: &ShardDescriptor,
        options: Arc<NodeOptions>,
        parts: StartParts<D, S>,
    ) -> Result<(Self, Started), NodeError> {
        let id = descriptor.id;
        let queue = Arc::new(Queue::new(
            options.queue_requests_max,
            options.queue_bytes_max,
        ));
        let status = Arc::new(Status::default());
        let (started, result) = sync_channel(1);
        let thread = {
            let (queue, status) = (Arc::clone(&queue), Arc::clone(&status));
            let descriptor = descriptor.clone();
            let life = move || live(&descriptor, &options, &queue, &status, parts, &started);
            let name = format!("shard-{id}");
            std::thread::Builder::new()
                .name(name)
                .spawn(life)
                .map_err(NodeError::Thread)?
        };
        let threads = Mutex::new(vec![thread]);
        Ok((
            Self {
                id,
                queue,
                status,
                threads,
            },
            result,
        ))
    }
}

/// The log holds little more than what two checkpoints cover, so that its reserved space is small
/// beside the data.
fn log_options(shard: ShardUuid) -> WalOptions {
    WalOptions {
        uuid: shard,
        segment_bytes: 32 << 20,
        recycle_segments: 2,
        ..WalOptions::default()
    }
}

/// A shard thread from start to end. Whatever ends it, its links are closed.
fn live<D: Disk, S: KeyValueStore>(
    descriptor: &ShardDescriptor,
    options: &Arc<NodeOptions>,
    queue: &Arc<Queue>,
    status: &Status,
    parts: StartParts<D, S>,
    started: &SyncSender<Result<(), ShardFailure>>,
) {
    let id = descriptor.id;
    let opened = startup::open(descriptor, options, queue, &status.stats, parts);
    let mut driver = match opened {
        Ok(driver) => driver,
        Err(error) => {
            queue.close();
            error!(shard = %id, %error, advice = error.advice(), "shard does not start");
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    // The driver is not used after a panic but to close its links, which are whole.
    let result = catch_unwind(AssertUnwindSafe(|| driver.run()))
        .map(|ended| ended.map_err(ShardFailure::Shard))
        .unwrap_or_else(|panic| Err(ShardFailure::Panicked(panic_text(&*panic))));
    queue.close();
    if let Err(error) = &result {
        error!(shard = %id, %error, advice = error.advice(), "shard has stopped");
        let _ = status.failed.set(error.to_string());
    }
    // Before the hook, which may end the process.
    if catch_unwind(AssertUnwindSafe(|| driver.close_links())).is_err() {
        warn!(shard = %id, "a link panicked when it was closed");
    }
    drop(driver);
    if let (Err(error), Some(hook)) = (&result, &options.on_failure) {
        hook(id, &error.to_string());
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
