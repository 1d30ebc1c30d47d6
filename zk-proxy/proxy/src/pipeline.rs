//! One connection's requests, in order: the sans-io heart of the proxy.
//!
//! The problem: replies must come in request order and each read must see exactly the writes that the
//! session sent before it, yet requests are pipelined and writes take a disk write. Waiting with
//! everything behind a write would be right and slow; answering reads at once would be wrong.
//!
//! The rule: writes go to the shard as they arrive. A read behind an unanswered write waits for its
//! turn, and its turn comes inside the link's delivery of that write's outcome, while the view is
//! exactly at that revision; so a later write that is already on its way cannot show in it. A read
//! that the view cannot answer asks the shard and *blocks*: nothing behind it is sent before it is
//! answered, again so that it cannot see what came later.
//!
//! Every method runs with the connection locked and the view either shared or exclusive; replies and
//! events are appended to one buffer, so their order on the wire is the order of these calls.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use oxkeeper_client::{Answer, Query, Request as LinkRequest, Token};
use oxkeeper_model::{
    AclEntry, Attachment, CloseOutcome, Identities, OpResult, Ops, Permission, SessionError,
    SessionGrant, SessionId, SessionWrite, TxnOutcome, WriteOutcome, WriteRefusal, WriteSeq,
    permits,
};
use oxkeeper_wire::{
    ConnectRequest, ConnectResponse, DecodeError, ErrorCode, EventType, OpCode, Request,
    RequestHeader, decode_body, decode_header, notification, reply,
};

use crate::auth;
use crate::connection::ConnectionId;
use crate::limits::{
    CONNECTION_BYTES_MAX, CONNECTION_REQUESTS_MAX, UNSENT_CLOSE_BYTES, UNSENT_PAUSE_BYTES,
};
use crate::reads::Reader;
use crate::stats::ConnectionStats;
use crate::translate::zxid;
use crate::tree::Tree;
use crate::view::{Lookup, View};
use crate::watch::Fired;
use crate::watched::Watched;
use crate::writes::{self, Caller, Shape};

/// xid of every ping reply.
const PING_XID: i32 = -2;
/// zxid of the reply to an unknown operation.
const UNKNOWN_OPERATION_ZXID: i64 = -1;
/// zxid of replies that have nothing to do with the tree.
const NO_ZXID: i64 = 0;
const SESSION_PASSWORD_BYTES: usize = 16;

/// What a step works with.
pub(crate) struct Context<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) view: &'a View,
    /// To be sent to the shard, in order, before the connection is unlocked.
    pub(crate) requests: &'a mut Vec<LinkRequest>,
    pub(crate) now: Instant,
}

