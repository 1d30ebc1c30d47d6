//! One client connection: the task that moves bytes between its socket and its pipeline.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use oxkeeper_link::Request;
use oxkeeper_wire::{CodecError, FourLetterWord, Inbound, OpCode, ServerCodec};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;
use tokio_util::codec::Decoder;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::admin::four_letter;
use crate::auth;
use crate::limits::READ_CHUNK_BYTES;
use crate::pipeline::{Context, Pipeline};
use crate::socket::DirectWriter;
use crate::tree::Tree;

/// How long a closing connection may take to receive its last bytes.
const LINGER: Duration = Duration::from_secs(2);

/// How long a stopping proxy waits for the replies of requests it has already read.
const DRAIN: Duration = Duration::from_secs(5);

/// A connection of this process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What others may touch of a connection.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) peer: SocketAddr,
    pub(crate) pipeline: Mutex<Pipeline>,
    /// The pipeline has something to write, or was closed.
    pub(crate) wake: Notify,
    /// Something that keeps the session alive was received since the last heartbeat.
    pub(crate) touched: AtomicBool,
    /// 0 before there is one.
    pub(crate) session: AtomicI64,
}

impl Connection {
    pub(crate) fn new(id: ConnectionId, peer: SocketAddr, skip_acl: bool) -> Self {
        let identities = auth::identities_of(peer.ip(), skip_acl);
        Self {
            id,
            peer,
            pipeline: Mutex::new(Pipeline::new(id, identities, Instant::now())),
            wake: Notify::new(),
            touched: AtomicBool::new(false),
            session: AtomicI64::new(0),
        }
    }

    /// Has what the pipeline wrote sent: by the connection's task, or at once if `directly` and
    /// the task has no part in it.
    pub(crate) fn send_output(&self, tree: &Tree, directly: bool) {
        if directly && self.pipeline.lock().write_directly(tree) {
            return;
        }
        self.wake.notify_one();
    }
}

/// Whether a request says that its client is well. As in ZooKeeper, logging in does not: a client
/// that loops in a SASL exchange that leads nowhere (kazoo does) is ended by its session's timeout.
fn keeps_session_alive(op: OpCode) -> bool {
    !matches!(op, OpCode::AUTH | OpCode::SASL)
}

/// Why a connection's task ended, other than by the client or the pipeline.
enum Stop {
    Io(io::Error),
    Codec(CodecError),
}

/// Runs a connection until either side ends it. `direct` writes to the same stream.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    tree: Arc<Tree>,
    connection: Arc<Connection>,
    stream: S,
    direct: Option<DirectWriter>,
    shutdown: CancellationToken,
) {
    connection.pipeline.lock().direct = direct;
    let mut task = Task {
        tree: &tree,
        connection: &connection,
        stream,
        codec: ServerCodec::new(tree.options.packet_bytes_max),
        input: BytesMut::new(),
        output: BytesMut::new(),
        requests: Vec::new(),
        word: None,
        eof: false,
    };
    if let Err(stop) = task.run(&shutdown).await {
        report(&tree, &connection, stop);
    }
    if let Some(word) = task.word.take() {
        let text = four_letter::answer(&tree, word).await;
        let _ = tokio::time::timeout(LINGER, task.stream.write_all(text.as_bytes())).await;
    }
    let _ = tokio::time::timeout(LINGER, task.stream.shutdown()).await;
    // The client learns of the end first: both handles on the stream go.
    connection.pipeline.lock().direct = None;
    drop(task);
    tree.connections.remove(&connection.id);
    tree.sessions.remove_if(
        &oxkeeper_model::SessionId(connection.session.load(Relaxed)),
        |_, current| Arc::ptr_eq(current, &connection),
    );
    // With the view shared, so that no delivery is looking for this connection's watches.
    let _view = tree.view.read();
    connection.pipeline.lock().end(&tree);
}

