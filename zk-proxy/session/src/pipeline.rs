//! One connection's requests, in order: the heart of a session.
//!
//! The problem: replies must come in request order and each read must see exactly the writes that the
//! session sent before it, yet requests are pipelined and writes take a disk write. Waiting with
//! everything behind a write would be right and slow; answering reads at once would be wrong.
//!
//! The rule: writes go to the shard as they arrive. A read behind an unanswered write waits for its
//! turn, and its turn comes inside the link's delivery of that write's outcome, while the view is
//! exactly at that revision; so a later write that is already on its way cannot show in it. For that
//! the view must be able to answer it then: it holds the record now, changes carry whole values, and
//! the read pins what it needs until it is answered. A read for which this is not so *blocks*: nothing
//! behind it is sent before it is answered, again so that it cannot see what came later. Only a read
//! that blocks may ask the shard, or wait for a client that does not take its replies.
//!
//! # Who ends which wait
//!
//! | what waits | until | whose duty |
//! |---|---|---|
//! | the rest of a frame | bytes come | the client; else its session's timeout |
//! | a write, a close, a handshake | its outcome is delivered | the shard, whose link delivers or closes |
//! | a read that asks | its answer is delivered | the shard |
//! | a read behind a write | everything before it is answered | the step that answers that (`pump`) |
//! | a frame behind a read that blocks, or behind the handshake | nothing blocks | the step that ends the block (`pump`) |
//! | a blocking read, and frames, behind replies that the client does not take (stalled) | the client has taken enough | the driver: it has bytes to send, and looks when some were taken (`Endpoint::advance`) |
//! | input behind this connection's limits | something is answered or sent | whoever answers wakes the driver, because it does not idle (`Outbox::send`); sending is the driver's own |
//! | input behind the limits of all connections | there is room | whoever makes room wakes all that wait (`Load::answered`) |
//! | input while the shard has no room for what was sent | it takes that | the next delivery; if none comes, the driver's next heartbeat (`Load::set_busy`) |
//! | everything after a gap | those who watch are told | the shard, which answers about what is watched (`Consumer::reconcile`) |
//! | everything while the link is broken | another is open | the driver opens it, or closes all connections in time (`FrontEnd::check_link`) |
//!
//! Requests that wait for their own client count against what is held for clients that do not read,
//! not against the limits of all connections; so the last wait always ends by the shard's work.
//!
//! Every method runs with the connection locked and the view either shared or exclusive; replies and
//! events are appended to one buffer, so their order on the wire is the order of these calls.

mod dispatch;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_link::{Request as LinkRequest, SessionBeat, Token};
use oxkeeper_model::{
    AclEntry, Answer, Attachment, ClientCommand, CloseOutcome, Identities, OpResult, Permission,
    Query, Refusal, SessionError, SessionGrant, SessionId, TxnOutcome, WriteOutcome, WriteRefusal,
    WriteSeq, permits,
};
use oxkeeper_wire::{
    ConnectRequest, ConnectResponse, ErrorCode, EventType, OpCode, RequestHeader, decode_body,
    notification, reply,
};

use self::steps::{Arrival, Held, Pending, PendingRead, Ready, Step};
use crate::connection::ConnectionId;
use crate::limits::{
    CONNECTION_BYTES_MAX, CONNECTION_REQUESTS_MAX, REQUEST_OVERHEAD_BYTES, UNSENT_CLOSE_BYTES,
};
use crate::load::Load;
use crate::options::SessionOptions;
use crate::outbox::Outbox;
use crate::stats::{ConnectionStats, Stats};
use crate::translate::zxid;
use crate::view::View;
use crate::watch::{Fired, WatchTable};
use crate::watched::Watched;
use crate::writes;

const SESSION_PASSWORD_BYTES: usize = 16;

/// What a step works with.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a SessionOptions,
    pub(crate) view: &'a View,
    pub(crate) watches: &'a WatchTable,
    pub(crate) load: &'a Load,
    pub(crate) stats: &'a Stats,
    /// To be sent to the shard, in order, before the connection is unlocked.
    pub(crate) requests: &'a mut Vec<LinkRequest>,
    pub(crate) now_us: u64,
    /// Nothing is to be answered now, see `reconcile`.
    pub(crate) is_reconciling: bool,
}

/// The session as this connection holds it.
#[derive(Clone, Copy, Debug)]
struct Binding {
    session: SessionId,
    attachment: Attachment,
    timeout_ms: u32,
    /// Outcomes have arrived that no heartbeat has told of.
    untold_outcomes: bool,
}

