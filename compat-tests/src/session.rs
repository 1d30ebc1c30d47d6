//! A ZooKeeper session for tests: calls in sequence, replies checked against the protocol,
//! watch events kept in the order of arrival.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::conn::{Conn, ConnError, ConnectRequest, ConnectResponse, DEADLINE};
use crate::jute::Reader;
use crate::proto::{
    Acl, MultiResult, Reply, ReplyHeader, Request, Stat, WatchEvent, err, mode, op, open_acl,
    read_event, read_header, read_reply, xid,
};

/// Timeout that sessions of tests ask for, where a test does not care.
pub const SESSION_TIMEOUT_MS: i32 = 30_000;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum CallError {
    /// The server answered with an error code.
    #[error("error {0}")]
    Code(i32),
    #[error(transparent)]
    Conn(#[from] ConnError),
    #[error("protocol: {0}")]
    Protocol(String),
}

impl CallError {
    /// The error code, if the server sent one.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(*code),
            _ => None,
        }
    }
}

/// What arrived: a reply or an event, in wire order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    Reply(ReplyHeader, Reply),
    Event(WatchEvent),
}

type Call<T> = Result<T, CallError>;

/// A session on one connection.
#[derive(Debug)]
pub struct Session {
    pub conn: Conn,
    pub id: i64,
    pub passwd: Vec<u8>,
    pub timeout_ms: i32,
    /// Highest zxid of a reply header so far.
    pub last_zxid: i64,
    next_xid: i32,
    /// Requests sent and not answered, oldest first.
    unanswered: VecDeque<(i32, i32)>,
    events: VecDeque<WatchEvent>,
}

impl Session {
    /// Opens a new session.
    pub fn open(addr: SocketAddr) -> Call<Self> {
        Self::open_with_timeout(addr, SESSION_TIMEOUT_MS)
    }

    pub fn open_with_timeout(addr: SocketAddr, timeout_ms: i32) -> Call<Self> {
        let mut conn = Conn::open(addr)?;
        let response = conn.handshake(&ConnectRequest::new_session(timeout_ms))?;
        Self::from_handshake(conn, response)
    }

