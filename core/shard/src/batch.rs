//! What gathers for the next entry, and what waits for an entry before it.

use oxkeeper_link::Token;
use oxkeeper_model::limits::{ENTRY_BYTES_MAX, ENTRY_BYTES_TARGET, ENTRY_COMMANDS_MAX};
use oxkeeper_model::{Attachment, ClientCommand, Command, Entry, Offset, Path, Query, SessionId};

use crate::io::LinkId;

/// Who waits for a command's outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    Link {
        link: LinkId,
        token: Token,
    },
    /// The shard itself.
    Own,
}

/// A query that waits for the entry before it.
#[derive(Debug)]
pub(crate) struct WaitingQuery {
    /// To be answered when this entry is applied.
    pub(crate) after: Offset,
    pub(crate) link: LinkId,
    pub(crate) token: Token,
    pub(crate) query: Query,
}

/// Commands with their origins, one each. Reused from entry to entry.
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

    /// About what its entry will take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.min(ENTRY_BYTES_MAX)
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

    pub(crate) fn take(
        &mut self,
        link: LinkId,
        token: Token,
        command: ClientCommand,
        bytes: usize,
    ) {
        self.bytes += bytes;
        self.push(Command::Client(command), Origin::Link { link, token });
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
