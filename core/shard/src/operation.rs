//! Work that blocks: started by the shard, run by its driver, completed by an input.

use std::fmt;

use oxkeeper_log::{PrepareDone, SegmentDone, SyncDone, TrimDone};
use oxkeeper_model::{Offset, Term};
use oxkeeper_store::StoreError;

use crate::term::TermError;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// Makes appended entries durable.
    SyncLog,
    /// Starts the log's next segment, for which an entry waits.
    StartSegment,
    /// Makes a file that the log will want. Nobody waits for it, and it may take seconds.
    PrepareLog,
    /// Gives up the log before a checkpoint.
    TrimLog,
    /// Makes a checkpoint of the store durable. May take seconds; entries are applied meanwhile.
    Flush,
    /// Makes a term durable.
    PersistTerm,
}

/// Work that blocks. Dropping it means that it never ends.
pub struct Operation {
    kind: OperationKind,
    work: Box<dyn FnOnce() -> Done + Send>,
}

/// The end of an operation, for [`crate::Input::Completed`].
#[derive(Debug)]
pub struct Completion(pub(crate) Done);

#[derive(Debug)]
pub(crate) enum Done {
    LogSynced(SyncDone),
    SegmentStarted(Box<SegmentDone>),
    LogPrepared(PrepareDone),
    LogTrimmed(TrimDone),
    Flushed(Result<Offset, StoreError>),
    TermPersisted(Term, Result<(), TermError>),
}

impl Operation {
    pub(crate) fn new(kind: OperationKind, work: impl FnOnce() -> Done + Send + 'static) -> Self {
        Self {
            kind,
            work: Box::new(work),
        }
    }

    pub fn kind(&self) -> OperationKind {
        self.kind
    }

    /// Does it, on any thread. Blocks.
    pub fn run(self) -> Completion {
        Completion((self.work)())
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl Completion {
    /// What has ended.
    pub fn kind(&self) -> OperationKind {
        match self.0 {
            Done::LogSynced(_) => OperationKind::SyncLog,
            Done::SegmentStarted(_) => OperationKind::StartSegment,
            Done::LogPrepared(_) => OperationKind::PrepareLog,
            Done::LogTrimmed(_) => OperationKind::TrimLog,
            Done::Flushed(_) => OperationKind::Flush,
            Done::TermPersisted(..) => OperationKind::PersistTerm,
        }
    }
}
