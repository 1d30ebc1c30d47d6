//! What a shard can be asked for, and what it answers.

use bytes::Bytes;

use crate::{Attachment, Path, SessionId, SharedHead};

/// A read of the shard's applied state. Never logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One answer per path, in order, all as of one revision.
    Records { paths: Vec<Path>, with_values: bool },
    /// The head of a record and the names of its direct children.
    ChildNames { path: Path },
    /// Paths of a session's ephemeral records that start with `prefix` (as text).
    Ephemerals { session: SessionId, prefix: String },
    /// Count of all records below `path`; `None` if there is no such record.
    DescendantCount { path: Path },
    /// The attachment of a session, for whoever wants to replace it; `None` if it has ended.
    Attachment { session: SessionId },
    /// All live sessions with their timeouts, and the count of their ephemeral records.
    Sessions,
    /// Counters for the administrator: records, ephemeral records, bytes of keys and values.
    Stats,
    /// Nothing: a read barrier.
    Barrier,
    /// Several, answered as of one revision, if what they find is not more than about `bytes_max`.
    /// Does not stand in itself.
    Batch {
        queries: Vec<Query>,
        bytes_max: usize,
    },
}

/// A record as a query found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub head: SharedHead,
    /// `None` unless values were asked for; `Some(None)` is the null value.
    pub value: Option<Option<Bytes>>,
}

/// A record with the names of its direct children, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildNames {
    pub head: SharedHead,
    pub names: Vec<Box<str>>,
}

/// What a query found, as of the position of the link when it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Records(Vec<Option<Fetched>>),
    ChildNames(Option<ChildNames>),
    Ephemerals(Vec<Path>),
    DescendantCount(Option<u64>),
    Attachment(Option<Attachment>),
    Sessions(Vec<(SessionId, u32, u64)>),
    Stats {
        records: u64,
        ephemerals: u64,
        data_bytes: u64,
        sessions: u64,
    },
    Barrier,
    /// One per query, in order.
    Batch(Vec<Answer>),
    /// What a batch found is more than it may be.
    TooLarge,
    /// The shard could not read its store; it is about to stop.
    Failed,
}
