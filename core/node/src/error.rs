//! Why a node does not start, and why a shard stops.

use oxkeeper_model::ShardId;
use oxkeeper_model::placement::ShardsError;
use oxkeeper_shard::ShardError;
use oxkeeper_store::StoreError;
use thiserror::Error;

use crate::folder::FolderError;

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("shard {shard}: {failure}")]
    Shard {
        shard: ShardId,
        failure: ShardFailure,
    },
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    #[error("the shards of the node: {0}")]
    Shards(#[from] ShardsError),
}

/// Why a shard does not start, or has stopped: the shard itself says so, or what is around it.
#[derive(Debug, Error)]
pub enum ShardFailure {
    #[error(transparent)]
    Shard(#[from] ShardError),
    #[error("cannot open the store: {0}")]
    Store(#[source] StoreError),
    #[error("cannot open the log folder {path}: {source}")]
    LogFolder {
        path: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(
        "its log and its store are empty, but it was founded before: both are lost; if its data is to \
         be given up, start with a new data folder"
    )]
    Lost,
    #[error("no randomness from the system: {0}")]
    Random(String),
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    #[error("its thread panicked: {0}")]
    Panicked(String),
}

impl ShardFailure {
    /// What to do about it, for the log.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Shard(error) => error.advice(),
            Self::Lost => "restore the shard's folder from a backup or a peer",
            Self::Store(_) | Self::LogFolder { .. } | Self::Folder(_) => {
                "check the disk (space, permissions, kernel messages), then restart the process"
            }
            Self::Random(_) | Self::Thread(_) => "check the limits of the system",
            Self::Panicked(_) => {
                "this is a defect: keep the data folder and report it; a restart is safe"
            }
        }
    }
}
