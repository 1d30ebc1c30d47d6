//! What is on its way to one client, and the rule who may write to its socket.
//!
//! A socket has one writer at a time. That is the connection's *driver* (its task, or a simulator):
//! it takes what is here and sends it. Waking it costs more than a small reply, so there is one
//! exception: while the driver *idles*, which means that it has sent all it took and waits for
//! nothing but requests, whoever brings replies may hand them to the socket at once, with the
//! connection locked. What the socket does not take then is the driver's again.

use std::task::Waker;

use bytes::{Buf, BytesMut};

/// Hands bytes to a socket without waiting: how many it took, none if it is gone.
pub type DirectWrite = Box<dyn Fn(&[u8]) -> usize + Send + Sync>;

pub(crate) struct Outbox {
    /// In the order of the wire.
    pub(crate) bytes: BytesMut,
    /// Has the driver look at the connection.
    waker: Waker,
    /// `None` if only the driver can write, and at the end.
    direct: Option<DirectWrite>,
    /// Set by the driver when it looks, so that it holds until the driver is woken.
    driver_idles: bool,
    /// The driver was told since it last looked, or will be.
    woken: bool,
}

impl Outbox {
    pub(crate) fn new(waker: Waker, direct: Option<DirectWrite>) -> Self {
        Self {
            bytes: BytesMut::new(),
            waker,
            direct,
            driver_idles: false,
            woken: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The driver looks, and takes what there is if it has sent what it took before.
    pub(crate) fn look(&mut self, output: &mut BytesMut) {
        self.woken = false;
        if output.is_empty() {
            *output = std::mem::take(&mut self.bytes);
        }
    }

    pub(crate) fn set_driver_idles(&mut self, idles: bool) {
        self.driver_idles = idles;
    }

    /// Whoever gets `true` must call [`Outbox::send`] or [`Outbox::wake`] when its step is done.
    pub(crate) fn claim(&mut self) -> bool {
        !std::mem::replace(&mut self.woken, true)
    }

    pub(crate) fn wake(&mut self) {
        self.woken = true;
        self.waker.wake_by_ref();
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
            self.driver_idles = false;
            self.wake();
        } else {
            self.bytes = BytesMut::new();
            self.woken = false;
        }
        sent
    }

    /// The socket is being closed.
    pub(crate) fn let_go(&mut self) {
        self.direct = None;
        self.driver_idles = false;
    }
}
