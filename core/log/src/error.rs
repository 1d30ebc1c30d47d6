//! What can go wrong, grouped by what the caller must do about it.

use std::io;

use oxkeeper_model::{Offset, Term};
use thiserror::Error;

/// Errors of the log and its readers.
#[derive(Debug, Error)]
pub enum WalError {
    /// Fatal. The first failed write or sync of a [`crate::Wal`] poisons it.
    #[error("cannot {action} {file}: {source}")]
    Io {
        action: &'static str,
        file: String,
        source: io::Error,
    },
    /// Fatal: a write or sync failed before; what is on disk is unknown until the log is opened again.
    #[error("the log failed before and must be opened again")]
    Poisoned,
    /// Fatal: records that were durable are no longer what they were. The data must come from a peer.
    #[error("{file} is damaged at byte {position}: {reason}")]
    Damaged {
        file: String,
        position: u64,
        reason: String,
    },
    /// Fatal: written by a later version of this program.
    #[error("{file} has format version {version}; this program knows version 1")]
    UnknownVersion { file: String, version: u32 },
    /// The caller's error; nothing was appended.
    #[error("entry {offset} of term {term} does not follow {last:?}")]
    OutOfOrder {
        offset: Offset,
        term: Term,
        last: Option<(Offset, Term)>,
    },
    /// The caller's error; nothing was appended.
    #[error("an entry of {bytes} bytes is above the limit")]
    TooLarge { bytes: usize },
    /// The reader's position was trimmed: the entries must come from a snapshot.
    #[error("the entries before {first} were trimmed")]
    Trimmed { first: Offset },
    /// The reader is ahead of the log: entries that it returned or asked for were truncated, or never were.
    #[error("the entries after {last} were truncated or never were")]
    BeyondEnd { last: Offset },
}

impl WalError {
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
