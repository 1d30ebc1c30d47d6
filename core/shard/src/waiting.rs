//! What waits before the log although there is room in it, and what the shard does for it by itself.
//!
//! - A write of a session that has as many outcomes unacknowledged as it may: nothing
//!   unacknowledged is ever dropped. What the write itself acknowledges is proposed for it.
//! - The end of a session that owns much: it is prepared first, in portions, while others go on.
//! - Acknowledgements of sessions that keep much and write nothing, from their heartbeats.
//! - Rows of ended sessions that are left, on a shard that has nothing else to do.
//!
//! Whatever a session sends behind something of its own that waits, waits too.

use std::collections::{BTreeMap, VecDeque};

use oxkeeper_link::Token;
use oxkeeper_log::Disk;
use oxkeeper_model::limits::KEPT_OUTCOMES_MAX;
use oxkeeper_model::{Attachment, ClientCommand, Command, SessionId, WriteSeq};
use oxkeeper_store::KeyValueStore;

use crate::error::ShardError;
use crate::io::LinkId;
use crate::limits::{
    ACKNOWLEDGED_SESSIONS_MAX, END_RECORDS_PER_TURN, KEPT_BYTES_UNSAID, KEPT_OUTCOMES_UNSAID,
    WAITING_COMMANDS_MAX,
};
use crate::shard::{Shard, Stage};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// In the order of their coming.
    commands: VecDeque<(LinkId, Token, ClientCommand)>,
    /// Sessions whose time is over, while their ends are prepared.
    ends: VecDeque<(SessionId, Attachment)>,
    /// To be proposed.
    acknowledged: BTreeMap<SessionId, (Attachment, WriteSeq)>,
    /// Something was applied since the commands were looked at.
    look_again: bool,
}

impl Waiting {
    pub(crate) fn has_room(&self) -> bool {
        self.commands.len() < WAITING_COMMANDS_MAX
    }

    pub(crate) fn applied(&mut self) {
        self.look_again = !self.commands.is_empty();
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sessions whose time is over.
    pub(crate) fn end(&mut self, sessions: impl IntoIterator<Item = (SessionId, Attachment)>) {
        self.ends.extend(sessions);
    }

    fn holds(&self, session: SessionId) -> bool {
        self.commands
            .iter()
            .any(|(_, _, command)| command.session() == Some(session))
    }

    fn closes(&self) -> bool {
        self.commands
            .iter()
            .any(|(_, _, command)| matches!(command, ClientCommand::CloseSession { .. }))
    }
}

impl<D: Disk, S: KeyValueStore> Shard<D, S> {
    /// Keeps the command if it has to wait; gives it back if not.
    pub(crate) fn hold(
        &mut self,
        link: LinkId,
        token: Token,
        command: ClientCommand,
    ) -> Result<Option<ClientCommand>, ShardError> {
        let behind = !self.waiting.commands.is_empty()
            && command
                .session()
                .is_some_and(|session| self.waiting.holds(session));
        if !behind && self.is_ready(&command, 1)? {
            return Ok(Some(command));
        }
        self.waiting.commands.push_back((link, token, command));
        Ok(None)
    }

    /// `portion`: so many records may be looked at to make it ready; with none, no end is.
    fn is_ready(&mut self, command: &ClientCommand, portion: usize) -> Result<bool, ShardError> {
        match command {
            ClientCommand::Write(write) => {
                // Of the numbers before it, so many may not have been acknowledged when it is applied.
                let kept = write.follows.0.saturating_sub(write.acknowledged.0);
                let room = self.state.outcome_room(write.session) > 0;
                let enough =
                    (room && kept < KEPT_OUTCOMES_MAX as u64) || self.state.is_repeated(write);
                if !enough {
                    let said = (write.attachment, write.acknowledged);
                    self.waiting.acknowledged.insert(write.session, said);
                }
                Ok(enough)
            }
            ClientCommand::CloseSession { session, .. } => {
                Ok(portion > 0 && self.state.prepare_end(*session, portion)?)
            }
            ClientCommand::OpenSession { .. } | ClientCommand::Attach { .. } => Ok(true),
        }
    }

    /// Lets go on what can. `portion`: see [`Self::is_ready`]; it is used for the first end only.
    pub(crate) fn release(&mut self, mut portion: usize) -> Result<(), ShardError> {
        self.waiting.look_again = false;
        let mut blocked: Vec<SessionId> = Vec::new();
        for _ in 0..self.waiting.commands.len() {
            let Some((link, token, command)) = self.waiting.commands.pop_front() else {
                break;
            };
            let session = command.session().unwrap_or_default();
            let ready = !blocked.contains(&session)
                && !self.batch.is_full()
                && self.is_ready(&command, portion)?;
            if ready {
                // Its size was looked at when it came.
                let _ = self.batch.take(link, token, command);
            } else {
                if matches!(command, ClientCommand::CloseSession { .. }) {
                    portion = 0;
                }
                blocked.push(session);
                self.waiting.commands.push_back((link, token, command));
            }
        }
        Ok(())
    }

    pub(crate) fn release_after_apply(&mut self) -> Result<(), ShardError> {
        if self.waiting.look_again {
            self.release(0)?;
        }
        Ok(())
    }

    /// A heartbeat's acknowledgement, if it is worth an entry.
    pub(crate) fn heard_acknowledged(
        &mut self,
        session: SessionId,
        attachment: Attachment,
        up_to: WriteSeq,
    ) {
        let kept = KEPT_OUTCOMES_MAX.saturating_sub(self.state.outcome_room(session));
        let much =
            kept >= KEPT_OUTCOMES_UNSAID || self.state.session_bytes(session) >= KEPT_BYTES_UNSAID;
        if much && self.sessions.acknowledge(session, attachment, up_to) {
            self.waiting
                .acknowledged
                .insert(session, (attachment, up_to));
        }
    }

    /// The shard's own commands for what waits.
    pub(crate) fn tend(&mut self) -> Result<(), ShardError> {
        if !self.batch.is_full() {
            self.propose_acknowledged();
        }
        let mut portion = END_RECORDS_PER_TURN;
        for _ in 0..self.waiting.ends.len() {
            let Some((session, attachment)) = self.waiting.ends.pop_front() else {
                break;
            };
            if self.sessions.attachment(session) != Some(attachment) {
                self.state.abandon_end(session);
            } else if portion > 0
                && !self.batch.is_full()
                && self.state.prepare_end(session, portion)?
            {
                self.batch.push_own(Command::ExpireSession {
                    session,
                    attachment,
                });
            } else {
                // It was a large one.
                portion = 0;
                self.waiting.ends.push_back((session, attachment));
            }
        }
        self.release(portion)?;
        if self.is_idle() && self.state.has_to_sweep() {
            self.batch.push_own(Command::Time);
        }
        Ok(())
    }

    fn propose_acknowledged(&mut self) {
        let waiting = &mut self.waiting.acknowledged;
        let mut sessions = Vec::new();
        while sessions.len() < ACKNOWLEDGED_SESSIONS_MAX
            && let Some((session, (attachment, up_to))) = waiting.pop_first()
        {
            sessions.push((session, attachment, up_to));
        }
        if !sessions.is_empty() {
            self.batch.push_own(Command::Acknowledge { sessions });
        }
    }

    fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.in_flight.is_empty()
    }

    /// Whether a turn would get on with what waits.
    pub(crate) fn has_to_tend(&self) -> bool {
        self.stage == Stage::Running
            && (!self.waiting.ends.is_empty()
                || !self.waiting.acknowledged.is_empty()
                || self.waiting.closes()
                || (self.is_idle() && self.state.has_to_sweep()))
    }
}
