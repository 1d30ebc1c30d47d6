//! One ZooKeeper tree as this proxy serves it: what its connections and its link share.
//!
//! Lock order: `view`, then one connection's pipeline, then entries of the tables; never two
//! connections at once, never a table's guard while locking a connection.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use oxkeeper_link::{Link, LinkError, Request, Token};
use oxkeeper_model::{Answer, Query, SessionId};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxBuildHasher;
use tokio::sync::{Notify, oneshot};

use crate::connection::{Connection, ConnectionId};
use crate::limits::{OUTSTANDING_BYTES_MAX, OUTSTANDING_REQUESTS_MAX};
use crate::options::ProxyOptions;
use crate::stats::Stats;
use crate::view::View;
use crate::watch::WatchTable;

/// Token of the proxy's own queries; connections count from 1.
pub(crate) const ADMIN_TOKEN: Token = Token(0);

pub(crate) struct Tree {
    pub(crate) options: ProxyOptions,
    /// Shared by whoever executes reads, exclusive while the link delivers.
    pub(crate) view: RwLock<View>,
    pub(crate) watches: WatchTable,
    pub(crate) connections: DashMap<ConnectionId, Arc<Connection>, FxBuildHasher>,
    /// The connection that each session is attached to.
    pub(crate) sessions: DashMap<SessionId, Arc<Connection>, FxBuildHasher>,
    pub(crate) load: Load,
    pub(crate) stats: Stats,
    /// Whether the shard serves.
    pub(crate) serving: AtomicBool,
    link: OnceLock<Arc<dyn Link>>,
    /// Who waits for the answers to the proxy's own queries, in the order they were sent.
    admin: Mutex<VecDeque<oneshot::Sender<Answer>>>,
}

impl Tree {
    pub(crate) fn new(options: ProxyOptions, view: View) -> Self {
        Self {
            options,
            view: RwLock::new(view),
            watches: WatchTable::default(),
            connections: DashMap::default(),
            sessions: DashMap::default(),
            load: Load::default(),
            stats: Stats::default(),
            serving: AtomicBool::new(false),
            link: OnceLock::new(),
            admin: Mutex::default(),
        }
    }

    /// Called once, when the link is open.
    pub(crate) fn set_link(&self, link: Arc<dyn Link>) {
        if self.link.set(link).is_ok() {
            self.serving.store(true, Relaxed);
        }
    }

    pub(crate) fn send(&self, requests: &mut Vec<Request>) -> Result<(), LinkError> {
        if requests.is_empty() {
            return Ok(());
        }
        self.link.get().ok_or(LinkError::Closed)?.send(requests)
    }

    /// A query of the proxy's own.
    pub(crate) async fn query(&self, query: Query) -> Result<Answer, LinkError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.admin.lock();
            self.send(&mut vec![Request::Query {
                token: ADMIN_TOKEN,
                query,
            }])?;
            waiting.push_back(sender);
        }
        receiver.await.map_err(|_| LinkError::Closed)
    }

    pub(crate) fn admin_answered(&self, answer: Answer) {
        if let Some(waiting) = self.admin.lock().pop_front() {
            // Whoever asked may have gone.
            let _ = waiting.send(answer);
        }
    }

    /// All connections, as of some moment.
    pub(crate) fn all_connections(&self) -> Vec<Arc<Connection>> {
        self.connections
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect()
    }

    /// The shard is gone: nothing can be answered any more.
    pub(crate) fn link_closed(&self, reason: LinkError) {
        self.serving.store(false, Relaxed);
        self.admin.lock().clear();
        let connections = self.all_connections();
        if !connections.is_empty() {
            tracing::warn!(%reason, count = connections.len(), "the shard stopped serving: closing all connections");
        }
        for connection in connections {
            connection.pipeline.lock().close(self);
            connection.wake.notify_one();
        }
    }
}

/// Requests that are read and not answered yet, over all connections.
#[derive(Default)]
pub(crate) struct Load {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    waiting: AtomicUsize,
    room: Notify,
}

impl Load {
    pub(crate) fn received(&self, bytes: usize) {
        self.requests.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn answered(&self, requests: usize, bytes: usize) {
        self.requests.fetch_sub(requests, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
        if self.waiting.load(Relaxed) > 0 && !self.is_full() {
            self.room.notify_waiters();
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.requests.load(Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.requests.load(Relaxed) >= OUTSTANDING_REQUESTS_MAX
            || self.bytes.load(Relaxed) >= OUTSTANDING_BYTES_MAX
    }

    /// Waits, at most for a moment, until more may be read.
    pub(crate) async fn room(&self) {
        /// How long a missed notification can delay a connection.
        const RECHECK: std::time::Duration = std::time::Duration::from_millis(20);
        self.waiting.fetch_add(1, Relaxed);
        if self.is_full() {
            let _ = tokio::time::timeout(RECHECK, self.room.notified()).await;
        }
        self.waiting.fetch_sub(1, Relaxed);
    }
}
