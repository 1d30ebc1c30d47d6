//! What enters a shard's log.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    Acl, Attachment, Digest, FeatureLevel, Identities, Lifetime, Nonce, Offset, Path, Record,
    SessionId, Term, WriteSeq,
};

/// One entry of the log: commands that were proposed together, with one pair of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub term: Term,
    /// The leader's wall clock, for stamps only: it may go back. Milliseconds since the epoch.
    pub wall_ms: i64,
    /// What ages are counted by (TTL, containers). Milliseconds since the shard's first entry,
    /// as its leaders' monotonic clocks saw them; never less than in the entry ahead.
    pub elapsed_ms: u64,
    pub commands: Vec<Command>,
}

/// A session's proof, 16 bytes: a MAC of its id under the namespace's secret.
pub type SessionPassword = [u8; 16];

/// One step of the state machine. Each takes the next revision, except where noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// First command of a shard: its secret, and the records it starts with. Takes no revision;
    /// a second one changes nothing.
    Genesis {
        secret: [u8; 32],
        seed: Vec<SeedRecord>,
    },
    /// First command of a leader's term. Takes no revision.
    TermStart,
    /// What a client of the shard asked for.
    Client(ClientCommand),
    /// The leader's end of a silent session. No effect, and no revision, if the session was
    /// attached again since (`attachment` is no longer its current one) or is gone.
    ExpireSession {
        session: SessionId,
        attachment: Attachment,
    },
    /// Deletes a container or TTL record if its time has come at the entry's elapsed time
    /// (see `limits::CONTAINER_NEVER_USED_MS` for one that never had a child).
    /// No effect, and no revision, otherwise.
    Reap { path: Path },
    /// Outcomes up to these numbers have arrived, by sessions that write nothing that could say so.
    /// One of another attachment changes nothing. Takes no revision.
    Acknowledge {
        sessions: Vec<(SessionId, Attachment, WriteSeq)>,
    },
    /// Nothing but the entry's time, for a shard that is idle when something becomes due.
    /// Takes no revision.
    Time,
    /// What the leader's digest was after `offset`, for replicas to compare. Takes no revision.
    Checksum { offset: Offset, digest: Digest },
    /// Raises the level of formats and commands that may be used from here on. Never lowers it.
    /// Takes no revision.
    FeatureLevel { level: FeatureLevel },
}

/// What a client of the shard asks for; it enters the log as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCommand {
    /// A tree transaction of a session.
    Write(SessionWrite),
    /// The new session has attachment 1. One that is sent again is known by its nonce and
    /// gets the same session.
    OpenSession { nonce: Nonce, timeout_ms: u32 },
    /// Binds a session to a new connection, if its attachment is still `replaces`. One that is
    /// sent again is known by its nonce and gets the same answer. Takes no revision.
    Attach {
        session: SessionId,
        password: SessionPassword,
        replaces: Attachment,
        nonce: Nonce,
        timeout_ms: u32,
    },
    /// The client's own end of its session: deletes its ephemeral records. In sequence with the
    /// session's writes.
    CloseSession {
        session: SessionId,
        attachment: Attachment,
        seq: WriteSeq,
        follows: WriteSeq,
    },
}

impl ClientCommand {
    /// The session that it is about; a session that opens has none yet.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Write(write) => Some(write.session),
            Self::Attach { session, .. } | Self::CloseSession { session, .. } => Some(*session),
            Self::OpenSession { .. } => None,
        }
    }
}

/// A record a shard starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedRecord {
    pub path: Path,
    pub record: Record,
}

/// Most transactions have one operation.
pub type Ops = SmallVec<[TreeOp; 1]>;

/// A tree transaction: all of `ops` or none, in order, each seeing the ones before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionWrite {
    pub session: SessionId,
    pub attachment: Attachment,
    /// Above every number before it under this attachment, and never used again. If it is that of an
    /// outcome that is still kept, that outcome is returned.
    pub seq: WriteSeq,
    /// The number sent before it under this attachment, 0 for the first. If it is not the session's
    /// last one, something between was lost, and the write is refused.
    pub follows: WriteSeq,
    /// Outcomes up to here have arrived: the shard may forget them.
    pub acknowledged: WriteSeq,
    pub identities: Identities,
    pub ops: Ops,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeOp {
    /// Creates a record under an existing parent. An error is the first of: no parent, no CREATE
    /// permission on it, `malformed`, exists already, parent is ephemeral.
    Create(Create),
    /// Errors: no record, no WRITE permission, other version.
    SetValue {
        path: Path,
        value: Option<Bytes>,
        expected_version: Option<i32>,
    },
    /// Errors: no record, no ADMIN permission, other ACL version.
    SetAcl {
        path: Path,
        acl: Acl,
        expected_version: Option<i32>,
    },
    /// Errors: no parent, no DELETE permission on the parent, no record, other version, has children.
    Delete {
        path: Path,
        expected_version: Option<i32>,
    },
    /// Errors: no record, no READ permission, other version.
    Check {
        path: Path,
        expected_version: Option<i32>,
    },
    /// Reads the record as the operations before left it. Errors: no record, no READ permission.
    Get { path: Path },
    /// An operation that the front end refused; fails the transaction when its turn comes, with
    /// [`crate::OpError::FrontEnd`].
    Refused { code: i32 },
}

/// What a create asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// Without the suffix if `sequential`.
    pub path: Path,
    pub value: Option<Bytes>,
    pub acl: Acl,
    pub lifetime: Lifetime,
    /// Append the parent's count of creates to the path, as at least 10 digits.
    pub sequential: bool,
    /// The front end found the final path ill-formed: answer `BadArguments`, but only after
    /// the parent was looked at.
    pub malformed: bool,
}