/// The session as this connection holds it.
#[derive(Clone, Copy, Debug)]
struct Binding {
    session: SessionId,
    attachment: Attachment,
    timeout_ms: u32,
    /// Of the last write sent.
    last_seq: WriteSeq,
    /// Outcomes up to here have arrived.
    acknowledged: WriteSeq,
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

/// A request whose reply is not written yet.
struct Pending {
    xid: i32,
    op: OpCode,
    received: Instant,
    bytes: usize,
    step: Step,
}

enum Step {
    /// With the shard until `outcome` is there.
    Write {
        shape: Shape,
        /// Counted in `Pipeline::large_writes`.
        large: bool,
        outcome: Option<WriteOutcome>,
    },
    /// With the shard until `outcome` is there. Nothing follows.
    Close {
        outcome: Option<CloseOutcome>,
    },
    Read(PendingRead),
    /// Known already, but not its turn.
    Ready(Ready),
}

struct PendingRead {
    body: Bytes,
    identities: Identities,
    /// Counted in `Pipeline::blockers`.
    blocking: bool,
    /// A query is with the shard.
    asking: bool,
    asked: Vec<(Query, Answer)>,
}

/// A reply without a body.
#[derive(Clone, Copy)]
struct Ready {
    code: ErrorCode,
    /// `None`: the view's position when its turn comes.
    zxid: Option<i64>,
    close: bool,
    /// SASL answers end with a token, null here.
    null_token: bool,
}

impl Ready {
    const PING: Self = Self {
        code: ErrorCode::OK,
        zxid: None,
        close: false,
        null_token: false,
    };
    const AUTHENTICATED: Self = Self {
        zxid: Some(NO_ZXID),
        ..Self::PING
    };
    const AUTH_FAILED: Self = Self {
        code: ErrorCode::AUTH_FAILED,
        close: true,
        ..Self::AUTHENTICATED
    };
    const SASL_UNAVAILABLE: Self = Self {
        null_token: true,
        ..Self::AUTHENTICATED
    };
    const GARBLED: Self = Self {
        code: ErrorCode::MARSHALLING_ERROR,
        ..Self::PING
    };
    const UNKNOWN_OPERATION: Self = Self {
        code: ErrorCode::UNIMPLEMENTED,
        zxid: Some(UNKNOWN_OPERATION_ZXID),
        close: true,
        null_token: false,
    };
}

/// A frame that waits for a blocker before it is even looked at.
struct Held {
    header: RequestHeader,
    body: Bytes,
    received: Instant,
    bytes: usize,
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
    /// Writes in `queue` whose values are too large to come back with their changes, so that the
    /// view will not know them.
    large_writes: usize,
    /// Bytes of the frames in `queue` and `held`.
    pending_bytes: usize,
    /// Replies and events in the order of the wire, not yet taken by the connection's task.
    pub(crate) out: BytesMut,
    /// The connection's task was told since it last looked.
    pub(crate) woken: bool,
    watched: Watched,
    pub(crate) stats: ConnectionStats,
}

impl Pipeline {
    pub(crate) fn new(connection: ConnectionId, identities: Identities, now: Instant) -> Self {
        Self {
            connection,
            phase: Phase::Opening,
            identities,
            queue: VecDeque::new(),
            held: VecDeque::new(),
            blockers: 0,
            large_writes: 0,
            pending_bytes: 0,
            out: BytesMut::new(),
            woken: false,
            watched: Watched::default(),
            stats: ConnectionStats::new(now),
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
            && self.out.len() < UNSENT_PAUSE_BYTES
    }

    /// Drops everything that is not written yet and ends the connection.
    pub(crate) fn close(&mut self, tree: &Tree) {
        self.phase = Phase::Closing;
        tree.load.answered(self.pending(), self.pending_bytes);
        self.queue.clear();
        self.held.clear();
        self.blockers = 0;
        self.large_writes = 0;
        self.pending_bytes = 0;
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self, tree: &Tree) {
        self.close(tree);
        self.watched.clear(&tree.watches, self.connection);
        self.out.clear();
    }

    // ---- the handshake

    pub(crate) fn on_connect(&mut self, cx: &mut Context<'_>, request: ConnectRequest) {
        if !self.is_opening() || request.last_zxid_seen > zxid(cx.view.position()) {
            self.close(cx.tree);
            return;
        }
        let timeout_ms = cx.tree.options.negotiate_timeout(request.timeout_ms);
        let token = Token(self.connection.0);
        cx.requests.push(if request.session_id == 0 {
            LinkRequest::OpenSession { token, timeout_ms }
        } else {
            // A password of another length is a wrong one.
            let mut password = [0; SESSION_PASSWORD_BYTES];
            if let Some(given) = &request.password
                && given.len() == SESSION_PASSWORD_BYTES
            {
                password.copy_from_slice(given);
            }
            LinkRequest::Attach {
                token,
                session: SessionId(request.session_id),
                password,
                timeout_ms,
            }
        });
        self.stats.last_op = OpCode::CREATE_SESSION;
        self.phase = Phase::Connecting(request);
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
                response.encode(&mut self.out);
                self.phase = Phase::Open(Binding {
                    session: grant.session,
                    attachment: grant.attachment,
                    timeout_ms: grant.timeout_ms,
                    last_seq: WriteSeq(0),
                    acknowledged: WriteSeq(0),
                });
                self.stats.sent += 1;
                self.pump(cx);
            }
            Err(SessionError::Expired | SessionError::WrongPassword) => {
                ConnectResponse::session_expired(request).encode(&mut self.out);
                self.close(cx.tree);
            }
        }
    }

    // ---- requests

    /// One frame from the client, and what it asks for. `Err`: too short to be a request; the
    /// connection is to be closed.
    pub(crate) fn on_frame(
        &mut self,
        cx: &mut Context<'_>,
        frame: Bytes,
    ) -> Result<OpCode, DecodeError> {
        let mut rest = &frame[..];
        let header = decode_header(&mut rest)?;
        let body = frame.slice(frame.len() - rest.len()..);
        self.stats.received += 1;
        cx.tree.load.received(frame.len());
        self.pending_bytes += frame.len();
        let held = Held {
            header,
            body,
            received: cx.now,
            bytes: frame.len(),
        };
        if !matches!(self.phase, Phase::Open(_)) || self.blockers > 0 || !self.held.is_empty() {
            self.held.push_back(held);
        } else {
            self.dispatch(cx, held);
        }
        Ok(header.op)
    }

