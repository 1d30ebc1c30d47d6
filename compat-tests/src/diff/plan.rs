//! What a differential run does: steps, each on one slot. A slot is a place for one session
//! after another; its connection may come and go.

use std::fmt;

use crate::proto::Request;

/// Characters of a byte array that a printed step shows.
const SHOWN_BYTES_CHARS: usize = 40;

/// Number of sessions that a plan uses side by side.
pub const SLOTS: usize = 3;

/// A whole run, made from a seed.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub steps: Vec<Step>,
}

impl Plan {
    /// Number of requests in all batches.
    pub fn requests(&self) -> usize {
        self.steps.iter().map(Step::requests).sum()
    }
}

/// How the handshake is written and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    pub timeout_ms: i32,
    /// `None`: the 44-byte form.
    pub read_only: Option<bool>,
}

/// Password field of a handshake for a new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewPassword {
    Null,
    Empty,
    Zeros,
    Long,
}

/// What a reattach claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Id and password of the slot's session, living or dead.
    Own,
    /// As `Own`, but a zxid that the server has not reached.
    FutureZxid,
    WrongPassword,
    /// An id that no server gave out.
    Stranger(i64),
}

/// Bytes that are no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// A length and nothing more.
    Length(i32),
    /// A complete frame with these bytes: shorter than a header, or without sense.
    Frame(Vec<u8>),
    /// Bytes outside of any frame, such as a four-letter word in the middle of a session.
    Bytes(Vec<u8>),
    /// A frame that ends before its length, after which we stop sending.
    CutOff { length: i32, sent: usize },
}

/// Lists for setWatches; zxid relative to what the slot has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchLists {
    /// Zxids before the slot's last one (negative: after it).
    pub zxids_ago: i64,
    pub data: Option<Vec<String>>,
    pub exist: Option<Vec<String>>,
    pub child: Option<Vec<String>>,
    pub persistent: Option<(Vec<String>, Vec<String>)>,
}

/// One request of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Numbered as clients do.
    Plain(Request),
    /// With this xid, whatever it is.
    WithXid(i32, Request),
    /// setWatches needs the zxids of the server that it goes to.
    SetWatches(WatchLists),
}

/// One step. Everything that it causes is read before the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A new session.
    Connect {
        slot: usize,
        handshake: Handshake,
        password: NewPassword,
    },
    /// Requests sent in one write.
    Batch { slot: usize, calls: Vec<Call> },
    /// One request after which the server closes the connection.
    Fatal { slot: usize, call: Call },
    /// The connection goes without a word.
    Drop { slot: usize },
    /// The slot's session comes back on a new connection; a move if the old one is open.
    Reattach {
        slot: usize,
        handshake: Handshake,
        claim: Claim,
    },
    /// The session is given the shortest timeout, left alone, and waited for to be gone.
    Expire { slot: usize },
    /// Broken bytes.
    Broken { slot: usize, broken: Broken },
}

impl fmt::Display for Step {
    /// As `Debug`, with long runs of bytes cut short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{self:?}");
        let mut rest = text.as_str();
        while let Some(at) = rest.find("Some([").or_else(|| rest.find("body: [")) {
            let open = at + rest[at..].find('[').unwrap_or(0);
            let close = open + rest[open..].find(']').unwrap_or(0);
            let inside = &rest[open + 1..close];
            let is_bytes = inside.split(", ").all(|n| n.parse::<u8>().is_ok());
            if is_bytes && inside.len() > SHOWN_BYTES_CHARS {
                let cut = &inside[..SHOWN_BYTES_CHARS];
                let count = inside.split(", ").count();
                write!(f, "{}[{cut}.. {count} bytes]", &rest[..open])?;
                rest = &rest[close + 1..];
            } else {
                write!(f, "{}[", &rest[..open])?;
                rest = &rest[open + 1..];
            }
        }
        f.write_str(rest)
    }
}

impl Step {
    pub fn slot(&self) -> usize {
        match self {
            Self::Connect { slot, .. }
            | Self::Batch { slot, .. }
            | Self::Fatal { slot, .. }
            | Self::Drop { slot }
            | Self::Reattach { slot, .. }
            | Self::Expire { slot }
            | Self::Broken { slot, .. } => *slot,
        }
    }

    /// Requests that count toward the length of a run. A handshake is one too.
    pub fn requests(&self) -> usize {
        match self {
            Self::Batch { calls, .. } => calls.len(),
            Self::Drop { .. } => 0,
            _ => 1,
        }
    }

    /// True if the server must close the slot's connection by itself.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Fatal { .. } | Self::Broken { .. } => true,
            Self::Batch { .. } => self.ends_a_session(),
            _ => false,
        }
    }

    /// True if a session ends here, so that the order of its deletions is not defined.
    pub fn ends_a_session(&self) -> bool {
        match self {
            Self::Expire { .. } => true,
            Self::Batch { calls, .. } => calls.iter().any(|call| {
                matches!(
                    call,
                    Call::Plain(Request::CloseSession) | Call::WithXid(_, Request::CloseSession)
                )
            }),
            _ => false,
        }
    }
}