    /// Takes over a connection on which the handshake is done.
    pub fn from_handshake(conn: Conn, response: ConnectResponse) -> Call<Self> {
        if response.is_expired() {
            return Err(CallError::Protocol("session refused".to_owned()));
        }
        let passwd = response.passwd.unwrap_or_default();
        Ok(Self {
            conn,
            id: response.session_id,
            passwd,
            timeout_ms: response.timeout_ms,
            last_zxid: 0,
            next_xid: 1,
            unanswered: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// The handshake that takes this session to another connection.
    pub fn reattach_request(&self) -> ConnectRequest {
        ConnectRequest {
            last_zxid_seen: self.last_zxid,
            timeout_ms: self.timeout_ms,
            session_id: self.id,
            passwd: Some(self.passwd.clone()),
            read_only: Some(false),
        }
    }

    /// Opens another connection for the same session. Fails if the server says it is gone.
    pub fn reattach(&self, addr: SocketAddr) -> Call<Self> {
        let mut conn = Conn::open(addr)?;
        let response = conn.handshake(&self.reattach_request())?;
        let mut session = Self::from_handshake(conn, response)?;
        if session.id != self.id || session.passwd != self.passwd {
            return Err(CallError::Protocol(format!(
                "reattach of {:#x} gave {:#x}",
                self.id, session.id
            )));
        }
        session.last_zxid = self.last_zxid;
        Ok(session)
    }

    /// Sends requests without waiting for their answers.
    pub fn send(&mut self, requests: &[Request]) -> Call<()> {
        let mut frames = Vec::with_capacity(requests.len());
        for request in requests {
            let xid = request.special_xid().unwrap_or_else(|| self.count_xid());
            self.unanswered.push_back((xid, request.op()));
            frames.push(request.encode(xid));
        }
        Ok(self.conn.send_frames(&frames)?)
    }

    fn count_xid(&mut self) -> i32 {
        let xid = self.next_xid;
        self.next_xid += 1;
        xid
    }

    /// The next frame, decoded. Replies must come in the order of the requests.
    pub fn receive(&mut self, within: Duration) -> Call<Arrival> {
        let frame = self.conn.read_frame(within)?;
        let mut r = Reader::new(&frame);
        let header = read_header(&mut r).map_err(ConnError::from)?;
        if header.xid == xid::NOTIFICATION {
            let event = read_event(header, &mut r).map_err(ConnError::from)?;
            return Ok(Arrival::Event(event));
        }
        let (xid, op) = self
            .unanswered
            .pop_front()
            .ok_or_else(|| CallError::Protocol(format!("reply to nothing: {header:?}")))?;
        if xid != header.xid {
            return Err(CallError::Protocol(format!(
                "reply to xid {} where {xid} was due",
                header.xid
            )));
        }
        let reply = read_reply(op, header.err, &mut r).map_err(ConnError::from)?;
        self.last_zxid = self.last_zxid.max(header.zxid);
        Ok(Arrival::Reply(header, reply))
    }

    /// The next reply; events on the way are kept for [`Self::next_event`].
    pub fn receive_reply(&mut self) -> Call<(ReplyHeader, Reply)> {
        loop {
            match self.receive(DEADLINE)? {
                Arrival::Reply(header, reply) => return Ok((header, reply)),
                Arrival::Event(event) => self.events.push_back(event),
            }
        }
    }

    /// Sends one request and waits for its answer, error or not.
    pub fn exchange(&mut self, request: Request) -> Call<(ReplyHeader, Reply)> {
        self.send(&[request])?;
        self.receive_reply()
    }

    /// Sends one request; an error code is an `Err`.
    pub fn call(&mut self, request: Request) -> Call<Reply> {
        match self.exchange(request)? {
            (_, Reply::Error(code)) => Err(CallError::Code(code)),
            (_, reply) => Ok(reply),
        }
    }

    /// The next watch event.
    pub fn next_event(&mut self) -> Call<WatchEvent> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        match self.receive(DEADLINE)? {
            Arrival::Event(event) => Ok(event),
            Arrival::Reply(header, _) => {
                Err(CallError::Protocol(format!("reply {header:?} not event")))
            }
        }
    }

    /// Next event as (type, path).
    pub fn next_event_pair(&mut self) -> Call<(i32, String)> {
        self.next_event().map(|e| (e.kind, e.path))
    }

    /// All events that the server has sent for what it has done until now: a sync is sent
    /// and everything before its reply is collected.
    pub fn drain_events(&mut self) -> Call<Vec<WatchEvent>> {
        self.sync("/")?;
        Ok(self.events.drain(..).collect())
    }

    pub fn create(&mut self, path: &str, data: &[u8], flags: i32) -> Call<String> {
        self.create_with_acl(path, data, open_acl(), flags)
    }

    pub fn create_with_acl(
        &mut self,
        path: &str,
        data: &[u8],
        acl: Option<Vec<Acl>>,
        flags: i32,
    ) -> Call<String> {
        let request = Request::Create {
            op: op::CREATE,
            path: some(path),
            data: Some(data.to_vec()),
            acl,
            flags,
        };
        match self.call(request)? {
            Reply::Path(Some(path)) => Ok(path),
            other => Err(unexpected(&other)),
        }
    }

    /// Creates a persistent node.
    pub fn make(&mut self, path: &str) -> Call<String> {
        self.create(path, b"", mode::PERSISTENT)
    }

    pub fn create2(
        &mut self,
        op: i32,
        path: &str,
        data: &[u8],
        flags: i32,
    ) -> Call<(String, Stat)> {
        let request = create_request(op, path, data, flags);
        match self.call(request)? {
            Reply::PathStat(path, stat) => Ok((path, stat)),
            other => Err(unexpected(&other)),
        }
    }

    pub fn get(&mut self, path: &str, watch: bool) -> Call<(Option<Vec<u8>>, Stat)> {
        let path = some(path);
        match self.call(Request::GetData { path, watch })? {
            Reply::Data(data, stat) => Ok((data, stat)),
            other => Err(unexpected(&other)),
        }
    }

    /// Stat of a node, `None` if there is no such node.
    pub fn exists(&mut self, path: &str, watch: bool) -> Call<Option<Stat>> {
        let path = some(path);
        match self.call(Request::Exists { path, watch }) {
            Ok(Reply::Stat(stat)) => Ok(Some(stat)),
            Err(CallError::Code(err::NO_NODE)) => Ok(None),
            Ok(other) => Err(unexpected(&other)),
            Err(e) => Err(e),
        }
    }

    /// Stat of a node that must be there.
    pub fn stat(&mut self, path: &str) -> Call<Stat> {
        self.exists(path, false)?
            .ok_or(CallError::Code(err::NO_NODE))
    }

    pub fn set(&mut self, path: &str, data: &[u8], version: i32) -> Call<Stat> {
        match self.call(set_request(path, data, version))? {
            Reply::Stat(stat) => Ok(stat),
            other => Err(unexpected(&other)),
        }
    }

    pub fn delete(&mut self, path: &str, version: i32) -> Call<()> {
        self.call(delete_request(path, version)).map(|_| ())
    }

    /// Children in sorted order, with the Stat of the parent.
    pub fn children(&mut self, path: &str, watch: bool) -> Call<(Vec<String>, Stat)> {
        let path = some(path);
        match self.call(Request::GetChildren2 { path, watch })? {
            Reply::ChildrenStat(mut names, stat) => {
                names.sort();
                Ok((names, stat))
            }
            other => Err(unexpected(&other)),
        }
    }

    pub fn get_acl(&mut self, path: &str) -> Call<(Vec<Acl>, Stat)> {
        match self.call(Request::GetAcl { path: some(path) })? {
            Reply::Acl(acl, stat) => Ok((acl, stat)),
            other => Err(unexpected(&other)),
        }
    }

    pub fn set_acl(&mut self, path: &str, acl: Vec<Acl>, version: i32) -> Call<Stat> {
        let request = Request::SetAcl {
            path: some(path),
            acl: Some(acl),
            version,
        };
        match self.call(request)? {
            Reply::Stat(stat) => Ok(stat),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs a multi; its results, failed or not.
    pub fn multi(&mut self, ops: Vec<Request>) -> Call<Vec<MultiResult>> {
        match self.call(Request::Multi(ops))? {
            Reply::Multi(results) => Ok(results),
            other => Err(unexpected(&other)),
        }
    }

    pub fn sync(&mut self, path: &str) -> Call<()> {
        self.call(Request::Sync { path: some(path) }).map(|_| ())
    }

    pub fn ping(&mut self) -> Call<()> {
        self.call(Request::Ping).map(|_| ())
    }

    pub fn add_watch(&mut self, path: &str, mode: i32) -> Call<Reply> {
        self.call(Request::AddWatch {
            path: some(path),
            mode,
        })
    }

    pub fn auth(&mut self, scheme: &str, data: &[u8]) -> Call<()> {
        self.call(Request::Auth {
            scheme: some(scheme),
            data: Some(data.to_vec()),
        })
        .map(|_| ())
    }

    /// Ends the session and waits for the server to close the connection.
    pub fn close(mut self) -> Call<()> {
        self.call(Request::CloseSession)?;
        self.conn
            .expect_close(DEADLINE)
            .map_err(CallError::Protocol)
    }
}

fn some(s: &str) -> Option<String> {
    Some(s.to_owned())
}

fn unexpected(reply: &Reply) -> CallError {
    CallError::Protocol(format!("unexpected body {reply:?}"))
}

/// A create (op create, create2 or createContainer) with an open ACL.
pub fn create_request(op: i32, path: &str, data: &[u8], flags: i32) -> Request {
    Request::Create {
        op,
        path: some(path),
        data: Some(data.to_vec()),
        acl: open_acl(),
        flags,
    }
}

pub fn set_request(path: &str, data: &[u8], version: i32) -> Request {
    Request::SetData {
        path: some(path),
        data: Some(data.to_vec()),
        version,
    }
}

pub fn delete_request(path: &str, version: i32) -> Request {
    Request::Delete {
        path: some(path),
        version,
    }
}

pub fn check_request(path: &str, version: i32) -> Request {
    Request::Check {
        path: some(path),
        version,
    }
}

/// Asks again and again until the answer is yes; fails after [`DEADLINE`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