    fn dispatch(&mut self, cx: &mut Context<'_>, held: Held) {
        let Held {
            header,
            body,
            received,
            bytes,
        } = held;
        self.stats.note_op(header.op, header.xid);
        let request = match decode_body(header.op, &body) {
            Ok(request) => request,
            Err(error) => return self.dispatch_garbled(cx, header, error, received, bytes),
        };
        match &request {
            Request::Ping => {
                let header = RequestHeader {
                    xid: PING_XID,
                    ..header
                };
                self.ready(cx, header, Ready::PING, received, bytes);
            }
            Request::Auth { scheme, auth, .. } => {
                let ready = self.authenticate(cx, scheme.as_deref(), *auth);
                self.ready(cx, header, ready, received, bytes);
            }
            Request::Sasl { .. } => {
                self.ready(cx, header, Ready::SASL_UNAVAILABLE, received, bytes)
            }
            Request::Check(_) | Request::CreateSession | Request::DeleteContainer => {
                self.ready(cx, header, Ready::UNKNOWN_OPERATION, received, bytes);
            }
            Request::CloseSession => self.dispatch_close(cx, header, received, bytes),
            _ => {
                let extended_types_enabled = cx.tree.options.extended_types_enabled;
                let caller = Caller {
                    identities: &self.identities,
                    extended_types_enabled,
                };
                match writes::translate(&request, &caller) {
                    Some((ops, shape)) => {
                        self.dispatch_write(cx, header, ops, shape, received, bytes)
                    }
                    None => self.dispatch_read(cx, header, &request, &body, received, bytes),
                }
            }
        }
    }

    fn dispatch_garbled(
        &mut self,
        cx: &mut Context<'_>,
        header: RequestHeader,
        error: DecodeError,
        received: Instant,
        bytes: usize,
    ) {
        if let DecodeError::UnknownOperation(_) = error {
            self.ready(cx, header, Ready::UNKNOWN_OPERATION, received, bytes);
        } else if header.op == OpCode::MULTI && error != DecodeError::NullAccessList {
            let (ops, shape) = writes::garbled_multi();
            self.dispatch_write(cx, header, ops, shape, received, bytes);
        } else {
            self.ready(cx, header, Ready::GARBLED, received, bytes);
        }
    }

    fn authenticate(
        &mut self,
        cx: &Context<'_>,
        scheme: Option<&str>,
        auth: Option<&[u8]>,
    ) -> Ready {
        let super_digest = cx.tree.options.super_digest.as_deref();
        match auth::authenticate(&self.identities, scheme, auth, super_digest) {
            Ok(identities) => {
                self.identities = identities;
                Ready::AUTHENTICATED
            }
            Err(_) => {
                cx.tree.stats.auth_failed();
                Ready::AUTH_FAILED
            }
        }
    }

    fn dispatch_write(
        &mut self,
        cx: &mut Context<'_>,
        header: RequestHeader,
        ops: Ops,
        shape: Shape,
        received: Instant,
        bytes: usize,
    ) {
        let Phase::Open(binding) = &mut self.phase else {
            return;
        };
        let large = writes::has_large_value(&ops);
        self.large_writes += usize::from(large);
        binding.last_seq = binding.last_seq.next();
        let write = SessionWrite {
            session: binding.session,
            attachment: binding.attachment,
            seq: binding.last_seq,
            acknowledged: binding.acknowledged,
            identities: Identities::clone(&self.identities),
            ops,
        };
        cx.requests.push(LinkRequest::Write {
            token: Token(self.connection.0),
            write,
        });
        self.push(
            header,
            received,
            bytes,
            Step::Write {
                shape,
                large,
                outcome: None,
            },
        );
    }

    fn dispatch_close(
        &mut self,
        cx: &mut Context<'_>,
        header: RequestHeader,
        received: Instant,
        bytes: usize,
    ) {
        let Phase::Open(binding) = &mut self.phase else {
            return;
        };
        binding.last_seq = binding.last_seq.next();
        cx.requests.push(LinkRequest::CloseSession {
            token: Token(self.connection.0),
            session: binding.session,
            attachment: binding.attachment,
            seq: binding.last_seq,
        });
        // Nothing that was sent behind a close is answered, so nothing behind it is looked at.
        self.blockers += 1;
        self.push(header, received, bytes, Step::Close { outcome: None });
    }