fn report(tree: &Tree, connection: &Connection, stop: Stop) {
    match stop {
        Stop::Io(error) => {
            tree.stats.connections_dropped.fetch_add(1, Relaxed);
            tracing::debug!(connection = %connection.id, peer = %connection.peer, %error, "connection lost");
        }
        Stop::Codec(error) => {
            tree.stats.large_requests_rejected.fetch_add(1, Relaxed);
            tracing::info!(connection = %connection.id, peer = %connection.peer, %error, "closing a connection that sent a bad frame");
        }
    }
}

struct Task<'a, S> {
    tree: &'a Tree,
    connection: &'a Connection,
    stream: S,
    codec: ServerCodec,
    /// Received and not yet decoded. Without a buffer while nothing is there.
    input: BytesMut,
    /// Taken from the pipeline and not yet sent. Without a buffer while nothing is there.
    output: BytesMut,
    /// Reused.
    requests: Vec<Request>,
    /// A four-letter word came instead of a session.
    word: Option<FourLetterWord>,
    eof: bool,
}

/// What the pipeline says of itself when its output is taken.
struct Mood {
    closing: bool,
    opening: bool,
    accepts_more: bool,
    stalled: bool,
    pending: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<'_, S> {
    async fn run(&mut self, shutdown: &CancellationToken) -> Result<(), Stop> {
        let mut handshake = Some(Box::pin(tokio::time::sleep(
            self.tree.options.handshake_timeout,
        )));
        let mut last_chance: Option<Pin<Box<Sleep>>> = None;
        // Registered once: all connections share the token's list of who waits for it.
        let mut cancelled = pin!(shutdown.cancelled());
        loop {
            let stopping = shutdown.is_cancelled();
            let mut mood = self.take_output(stopping);
            let may_decode = mood.accepts_more && !stopping && !self.input.is_empty();
            if (mood.stalled || may_decode) && self.decode().map_err(Stop::Codec)? {
                mood = self.take_output(stopping);
            }
            let finished = mood.closing || self.word.is_some() || (stopping && mood.pending == 0);
            if (finished || self.eof) && self.output.is_empty() {
                return Ok(());
            }
            if !mood.opening {
                handshake = None;
            }
            if (finished || self.eof || stopping) && last_chance.is_none() {
                let limit = if stopping { DRAIN } else { LINGER };
                last_chance = Some(Box::pin(tokio::time::sleep(limit)));
            }
            // What may not be decoded is not read either, or the input would grow.
            let mut may_read = mood.accepts_more && !stopping && !self.eof;
            if may_read && self.tree.load.is_full() {
                if self.output.is_empty() {
                    self.tree.load.room().await;
                    continue;
                }
                may_read = false;
            }
            let deadline = last_chance.as_mut().or(handshake.as_mut());
            let shutdown = (!stopping).then_some(cancelled.as_mut());
            if self
                .turn(may_read, deadline, shutdown)
                .await
                .map_err(Stop::Io)?
            {
                return Ok(());
            }
        }
    }

    /// Takes what the pipeline wrote, if everything before it is sent.
    fn take_output(&mut self, stopping: bool) -> Mood {
        let mut pipeline = self.connection.pipeline.lock();
        pipeline.woken = false;
        if self.output.is_empty() {
            self.output = std::mem::take(&mut pipeline.out);
        }
        pipeline.direct_allowed = self.output.is_empty() && !stopping && !self.eof;
        Mood {
            closing: pipeline.is_closing(),
            opening: pipeline.is_opening(),
            accepts_more: pipeline.accepts_more(),
            stalled: pipeline.is_stalled() && pipeline.out.is_empty(),
            pending: pipeline.pending(),
        }
    }

