//! How a shard's thread comes up: the shard is opened and leads when this is done.

use std::sync::Arc;

use oxkeeper_log::{Disk, WalOptions};
use oxkeeper_model::placement::ShardDescriptor;
use oxkeeper_shard::{Shard, ShardOptions, ShardParts, ShardStats, TermStore};
use oxkeeper_store::KeyValueStore;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::driver::Driver;
use crate::error::ShardFailure;
use crate::founded::FoundedFile;
use crate::options::NodeOptions;
use crate::queue::Queue;
use crate::workers::Workers;

/// Where a shard keeps its data.
pub struct StartParts<D: Disk, S: KeyValueStore> {
    pub disk: Arc<D>,
    pub log_options: WalOptions,
    pub store: S,
    pub term: Arc<dyn TermStore>,
    /// Tells a lost shard from a new one; `None`: each empty one is new.
    pub founded: Option<FoundedFile>,
}

/// A shard that serves when this returns.
pub(crate) fn open<D: Disk, S: KeyValueStore>(
    descriptor: &ShardDescriptor,
    options: &NodeOptions,
    queue: &Arc<Queue>,
    stats: &Arc<ShardStats>,
    parts: StartParts<D, S>,
) -> Result<Driver<D, S>, ShardFailure> {
    let clock = Clock::start();
    let id = descriptor.id;
    let founded = parts.founded;
    let options = shard_options(descriptor, options)?;
    let parts = ShardParts {
        disk: parts.disk,
        log_options: parts.log_options,
        store: parts.store,
        term: parts.term,
        stats: Arc::clone(stats),
    };
    let shard = Shard::open(options, parts, clock.now())?;
    let known = founded.as_ref().map(FoundedFile::is_there).transpose()?;
    if known == Some(true) && shard.is_new() {
        return Err(ShardFailure::Lost);
    }
    if let Some(cut) = shard.log_cut() {
        warn!(
            shard = %id, %cut,
            "the end of the log is cut: a crash tore what was not acknowledged, or the disk lost the last entry"
        );
    }
    let workers = Workers::start(id, queue, stats).map_err(ShardFailure::Thread)?;
    let mut driver = Driver::new(shard, Arc::clone(queue), Arc::clone(stats), clock, workers);
    driver.lead()?;
    if let Some(founded) = founded.filter(|_| known == Some(false)) {
        founded.write()?;
    }
    info!(
        shard = %id,
        term = %driver.shard.term(),
        applied = %driver.shard.applied(),
        revision = %driver.shard.revision(),
        replayed_entries = stats.replayed_entries.get(),
        replay_ms = stats.replay_ms.get(),
        sessions = stats.sessions.get(),
        "shard serves"
    );
    Ok(driver)
}

fn shard_options(
    shard: &ShardDescriptor,
    options: &NodeOptions,
) -> Result<ShardOptions, ShardFailure> {
    let (mut genesis_secret, mut hash_key) = ([0; 32], [0; 8]);
    getrandom::fill(&mut genesis_secret)
        .and_then(|()| getrandom::fill(&mut hash_key))
        .map_err(|error| ShardFailure::Random(error.to_string()))?;
    Ok(ShardOptions {
        shard: shard.clone(),
        node: options.node,
        genesis_secret,
        hash_key: u64::from_ne_bytes(hash_key),
        seed: options.seed.clone(),
        session_tick_ms: options.session_tick_ms,
        reap_interval_ms: options.reap_interval_ms,
        reap_records_max: options.reap_records_max,
        history_bytes_max: options.history_bytes_max,
        checkpoint_dirty_bytes: options.checkpoint_dirty_bytes,
        checkpoint_commands: options.checkpoint_commands,
    })
}