enum Phase {
    /// Nothing has come yet.
    Opening,
    /// The session is being opened or attached.
    Connecting(ConnectRequest),
    Open(Binding),
    /// What is in `out` is flushed, then the connection ends.
    Closing,
}

pub(crate) struct Pipeline {
    connection: ConnectionId,
    phase: Phase,
    identities: Identities,
    /// In request order. Invariant: the first is not answerable yet.
    queue: VecDeque<Pending>,
    /// Behind `queue`. Invariant: empty while nothing blocks and the session is open.
    held: VecDeque<Held>,
    /// Entries of `queue` that must be answered before anything behind them is sent.
    blockers: usize,
    /// Bytes of the replies that reads in `queue` which do not block will write in any case.
    expected_bytes: usize,
    /// `pump` stopped because the client does not take its replies; to be called again when it did.
    /// Invariant: then everything in `queue` and `held` counts in the outbox, not in the load.
    stalled: bool,
    /// Bytes of the frames in `queue` and `held`.
    pending_bytes: usize,
    pub(crate) outbox: Outbox,
    /// Of the last request sent to the shard.
    last_token: Token,
    /// Where in the outbox the reply starts that is being written.
    reply_start: usize,
    watched: Watched,
    pub(crate) stats: ConnectionStats,
}

impl Pipeline {
    pub(crate) fn new(
        connection: ConnectionId,
        identities: Identities,
        outbox: Outbox,
        now_us: u64,
    ) -> Self {
        Self {
            connection,
            phase: Phase::Opening,
            identities,
            queue: VecDeque::new(),
            held: VecDeque::new(),
            blockers: 0,
            expected_bytes: 0,
            stalled: false,
            pending_bytes: 0,
            outbox,
            last_token: Token(0),
            reply_start: 0,
            watched: Watched::default(),
            stats: ConnectionStats::new(now_us),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening)
    }

    pub(crate) fn session(&self) -> Option<(SessionId, u32)> {
        match &self.phase {
            Phase::Open(binding) => Some((binding.session, binding.timeout_ms)),
            _ => None,
        }
    }

    /// What a heartbeat says of the session, if it was heard of or has outcomes to acknowledge.
    pub(crate) fn beat(&mut self, touched: bool) -> Option<SessionBeat> {
        let Phase::Open(binding) = &mut self.phase else {
            return None;
        };
        let untold = std::mem::take(&mut binding.untold_outcomes);
        (touched || untold).then_some(SessionBeat {
            session: binding.session,
            attachment: binding.attachment,
            // Filled in on the way.
            acknowledged: WriteSeq(0),
        })
    }

    /// Requests whose replies are not written yet.
    pub(crate) fn pending(&self) -> usize {
        self.queue.len() + self.held.len()
    }

    pub(crate) fn watch_count(&self) -> usize {
        self.watched.count()
    }

    /// Whether more may be read from the client.
    pub(crate) fn accepts_more(&self) -> bool {
        !self.is_closing()
            && self.pending() < CONNECTION_REQUESTS_MAX
            && self.pending_bytes < CONNECTION_BYTES_MAX
            && !self.outbox.is_full()
            && !self.stalled
    }

    /// Drops everything that is not written yet and ends the connection.
    pub(crate) fn close(&mut self, load: &Load) {
        self.phase = Phase::Closing;
        self.set_stalled(load, false);
        load.answered(self.pending(), self.pending_bytes);
        self.queue.clear();
        self.held.clear();
        self.blockers = 0;
        self.expected_bytes = 0;
        self.pending_bytes = 0;
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self, load: &Load, watches: &WatchTable) {
        self.close(load);
        self.watched.clear(watches, self.connection);
        self.outbox.bytes.clear();
    }

    /// Drops everything, what waits for the client too, and ends the connection.
    pub(crate) fn abandon(&mut self, load: &Load) {
        self.close(load);
        self.outbox.abandon();
    }

    /// Ends a step: what it wrote goes out, at once if `directly` and the driver has nothing else to do.
    pub(crate) fn send_output(&mut self, stats: &Stats, directly: bool) {
        let nothing_else = directly && !self.stalled && !self.is_closing();
        let sent = self.outbox.send(nothing_else);
        stats.bytes_sent.fetch_add(sent as u64, Relaxed);
    }

