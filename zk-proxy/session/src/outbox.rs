//! What is on its way to one client, and the rule who may write to its socket.
//!
//! A socket has one writer at a time. That is the connection's *driver* (its task, or a simulator):
//! it takes what is here and sends it. Waking it costs more than a small reply, so there is one
//! exception: while the driver *idles*, which means that it has sent all it took and waits for
//! nothing but requests, whoever brings replies may hand them to the socket at once, with the
//! connection locked. What the socket does not take then is the driver's again.
//!
//! Whether the driver idles is said by the driver when it looks, never concluded later from what has
//! become of the connection meanwhile: a driver that had to wait for room is not waiting for requests
//! when there is room again, and must be woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Waker;

use bytes::{Buf, BytesMut};

use crate::limits::{
    UNSENT_PAUSE_BYTES, UNSENT_TIGHT_BYTES, UNSENT_TOTAL_BYTES_LOW, UNSENT_TOTAL_BYTES_MAX,
};

/// Hands bytes to a socket without waiting: how many it took, none if it is gone.
pub type DirectWrite = Box<dyn Fn(&[u8]) -> usize + Send + Sync>;

/// Bytes held for clients that do not read, over all connections.
#[derive(Default)]
pub(crate) struct Budget(AtomicUsize);

impl Budget {
    pub(crate) fn used_bytes(&self) -> usize {
        self.0.load(Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.used_bytes() > UNSENT_TOTAL_BYTES_MAX
    }

    pub(crate) fn is_above_low(&self) -> bool {
        self.used_bytes() > UNSENT_TOTAL_BYTES_LOW
    }

    fn is_tight(&self) -> bool {
        self.used_bytes() > UNSENT_TOTAL_BYTES_MAX / 2
    }

    fn change(&self, from: usize, to: usize) {
        if to > from {
            self.0.fetch_add(to - from, Relaxed);
        } else if from > to {
            self.0.fetch_sub(from - to, Relaxed);
        }
    }
}

pub(crate) struct Outbox {
    /// In the order of the wire.
    pub(crate) bytes: BytesMut,
    /// Bytes that the driver has taken and not sent yet, as of when it last looked.
    taken: usize,
    /// What the driver's buffer takes, however much of it is sent.
    taken_whole: usize,
    /// Bytes of requests that wait until the client reads.
    parked: usize,
    /// What of this connection is in `budget`.
    counted: usize,
    budget: Arc<Budget>,
    /// When the client last took something, or when there was last nothing to take.
    moved_us: u64,
    /// Has the driver look at the connection.
    waker: Waker,
    /// `None` if only the driver can write, and at the end.
    direct: Option<DirectWrite>,
    /// Holds until the driver looks again.
    driver_idles: bool,
    /// The driver was told since it last looked, or will be.
    woken: bool,
    /// What was to be sent is dropped, what the driver holds too.
    abandoned: bool,
}

impl Outbox {
    pub(crate) fn new(waker: Waker, direct: Option<DirectWrite>, budget: Arc<Budget>) -> Self {
        Self {
            bytes: BytesMut::new(),
            taken: 0,
            taken_whole: 0,
            parked: 0,
            counted: 0,
            budget,
            moved_us: 0,
            waker,
            direct,
            driver_idles: false,
            woken: false,
            abandoned: false,
        }
    }

    /// Bytes that nobody has taken.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that the client has not taken.
    pub(crate) fn unsent(&self) -> usize {
        self.bytes.len() + self.taken
    }

    /// Whether so much waits for the client that what can wait is to wait.
    pub(crate) fn is_full(&self) -> bool {
        let unsent = self.unsent();
        unsent >= UNSENT_PAUSE_BYTES || (unsent >= UNSENT_TIGHT_BYTES && self.budget.is_tight())
    }

    /// What is held because the client does not read, and since when it has taken nothing.
    pub(crate) fn held(&self) -> (usize, u64) {
        (self.counted, self.moved_us)
    }

    /// Requests of so many bytes wait until the client reads.
    pub(crate) fn park(&mut self, bytes: usize) {
        self.parked = bytes;
        self.count();
    }

    /// The driver looks, and takes what there is if it has sent what it took before.
    pub(crate) fn look(&mut self, output: &mut BytesMut, now_us: u64) {
        self.woken = false;
        if self.abandoned {
            *output = BytesMut::new();
        }
        if output.len() < self.taken || self.unsent() == 0 {
            self.moved_us = now_us;
        }
        if output.is_empty() {
            *output = std::mem::take(&mut self.bytes);
            self.taken_whole = output.capacity();
        }
        self.taken = output.len();
        self.count();
    }

    pub(crate) fn set_driver_idles(&mut self, idles: bool) {
        self.driver_idles = idles;
    }

    /// Whoever gets `true` must call [`Outbox::send`] when its step is done.
    pub(crate) fn claim(&mut self) -> bool {
        !std::mem::replace(&mut self.woken, true)
    }

    /// Has everything here sent: at once if that is allowed, else by the driver. How much went out here.
    pub(crate) fn send(&mut self, directly: bool) -> usize {
        let direct = self
            .direct
            .as_ref()
            .filter(|_| directly && self.driver_idles);
        let Some(direct) = direct else {
            self.wake();
            return 0;
        };
        let sent = match self.bytes.is_empty() {
            true => 0,
            false => direct(&self.bytes),
        };
        if sent < self.bytes.len() {
            self.bytes.advance(sent);
            self.wake();
        } else {
            self.bytes = BytesMut::new();
            self.woken = false;
        }
        sent
    }

    fn wake(&mut self) {
        self.driver_idles = false;
        self.woken = true;
        self.count();
        self.waker.wake_by_ref();
    }

    fn count(&mut self) {
        let held = self.bytes.capacity() + self.taken_whole + self.parked;
        self.budget.change(self.counted, held);
        self.counted = held;
    }

    /// Drops everything; the driver will find nothing more to do.
    pub(crate) fn abandon(&mut self) {
        self.bytes = BytesMut::new();
        self.taken = 0;
        self.taken_whole = 0;
        self.parked = 0;
        self.abandoned = true;
        self.wake();
    }

    /// The socket is being closed.
    pub(crate) fn let_go(&mut self) {
        self.direct = None;
        self.driver_idles = false;
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.budget.change(self.counted, 0);
    }
}
