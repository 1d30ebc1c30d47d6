//! One front end: its connections on one side, its feed on the other, and what both need.
//!
//! Lock order: the view, then one connection's pipeline, then entries of the tables; never two
//! connections at once, never a table's guard while locking a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use dashmap::DashMap;
use oxkeeper_link::{Link, LinkError, Request, Token};
use oxkeeper_model::{Now, Position, Query, Revision, SessionId};
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use crate::auth;
use crate::connection::{Connection, ConnectionId};
use crate::endpoint::Endpoint;
use crate::feed::{Feed, OWN};
use crate::limits::{STALE_TIMEOUT_SHARE, UNSENT_TIGHT_BYTES};
use crate::load::Load;
use crate::options::SessionOptions;
use crate::outbox::{Budget, DirectWrite, Outbox};
use crate::pipeline::{Context, Pipeline};
use crate::stats::Stats;
use crate::view::View;
use crate::watch::Kinds;

pub struct FrontEnd {
    pub(crate) options: SessionOptions,
    pub(crate) feed: Feed,
    pub(crate) connections: DashMap<ConnectionId, Arc<Connection>, FxBuildHasher>,
    /// The connection that each session is attached to.
    pub(crate) sessions: DashMap<SessionId, Arc<Connection>, FxBuildHasher>,
    pub(crate) load: Load,
    pub(crate) budget: Arc<Budget>,
    pub stats: Stats,
    last_connection: AtomicU64,
    last_query: AtomicU64,
}

impl FrontEnd {
    pub fn new(options: SessionOptions) -> Self {
        Self {
            feed: Feed::new(options.view_cache_bytes),
            options,
            connections: DashMap::default(),
            sessions: DashMap::default(),
            load: Load::default(),
            budget: Arc::default(),
            stats: Stats::default(),
            last_connection: AtomicU64::new(0),
            last_query: AtomicU64::new(0),
        }
    }

    /// Whether a link to the shard is to be opened now, and after which position; once for each. Then
    /// comes [`Self::open_link`].
    pub fn wants_link(&self) -> Option<Option<Position>> {
        self.feed.wants_link()
    }

    /// Opens the link to the shard. A [`crate::Consumer`] is to get what it delivers. When it has ended,
    /// another is to be opened; what is unanswered is sent again there.
    pub fn open_link(
        &self,
        open: impl FnOnce() -> Result<Arc<dyn Link>, LinkError>,
    ) -> Result<(), LinkError> {
        self.feed.open(open)
    }

    /// A client has connected. `waker` makes the driver call [`Endpoint::advance`] again; `direct`
    /// writes to the client's socket without the driver, `None` if only the driver can.
    pub fn connect(
        self: &Arc<Self>,
        peer: SocketAddr,
        waker: Waker,
        direct: Option<DirectWrite>,
        now: Now,
    ) -> Endpoint {
        let id = ConnectionId(self.last_connection.fetch_add(1, Relaxed) + 1);
        let identities = auth::identities_of(peer.ip(), self.options.skip_acl);
        let outbox = Outbox::new(waker.clone(), direct, Arc::clone(&self.budget));
        let pipeline = Pipeline::new(id, identities, outbox, now.monotonic_us);
        let connection = Arc::new(Connection {
            id,
            peer,
            pipeline: Mutex::new(pipeline),
            waker,
            touched: AtomicBool::new(false),
            session: AtomicI64::new(0),
        });
        self.connections.insert(id, Arc::clone(&connection));
        Endpoint::new(Arc::clone(self), connection)
    }

