//! One client connection: the task that moves bytes between its socket and its session.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Wake};

use oxkeeper_session::Endpoint;
use oxkeeper_wire::{CodecError, FourLetterWord};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::admin::four_letter;
use crate::net::limits::{DRAIN, LINGER, READ_CHUNK_BYTES};
use crate::service::Service;

/// Wakes a connection's task.
#[derive(Default)]
pub(crate) struct TaskWaker(Notify);

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

/// Why a connection's task ended, other than by the client or its session.
enum Stop {
    Io(io::Error),
    Codec(CodecError),
}

/// Runs a connection until either side ends it.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    service: Arc<Service>,
    endpoint: Endpoint,
    waker: Arc<TaskWaker>,
    stream: S,
    shutdown: CancellationToken,
) {
    let mut task = Task {
        service: &service,
        endpoint,
        waker: &waker,
        stream,
        eof: false,
    };
    let word = match task.run(&shutdown).await {
        Ok(word) => word,
        Err(stop) => {
            task.report(&stop);
            None
        }
    };
    if let Some(word) = word {
        let asker = task.endpoint.connection().id;
        let text = four_letter::answer(&service, asker, word).await;
        let _ = tokio::time::timeout(LINGER, task.stream.write_all(text.as_bytes())).await;
        service.stats.packets_sent.fetch_add(1, Relaxed);
    }
    let _ = tokio::time::timeout(LINGER, task.stream.shutdown()).await;
    // The client learns of the end first: both handles on the stream go.
    let Task {
        stream,
        mut endpoint,
        ..
    } = task;
    endpoint.let_go();
    drop(stream);
    drop(endpoint);
}

struct Task<'a, S> {
    service: &'a Service,
    endpoint: Endpoint,
    waker: &'a TaskWaker,
    stream: S,
    eof: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<'_, S> {
    /// Until the connection is over. What is returned came instead of a session.
    async fn run(&mut self, shutdown: &CancellationToken) -> Result<Option<FourLetterWord>, Stop> {
        let timeout = self.service.options.handshake_timeout;
        let mut handshake = Some(Box::pin(tokio::time::sleep(timeout)));
        let mut last_chance: Option<Pin<Box<Sleep>>> = None;
        // Registered once: all connections share the token's list of who waits for it.
        let mut cancelled = pin!(shutdown.cancelled());
        loop {
            let stopping = shutdown.is_cancelled();
            let now = self.service.clock.now();
            let next = self.endpoint.advance(now, stopping).map_err(Stop::Codec)?;
            if next.finished && self.endpoint.output().is_empty() {
                return Ok(self.endpoint.take_word());
            }
            if !next.opening {
                handshake = None;
            }
            if (next.finished || stopping) && last_chance.is_none() {
                let limit = if stopping { DRAIN } else { LINGER };
                last_chance = Some(Box::pin(tokio::time::sleep(limit)));
            }
            let deadline = last_chance.as_mut().or(handshake.as_mut());
            let shutdown = (!stopping).then_some(cancelled.as_mut());
            if self
                .turn(next.receive, deadline, shutdown)
                .await
                .map_err(Stop::Io)?
            {
                if handshake.is_some() && last_chance.is_none() {
                    let stats = &self.service.stats;
                    stats.sessionless_expired.fetch_add(1, Relaxed);
                }
                return Ok(None);
            }
        }
    }

    /// Waits until something can be sent or received, or the session has something new. Whether
    /// the connection is over.
    async fn turn(
        &mut self,
        may_receive: bool,
        mut deadline: Option<&mut Pin<Box<Sleep>>>,
        mut shutdown: Option<Pin<&mut WaitForCancellationFuture<'_>>>,
    ) -> io::Result<bool> {
        let mut woken = pin!(self.waker.0.notified());
        let Self {
            endpoint,
            stream,
            eof,
            ..
        } = self;
        poll_fn(|cx| {
            let mut moved = woken.as_mut().poll(cx).is_ready();
            while !endpoint.output().is_empty() {
                match Pin::new(&mut *stream).poll_write(cx, endpoint.output())? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(count) => {
                        endpoint.sent(count);
                        moved = true;
                    }
                    Poll::Pending => break,
                }
            }
            if may_receive && !*eof {
                match poll_receive(Pin::new(&mut *stream), cx, endpoint)? {
                    Poll::Ready(count) => {
                        *eof = count == 0;
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

    fn report(&self, stop: &Stop) {
        let stats = &self.service.stats;
        let connection = self.endpoint.connection();
        let (id, peer) = (connection.id, connection.peer);
        match stop {
            Stop::Io(error) => {
                stats.connections_dropped.fetch_add(1, Relaxed);
                tracing::debug!(connection = %id, %peer, %error, "connection lost");
            }
            Stop::Codec(error) => {
                stats.large_requests_rejected.fetch_add(1, Relaxed);
                tracing::info!(connection = %id, %peer, %error, "closing a connection that sent a bad frame");
            }
        }
    }
}

thread_local! {
    /// One read buffer per thread, so that an idle connection holds none.
    static CHUNK: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_CHUNK_BYTES].into());
}

/// Receives what the stream has, a chunk at most; 0 bytes at its end.
fn poll_receive<S: AsyncRead>(
    stream: Pin<&mut S>,
    cx: &mut std::task::Context<'_>,
    endpoint: &mut Endpoint,
) -> io::Result<Poll<usize>> {
    CHUNK.with_borrow_mut(|chunk| {
        let mut buffer = ReadBuf::new(chunk);
        Ok(stream.poll_read(cx, &mut buffer)?.map(|()| {
            match buffer.filled() {
                [] => endpoint.receive_end(),
                bytes => endpoint.receive(bytes),
            }
            buffer.filled().len()
        }))
    })
}
