//! How much is read from clients and not yet answered, over all connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;

use crate::connection::{Connection, ConnectionId};
use crate::limits::{OUTSTANDING_BYTES_MAX, OUTSTANDING_REQUESTS_MAX};

/// Whoever finds it full leaves its connection here and reads nothing; whoever makes room wakes them.
#[derive(Default)]
pub(crate) struct Load {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    /// The shard has no room for what was sent to it.
    busy: AtomicBool,
    /// Length of `waiting`, so that nobody locks it in vain.
    waiting_count: AtomicUsize,
    waiting: Mutex<BTreeMap<ConnectionId, Arc<Connection>>>,
}

impl Load {
    pub(crate) fn received(&self, requests: usize, bytes: usize) {
        self.requests.fetch_add(requests, SeqCst);
        self.bytes.fetch_add(bytes, SeqCst);
    }

    pub(crate) fn answered(&self, requests: usize, bytes: usize) {
        self.requests.fetch_sub(requests, SeqCst);
        self.bytes.fetch_sub(bytes, SeqCst);
        self.wake_waiting_if_room();
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.requests.load(SeqCst)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.requests.load(SeqCst) >= OUTSTANDING_REQUESTS_MAX
            || self.bytes.load(SeqCst) >= OUTSTANDING_BYTES_MAX
            || self.busy.load(SeqCst)
    }

    /// Whether the shard has no room for what was sent to it. Nothing more is read then.
    pub(crate) fn set_busy(&self, busy: bool) {
        if self.busy.load(SeqCst) != busy {
            self.busy.store(busy, SeqCst);
            self.wake_waiting_if_room();
        }
    }

    /// Whether `connection` must wait. Then it is woken when there is room.
    pub(crate) fn must_wait(&self, connection: &Arc<Connection>) -> bool {
        if !self.is_full() {
            return false;
        }
        let mut waiting = self.waiting.lock();
        // Counted before the second look, so that either this look sees the room that somebody
        // makes now, or they see that there is somebody to wake.
        self.waiting_count.store(waiting.len() + 1, SeqCst);
        if !self.is_full() {
            self.waiting_count.store(waiting.len(), SeqCst);
            return false;
        }
        waiting.insert(connection.id, Arc::clone(connection));
        self.waiting_count.store(waiting.len(), SeqCst);
        true
    }

    /// The connection is gone.
    pub(crate) fn forget(&self, id: ConnectionId) {
        if self.waiting_count.load(SeqCst) > 0 {
            let mut waiting = self.waiting.lock();
            waiting.remove(&id);
            self.waiting_count.store(waiting.len(), SeqCst);
        }
    }

    fn wake_waiting_if_room(&self) {
        if self.waiting_count.load(SeqCst) == 0 || self.is_full() {
            return;
        }
        let woken = {
            let mut waiting = self.waiting.lock();
            self.waiting_count.store(0, SeqCst);
            std::mem::take(&mut *waiting)
        };
        for connection in woken.values() {
            connection.waker.wake_by_ref();
        }
    }
}
