//! What gathers for the next entry, and what waits for an entry before it.

use oxkeeper_format::{ENTRY_HEADER_BYTES_MAX, encoded_len};
use oxkeeper_link::Token;
use oxkeeper_log::Class;
use oxkeeper_model::limits::{ENTRY_BYTES_TARGET, ENTRY_COMMANDS_MAX};
use oxkeeper_model::{ClientCommand, Command, Entry, Offset, Query};

use crate::io::LinkId;
use crate::limits::COMMAND_BYTES_MAX;

/// Who waits for a command's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Encoded, without the entry's header.
    bytes: usize,
    /// How many are clients' writes.
    writes: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Whether the entry should be closed. Otherwise any one command more fits.
    pub(crate) fn is_full(&self) -> bool {
        self.commands.len() >= ENTRY_COMMANDS_MAX || self.bytes >= ENTRY_BYTES_TARGET
    }

    /// What its entry takes at most.
    pub(crate) fn entry_bytes(&self) -> usize {
        ENTRY_HEADER_BYTES_MAX + self.bytes
    }

    /// Which entries of the log it may displace.
    pub(crate) fn class(&self) -> Class {
        if self.writes > 0 {
            Class::Client
        } else {
            Class::Own
        }
    }

    pub(crate) fn room(&self) -> usize {
        ENTRY_COMMANDS_MAX.saturating_sub(self.commands.len())
    }

    pub(crate) fn push_own(&mut self, command: Command) {
        let bytes = encoded_len(&command);
        self.push(command, Origin::Own, bytes);
    }

    /// False, and it is not taken, if no entry could hold it.
    #[must_use]
    pub(crate) fn take(&mut self, link: LinkId, token: Token, command: ClientCommand) -> bool {
        let command = Command::Client(command);
        let bytes = encoded_len(&command);
        let fits = bytes <= COMMAND_BYTES_MAX;
        if fits {
            self.push(command, Origin::Link { link, token }, bytes);
        }
        fits
    }

    fn push(&mut self, command: Command, origin: Origin, bytes: usize) {
        self.bytes += bytes;
        self.writes += usize::from(is_write(&command));
        self.commands.push(command);
        self.origins.push(origin);
    }

    /// Takes out clients' commands, the writes or the rest; says who waits for them.
    pub(crate) fn take_out(&mut self, writes: bool) -> Vec<(LinkId, Token)> {
        let mut out = Vec::new();
        let commands = std::mem::take(&mut self.commands);
        let origins = std::mem::take(&mut self.origins);
        self.clear();
        for (command, origin) in commands.into_iter().zip(origins) {
            match origin {
                Origin::Link { link, token } if is_write(&command) == writes => {
                    out.push((link, token));
                }
                origin => {
                    let bytes = encoded_len(&command);
                    self.push(command, origin, bytes);
                }
            }
        }
        out
    }

    /// Makes the batch an entry, and `spare` the next batch.
    pub(crate) fn close(&mut self, spare: Self) -> Self {
        std::mem::replace(self, spare)
    }

    pub(crate) fn clear(&mut self) {
        self.commands.clear();
        self.origins.clear();
        self.bytes = 0;
        self.writes = 0;
    }
}

fn is_write(command: &Command) -> bool {
    matches!(command, Command::Client(ClientCommand::Write(_)))
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
            ..Batch::default()
        };
        batch.clear();
        batch
    }
}
