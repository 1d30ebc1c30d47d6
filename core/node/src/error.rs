//! Why a node does not start, and why a shard stops.

use oxkeeper_format::FormatError;
use oxkeeper_log::WalError;
use oxkeeper_model::{Offset, ShardId, Term};
use oxkeeper_replication::Refusal;
use oxkeeper_state::StateError;
use oxkeeper_store::StoreError;
use thiserror::Error;

use crate::folder::FolderError;

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("shard {shard}: {error}")]
    Shard { shard: ShardId, error: ShardError },
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    #[error("a node needs at least one shard")]
    NoShards,
}

/// Why a shard cannot go on. All of these are fatal to the shard: what memory holds and what
/// the disk holds may differ, and only a restart reads what is really there.
#[derive(Debug, Error)]
pub enum ShardError {
    #[error("log: {0}")]
    Log(#[from] WalError),
    #[error("store: {0}")]
    Store(#[from] StoreError),
    #[error("state: {0}")]
    State(#[from] StateError),
    #[error("data folder: {0}")]
    Folder(#[from] FolderError),
    #[error("log entry {offset}: {error}")]
    Entry { offset: Offset, error: FormatError },
    #[error("cannot open the log folder {path}: {source}")]
    LogFolder {
        path: String,
        source: std::io::Error,
    },
    #[error(
        "the log begins at entry {first}, but the store has applied only up to {applied}: \
         log files are missing, or the store was replaced"
    )]
    LogGap { first: Offset, applied: Offset },
    #[error(
        "the log ends at entry {last}, but the store has applied up to {applied}: \
         log files are missing"
    )]
    LogShort { last: Offset, applied: Offset },
    #[error("the replica refused a step: {0}")]
    Replica(#[from] Refusal),
    #[error("the log has no entry {0} that was committed")]
    EntryMissing(Offset),
    #[error("the leadership of term {0} has ended")]
    SteppedDown(Term),
    #[error("no randomness from the system: {0}")]
    Random(String),
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    #[error("its thread panicked: {0}")]
    Panicked(String),
}

impl ShardError {
    /// What to do about it, for the log.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Log(WalError::Damaged { .. })
            | Self::LogGap { .. }
            | Self::LogShort { .. }
            | Self::State(StateError::Row(_) | StateError::Broken(_)) => {
                "restore the shard's folder from a backup or a peer; do not delete single files"
            }
            Self::Log(WalError::UnknownVersion { .. }) | Self::Entry { .. } => {
                "run the version of this program that wrote the data, or a later one"
            }
            Self::Log(_)
            | Self::Store(_)
            | Self::State(StateError::Store(_))
            | Self::Folder(_)
            | Self::LogFolder { .. } => {
                "check the disk (space, permissions, kernel messages), then restart the process"
            }
            Self::Random(_) | Self::Thread(_) => "check the limits of the system",
            Self::SteppedDown(_) => "restart the process to take part again",
            Self::Replica(_) | Self::State(_) | Self::EntryMissing(_) | Self::Panicked(_) => {
                "this is a defect: keep the data folder and report it; a restart is safe"
            }
        }
    }
}
