//! One front end: its connections on one side, its feed on the other, and what both need.
//!
//! Lock order: the view, then one connection's pipeline, then entries of the tables; never two
//! connections at once, never a table's guard while locking a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use dashmap::DashMap;
use oxkeeper_link::{Link, LinkError, Request};
use oxkeeper_model::{Now, Revision, SessionId};
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use crate::auth;
use crate::connection::{Connection, ConnectionId};
use crate::endpoint::Endpoint;
use crate::feed::Feed;
use crate::limits::UNSENT_TIGHT_BYTES;
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
    /// Whether the shard serves.
    serving: AtomicBool,
    last_connection: AtomicU64,
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
            serving: AtomicBool::new(false),
            last_connection: AtomicU64::new(0),
        }
    }

    /// Opens the link to the shard, once. A [`crate::Consumer`] is to get what it delivers.
    pub fn open_link(
        &self,
        open: impl FnOnce() -> Result<Arc<dyn Link>, LinkError>,
    ) -> Result<(), LinkError> {
        self.feed.open(open)?;
        self.serving.store(true, Relaxed);
        Ok(())
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
        }
    }

    /// Requests of the front end itself: heartbeats, and queries with [`crate::OWN_TOKEN`].
    pub fn send(&self, requests: &mut Vec<Request>) -> Result<(), LinkError> {
        self.feed.send(requests)
    }

    /// Tells the shard which sessions were heard of since the last call. To be called several
    /// times within the shortest session timeout.
    pub fn send_heartbeat(&self) -> Result<(), LinkError> {
        let touched = self
            .connections
            .iter()
            .filter(|entry| entry.value().touched.swap(false, Relaxed))
            .map(|entry| Arc::clone(entry.value()));
        let touched: Vec<_> = touched.collect();
        let mut beats: Vec<_> = touched
            .iter()
            .filter_map(|connection| connection.pipeline.lock().beat())
            .collect();
        if beats.is_empty() {
            return Ok(());
        }
        beats.sort_unstable_by_key(|beat| beat.session);
        self.send(&mut vec![Request::Heartbeat { beats }])
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

    /// The shard is gone: all connections are closed.
    pub(crate) fn link_closed(&self, reason: LinkError) {
        self.serving.store(false, Relaxed);
        let connections = self.connections();
        if !connections.is_empty() {
            tracing::warn!(%reason, count = connections.len(), "the shard stopped serving: closing all connections");
        }
        for connection in connections {
            connection.pipeline.lock().close(&self.load);
            connection.waker.wake_by_ref();
        }
    }

    // ---- for the administrator

    pub fn is_serving(&self) -> bool {
        self.serving.load(Relaxed)
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
