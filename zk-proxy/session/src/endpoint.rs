//! A connection as its driver sees it: bytes in, bytes out.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Buf, BytesMut};
use oxkeeper_link::{Owner, Request};
use oxkeeper_model::Now;
use oxkeeper_wire::{CodecError, FourLetterWord, Inbound, OpCode, ServerCodec};

use crate::connection::Connection;
use crate::front_end::FrontEnd;

/// The driver's half of a connection. The driver's duty, in a loop: [`Endpoint::advance`]; do what
/// it says; wait until bytes can be read or written or the waker is called.
///
/// Ends the connection when it is dropped.
pub struct Endpoint {
    front_end: Arc<FrontEnd>,
    connection: Arc<Connection>,
    codec: ServerCodec,
    /// Received and not yet decoded. Without a buffer while nothing is there.
    input: BytesMut,
    /// There is no whole frame in `input`.
    starved: bool,
    /// Taken from the outbox and not yet sent. Without a buffer while nothing is there.
    output: BytesMut,
    /// Reused.
    requests: Vec<Request>,
    /// A four-letter word came instead of a session.
    word: Option<FourLetterWord>,
    /// The client sends no more.
    eof: bool,
}

/// What the driver is to do next, beside sending [`Endpoint::output`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// More may be received. What may not be decoded is not to be read either, or the input would grow.
    pub receive: bool,
    /// There is no session request yet.
    pub opening: bool,
    /// To be closed once the output is sent.
    pub finished: bool,
}

/// Whether a request says that its client is well. As in ZooKeeper, logging in does not: a client
/// that loops in a SASL exchange that leads nowhere (kazoo does) is ended by its session's timeout.
fn keeps_session_alive(op: OpCode) -> bool {
    !matches!(op, OpCode::AUTH | OpCode::SASL)
}

/// What the pipeline says of itself when the driver looks.
struct Mood {
    closing: bool,
    opening: bool,
    accepts_more: bool,
    can_resume: bool,
    pending: usize,
}

impl Endpoint {
    pub(crate) fn new(front_end: Arc<FrontEnd>, connection: Arc<Connection>) -> Self {
        Self {
            codec: ServerCodec::new(front_end.options.packet_bytes_max),
            front_end,
            connection,
            input: BytesMut::new(),
            starved: true,
            output: BytesMut::new(),
            requests: Vec::new(),
            word: None,
            eof: false,
        }
    }

    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The word `stmk` will be refused, so its mask is not waited for. To be said at the beginning.
    pub fn refuse_trace_mask(&mut self) {
        self.codec.refuse_trace_mask();
    }

    /// Bytes from the client.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.starved = false;
        let count = bytes.len() as u64;
        self.front_end
            .stats
            .bytes_received
            .fetch_add(count, Relaxed);
    }

    /// The client sends no more.
    pub fn receive_end(&mut self) {
        self.eof = true;
    }

    /// What is to be sent to the client.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// So many bytes of the output were sent.
    pub fn sent(&mut self, count: usize) {
        self.output.advance(count);
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        let count = count as u64;
        self.front_end.stats.bytes_sent.fetch_add(count, Relaxed);
    }

    /// The four-letter word that came instead of a session, once. It is to be answered before the
    /// connection is closed.
    pub fn take_word(&mut self) -> Option<FourLetterWord> {
        self.word.take()
    }

    /// Executes what was received as far as it may be, and tells what comes next. If `stopping`,
    /// what was decoded is answered and nothing more is decoded. An error closes the connection.
    pub fn advance(&mut self, now: Now, stopping: bool) -> Result<Next, CodecError> {
        let now_us = now.monotonic_us;
        let closes = stopping || self.eof;
        let mood = loop {
            let mood = self.look(now_us, closes);
            let may_decode = mood.accepts_more && !stopping && !self.starved;
            if !mood.can_resume && !may_decode {
                break mood;
            }
            if !mood.can_resume && self.front_end.load.must_wait(&self.connection) {
                break mood;
            }
            self.decode(now_us, stopping)?;
        };
        if self.front_end.budget.is_over() {
            self.front_end.shed();
        }
        let finished =
            mood.closing || self.word.is_some() || self.eof || (stopping && mood.pending == 0);
        Ok(Next {
            receive: mood.accepts_more && !closes && self.starved,
            opening: mood.opening,
            finished,
        })
    }

    /// Takes what is to be sent, if everything before it is.
    fn look(&mut self, now_us: u64, closes: bool) -> Mood {
        let mut pipeline = self.connection.pipeline.lock();
        pipeline.outbox.look(&mut self.output, now_us);
        let accepts_more = pipeline.accepts_more();
        let idles = accepts_more && self.starved && self.output.is_empty() && !closes;
        pipeline.outbox.set_driver_idles(idles);
        Mood {
            closing: pipeline.is_closing(),
            opening: pipeline.is_opening(),
            accepts_more,
            can_resume: pipeline.can_resume(),
            pending: pipeline.pending(),
        }
    }

    /// Lets a stalled pipeline go on, and hands it received frames while it accepts them.
    fn decode(&mut self, now_us: u64, stopping: bool) -> Result<(), CodecError> {
        let front_end = &*self.front_end;
        let view = front_end.feed.view.read();
        let mut pipeline = self.connection.pipeline.lock();
        let mut cx = front_end.context(&view, &mut self.requests, now_us);
        if pipeline.can_resume() {
            pipeline.pump(&mut cx);
        }
        let mut alive = false;
        let mut frames = 0;
        let mut fault = None;
        while pipeline.accepts_more() && !stopping && !front_end.load.is_full() {
            let decoded = self.codec.decode(&mut self.input).unwrap_or_else(|error| {
                // What came before the bad frame still counts.
                fault = Some(error);
                None
            });
            match decoded {
                None => {
                    self.starved = true;
                    break;
                }
                Some(Inbound::Connect(request)) => {
                    alive = true;
                    frames += 1;
                    pipeline.on_connect(&mut cx, request);
                }
                Some(Inbound::Frame(frame)) => {
                    frames += 1;
                    match pipeline.on_frame(&mut cx, frame) {
                        Ok(op) => alive |= keeps_session_alive(op),
                        Err(_) => pipeline.close(&front_end.load),
                    }
                }
                Some(Inbound::FourLetterWord(word)) => {
                    frames += 1;
                    pipeline.stats.received += 1;
                    self.word = Some(word);
                    self.starved = true;
                    break;
                }
            }
        }
        let owner = Owner(self.connection.id.0);
        if front_end.feed.send(owner, cx.requests) {
            front_end.load.set_busy(true);
        }
        drop(pipeline);
        drop(view);
        front_end.stats.packets_received.fetch_add(frames, Relaxed);
        if alive {
            self.connection.touched.store(true, Relaxed);
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        fault.map_or(Ok(()), Err)
    }

    /// The client learns of the end before the bookkeeping: whatever writes to its socket goes.
    pub fn let_go(&mut self) {
        self.connection.pipeline.lock().outbox.let_go();
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let (front_end, connection) = (&*self.front_end, &self.connection);
        front_end.connections.remove(&connection.id);
        front_end.load.forget(connection.id);
        front_end
            .sessions
            .remove_if(&connection.session(), |_, current| {
                Arc::ptr_eq(current, connection)
            });
        // With the view shared, so that no delivery is looking for this connection's watches.
        let _view = front_end.feed.view.read();
        {
            let mut pipeline = connection.pipeline.lock();
            pipeline.end(&front_end.load, &front_end.feed.watches);
        }
        front_end.feed.forget(Owner(connection.id.0));
    }
}
