//! What goes into a shard and what comes out.

use oxkeeper_link::{Event, LinkError, Request, SessionBeat};
use oxkeeper_model::{NodeId, Position, Term};
use oxkeeper_replication::{LogEnd, Refusal};
use oxkeeper_store::StoreError;

use crate::error::ShardError;
use crate::operation::{Completion, Operation};

/// A link of a shard. Chosen by the driver, rising, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// From the coordinator: no part in any older term. Answered by [`Output::Fenced`].
    NewTerm { term: Term },
    /// From the coordinator: lead this term. Answered by [`Output::Leads`].
    BecomeLeader { term: Term, ensemble: Vec<NodeId> },
    /// A link was opened after a position. Answered by [`Event::Opened`], or by
    /// [`Output::Closed`] if the shard does not serve.
    Open {
        link: LinkId,
        resume_after: Option<Position>,
    },
    /// The client's end of a link is gone.
    Close { link: LinkId },
    /// From a link, in the order in which it sent them.
    Request { link: LinkId, request: Request },
    /// These sessions were heard of. From any link, beside its requests.
    Heartbeat { beats: Vec<SessionBeat> },
    /// An operation has ended.
    Completed(Completion),
    /// No other input is there: time to propose what has gathered and to do what is due.
    /// `all_heard`: nothing that a session sent waits before the shard, so that sessions can be
    /// found silent.
    Turn { all_heard: bool },
    /// Work off what came before, make it durable in the store, and end.
    Stop,
}

/// Something that whoever runs the shard should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Clients' writes are refused from now on.
    DiskFull,
    /// They are executed again.
    SpaceAgain,
    /// No space for a checkpoint; it is made again later. The log holds what it should have had.
    CheckpointPostponed(StoreError),
    /// The store could not read what a query asked for; the query was told so.
    ReadFailed(StoreError),
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// For a link, in order.
    Event {
        link: LinkId,
        event: Event,
    },
    /// The link has ended; nothing comes after it.
    Closed {
        link: LinkId,
        reason: LinkError,
    },
    /// To be run, its completion to be given back.
    Start(Operation),
    /// To the coordinator: fenced in `term`, and where the log ends.
    Fenced {
        term: Term,
        last: LogEnd,
    },
    /// Leads and serves: links can be opened.
    Leads {
        term: Term,
    },
    /// Does not lead any more; its links are closed.
    SteppedDown {
        term: Term,
    },
    /// To the coordinator: what it asked for was refused.
    CoordinationRefused(Refusal),
    Notice(Notice),
    /// The shard has ended, in order or by an error. The last output.
    Ended(Result<(), ShardError>),
}