    /// What waits for its own client leaves the load to others.
    fn set_stalled(&mut self, load: &Load, stalled: bool) {
        if stalled == self.stalled {
            return;
        }
        self.stalled = stalled;
        let (requests, bytes) = (self.pending(), self.pending_bytes);
        if stalled {
            load.answered(requests, bytes);
            self.outbox.park(bytes + requests * REQUEST_OVERHEAD_BYTES);
        } else {
            load.received(requests, bytes);
            self.outbox.park(0);
        }
    }

    /// Whether a stalled pipeline can go on.
    pub(crate) fn can_resume(&self) -> bool {
        self.stalled && !self.outbox.is_full()
    }

    // ---- the handshake

    pub(crate) fn on_connect(&mut self, cx: &mut Context<'_>, request: ConnectRequest) {
        if !self.is_opening() || request.last_zxid_seen > zxid(cx.view.position()) {
            self.close(cx.load);
            return;
        }
        let timeout_ms = cx.options.negotiate_timeout(request.timeout_ms);
        let token = self.next_token();
        let session = SessionId(request.session_id);
        cx.requests.push(match request.session_id {
            0 => LinkRequest::Command {
                token,
                command: ClientCommand::OpenSession {
                    nonce: cx.options.nonce(self.connection),
                    timeout_ms,
                },
            },
            _ => LinkRequest::Query {
                token,
                query: Query::Attachment { session },
            },
        });
        self.stats.received += 1;
        cx.stats.session_requests.fetch_add(1, Relaxed);
        self.stats.last_op = OpCode::CREATE_SESSION;
        self.phase = Phase::Connecting(request);
    }

    /// The attachment that this connection is to replace, read once.
    fn on_attachment(&mut self, cx: &mut Context<'_>, current: Option<Attachment>) {
        let Phase::Connecting(request) = &self.phase else {
            return;
        };
        let Some(replaces) = current else {
            return self.on_granted(cx, Err(SessionError::Expired));
        };
        // A password of another length is a wrong one.
        let mut password = [0; SESSION_PASSWORD_BYTES];
        if let Some(given) = &request.password
            && given.len() == SESSION_PASSWORD_BYTES
        {
            password.copy_from_slice(given);
        }
        let command = ClientCommand::Attach {
            session: SessionId(request.session_id),
            password,
            replaces,
            nonce: cx.options.nonce(self.connection),
            timeout_ms: cx.options.negotiate_timeout(request.timeout_ms),
        };
        let token = self.next_token();
        cx.requests.push(LinkRequest::Command { token, command });
    }

    fn next_token(&mut self) -> Token {
        self.last_token = Token(self.last_token.0 + 1);
        self.last_token
    }

    pub(crate) fn on_granted(
        &mut self,
        cx: &mut Context<'_>,
        result: Result<SessionGrant, SessionError>,
    ) {
        let Phase::Connecting(request) = &self.phase else {
            return;
        };
        match result {
            Ok(grant) => {
                let response = ConnectResponse {
                    timeout_ms: grant.timeout_ms as i32,
                    session_id: grant.session.0,
                    password: grant.password,
                    read_only: request.read_only.map(|_| false),
                };
                response.encode(&mut self.outbox.bytes);
                self.phase = Phase::Open(Binding {
                    session: grant.session,
                    attachment: grant.attachment,
                    timeout_ms: grant.timeout_ms,
                    untold_outcomes: false,
                });
                self.stats.sent += 1;
                cx.stats.packets_sent.fetch_add(1, Relaxed);
                self.pump(cx);
            }
            Err(SessionError::Expired | SessionError::WrongPassword) => {
                ConnectResponse::session_expired(request).encode(&mut self.outbox.bytes);
                self.close(cx.load);
            }
            // Another connection was quicker.
            Err(SessionError::Moved) => self.close(cx.load),
        }
    }

    // ---- what the link delivers

    pub(crate) fn on_written(&mut self, cx: &mut Context<'_>, token: Token, arrived: WriteOutcome) {
        let Phase::Open(binding) = &mut self.phase else {
            return;
        };
        if arrived.session != binding.session {
            return;
        }
        binding.untold_outcomes = true;
        match &arrived.result {
            Err(WriteRefusal::SessionExpired | WriteRefusal::SessionMoved) => {
                return self.close(cx.load);
            }
            Err(refusal @ WriteRefusal::OutOfSequence { .. }) => {
                tracing::error!(session = %arrived.session, %refusal, "closing a connection whose writes lost their order");
                return self.close(cx.load);
            }
            Ok(outcome) => note_foreign_ephemerals(cx.stats, arrived.session, outcome),
        }
        if let Some(Step::Write { outcome, .. }) = self.write_of(token) {
            *outcome = Some(arrived);
        }
        self.pump(cx);
    }

