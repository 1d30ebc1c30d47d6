//! What one turn of a shard collects: the commands of one entry, and the queries after it.

use oxkeeper_link::{Request, Token};
use oxkeeper_model::limits::{ENTRY_BYTES_TARGET, ENTRY_COMMANDS_MAX};
use oxkeeper_model::{Attachment, Command, Entry, Offset, Path, Query, SessionId};

use crate::links::LinkId;
use crate::queue::request_bytes;

/// Who waits for a command's outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    Link {
        link: LinkId,
        token: Token,
        /// The session that it names.
        session: Option<SessionId>,
    },
    /// The shard itself.
    Own,
}

/// A query that waits for the entry before it.
#[derive(Debug)]
pub(crate) struct WaitingQuery {
    pub(crate) link: LinkId,
    pub(crate) token: Token,
    pub(crate) query: Query,
}

/// Commands with their origins, one each. Reused from turn to turn.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) commands: Vec<Command>,
    pub(crate) origins: Vec<Origin>,
    bytes: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Whether the entry should be closed.
    pub(crate) fn is_full(&self) -> bool {
        self.commands.len() >= ENTRY_COMMANDS_MAX || self.bytes >= ENTRY_BYTES_TARGET
    }

    pub(crate) fn room(&self) -> usize {
        ENTRY_COMMANDS_MAX.saturating_sub(self.commands.len())
    }

    fn push(&mut self, command: Command, origin: Origin) {
        self.commands.push(command);
        self.origins.push(origin);
    }

    pub(crate) fn push_own(&mut self, command: Command) {
        self.push(command, Origin::Own);
    }

    pub(crate) fn expire(&mut self, session: SessionId, attachment: Attachment) {
        self.push_own(Command::ExpireSession {
            session,
            attachment,
        });
    }

    pub(crate) fn reap(&mut self, path: Path) {
        self.bytes += path.len();
        self.push_own(Command::Reap { path });
    }

    /// Takes a request; gives back what is no command.
    pub(crate) fn take(&mut self, link: LinkId, request: Request) -> Option<NoCommand> {
        let bytes = request_bytes(&request);
        let (token, command) = match request {
            Request::Command { token, command } => (token, command),
            Request::Query { token, query } => {
                return Some(NoCommand::Query(WaitingQuery { link, token, query }));
            }
            Request::Heartbeat { sessions } => return Some(NoCommand::Heartbeat(sessions)),
        };
        self.bytes += bytes;
        let session = command.session();
        self.push(
            Command::Client(command),
            Origin::Link {
                link,
                token,
                session,
            },
        );
        None
    }

    /// Makes the batch an entry, and `spare` the next batch.
    pub(crate) fn close(&mut self, spare: Self) -> Self {
        std::mem::replace(self, spare)
    }

    pub(crate) fn clear(&mut self) {
        self.commands.clear();
        self.origins.clear();
        self.bytes = 0;
    }
}

/// A request that does not enter the log.
#[derive(Debug)]
pub(crate) enum NoCommand {
    Query(WaitingQuery),
    Heartbeat(Vec<SessionId>),
}

/// An entry that was appended and is not committed yet.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) offset: Offset,
    pub(crate) entry: Entry,
    pub(crate) origins: Vec<Origin>,
}

impl InFlight {
    /// The emptied batch, to be filled again.
    pub(crate) fn into_spare(self) -> Batch {
        let mut batch = Batch {
            commands: self.entry.commands,
            origins: self.origins,
            bytes: 0,
        };
        batch.clear();
        batch
    }
}
