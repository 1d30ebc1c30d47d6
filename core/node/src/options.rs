//! What a node is told when it starts.

use std::sync::Arc;

use oxkeeper_model::{NodeId, SeedRecord, ShardId};

/// Called on the shard's thread when a shard has stopped by itself. The process cannot serve
/// that shard any more before it is started again. Must not wait for the node's threads.
pub type FailureHook = Arc<dyn Fn(ShardId, &str) + Send + Sync>;

/// Options of a node; each shard has its own queue, log and thread.
#[derive(Clone)]
pub struct NodeOptions {
    /// This node's id in the ensembles. Default 1.
    pub node: NodeId,
    /// Shards of the namespace; fixed when the data folder is made. Default 1.
    pub shards: u32,
    /// Records that a new shard starts with. Default none.
    pub seed: Vec<SeedRecord>,
    /// Requests that wait for a shard; more are refused as busy, and a longer vector always.
    /// Default 65,536.
    pub queue_requests_max: usize,
    /// Bytes of the requests that wait for a shard. Default 128 MiB.
    pub queue_bytes_max: usize,
    /// Sessions expire at multiples of this, never before their timeout. Milliseconds, default 2,000.
    pub session_tick_ms: u32,
    /// How often containers and TTL records are looked for. Milliseconds, default 60,000.
    pub reap_interval_ms: u32,
    /// Most records that one look-up for them deletes. Default 10,000.
    pub reap_records_max: usize,
    /// Change sets that a shard keeps for links that break and come back, at most five seconds old.
    /// Bytes, default 0: links within one process end only with their shard.
    pub history_bytes_max: usize,
    /// A checkpoint starts when so much that is not durable in the store waits. Bytes, default 32 MiB.
    pub checkpoint_dirty_bytes: usize,
    /// A checkpoint starts after so many commands, which bounds the replay after a crash.
    /// Default 60,000.
    pub checkpoint_commands: u64,
    /// See [`FailureHook`]. Default: none, the failure is only logged.
    pub on_failure: Option<FailureHook>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            node: NodeId(1),
            shards: 1,
            seed: Vec::new(),
            queue_requests_max: 65_536,
            queue_bytes_max: 128 << 20,
            session_tick_ms: 2_000,
            reap_interval_ms: 60_000,
            reap_records_max: 10_000,
            history_bytes_max: 0,
            checkpoint_dirty_bytes: 32 << 20,
            checkpoint_commands: 60_000,
            on_failure: None,
        }
    }
}
