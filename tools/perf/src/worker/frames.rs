//! What comes in: handshakes, replies, events, and the end of connections.

use std::mem;

use oxkeeper_wire::client::{Reply, XID_NOTIFICATION, XID_PING, decode_reply};
use oxkeeper_wire::limits::PACKET_BYTES_CEILING;
use oxkeeper_wire::{Request, next_frame};

use super::{RETRY_NS, Role, Worker};
use crate::connection::{Connection, Lost, Pending, Phase};
use crate::script::{Expect, error_name};
use crate::tally::Kind;

impl Worker {
    /// Reads all there is. The poll is edge-triggered, but a read that did not fill the buffer has emptied the socket;
    /// only its end, `closed`, may still be behind the data.
    pub(super) fn receive(
        &mut self,
        at: usize,
        closed: bool,
        scratch: &mut [u8],
    ) -> Result<(), Lost> {
        while let Some(read) = self.members[at].connection.read(scratch)? {
            self.consume(at, &scratch[..read])?;
            if read < scratch.len() && !closed {
                break;
            }
        }
        Ok(())
    }

    fn consume(&mut self, at: usize, bytes: &[u8]) -> Result<(), Lost> {
        let mut partial = mem::take(&mut self.members[at].connection.partial);
        if partial.is_empty() {
            let used = self.take_frames(at, bytes)?;
            partial.extend_from_slice(&bytes[used..]);
        } else {
            partial.extend_from_slice(bytes);
            let used = self.take_frames(at, &partial)?;
            partial.drain(..used);
        }
        self.members[at].connection.partial = partial;
        Ok(())
    }

