//! What can go wrong, grouped by what the caller must do about it.

use std::io::{self, ErrorKind};

use oxkeeper_model::{Offset, ShardUuid, Term};
use thiserror::Error;

use crate::chain::LogPoint;

/// What an error means for whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The caller's error, or a question that cannot be answered so. Nothing has changed.
    Caller,
    /// The disk is full. Nothing has changed, and the same call succeeds once there is space.
    NoSpace,
    /// The log cannot go on.
    Fatal,
}

/// Errors of the log and its readers.
#[derive(Debug, Error)]
pub enum WalError {
    /// The first failed write or sync of a [`crate::Wal`] poisons it.
    #[error("cannot {action} {file}: {source}")]
    Io {
        action: &'static str,
        file: String,
        source: io::Error,
    },
    /// A write or sync failed before; what is on disk is unknown until the log is opened again.
    #[error("the log failed before and must be opened again")]
    Poisoned,
    /// Records that were durable are no longer what they were. The data must come from a peer.
    #[error("{file} is damaged at byte {position}: {reason}")]
    Damaged {
        file: String,
        position: u64,
        reason: String,
    },
    /// Whole, but not understood.
    #[error(
        "{file} holds at byte {position} what this program does not understand ({reason}): \
         a later version wrote it, or the file is damaged"
    )]
    UnknownRecord {
        file: String,
        position: u64,
        reason: String,
    },
    #[error("{file} has format version {version}: {}", advice(*version))]
    UnknownVersion { file: String, version: u32 },
    #[error(
        "{file} belongs to shard {found}, this is shard {expected}: files of two shards were mixed"
    )]
    OtherShard {
        file: String,
        found: ShardUuid,
        expected: ShardUuid,
    },
    /// No room for an entry of this class, and none to be had.
    #[error("no space on the disk for {bytes} more bytes of log")]
    NoSpace { bytes: u64 },
    #[error("entry {offset} of term {term} does not follow entry {} of term {}", last.offset, last.term)]
    OutOfOrder {
        offset: Offset,
        term: Term,
        last: LogPoint,
    },
    #[error("an entry of {bytes} bytes is above the limit")]
    TooLarge { bytes: usize },
    /// An operation was started and its completion not yet told.
    #[error("the log waits for the end of {0}")]
    Busy(&'static str),
    /// The entries must come from a snapshot.
    #[error("the entries before {first} were trimmed")]
    Trimmed { first: Offset },
    /// The reader is ahead of the log: entries that it returned or asked for were truncated, or never were.
    #[error("the entries after {last} were truncated or never were")]
    BeyondEnd { last: Offset },
}

impl WalError {
    pub fn severity(&self) -> Severity {
        match self {
            Self::OutOfOrder { .. }
            | Self::TooLarge { .. }
            | Self::Busy(_)
            | Self::Trimmed { .. }
            | Self::BeyondEnd { .. } => Severity::Caller,
            Self::NoSpace { .. } => Severity::NoSpace,
            Self::Io { .. }
            | Self::Poisoned
            | Self::Damaged { .. }
            | Self::UnknownRecord { .. }
            | Self::UnknownVersion { .. }
            | Self::OtherShard { .. } => Severity::Fatal,
        }
    }

    pub(crate) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            file: file.to_owned(),
            source,
        }
    }

    pub(crate) fn damaged(file: &str, position: u64, reason: impl ToString) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            position,
            reason: reason.to_string(),
        }
    }
}

pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

fn advice(version: u32) -> &'static str {
    if version < crate::format::VERSION {
        "logs from before version 2 cannot be read any more"
    } else {
        "a later version of this program wrote it; this one knows version 2"
    }
}
