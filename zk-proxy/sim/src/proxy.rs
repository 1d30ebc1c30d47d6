//! Drives the product's front end as a server's tasks do: bytes in and out, link events in, requests out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Wake, Waker};

use bytes::BytesMut;
use oxkeeper_link::{Event, Link, LinkError, Request};
use oxkeeper_model::{Now, Position};
use oxkeeper_session::{Consumer, Endpoint, FrontEnd, SessionOptions};
use parking_lot::Mutex;

/// Most bytes that a proxy takes from a socket at once.
const CHUNK_BYTES: usize = 8 << 10;

/// What a proxy did with its connections.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) to_clients: Vec<(usize, BytesMut)>,
    /// Closed by the proxy, after what it sent.
    pub(crate) closed: Vec<usize>,
    /// For the shard.
    pub(crate) requests: Vec<Request>,
}

/// One process with a front end.
pub(crate) struct Proxy {
    front_end: Arc<FrontEnd>,
    consumer: Consumer,
    connections: BTreeMap<usize, Socket>,
    woken: Arc<Mutex<BTreeSet<usize>>>,
    /// Of the newest link.
    outbox: Arc<Mutex<Vec<Request>>>,
}

struct Socket {
    endpoint: Endpoint,
    /// Arrived and not yet read.
    arrived: BytesMut,
}

/// The proxy's end of the link: what is sent waits for the world to carry it.
struct Outgoing(Arc<Mutex<Vec<Request>>>);

impl Link for Outgoing {
    fn send(&self, requests: &mut Vec<Request>) -> Result<(), LinkError> {
        self.0.lock().append(requests);
        Ok(())
    }
}

struct Woken {
    connection: usize,
    all: Arc<Mutex<BTreeSet<usize>>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.all.lock().insert(self.connection);
    }
}

impl Proxy {
    pub(crate) fn new(options: SessionOptions) -> Self {
        let front_end = Arc::new(FrontEnd::new(options));
        Self {
            consumer: Consumer::new(Arc::clone(&front_end)),
            front_end,
            connections: BTreeMap::new(),
            woken: Arc::default(),
            outbox: Arc::default(),
        }
    }

    /// Whether clients can connect.
    pub(crate) fn serves(&self) -> bool {
        self.front_end.is_serving()
    }

    /// The last zxid that it can show.
    pub(crate) fn position(&self) -> i64 {
        oxkeeper_session::zxid(self.front_end.position())
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = usize> {
        self.connections.keys().copied()
    }

    // ---- the link

    /// Whether a link is to be opened, and after which position; then it is on its way.
    pub(crate) fn opens_link(&mut self) -> Option<Option<Position>> {
        let after = self.front_end.wants_link()?;
        self.outbox = Arc::default();
        let link: Arc<dyn Link> = Arc::new(Outgoing(Arc::clone(&self.outbox)));
        self.front_end.open_link(|| Ok(link)).ok()?;
        Some(after)
    }

    pub(crate) fn deliver(&mut self, now: Now, events: &mut Vec<Event>) {
        self.consumer.deliver(events, now);
    }

    pub(crate) fn link_closed(&mut self, reason: LinkError) {
        self.consumer.closed(reason);
    }

    /// Tells the shard who was heard of.
    pub(crate) fn beat(&mut self, now: Now) {
        self.front_end.send_heartbeat();
        self.front_end.check_link(now);
    }

    // ---- connections

    pub(crate) fn accept(&mut self, now: Now, connection: usize) {
        let all = Arc::clone(&self.woken);
        let waker = Waker::from(Arc::new(Woken { connection, all }));
        let peer = SocketAddr::from(([10, 0, 0, 1], 1));
        let endpoint = self.front_end.connect(peer, waker, None, now);
        let arrived = BytesMut::new();
        self.connections
            .insert(connection, Socket { endpoint, arrived });
    }

    pub(crate) fn receive(&mut self, connection: usize, bytes: &[u8]) {
        if let Some(socket) = self.connections.get_mut(&connection) {
            socket.arrived.extend_from_slice(bytes);
            self.woken.lock().insert(connection);
        }
    }

    /// The client is gone.
    pub(crate) fn hang_up(&mut self, connection: usize) {
        self.connections.remove(&connection);
    }

    /// Lets every connection go on that was woken, until none is.
    pub(crate) fn advance(&mut self, now: Now, moved: &mut Moved) {
        loop {
            let Some(connection) = self.woken.lock().pop_first() else {
                break;
            };
            let Some(socket) = self.connections.get_mut(&connection) else {
                continue;
            };
            if socket.advance(now, connection, moved) {
                self.connections.remove(&connection);
                moved.closed.push(connection);
            }
        }
        moved.requests.append(&mut self.outbox.lock());
    }
}

impl Socket {
    /// As a server's task does: until there is nothing to send and nothing may be read. Whether the
    /// connection is over.
    fn advance(&mut self, now: Now, connection: usize, moved: &mut Moved) -> bool {
        loop {
            let Ok(next) = self.endpoint.advance(now, false) else {
                return true;
            };
            let output = self.endpoint.output();
            if !output.is_empty() {
                let bytes = output.len();
                moved.to_clients.push((connection, BytesMut::from(output)));
                self.endpoint.sent(bytes);
                continue;
            }
            if next.finished {
                return true;
            }
            if !next.receive || self.arrived.is_empty() {
                return false;
            }
            let bytes = self.arrived.len().min(CHUNK_BYTES);
            let chunk = self.arrived.split_to(bytes);
            self.endpoint.receive(&chunk);
        }
    }
}