    fn dispatch_read(
        &mut self,
        cx: &mut Context<'_>,
        header: RequestHeader,
        request: &Request<'_>,
        body: &Bytes,
        received: Instant,
        bytes: usize,
    ) {
        let mut read = PendingRead {
            body: body.clone(),
            identities: Identities::clone(&self.identities),
            blocking: false,
            asking: false,
            asked: Vec::new(),
        };
        if self.queue.is_empty() {
            match self.execute(cx, header.xid, request, &read.identities, &read.asked) {
                Ok(_) => return self.answered(cx, header.op, received, bytes),
                Err(query) => {
                    read.asking = true;
                    self.ask(cx, query);
                }
            }
        }
        read.blocking = read.asking || self.large_writes > 0 || !is_cached(cx.view, request);
        self.blockers += usize::from(read.blocking);
        self.push(header, received, bytes, Step::Read(read));
    }

    fn execute(
        &mut self,
        cx: &Context<'_>,
        xid: i32,
        request: &Request<'_>,
        identities: &Identities,
        asked: &[(Query, Answer)],
    ) -> Result<ErrorCode, Query> {
        let session = self.session().map_or(SessionId(0), |(session, _)| session);
        let mut reader = Reader {
            view: cx.view,
            asked,
            watches: &cx.tree.watches,
            watched: &mut self.watched,
            connection: self.connection,
            session,
            identities,
        };
        reader.execute(xid, request, &mut self.out)
    }

    fn ask(&self, cx: &mut Context<'_>, query: Query) {
        cx.requests.push(LinkRequest::Query {
            token: Token(self.connection.0),
            query,
        });
    }

    fn ready(
        &mut self,
        cx: &mut Context<'_>,
        header: RequestHeader,
        ready: Ready,
        received: Instant,
        bytes: usize,
    ) {
        if self.queue.is_empty() {
            self.write_ready(cx, header.xid, ready);
            self.answered(cx, header.op, received, bytes);
            if ready.close {
                self.close(cx.tree);
            }
        } else {
            self.blockers += usize::from(ready.close);
            self.push(header, received, bytes, Step::Ready(ready));
        }
    }

    fn write_ready(&mut self, cx: &Context<'_>, xid: i32, ready: Ready) {
        let zxid = ready.zxid.unwrap_or_else(|| zxid(cx.view.position()));
        reply(&mut self.out, xid, zxid, ready.code, |body| {
            if ready.null_token {
                body.buffer(None);
            }
        });
    }

    fn push(&mut self, header: RequestHeader, received: Instant, bytes: usize, step: Step) {
        self.queue.push_back(Pending {
            xid: header.xid,
            op: header.op,
            received,
            bytes,
            step,
        });
    }

    /// Bookkeeping of a reply that was just written.
    fn answered(&mut self, cx: &Context<'_>, op: OpCode, received: Instant, bytes: usize) {
        self.pending_bytes -= bytes;
        cx.tree.load.answered(1, bytes);
        let latency = cx.now.saturating_duration_since(received);
        self.stats.answered(latency, zxid(cx.view.position()));
        cx.tree.stats.answered(op, latency);
    }

    // ---- what the link delivers