    /// The write that was sent under this token.
    fn write_of(&mut self, token: Token) -> Option<&mut Step> {
        let is_it =
            |step: &&mut Step| matches!(step, Step::Write { token: of, .. } if *of == token);
        self.queue
            .iter_mut()
            .map(|pending| &mut pending.step)
            .find(is_it)
    }

    /// The shard has not executed something. A write is told so; nothing else can go on without.
    pub(crate) fn on_refused(&mut self, cx: &mut Context<'_>, token: Token, refusal: Refusal) {
        match self.write_of(token) {
            Some(step) => {
                *step = Step::Ready(match refusal {
                    Refusal::TooLarge => Ready::TOO_LARGE,
                    Refusal::NoSpace => Ready::NO_SPACE,
                });
                self.pump(cx);
            }
            None => {
                tracing::warn!(connection = %self.connection, %refusal, "closing a connection whose request was refused");
                self.close(cx.load);
            }
        }
    }

    /// The link has ended and is back: changes come without the outcomes that belonged to them.
    pub(crate) fn on_link_back(&mut self, load: &Load) {
        let is_write =
            |pending: &Pending| matches!(pending.step, Step::Write { .. } | Step::Close { .. });
        // What shows where the view stands when its turn comes.
        let is_read = |pending: &Pending| match &pending.step {
            Step::Read(read) => !read.blocking,
            Step::Ready(ready) => ready.zxid.is_none(),
            _ => false,
        };
        let first_read = self.queue.iter().position(is_read);
        if first_read.is_some_and(|at| self.queue.iter().skip(at).any(is_write)) {
            self.abandon(load);
        }
    }

    pub(crate) fn on_session_closed(&mut self, cx: &mut Context<'_>, arrived: CloseOutcome) {
        for pending in &mut self.queue {
            if let Step::Close { outcome } = &mut pending.step {
                *outcome = Some(arrived);
            }
        }
        self.pump(cx);
    }

    /// The session ended. Whether by itself, not because this connection closes it.
    pub(crate) fn on_session_ended(&mut self, cx: &mut Context<'_>) -> bool {
        let closes_itself = self
            .queue
            .iter()
            .any(|pending| matches!(pending.step, Step::Close { .. }));
        if !closes_itself {
            self.close(cx.load);
        }
        !closes_itself
    }

    pub(crate) fn on_answer(&mut self, cx: &mut Context<'_>, query: Query, answer: Answer) {
        if let Answer::Attachment(current) = answer {
            return self.on_attachment(cx, current);
        }
        let asking = self
            .queue
            .iter_mut()
            .find_map(|pending| match &mut pending.step {
                Step::Read(read) if read.asking => Some(read),
                _ => None,
            });
        if let Some(read) = asking {
            read.asking = false;
            read.asked = Some((query, answer));
        }
        self.pump(cx);
    }

    /// A watch event. Swallowed if this connection may not read what it tells of. How many bytes it took.
    pub(crate) fn on_event(
        &mut self,
        load: &Load,
        fired: Fired,
        zxid: i64,
        kind: EventType,
        path: &str,
        acl: &[AclEntry],
    ) -> usize {
        if !fired.consumed.is_none() {
            self.watched.forget(path, fired.consumed);
        }
        if self.is_closing() || !permits(acl, &self.identities, Permission::Read) {
            return 0;
        }
        let before = self.outbox.len();
        notification(&mut self.outbox.bytes, zxid, kind, path);
        self.stats.sent += 1;
        let bytes = self.outbox.len() - before;
        self.close_if_unread(load);
        bytes
    }

    /// The client reads so little that it cannot be served.
    fn close_if_unread(&mut self, load: &Load) {
        if self.outbox.unsent() > UNSENT_CLOSE_BYTES {
            tracing::warn!(connection = %self.connection, "closing a connection that does not read");
            self.abandon(load);
        }
    }

