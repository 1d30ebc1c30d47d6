//! What each client sent and was told, and when: all that the checkers know of the clients.

use crate::op::Op;
use crate::reply::{Notification, Reply};

/// Index of a connection in the history.
pub type ConnectionId = usize;

/// Everything that passed between clients and servers.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub connections: Vec<Connection>,
    /// When the disk had no room, from and to.
    pub full_us: Vec<(u64, u64)>,
    /// When links were reopened with changes missing, by proxy.
    pub gaps: Vec<Gap>,
}

/// A link that began anew at `zxid`, when the proxy had stood at `from_zxid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub at_us: u64,
    pub proxy: usize,
    pub from_zxid: i64,
    pub zxid: i64,
}

/// One connection of a client, from its first byte to its end.
#[derive(Clone, Debug)]
pub struct Connection {
    pub client: usize,
    pub proxy: usize,
    pub opened_us: u64,
    pub asked: Asked,
    pub granted: Option<Granted>,
    /// The number that the shard gave to the session's being bound to this connection.
    pub attachment: Option<u64>,
    pub sent: Vec<Sent>,
    pub received: Vec<Received>,
    pub closed_us: Option<u64>,
}

/// The handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// 0: a new session.
    pub session: i64,
    pub password: Vec<u8>,
    pub timeout_ms: i32,
    pub last_zxid_seen: i64,
}

/// The server's answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub at_us: u64,
    /// 0: there is no such session any more, or the password is wrong.
    pub session: i64,
    pub password: Vec<u8>,
    pub timeout_ms: i32,
}

#[derive(Clone, Debug)]
pub struct Sent {
    pub at_us: u64,
    pub xid: i32,
    pub op: Op,
}

#[derive(Clone, Debug)]
pub struct Received {
    pub at_us: u64,
    pub what: Incoming,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// To the request at this index of `sent`.
    Reply {
        request: usize,
        reply: Reply,
    },
    Notification(Notification),
    /// A frame that answers nothing that was sent, or is no frame at all.
    Nonsense(String),
}

impl Connection {
    pub fn new(client: usize, proxy: usize, opened_us: u64, asked: Asked) -> Self {
        Self {
            client,
            proxy,
            opened_us,
            asked,
            granted: None,
            attachment: None,
            sent: Vec::new(),
            received: Vec::new(),
            closed_us: None,
        }
    }

    /// The session that it is attached to.
    pub fn session(&self) -> Option<i64> {
        let granted = self.granted.as_ref()?;
        (granted.session != 0).then_some(granted.session)
    }

    /// Replies with the requests that they answer.
    pub fn replies(&self) -> impl Iterator<Item = (&Sent, &Reply, u64)> {
        self.received
            .iter()
            .filter_map(|received| match &received.what {
                Incoming::Reply { request, reply } => {
                    Some((&self.sent[*request], reply, received.at_us))
                }
                _ => None,
            })
    }

    /// The credentials that were sent before the request at `index`.
    pub fn credentials(&self, index: usize) -> impl Iterator<Item = &'static str> {
        self.sent[..index].iter().filter_map(|sent| match sent.op {
            Op::Auth { credentials } => Some(credentials),
            _ => None,
        })
    }
}
