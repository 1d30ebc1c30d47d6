//! Requests as they come from the client: answered at once, sent to the shard, or put in the queue.

use std::cell::RefCell;

use bytes::Bytes;
use oxkeeper_link::Request as LinkRequest;
use oxkeeper_model::{Answer, ClientCommand, Identities, Query, SessionId, SessionWrite, WriteSeq};
use oxkeeper_wire::{
    DecodeError, ErrorCode, OpCode, Request, RequestHeader, decode_body, decode_header, reply,
};

use super::steps::{Arrival, Held, Pending, PendingRead, Ready, Step};
use super::{Context, Phase, Pipeline};
use crate::auth;
use crate::limits::{
    ANSWER_GUESS_BYTES, ANSWER_GUESS_BYTES_MAX, UNSENT_PAUSE_BYTES, WRITE_GROWTH_FREE_BYTES,
};
use crate::reads::Reader;
use crate::translate::zxid;
use crate::view::{Part, Pin, View};
use crate::writes::{self, Caller, Translated};

/// xid of every ping reply.
const PING_XID: i32 = -2;

impl Pipeline {
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
        cx.load.received(1, frame.len());
        self.pending_bytes += frame.len();
        let arrival = Arrival {
            header,
            received_us: cx.now_us,
            bytes: frame.len(),
        };
        let held = Held { arrival, body };
        let is_free =
            matches!(self.phase, Phase::Open(_)) && self.blockers == 0 && !cx.is_reconciling;
        if !is_free || !self.held.is_empty() {
            self.held.push_back(held);
        } else {
            self.dispatch(cx, held);
        }
        Ok(header.op)
    }

    pub(super) fn dispatch(&mut self, cx: &mut Context<'_>, held: Held) {
        let Held { mut arrival, body } = held;
        let header = arrival.header;
        self.reply_start = self.outbox.len();
        self.stats.note_op(header.op, header.xid);
        let request = match decode_body(header.op, &body) {
            Ok(request) => request,
            Err(error) => return self.dispatch_garbled(cx, arrival, error),
        };
        match &request {
            Request::Ping => {
                arrival.header = RequestHeader {
                    xid: PING_XID,
                    ..header
                };
                self.ready(cx, arrival, Ready::PING);
            }
            Request::Auth { scheme, auth, .. } => {
                let ready = self.authenticate(cx, scheme.as_deref(), *auth);
                self.ready(cx, arrival, ready);
            }
            // Not even an empty token: as in ZooKeeper, nothing is answered any more.
            Request::Sasl { token: None } => {
                self.answered(cx, &arrival);
                self.close(cx.load);
            }
            Request::Sasl { token: Some(_) } => self.ready(cx, arrival, Ready::SASL_UNAVAILABLE),
            Request::Check(_) | Request::CreateSession | Request::DeleteContainer => {
                self.ready(cx, arrival, Ready::UNKNOWN_OPERATION);
            }
            Request::CloseSession => self.dispatch_close(cx, arrival),
            _ => {
                let caller = Caller::new(&self.identities, cx.options.extended_types_enabled);
                match writes::translate(&request, caller) {
                    Some(Ok(write)) => self.dispatch_write(cx, arrival, write),
                    Some(Err(error)) => {
                        tracing::info!(connection = %self.connection, %error, "refusing a write");
                        self.ready(cx, arrival, Ready::TOO_LARGE);
                    }
                    None => self.dispatch_read(cx, arrival, &request, &body),
                }
            }
        }
    }

    fn dispatch_garbled(&mut self, cx: &mut Context<'_>, arrival: Arrival, error: DecodeError) {
        if let DecodeError::UnknownOperation(_) = error {
            self.ready(cx, arrival, Ready::UNKNOWN_OPERATION);
        } else if arrival.header.op == OpCode::MULTI && error != DecodeError::NullAccessList {
            self.dispatch_write(cx, arrival, writes::garbled_multi());
        } else {
            self.ready(cx, arrival, Ready::GARBLED);
        }
    }

    fn authenticate(
        &mut self,
        cx: &Context<'_>,
        scheme: Option<&str>,
        auth: Option<&[u8]>,
    ) -> Ready {
        let super_digest = cx.options.super_digest.as_deref();
        match auth::authenticate(&self.identities, scheme, auth, super_digest) {
            Ok(identities) => {
                self.identities = identities;
                Ready::AUTHENTICATED
            }
            Err(_) => {
                cx.stats.auth_failed();
                Ready::AUTH_FAILED
            }
        }
    }

    fn dispatch_write(&mut self, cx: &mut Context<'_>, mut arrival: Arrival, write: Translated) {
        let Phase::Open(binding) = &self.phase else {
            return;
        };
        let Translated { ops, shape, bytes } = write;
        let more = bytes.saturating_sub(arrival.bytes);
        if more > WRITE_GROWTH_FREE_BYTES {
            arrival.bytes += more;
            self.pending_bytes += more;
            cx.load.received(0, more);
        }
        let write = SessionWrite {
            session: binding.session,
            attachment: binding.attachment,
            // Numbers are given on the way.
            seq: WriteSeq(0),
            follows: WriteSeq(0),
            acknowledged: WriteSeq(0),
            identities: Identities::clone(&self.identities),
            ops,
        };
        let token = self.next_token();
        cx.requests.push(LinkRequest::Command {
            token,
            command: ClientCommand::Write(write),
        });
        self.push(
            arrival,
            Step::Write {
                token,
                shape,
                outcome: None,
            },
        );
    }

    fn dispatch_close(&mut self, cx: &mut Context<'_>, arrival: Arrival) {
        let Phase::Open(binding) = &self.phase else {
            return;
        };
        let command = ClientCommand::CloseSession {
            session: binding.session,
            attachment: binding.attachment,
            seq: WriteSeq(0),
            follows: WriteSeq(0),
        };
        let token = self.next_token();
        cx.requests.push(LinkRequest::Command { token, command });
        // Nothing that was sent behind a close is answered, so nothing behind it is looked at.
        self.blockers += 1;
        self.push(arrival, Step::Close { outcome: None });
    }

    fn dispatch_read(
        &mut self,
        cx: &mut Context<'_>,
        mut arrival: Arrival,
        request: &Request<'_>,
        body: &Bytes,
    ) {
        let identities = Identities::clone(&self.identities);
        let mut asking = false;
        if self.queue.is_empty() {
            match self.execute(cx, arrival.header.xid, request, &identities, None) {
                Ok(_) => return self.answered(cx, &arrival),
                Err(query) => {
                    asking = true;
                    self.ask(cx, &mut arrival, query);
                }
            }
        }
        let pin = match asking {
            true => None,
            false => pin(cx.view, request),
        };
        // Its reply will be written whether or not the client takes it, so there must be room for it.
        let room = UNSENT_PAUSE_BYTES.saturating_sub(self.outbox.unsent() + self.expected_bytes);
        let pin = pin.filter(|pin| pin.bytes <= room);
        let blocking = pin.is_none();
        let expected_bytes = pin.as_ref().map_or(0, |pin| pin.bytes);
        self.blockers += usize::from(blocking);
        self.expected_bytes += expected_bytes;
        let read = PendingRead {
            body: body.clone(),
            identities,
            blocking,
            expected_bytes,
            _pin: pin,
            asking,
            asked: None,
        };
        self.push(arrival, Step::Read(read));
    }

    pub(super) fn execute(
        &mut self,
        cx: &Context<'_>,
        xid: i32,
        request: &Request<'_>,
        identities: &Identities,
        asked: Option<&(Query, Answer)>,
    ) -> Result<ErrorCode, Query> {
        let session = self.session().map_or(SessionId(0), |(session, _)| session);
        let mut reader = Reader {
            view: cx.view,
            asked,
            needs: RefCell::default(),
            watches: cx.watches,
            watched: &mut self.watched,
            connection: self.connection,
            session,
            identities,
        };
        reader.execute(xid, request, &mut self.outbox.bytes)
    }

    /// Asks the shard. What its answer may take counts for the request until that is answered.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>, arrival: &mut Arrival, query: Query) {
        let bytes = answer_bytes(&query);
        arrival.bytes += bytes;
        self.pending_bytes += bytes;
        cx.load.received(0, bytes);
        let token = self.next_token();
        cx.requests.push(LinkRequest::Query { token, query });
    }

    fn ready(&mut self, cx: &mut Context<'_>, arrival: Arrival, ready: Ready) {
        if self.queue.is_empty() {
            self.write_ready(cx, arrival.header.xid, ready);
            self.answered(cx, &arrival);
            if ready.close {
                self.close(cx.load);
            }
        } else {
            self.blockers += usize::from(ready.close);
            self.push(arrival, Step::Ready(ready));
        }
    }

    pub(super) fn write_ready(&mut self, cx: &Context<'_>, xid: i32, ready: Ready) {
        let zxid = ready.zxid.unwrap_or_else(|| zxid(cx.view.position()));
        reply(&mut self.outbox.bytes, xid, zxid, ready.code, |body| {
            if ready.null_token {
                body.buffer(None);
            }
        });
    }

    fn push(&mut self, arrival: Arrival, step: Step) {
        self.queue.push_back(Pending { arrival, step });
    }

    /// Bookkeeping of a reply that was just written.
    pub(super) fn answered(&mut self, cx: &Context<'_>, arrival: &Arrival) {
        self.pending_bytes -= arrival.bytes;
        cx.load.answered(1, arrival.bytes);
        let latency_us = cx.now_us.saturating_sub(arrival.received_us);
        self.stats
            .answered(cx.now_us, latency_us, zxid(cx.view.position()));
        let bytes = self.outbox.len() - self.reply_start;
        cx.stats.answered(arrival.header.op, latency_us, bytes);
    }
}

/// A guess at what the answer to a query may take; nothing for the small ones that most are.
fn answer_bytes(query: &Query) -> usize {
    let Query::Batch { queries, .. } = query else {
        return 0;
    };
    let found = |query: &Query| match query {
        Query::Records { paths, .. } => paths.len(),
        _ => 1,
    };
    let found: usize = queries.iter().map(found).sum();
    (found * ANSWER_GUESS_BYTES).min(ANSWER_GUESS_BYTES_MAX)
}

/// Has the view keep what a read needs; `None` if it is not there, or not only there.
fn pin(view: &View, request: &Request<'_>) -> Option<Pin> {
    match request {
        Request::GetData {
            path: Some(path), ..
        } => view.pin(path, Part::Value),
        Request::Exists {
            path: Some(path), ..
        }
        | Request::GetAcl { path: Some(path) } => view.pin(path, Part::Head),
        Request::GetChildren {
            path: Some(path), ..
        }
        | Request::GetChildren2 {
            path: Some(path), ..
        } => view.pin(path, Part::Children),
        Request::AddWatch { .. }
        | Request::CheckWatches { .. }
        | Request::RemoveWatches { .. }
        | Request::WhoAmI => Some(Pin::nothing()),
        _ => None,
    }
}
