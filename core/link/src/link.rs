//! The link's messages and traits.

use std::sync::Arc;

use oxkeeper_model::{
    Answer, Attachment, ChangeSet, ClientCommand, CommandOutcome, Position, Query, Refusal,
    SessionId, WriteSeq,
};
use thiserror::Error;

/// Chosen by the sender of a request, returned with its answer. Means nothing to the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// From a client to its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Logged. Answered by [`Event::Outcome`], or by [`Event::Refused`] if it did not enter the log.
    Command {
        token: Token,
        command: ClientCommand,
    },
    /// Answered by [`Event::Answered`], after everything that was sent before it.
    Query { token: Token, query: Query },
    /// These sessions were heard of since the last heartbeat. No answer.
    Heartbeat { beats: Vec<SessionBeat> },
}

/// A sign of life of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionBeat {
    pub session: SessionId,
    /// A beat of an older attachment says nothing.
    pub attachment: Attachment,
    /// Outcomes up to here have arrived.
    pub acknowledged: WriteSeq,
}

/// From a shard to a client, in commit order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The link is there. Always the first event, and there is one.
    Opened(Opened),
    /// The next revision. Every revision has one, so the link's position is the last one delivered.
    /// The changes of a write come before its outcome.
    Changed(Arc<ChangeSet>),
    /// What became of a command of this link.
    Outcome {
        token: Token,
        outcome: CommandOutcome,
    },
    /// A command of this link did not enter the log.
    Refused { token: Token, refusal: Refusal },
    /// `query` comes back with its answer, so that the receiver needs no table of its own.
    Answered {
        token: Token,
        query: Query,
        answer: Answer,
    },
}

/// Why a link does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// The queue to the shard is full. Nothing was sent; retry when earlier requests are answered.
    #[error("the shard's queue is full")]
    Busy,
    /// The shard stopped or lost its leader. What was sent and not answered has an unknown outcome.
    #[error("the shard is not serving")]
    Closed,
}

/// What a link starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The first event will be the revision after this one.
    pub position: Position,
    /// Whether this continues from the position that was asked for. If not, changes were missed:
    /// what the client kept of the shard must be compared with the shard's state.
    pub resumed: bool,
}

/// The receiving end. Called by the transport, one call at a time, in commit order.
pub trait LinkSink: Send {
    /// Handles the events in order and leaves the vector empty (its capacity is reused).
    /// Must not block on anything that waits for this link.
    fn deliver(&mut self, events: &mut Vec<Event>);

    /// The link has ended; nothing comes after this.
    fn closed(&mut self, reason: LinkError);
}

/// The sending end.
pub trait Link: Send + Sync {
    /// Queues requests in order, all or none; the vector is left empty unless this fails. But
    /// heartbeats are taken in any case while the link lives: no full queue may end a session.
    fn send(&self, requests: &mut Vec<Request>) -> Result<(), LinkError>;
}

/// One shard that links can be opened to.
pub trait Shard: Send + Sync {
    /// Opens a link that delivers to `sink`, after [`Event::Opened`], everything after `resume_after`, if the shard's history
    /// reaches back to there, else everything from now on. `None`: from now on.
    fn open(
        &self,
        resume_after: Option<Position>,
        sink: Box<dyn LinkSink>,
    ) -> Result<Arc<dyn Link>, LinkError>;
}