    /// Lets a stalled pipeline go on, and hands it received frames while it accepts them. Whether
    /// there was anything to do.
    fn decode(&mut self) -> Result<bool, CodecError> {
        let tree = self.tree;
        let view = tree.view.read();
        let mut pipeline = self.connection.pipeline.lock();
        let resumes = pipeline.is_stalled() && pipeline.out.is_empty();
        let mut cx = Context {
            tree,
            view: &view,
            requests: &mut self.requests,
            now: Instant::now(),
        };
        if resumes {
            pipeline.pump(&mut cx);
        }
        let mut any = resumes;
        let mut alive = false;
        let mut frames = 0;
        let mut fault = None;
        while pipeline.accepts_more() && !tree.load.is_full() {
            let decoded = self.codec.decode(&mut self.input).unwrap_or_else(|error| {
                // What came before the bad frame still counts.
                fault = Some(error);
                None
            });
            match decoded {
                None => break,
                Some(Inbound::Connect(request)) => {
                    alive = true;
                    pipeline.on_connect(&mut cx, request);
                }
                Some(Inbound::Frame(frame)) => {
                    frames += 1;
                    match pipeline.on_frame(&mut cx, frame) {
                        Ok(op) => alive |= keeps_session_alive(op),
                        Err(_) => pipeline.close(tree),
                    }
                }
                Some(Inbound::FourLetterWord(word)) => {
                    self.word = Some(word);
                    break;
                }
            }
            any = true;
        }
        if tree.send(cx.requests).is_err() {
            cx.requests.clear();
            pipeline.close(tree);
        }
        drop(pipeline);
        drop(view);
        tree.stats.packets_received.fetch_add(frames, Relaxed);
        if alive {
            self.connection.touched.store(true, Relaxed);
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        fault.map_or(Ok(any), Err)
    }

    /// Waits until something can be written or read, or the pipeline has something new. Whether
    /// the connection is over.
    async fn turn(
        &mut self,
        may_read: bool,
        mut deadline: Option<&mut Pin<Box<Sleep>>>,
        mut shutdown: Option<Pin<&mut WaitForCancellationFuture<'_>>>,
    ) -> io::Result<bool> {
        let mut woken = pin!(self.connection.wake.notified());
        let Self {
            stream,
            input,
            output,
            eof,
            tree,
            ..
        } = self;
        poll_fn(|cx| {
            let mut moved = woken.as_mut().poll(cx).is_ready();
            while !output.is_empty() {
                match Pin::new(&mut *stream).poll_write(cx, output)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(count) => {
                        output.advance(count);
                        tree.stats.bytes_sent.fetch_add(count as u64, Relaxed);
                        moved = true;
                    }
                    Poll::Pending => break,
                }
            }
            if output.is_empty() {
                *output = BytesMut::new();
            }
            if may_read {
                match poll_read_into(Pin::new(&mut *stream), cx, input)? {
                    Poll::Ready(0) => {
                        *eof = true;
                        moved = true;
                    }
                    Poll::Ready(count) => {
                        tree.stats.bytes_received.fetch_add(count as u64, Relaxed);
                        moved = true;
                    }
                    Poll::Pending => {}
                }
            }
            if moved {
                return Poll::Ready(Ok(false));
            }
            if let Some(deadline) = &mut deadline
                && deadline.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(true));
            }
            if let Some(shutdown) = &mut shutdown
                && shutdown.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(false));
            }
            Poll::Pending
        })
        .await
    }
}

thread_local! {
    /// One read buffer per thread, so that an idle connection holds none.
    static CHUNK: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_CHUNK_BYTES].into());
}

/// Appends what the stream has, a chunk at most.
fn poll_read_into<S: AsyncRead>(
    stream: Pin<&mut S>,
    cx: &mut std::task::Context<'_>,
    input: &mut BytesMut,
) -> io::Result<Poll<usize>> {
    CHUNK.with_borrow_mut(|chunk| {
        let mut buffer = ReadBuf::new(chunk);
        Ok(stream.poll_read(cx, &mut buffer)?.map(|()| {
            input.extend_from_slice(buffer.filled());
            buffer.filled().len()
        }))
    })
}
