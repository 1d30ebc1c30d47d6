#![allow(dead_code)]

//! A machine in memory that nodes are started on, and that can lose its power.

use std::sync::Arc;

use oxkeeper_link::Shard;
use oxkeeper_link::contract::seed;
use oxkeeper_log::{MemoryDisk, WalOptions};
use oxkeeper_model::ShardId;
use oxkeeper_node::{MemoryTerm, Node, NodeError, NodeOptions, ShardStats, StartParts};
use oxkeeper_store::MemoryStore;

pub(crate) const SHARD: ShardId = ShardId(0);

#[derive(Clone, Default)]
pub(crate) struct Machine {
    pub(crate) disk: MemoryDisk,
    pub(crate) store: MemoryStore,
    pub(crate) term: MemoryTerm,
}

/// Quick enough for tests that wait for sessions to expire.
pub(crate) fn options() -> NodeOptions {
    NodeOptions {
        seed: seed(),
        session_tick_ms: 50,
        history_bytes_max: 64 << 20,
        ..NodeOptions::default()
    }
}

impl Machine {
    pub(crate) fn try_start(&self, options: NodeOptions) -> Result<Node, NodeError> {
        Node::start_with(options, |_| {
            Ok(StartParts {
                disk: Arc::new(self.disk.clone()),
                log_options: WalOptions {
                    segment_bytes: 8 << 10,
                    ..WalOptions::default()
                },
                store: self.store.clone(),
                term: Arc::new(self.term.clone()),
                founded: None,
            })
        })
    }

    pub(crate) fn start(&self, options: NodeOptions) -> Node {
        self.try_start(options).expect("the node starts")
    }

    /// Kill -9: what the store held in memory is gone, what the log wrote is there.
    pub(crate) fn kill(&self, node: Node) {
        drop(node);
        self.store.crash();
    }

    /// Power loss; no node may run.
    pub(crate) fn crash(&self, seed: u64) {
        self.disk.crash(seed);
        self.store.crash();
    }
}

pub(crate) fn shard(node: &Node) -> Arc<dyn Shard> {
    node.shard(SHARD).expect("the shard is there")
}

pub(crate) fn stats(node: &Node) -> Arc<ShardStats> {
    node.stats(SHARD).expect("the shard is there")
}