    /// Handles all complete frames; says how many bytes they were.
    fn take_frames(&mut self, at: usize, bytes: &[u8]) -> Result<usize, Lost> {
        let mut rest = bytes;
        while let Some(frame) = next_frame(rest, PACKET_BYTES_CEILING)
            .map_err(|fault| Lost::Malformed(fault.to_string()))?
        {
            rest = &rest[4 + frame.len()..];
            match self.members[at].connection.phase() {
                Phase::Opening { .. } => self.on_handshake(at, frame)?,
                Phase::Up => self.on_frame(at, frame)?,
                Phase::Down { .. } => break,
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn on_handshake(&mut self, at: usize, frame: &[u8]) -> Result<(), Lost> {
        let member = &mut self.members[at];
        if !member.connection.accept(frame, self.now_ns)? {
            member.connection.forget_session();
            self.tally.error("session expired".to_owned());
            return Err(Lost::Closed);
        }
        self.opening -= 1;
        let again = member.connection.attempts > 1;
        match member.role {
            Role::Session { .. } => self.say_goodbye(at),
            Role::Watcher => self.arm_all(at),
            Role::Script(_) => self.tally.reconnects += u64::from(again),
            Role::Setter => {}
        }
        Ok(())
    }

    fn on_frame(&mut self, at: usize, frame: &[u8]) -> Result<(), Lost> {
        let reply =
            decode_reply(frame).map_err(|fault| Lost::Malformed(format!("reply: {fault}")))?;
        match reply.xid {
            XID_NOTIFICATION => self.on_event(at, &reply),
            XID_PING => {}
            _ => return self.on_reply(at, &reply),
        }
        Ok(())
    }

    fn on_reply(&mut self, at: usize, reply: &Reply<'_>) -> Result<(), Lost> {
        let connection = &mut self.members[at].connection;
        let expected = connection.pending.front().map(|pending| pending.xid);
        let in_order = expected == Some(reply.xid);
        let Some(pending) = connection.pending.pop_front().filter(|_| in_order) else {
            self.in_flight -= usize::from(expected.is_some());
            self.tally
                .mismatch(|| format!("reply to xid {} instead of {expected:?}", reply.xid));
            // Every later reply would be taken for another's.
            return Err(Lost::Malformed("replies out of order".to_owned()));
        };
        if let Err(text) = check_zxid(connection, reply) {
            self.tally.mismatch(|| text);
        }
        self.note_reply();
        self.in_flight -= 1;
        if reply.err.is_ok() {
            self.on_success(at, &pending, reply);
            return Ok(());
        }
        self.tally.error(error_name(pending.expect, reply.err));
        match &mut self.members[at].role {
            Role::Script(script) => script.refuse(pending.expect),
            Role::Setter | Role::Watcher => self.break_fanout(),
            Role::Session { .. } => {}
        }
        Ok(())
    }

    fn on_success(&mut self, at: usize, pending: &Pending, reply: &Reply<'_>) {
        let checked = match (&mut self.members[at].role, pending.expect) {
            (Role::Session { closed, .. }, Expect::CloseSession) => {
                *closed = true;
                Ok(())
            }
            (_, Expect::CloseSession) => Ok(()),
            (Role::Script(script), expect) => script.check(expect, reply),
            (_, expect) => self.on_fanout_reply(expect, reply),
        };
        if let Err(text) = checked {
            self.tally.mismatch(|| text);
        }
        if let Some(kind) = pending.expect.kind()
            && self.is_measured(pending.due_ns)
        {
            self.tally.finish(kind, pending.due_ns, self.now_ns);
        }
    }

    /// A gap is time without any reply while at least one is awaited, or would be if the connection were not lost.
    pub(super) fn note_reply(&mut self) {
        let since_ns = self.quiet_since_ns.max(self.window.start_ns);
        self.tally.longest_gap_ns = self
            .tally
            .longest_gap_ns
            .max(self.now_ns.saturating_sub(since_ns));
        self.quiet_since_ns = self.now_ns;
        self.interrupted = false;
    }

    pub(super) fn say_goodbye(&mut self, at: usize) {
        let connection = &mut self.members[at].connection;
        if connection.phase() == Phase::Up {
            connection.send(
                &Request::CloseSession,
                Expect::CloseSession,
                self.now_ns,
                self.now_ns,
            );
            self.note_in_flight();
            // What cannot be written now follows when the poll says so; an error shows at the next read.
            let _ = self.members[at].connection.flush();
        }
    }

    /// The connection ended. What was in flight is an error; the session is taken up again, on the next server.
    pub(super) fn lose(&mut self, at: usize, lost: &Lost) {
        let member = &mut self.members[at];
        let was_opening = matches!(member.connection.phase(), Phase::Opening { .. });
        self.opening -= usize::from(was_opening);
        let pending = mem::take(&mut member.connection.pending);
        self.in_flight -= pending.len();
        member.connection.close(self.now_ns + RETRY_NS);
        match &mut member.role {
            Role::Session { closed: true, .. } => return self.on_session_closed(at),
            Role::Script(script) => pending
                .iter()
                .for_each(|pending| script.lose(pending.expect)),
            Role::Setter | Role::Watcher => self.break_fanout(),
            Role::Session { .. } => {}
        }
        if self.leaving {
            return;
        }
        self.interrupted = true;
        self.tally.error(match (was_opening, pending.is_empty()) {
            (true, _) => format!("cannot connect: {lost}"),
            (false, true) => format!("connection lost while idle: {lost}"),
            (false, false) => format!("connection lost with requests in flight: {lost}"),
        });
        for pending in &pending {
            if let Some(kind) = pending.expect.kind()
                && self.is_measured(pending.due_ns)
            {
                self.tally.unanswered += 1;
                self.tally.wait(kind, pending.due_ns, self.now_ns);
            }
        }
    }

    pub(super) fn pump_session(&mut self, at: usize) {
        let down = matches!(self.members[at].connection.phase(), Phase::Down { .. });
        if !self.issuing || self.budget == 0 || !down {
            return;
        }
        let Some(due_ns) = self.next_due_ns(at) else {
            return;
        };
        self.count_sent(at, due_ns);
        self.members[at].role = Role::Session {
            due_ns,
            closed: false,
        };
        self.members[at].connection.forget_session();
        let result = self.open(at);
        self.settle(at, result);
    }

    /// The server has closed the socket after its reply to the close.
    fn on_session_closed(&mut self, at: usize) {
        let Role::Session { due_ns, .. } = self.members[at].role else {
            return;
        };
        if self.is_measured(due_ns) {
            self.tally.finish(Kind::Session, due_ns, self.now_ns);
        }
        self.members[at].connection.last_zxid = 0;
        self.pump_session(at);
    }

    pub(super) fn sessions_open(&self) -> bool {
        let mut sessions = self
            .members
            .iter()
            .filter(|member| matches!(member.role, Role::Session { .. }));
        sessions.any(|member| !matches!(member.connection.phase(), Phase::Down { .. }))
    }
}

/// Zxids of replies never go back within a session.
fn check_zxid(connection: &mut Connection, reply: &Reply<'_>) -> Result<(), String> {
    if reply.zxid < connection.last_zxid {
        let session = connection.session_id();
        return Err(format!(
            "session {session:#x}: zxid {:#x} after {:#x}",
            reply.zxid, connection.last_zxid
        ));
    }
    connection.last_zxid = reply.zxid;
    Ok(())
}