    /// Answers whatever is answerable now, in order, and looks at what was held back. Stalls when
    /// what may wait would be more than the client takes.
    pub(crate) fn pump(&mut self, cx: &mut Context<'_>) {
        if cx.is_reconciling {
            return;
        }
        self.set_stalled(cx.load, false);
        loop {
            while self.answer_first(cx) {
                self.close_if_unread(cx.load);
            }
            if !matches!(self.phase, Phase::Open(_)) {
                return;
            }
            if self.outbox.is_full() {
                let waits_for_client = match self.queue.front() {
                    Some(first) => first.step.may_wait(),
                    None => !self.held.is_empty(),
                };
                return self.set_stalled(cx.load, waits_for_client);
            }
            if self.blockers > 0 {
                return;
            }
            match self.held.pop_front() {
                Some(held) => self.dispatch(cx, held),
                None => return,
            }
        }
    }

    /// Answers the first request of the queue if it can be answered.
    fn answer_first(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(mut first) = self.queue.pop_front() else {
            return false;
        };
        if first.step.may_wait() && self.outbox.is_full() {
            self.queue.push_front(first);
            return false;
        }
        self.reply_start = self.outbox.len();
        let done = match &mut first.step {
            Step::Write { outcome: None, .. } | Step::Close { outcome: None } => false,
            Step::Write {
                shape,
                outcome: Some(outcome),
                ..
            } => {
                if let Ok(result) = &outcome.result {
                    writes::reply_outcome(
                        &mut self.outbox.bytes,
                        first.arrival.header.xid,
                        shape,
                        outcome.revision,
                        result,
                    );
                }
                true
            }
            Step::Close {
                outcome: Some(outcome),
            } => {
                reply(
                    &mut self.outbox.bytes,
                    first.arrival.header.xid,
                    zxid(outcome.revision),
                    ErrorCode::OK,
                    |_| {},
                );
                self.answered(cx, &first.arrival);
                self.close(cx.load);
                return false;
            }
            Step::Ready(ready) => {
                let ready = *ready;
                self.write_ready(cx, first.arrival.header.xid, ready);
                if ready.close {
                    self.answered(cx, &first.arrival);
                    self.close(cx.load);
                    return false;
                }
                true
            }
            Step::Read(read) => self.answer_read(cx, &mut first.arrival, read),
        };
        if done {
            self.answered(cx, &first.arrival);
        } else {
            self.queue.push_front(first);
        }
        done
    }

    fn answer_read(
        &mut self,
        cx: &mut Context<'_>,
        arrival: &mut Arrival,
        read: &mut PendingRead,
    ) -> bool {
        let RequestHeader { xid, op } = arrival.header;
        if read.asking {
            return false;
        }
        let result = match decode_body(op, &read.body) {
            Ok(request) => self.execute(cx, xid, &request, &read.identities, read.asked.as_ref()),
            Err(_) => return true,
        };
        match result {
            Ok(_) => {
                self.blockers -= usize::from(read.blocking);
                self.expected_bytes -= read.expected_bytes;
                true
            }
            Err(_) if !read.blocking && self.sent_behind() => {
                // Whatever the shard said now could show what was sent behind this read.
                tracing::warn!(connection = %self.connection, "closing a connection: the view lost what a read needs");
                self.abandon(cx.load);
                false
            }
            Err(query) => {
                self.blockers += usize::from(!read.blocking);
                self.expected_bytes -= std::mem::take(&mut read.expected_bytes);
                read.blocking = true;
                read.asking = true;
                self.ask(cx, arrival, query);
                false
            }
        }
    }

    /// Whether a write is with the shard that was sent behind the first request, which is out of the
    /// queue to be answered.
    fn sent_behind(&self) -> bool {
        let is_write = |step: &Step| matches!(step, Step::Write { .. } | Step::Close { .. });
        self.queue.iter().any(|pending| is_write(&pending.step))
    }
}

/// A well-known trap: who writes another session's ephemeral znode keeps it only as long as its owner
/// lives. ZooKeeper allows it, so it is allowed; the operator gets to know.
fn note_foreign_ephemerals(stats: &Stats, writer: SessionId, outcome: &TxnOutcome) {
    let TxnOutcome::Applied(results) = outcome else {
        return;
    };
    for result in results {
        if let OpResult::ValueSet { head } = result
            && let Some(owner) = head.session
            && owner != writer
        {
            stats.foreign_ephemeral_writes.fetch_add(1, Relaxed);
            tracing::debug!(%writer, %owner, "data written to an ephemeral znode of another session");
        }
    }
}
