//! A connection as everybody but its driver sees it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::task::Waker;

use oxkeeper_model::SessionId;
use parking_lot::Mutex;

use crate::pipeline::Pipeline;
use crate::stats::ConnectionStats;

/// A connection of this process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What connections, the feed and the administrator may touch of a connection.
pub struct Connection {
    pub id: ConnectionId,
    pub peer: SocketAddr,
    pub(crate) pipeline: Mutex<Pipeline>,
    /// Has the driver look at the connection.
    pub(crate) waker: Waker,
    /// Something that keeps the session alive was received since the last heartbeat.
    pub(crate) touched: AtomicBool,
    /// 0 before there is one.
    pub(crate) session: AtomicI64,
}

/// A connection as an administrator sees it.
#[derive(Clone, Debug)]
pub struct ConnectionReport {
    /// The session and its timeout in milliseconds.
    pub session: Option<(SessionId, u32)>,
    /// Requests whose replies are not written yet.
    pub pending: usize,
    pub stats: ConnectionStats,
}

impl Connection {
    pub fn report(&self) -> ConnectionReport {
        let pipeline = self.pipeline.lock();
        ConnectionReport {
            session: pipeline.session(),
            pending: pipeline.pending(),
            stats: pipeline.stats.clone(),
        }
    }

    /// The session, 0 if there is none.
    pub fn session(&self) -> SessionId {
        SessionId(self.session.load(Relaxed))
    }

    pub fn watch_count(&self) -> usize {
        self.pipeline.lock().watch_count()
    }

    /// Starts to count anew.
    pub fn reset_stats(&self, now_us: u64) {
        self.pipeline.lock().stats.reset(now_us);
    }
}
