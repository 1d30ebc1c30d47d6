//! Why a shard stops.

use oxkeeper_format::FormatError;
use oxkeeper_log::WalError;
use oxkeeper_model::{Offset, Term};
use oxkeeper_replication::{InvariantBroken, Refusal};
use oxkeeper_state::StateError;
use oxkeeper_store::StoreError;
use thiserror::Error;

use crate::term::TermError;

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
    #[error("term: {0}")]
    Term(#[from] TermError),
    #[error("log entry {offset}: {error}")]
    Entry { offset: Offset, error: FormatError },
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
    #[error(transparent)]
    Invariant(#[from] InvariantBroken),
    #[error("the log has no entry {0} that was committed")]
    EntryMissing(Offset),
    #[error("the leadership of term {0} has ended")]
    SteppedDown(Term),
}

impl ShardError {
    /// What to do about it, for the log.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Log(WalError::Damaged { .. } | WalError::OtherShard { .. })
            | Self::LogGap { .. }
            | Self::LogShort { .. }
            | Self::State(StateError::Row(_) | StateError::Broken(_)) => {
                "restore the shard's folder from a backup or a peer; do not delete single files"
            }
            Self::Log(WalError::UnknownVersion { .. } | WalError::UnknownRecord { .. })
            | Self::Entry { .. } => {
                "run the version of this program that wrote the data, or a later one"
            }
            Self::Log(_) | Self::Store(_) | Self::State(StateError::Store(_)) | Self::Term(_) => {
                "check the disk (space, permissions, kernel messages), then restart the process"
            }
            Self::SteppedDown(_) => "restart the process to take part again",
            Self::Replica(_) | Self::State(_) | Self::EntryMissing(_) | Self::Invariant(_) => {
                "this is a defect: keep the data folder and report it; a restart is safe"
            }
        }
    }
}
