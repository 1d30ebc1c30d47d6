//! A client, and the driver of its connection.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Wake;

use bytes::{Buf, BytesMut};
use oxkeeper_model::Now;
use oxkeeper_session::{Endpoint, FrontEnd, Next};
use oxkeeper_wire::client::{XID_NOTIFICATION, decode_reply, encode_request};
use oxkeeper_wire::{ConnectRequest, Request};

use super::{Rng, take_frames};

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// What the client's end of the socket has.
#[derive(Default)]
struct Received {
    bytes: BytesMut,
    /// Bytes that it takes before it stops to read.
    room: usize,
}

impl Received {
    fn take(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room);
        self.room -= count;
        self.bytes.extend_from_slice(&bytes[..count]);
        count
    }
}

pub(crate) struct Client {
    /// `None`: closed.
    endpoint: Option<Endpoint>,
    woken: Arc<Flag>,
    next: Next,
    received: Arc<Mutex<Received>>,
    /// Whether it reads at all, and takes every byte at once.
    pub(crate) reads: bool,
    pub(crate) is_quick: bool,
    /// On the way to the server.
    pub(crate) to_send: BytesMut,
    /// xid and tag of what is not answered yet.
    sent: VecDeque<(i32, usize)>,
    last_xid: i32,
    connected: bool,
    /// Kind and path, and how many replies came before.
    pub(crate) events: Vec<(i32, String, usize)>,
    /// Frames with the tags of their requests.
    pub(crate) replies: Vec<(usize, BytesMut)>,
}

impl Client {
    pub(crate) fn connect(front_end: &Arc<FrontEnd>, now: Now) -> Self {
        let woken = Arc::new(Flag::default());
        let received = Arc::new(Mutex::new(Received::default()));
        let direct = {
            let received = Arc::clone(&received);
            move |bytes: &[u8]| received.lock().unwrap().take(bytes)
        };
        let peer = "127.0.0.1:1".parse().unwrap();
        let waker = Arc::clone(&woken).into();
        let mut endpoint = front_end.connect(peer, waker, Some(Box::new(direct)), now);
        let mut to_send = BytesMut::new();
        ConnectRequest {
            timeout_ms: 10_000,
            ..ConnectRequest::default()
        }
        .encode(&mut to_send);
        let next = endpoint.advance(now, false).expect("nothing bad was sent");
        Self {
            endpoint: Some(endpoint),
            woken,
            next,
            received,
            reads: true,
            is_quick: false,
            to_send,
            sent: VecDeque::new(),
            last_xid: 0,
            connected: false,
            events: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// Puts a request on the way.
    pub(crate) fn request(&mut self, tag: usize, request: &Request<'_>) {
        self.last_xid += 1;
        let xid = match request {
            Request::Ping => -2,
            _ => self.last_xid,
        };
        encode_request(&mut self.to_send, xid, request);
        self.sent.push_back((xid, tag));
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.endpoint.is_none()
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.sent.len()
    }

    /// What a correct driver does: it does nothing unless bytes can move or it was woken.
    pub(crate) fn step(&mut self, rng: &mut Rng, now: Now) -> bool {
        let Some(endpoint) = &mut self.endpoint else {
            return false;
        };
        let mut moved = self.woken.0.swap(false, Relaxed);
        {
            let mut received = self.received.lock().unwrap();
            received.room = match (self.reads, self.is_quick) {
                (false, _) => 0,
                (true, true) => usize::MAX,
                (true, false) => rng.below(64 << 10) as usize + 1,
            };
            let sent = received.take(endpoint.output());
            if sent > 0 {
                endpoint.sent(sent);
                moved = true;
            }
        }
        if self.next.receive && !self.to_send.is_empty() {
            let most = self.to_send.len().min(rng.below(32 << 10) as usize + 1);
            endpoint.receive(&self.to_send[..most]);
            self.to_send.advance(most);
            moved = true;
        }
        if moved {
            self.next = endpoint.advance(now, false).expect("nothing bad was sent");
            if self.next.finished && endpoint.output().is_empty() {
                self.endpoint = None;
            }
        }
        self.take_replies();
        moved
    }

    fn take_replies(&mut self) {
        let frames = take_frames(&mut self.received.lock().unwrap().bytes);
        for frame in frames {
            if !self.connected {
                self.connected = true;
                continue;
            }
            let xid = i32::from_be_bytes(*frame.first_chunk().expect("a header"));
            if xid == XID_NOTIFICATION {
                let reply = decode_reply(&frame).expect("a notification");
                let event = reply.event().expect("an event");
                let path = event.path.expect("a path").into_owned();
                self.events.push((event.kind, path, self.replies.len()));
                continue;
            }
            let (expected, tag) = self.sent.pop_front().expect("something was asked");
            assert_eq!(xid, expected, "replies come in the order of the requests");
            self.replies.push((tag, frame));
        }
    }
}