    pub(crate) fn context<'a>(
        &'a self,
        view: &'a View,
        requests: &'a mut Vec<Request>,
        now_us: u64,
    ) -> Context<'a> {
        Context {
            options: &self.options,
            view,
            watches: &self.feed.watches,
            load: &self.load,
            stats: &self.stats,
            requests,
            now_us,
            is_reconciling: self.feed.is_reconciling.load(Relaxed),
        }
    }

    /// A query of the front end's own; its answer comes from [`crate::Consumer::own_answers`].
    pub fn query(&self, query: Query) -> Token {
        let token = Token(self.last_query.fetch_add(1, Relaxed) + 1);
        self.feed
            .send(OWN, &mut vec![Request::Query { token, query }]);
        token
    }

    /// Tells the shard which sessions were heard of since the last call, and which outcomes have
    /// arrived; and sends what the shard had no room for. To be called several times within the
    /// shortest session timeout.
    pub fn send_heartbeat(&self) {
        let beats = self.connections().into_iter().filter_map(|connection| {
            let touched = connection.touched.swap(false, Relaxed);
            connection.pipeline.lock().beat(touched)
        });
        let busy = self.feed.beat(&beats.collect::<Vec<_>>());
        self.load.set_busy(busy);
    }

    /// Closes all connections if the link is broken for so long that they would be shown what is too
    /// old. To be called as often as [`Self::send_heartbeat`]. Whether it did.
    pub fn check_link(&self, now: Now) -> bool {
        let limit_us = u64::from(self.options.min_timeout_ms) * 1000 / STALE_TIMEOUT_SHARE;
        if !self.feed.is_stale(now.monotonic_us, limit_us) {
            return false;
        }
        // What is unanswered fails with its connection.
        self.feed.give_up();
        let connections = self.connections();
        if !connections.is_empty() {
            let count = connections.len();
            tracing::warn!(count, "the shard is not there: closing all connections");
        }
        for connection in connections {
            connection.pipeline.lock().close(&self.load);
            connection.waker.wake_by_ref();
        }
        // The questions about what a gap hid were given up too; nobody is left who must be told.
        let _view = self.feed.view.write();
        self.feed.is_reconciling.store(false, Relaxed);
        true
    }

    /// Too much is held for clients that do not read. Closes connections until that is well within the
    /// budget: first those that hold much, among them those whose client has taken nothing for the
    /// longest, the oldest of equals first. No connection may be locked.
    pub(crate) fn shed(&self) {
        let mut holders: Vec<_> = self
            .connections()
            .into_iter()
            .map(|connection| {
                let (held, moved_us) = connection.pipeline.lock().outbox.held();
                let order = (held < UNSENT_TIGHT_BYTES, moved_us, connection.id);
                (order, held, connection)
            })
            .collect();
        holders.sort_unstable_by_key(|(order, ..)| *order);
        for (_, held, connection) in holders {
            if !self.budget.is_above_low() {
                return;
            }
            if held > 0 {
                tracing::warn!(connection = %connection.id, held, "closing a connection that does not read: too much is held for such");
                connection.pipeline.lock().abandon(&self.load);
                self.stats.connections_shed.fetch_add(1, Relaxed);
            }
        }
    }

    // ---- for the administrator

    /// Whether there is a link to the shard.
    pub fn is_serving(&self) -> bool {
        self.feed.is_open()
    }

    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// All connections as of some moment, the oldest first.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let entries = self.connections.iter();
        let mut connections: Vec<_> = entries.map(|entry| Arc::clone(entry.value())).collect();
        connections.sort_unstable_by_key(|connection| connection.id);
        connections
    }

    /// Requests that are read and not answered yet.
    pub fn outstanding(&self) -> usize {
        self.load.outstanding()
    }

    /// Bytes held for clients that do not read.
    pub fn unsent_bytes(&self) -> usize {
        self.budget.used_bytes()
    }

    /// The last revision that can be read.
    pub fn position(&self) -> Revision {
        self.feed.view.read().position()
    }

    pub fn view_used_bytes(&self) -> usize {
        self.feed.view.read().used_bytes()
    }

    /// Every watch: path, session, kinds; in no order.
    pub fn watches(&self) -> Vec<(String, SessionId, Kinds)> {
        let mut watches = Vec::new();
        self.feed.watches.for_each(|path, connection, kinds| {
            watches.push((path.to_string(), connection, kinds));
        });
        let of_session = |(path, connection, kinds)| {
            let connection = self.connections.get(&connection)?;
            Some((path, connection.session(), kinds))
        };
        watches.into_iter().filter_map(of_session).collect()
    }
}
