//! What a command answers.

use bytes::Bytes;
use smallvec::SmallVec;
use thiserror::Error;

use crate::{Attachment, Path, Revision, SessionId, SessionPassword, SharedHead, WriteSeq};

/// Why an operation of a transaction failed. Nothing of the transaction then took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum OpError {
    #[error("no such record")]
    NoNode,
    #[error("not permitted")]
    NoAuth,
    #[error("the version is another one")]
    BadVersion,
    #[error("ephemeral records have no children")]
    NoChildrenForEphemerals,
    #[error("the record exists")]
    NodeExists,
    #[error("the record has children")]
    NotEmpty,
    #[error("bad arguments")]
    BadArguments,
    /// The front end's own refusal; what the code means is for the front end to say.
    #[error("refused by the front end with code {0}")]
    FrontEnd(i32),
}

/// What an operation of a transaction that took effect returns: the record right after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// `path` has the sequential suffix.
    Created {
        path: Path,
        head: SharedHead,
    },
    ValueSet {
        head: SharedHead,
    },
    AclSet {
        head: SharedHead,
    },
    Deleted,
    Checked,
    Got {
        head: SharedHead,
        value: Option<Bytes>,
    },
}

/// One result per operation.
pub type OpResults = SmallVec<[OpResult; 1]>;

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    Applied(OpResults),
    /// The operation at `index` failed; none took effect.
    Failed {
        index: u32,
        error: OpError,
    },
}

/// Why a write never became a transaction. It took no revision and had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriteRefusal {
    #[error("the session has ended")]
    SessionExpired,
    #[error("the session is attached to another connection")]
    SessionMoved,
    /// It does not follow the session's last number, and its outcome is not kept.
    #[error("write out of sequence: the session is at {last}")]
    OutOfSequence { last: WriteSeq },
}

/// The answer to [`crate::SessionWrite`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOutcome {
    pub session: SessionId,
    pub seq: WriteSeq,
    /// The transaction's revision, also of a failed one; of a refused one the shard's current revision.
    pub revision: Revision,
    pub result: Result<TxnOutcome, WriteRefusal>,
}

/// A session as a connection gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionGrant {
    pub session: SessionId,
    pub password: SessionPassword,
    pub attachment: Attachment,
    pub timeout_ms: u32,
}

/// Why a session was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    #[error("no such session: it has ended or never was")]
    Expired,
    #[error("wrong password")]
    WrongPassword,
    /// Its attachment is not the one to be replaced.
    #[error("the session is attached to another connection")]
    Moved,
}

/// The answer to a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseOutcome {
    pub revision: Revision,
    pub result: Result<(), WriteRefusal>,
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Of commands that nobody waits for.
    None,
    Written(WriteOutcome),
    SessionGranted(Result<SessionGrant, SessionError>),
    SessionClosed(SessionId, CloseOutcome),
    /// Whether the session ended.
    SessionExpired(SessionId, bool),
    /// Whether the record was deleted.
    Reaped(bool),
    /// Whether the digest is the one that this replica had; `None` if it does not know any more.
    Compared(Option<bool>),
}

/// Why a command did not enter the log: it was not executed and took no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("the command is larger than a log entry may be")]
    TooLarge,
    #[error("there is no space for more")]
    NoSpace,
}