    pub(crate) fn on_written(&mut self, cx: &mut Context<'_>, arrived: WriteOutcome) {
        let Phase::Open(binding) = &mut self.phase else {
            return;
        };
        if arrived.session != binding.session {
            return;
        }
        binding.acknowledged = arrived.seq;
        match &arrived.result {
            Err(WriteRefusal::SessionExpired | WriteRefusal::SessionMoved) => {
                return self.close(cx.tree);
            }
            Err(refusal @ WriteRefusal::OutOfSequence { .. }) => {
                tracing::error!(session = %arrived.session, %refusal, "closing a connection whose writes lost their order");
                return self.close(cx.tree);
            }
            Ok(outcome) => note_foreign_ephemerals(cx.tree, arrived.session, outcome),
        }
        let waiting = self
            .queue
            .iter_mut()
            .find_map(|pending| match &mut pending.step {
                Step::Write {
                    outcome: outcome @ None,
                    ..
                } => Some(outcome),
                _ => None,
            });
        if let Some(outcome) = waiting {
            *outcome = Some(arrived);
        }
        self.pump(cx);
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
            self.close(cx.tree);
        }
        !closes_itself
    }

    pub(crate) fn on_answer(&mut self, cx: &mut Context<'_>, query: Query, answer: Answer) {
        let asking = self
            .queue
            .iter_mut()
            .find_map(|pending| match &mut pending.step {
                Step::Read(read) if read.asking => Some(read),
                _ => None,
            });
        if let Some(read) = asking {
            read.asking = false;
            read.asked.push((query, answer));
        }
        self.pump(cx);
    }

    /// A watch event. Swallowed if this connection may not read what it tells of.
    pub(crate) fn on_event(
        &mut self,
        tree: &Tree,
        fired: Fired,
        zxid: i64,
        kind: EventType,
        path: &str,
        acl: &[AclEntry],
    ) {
        if !fired.consumed.is_none() {
            self.watched.forget(path, fired.consumed);
        }
        if self.is_closing() || !permits(acl, &self.identities, Permission::Read) {
            return;
        }
        if self.out.len() > UNSENT_CLOSE_BYTES {
            tracing::warn!(connection = %self.connection, "closing a connection that does not read its events");
            self.out.clear();
            return self.close(tree);
        }
        notification(&mut self.out, zxid, kind, path);
        self.stats.sent += 1;
    }

    /// Answers whatever is answerable now, in order, and looks at what was held back.
    fn pump(&mut self, cx: &mut Context<'_>) {
        loop {
            while self.answer_first(cx) {}
            if self.blockers > 0 || !matches!(self.phase, Phase::Open(_)) {
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
        let done = match &mut first.step {
            Step::Write { outcome: None, .. } | Step::Close { outcome: None } => false,
            Step::Write {
                shape,
                large,
                outcome: Some(outcome),
            } => {
                self.large_writes -= usize::from(*large);
                if let Ok(result) = &outcome.result {
                    writes::reply_outcome(
                        &mut self.out,
                        first.xid,
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
                    &mut self.out,
                    first.xid,
                    zxid(outcome.revision),
                    ErrorCode::OK,
                    |_| {},
                );
                self.answered(cx, first.op, first.received, first.bytes);
                self.close(cx.tree);
                return false;
            }
            Step::Ready(ready) => {
                let ready = *ready;
                self.write_ready(cx, first.xid, ready);
                if ready.close {
                    self.answered(cx, first.op, first.received, first.bytes);
                    self.close(cx.tree);
                    return false;
                }
                true
            }
            Step::Read(read) => self.answer_read(cx, first.xid, first.op, read),
        };
        if done {
            self.answered(cx, first.op, first.received, first.bytes);
        } else {
            self.queue.push_front(first);
        }
        done
    }

    fn answer_read(
        &mut self,
        cx: &mut Context<'_>,
        xid: i32,
        op: OpCode,
        read: &mut PendingRead,
    ) -> bool {
        if read.asking {
            return false;
        }
        let result = match decode_body(op, &read.body) {
            Ok(request) => self.execute(cx, xid, &request, &read.identities, &read.asked),
            Err(_) => return true,
        };
        match result {
            Ok(_) => {
                self.blockers -= usize::from(read.blocking);
                true
            }
            Err(query) => {
                self.blockers += usize::from(!read.blocking);
                read.blocking = true;
                read.asking = true;
                self.ask(cx, query);
                false
            }
        }
    }
}

/// A well-known trap: who writes another session's ephemeral znode keeps it only as long as its owner
/// lives. ZooKeeper allows it, so it is allowed; the operator gets to know.
fn note_foreign_ephemerals(tree: &Tree, writer: SessionId, outcome: &TxnOutcome) {
    let TxnOutcome::Applied(results) = outcome else {
        return;
    };
    for result in results {
        if let OpResult::ValueSet { head } = result
            && let Some(owner) = head.session
            && owner != writer
        {
            tree.stats.foreign_ephemeral_writes.fetch_add(1, Relaxed);
            tracing::debug!(%writer, %owner, "data written to an ephemeral znode of another session");
        }
    }
}

/// Whether a read will be answered by the view when its turn comes, as far as this session's own
/// requests decide. (If another session's large write or an eviction comes between, the read is
/// asked for later than its turn: it may then see this session's later writes, never miss earlier ones.)
fn is_cached(view: &View, request: &Request<'_>) -> bool {
    match request {
        Request::GetData {
            path: Some(path), ..
        } => !matches!(view.record(path), Lookup::Unknown),
        Request::Exists {
            path: Some(path), ..
        }
        | Request::GetAcl { path: Some(path) } => !matches!(view.head(path), Lookup::Unknown),
        Request::GetChildren {
            path: Some(path), ..
        }
        | Request::GetChildren2 {
            path: Some(path), ..
        } => !matches!(view.children(path), Lookup::Unknown),
        Request::AddWatch { .. }
        | Request::CheckWatches { .. }
        | Request::RemoveWatches { .. }
        | Request::WhoAmI => true,
        _ => false,
    }
}
