//! What a shard is made of and what it is told at its start.

use std::sync::Arc;

use oxkeeper_log::{Disk, WalOptions};
use oxkeeper_model::placement::ShardDescriptor;
use oxkeeper_model::{NodeId, SeedRecord};
use oxkeeper_store::KeyValueStore;

use crate::stats::ShardStats;
use crate::term::TermStore;

/// Options of a shard on one node.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    pub shard: ShardDescriptor,
    /// This node's id in the ensembles.
    pub node: NodeId,
    /// The secret of a new shard, random; one that has a secret keeps its own.
    pub genesis_secret: [u8; 32],
    /// The key of maps whose keys clients choose: random, another one at each start.
    pub hash_key: u64,
    /// Records that a new shard starts with.
    pub seed: Vec<SeedRecord>,
    /// Sessions expire at multiples of this, never before their timeout. Milliseconds, not 0.
    pub session_tick_ms: u32,
    /// How often containers and TTL records are looked for. Milliseconds.
    pub reap_interval_ms: u32,
    /// Most records that one look-up for them deletes.
    pub reap_records_max: usize,
    /// Change sets kept for links that break and come back, at most five seconds old; 0 if links end
    /// only with the shard. Bytes.
    pub history_bytes_max: usize,
    /// A checkpoint starts when so much that is not durable in the store waits. Bytes.
    pub checkpoint_dirty_bytes: usize,
    /// A checkpoint starts after so many commands, which bounds the replay after a crash.
    pub checkpoint_commands: u64,
}

/// Where a shard keeps its data, and where it counts.
pub struct ShardParts<D: Disk, S: KeyValueStore> {
    pub disk: Arc<D>,
    pub log_options: WalOptions,
    pub store: S,
    pub term: Arc<dyn TermStore>,
    pub stats: Arc<ShardStats>,
}
