//! One connection: socket, handshake, requests in flight in order.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use oxkeeper_wire::client::{self, XID_PING};
use oxkeeper_wire::{ConnectRequest, ConnectResponse, PASSWORD_BYTES, Request};

use crate::script::Expect;

/// A request whose reply is outstanding.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) xid: i32,
    /// When it should have been sent: its latency counts from here.
    pub(crate) due_ns: u64,
    pub(crate) expect: Expect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No socket; to be opened at or after the time given.
    Down {
        retry_ns: u64,
    },
    /// The socket is being opened, or the handshake is unanswered.
    Opening {
        since_ns: u64,
    },
    Up,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("closed by the server")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("malformed reply: {0}")]
    Malformed(String),
}

#[derive(Default)]
pub(crate) struct Connection {
    stream: Option<TcpStream>,
    phase_is: Option<Phase>,
    out: BytesMut,
    /// The start of a frame whose rest has not come yet.
    pub(crate) partial: Vec<u8>,
    pub(crate) pending: VecDeque<Pending>,
    next_xid: i32,
    session_id: i64,
    password: [u8; PASSWORD_BYTES],
    timeout_ms: i32,
    /// The highest zxid of a reply. Invariant: no later reply of the session has a lower one.
    pub(crate) last_zxid: i64,
    last_sent_ns: u64,
    pub(crate) attempts: usize,
    /// Operations sent, for the pace.
    pub(crate) sent: u64,
}

impl Connection {
    pub(crate) fn phase(&self) -> Phase {
        self.phase_is.unwrap_or(Phase::Down { retry_ns: 0 })
    }

    pub(crate) fn session_id(&self) -> i64 {
        self.session_id
    }

    /// Starts connecting and puts the handshake into the output. A session that exists is taken up again.
    pub(crate) fn open(
        &mut self,
        registry: &Registry,
        token: Token,
        server: SocketAddr,
        timeout_ms: i32,
        now_ns: u64,
    ) -> Result<(), Lost> {
        let mut stream = TcpStream::connect(server)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.attempts += 1;
        self.stream = Some(stream);
        self.phase_is = Some(Phase::Opening { since_ns: now_ns });
        self.out.clear();
        self.partial.clear();
        let handshake = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.last_zxid,
            timeout_ms,
            session_id: self.session_id,
            password: Some(self.password.into()),
            read_only: Some(false),
        };
        handshake.encode(&mut self.out);
        Ok(())
    }

    /// Drops the socket. What was in flight stays in `pending` for the caller to take.
    pub(crate) fn close(&mut self, retry_ns: u64) {
        self.stream = None;
        self.phase_is = Some(Phase::Down { retry_ns });
    }

    /// The next open asks for a new session.
    pub(crate) fn forget_session(&mut self) {
        self.session_id = 0;
        self.password = [0; PASSWORD_BYTES];
    }

    /// Takes the handshake's answer. False: the session had expired.
    pub(crate) fn accept(&mut self, frame: &[u8], now_ns: u64) -> Result<bool, Lost> {
        let response = ConnectResponse::decode(frame)
            .map_err(|fault| Lost::Malformed(format!("handshake: {fault}")))?;
        if response.timeout_ms <= 0 {
            return Ok(false);
        }
        if response.session_id == 0
            || (self.session_id != 0 && self.session_id != response.session_id)
        {
            return Err(Lost::Malformed(format!(
                "session id {:#x} in the handshake",
                response.session_id
            )));
        }
        self.session_id = response.session_id;
        self.password = response.password;
        self.timeout_ms = response.timeout_ms;
        self.phase_is = Some(Phase::Up);
        self.last_sent_ns = now_ns;
        Ok(true)
    }

    /// Appends a request; [`Self::flush`] sends it.
    pub(crate) fn send(&mut self, request: &Request<'_>, expect: Expect, due_ns: u64, now_ns: u64) {
        self.next_xid = if self.next_xid == i32::MAX {
            1
        } else {
            self.next_xid + 1
        };
        client::encode_request(&mut self.out, self.next_xid, request);
        self.pending.push_back(Pending {
            xid: self.next_xid,
            due_ns,
            expect,
        });
        self.last_sent_ns = now_ns;
    }

    /// Keeps an idle session alive: a ping when nothing was sent for a third of the timeout.
    pub(crate) fn ping_if_idle(&mut self, now_ns: u64) {
        let third_ns = u64::from(self.timeout_ms.unsigned_abs()) * 1_000_000 / 3;
        if self.phase() == Phase::Up && now_ns.saturating_sub(self.last_sent_ns) > third_ns {
            client::encode_request(&mut self.out, XID_PING, &Request::Ping);
            self.last_sent_ns = now_ns;
        }
    }

    /// Writes what can be written now.
    pub(crate) fn flush(&mut self) -> Result<(), Lost> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(0) => return Err(Lost::Closed),
                Ok(written) => self.out.advance(written),
                Err(fault) if not_now(&fault) => return Ok(()),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(())
    }

    /// Once the socket is connected.
    pub(crate) fn set_nodelay(&mut self) {
        if let Some(stream) = &self.stream {
            let _ = stream.set_nodelay(true);
        }
    }

    /// Reads once; `None` when there is nothing to read now.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Lost> {
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        loop {
            match stream.read(into) {
                Ok(0) => return Err(Lost::Closed),
                Ok(read) => return Ok(Some(read)),
                Err(fault) if not_now(&fault) => return Ok(None),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault.into()),
            }
        }
    }
}

/// A socket that is still connecting answers "not connected" to reads and writes.
fn not_now(fault: &io::Error) -> bool {
    matches!(
        fault.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
    )
}
