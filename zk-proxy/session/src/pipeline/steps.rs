//! What a connection's requests wait for, one by one.

use bytes::Bytes;
use oxkeeper_link::Token;
use oxkeeper_model::{Answer, CloseOutcome, Identities, Query, WriteOutcome};
use oxkeeper_wire::{ErrorCode, RequestHeader};

use crate::view::Pin;
use crate::writes::Shape;

/// zxid of the reply to an unknown operation.
const UNKNOWN_OPERATION_ZXID: i64 = -1;
/// zxid of replies that have nothing to do with the tree.
const NO_ZXID: i64 = 0;

/// When and how large a request came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) header: RequestHeader,
    pub(super) received_us: u64,
    /// Of its frame.
    pub(super) bytes: usize,
}

/// A frame that waits for a blocker before it is even looked at.
pub(super) struct Held {
    pub(super) arrival: Arrival,
    pub(super) body: Bytes,
}

/// A request whose reply is not written yet.
pub(super) struct Pending {
    pub(super) arrival: Arrival,
    pub(super) step: Step,
}

pub(super) enum Step {
    /// With the shard until `outcome` is there.
    Write {
        token: Token,
        shape: Shape,
        outcome: Option<WriteOutcome>,
    },
    /// With the shard until `outcome` is there. Nothing follows.
    Close {
        outcome: Option<CloseOutcome>,
    },
    Read(PendingRead),
    /// Known already, but not its turn.
    Ready(Ready),
}

impl Step {
    /// Whether nothing was sent behind it and it holds nothing, so that nothing is lost if it waits for
    /// its client.
    pub(super) fn may_wait(&self) -> bool {
        matches!(self, Self::Read(read) if read.blocking && !read.asking && read.asked.is_none())
    }
}

pub(super) struct PendingRead {
    pub(super) body: Bytes,
    pub(super) identities: Identities,
    /// Counted in `Pipeline::blockers`: nothing behind it was sent.
    pub(super) blocking: bool,
    /// Counted in `Pipeline::expected_bytes`; 0 if it blocks.
    pub(super) expected_bytes: usize,
    /// Keeps in the view what this read needs; `None` if it blocks.
    pub(super) _pin: Option<Pin>,
    /// A query is with the shard.
    pub(super) asking: bool,
    /// As of the view's position when it arrived, and executed then.
    pub(super) asked: Option<(Query, Answer)>,
}

/// A reply without a body.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    pub(super) code: ErrorCode,
    /// `None`: the view's position when its turn comes.
    pub(super) zxid: Option<i64>,
    pub(super) close: bool,
    /// SASL answers end with a token, null here.
    pub(super) null_token: bool,
}

impl Ready {
    pub(super) const PING: Self = Self {
        code: ErrorCode::OK,
        zxid: None,
        close: false,
        null_token: false,
    };
    pub(super) const AUTHENTICATED: Self = Self {
        zxid: Some(NO_ZXID),
        ..Self::PING
    };
    pub(super) const AUTH_FAILED: Self = Self {
        code: ErrorCode::AUTH_FAILED,
        close: true,
        ..Self::AUTHENTICATED
    };
    pub(super) const SASL_UNAVAILABLE: Self = Self {
        null_token: true,
        ..Self::AUTHENTICATED
    };
    pub(super) const GARBLED: Self = Self {
        code: ErrorCode::MARSHALLING_ERROR,
        ..Self::PING
    };
    pub(super) const TOO_LARGE: Self = Self {
        code: ErrorCode::BAD_ARGUMENTS,
        ..Self::PING
    };
    /// Not executed: the shard's disk is full.
    pub(super) const NO_SPACE: Self = Self {
        code: ErrorCode::THROTTLED_OP,
        ..Self::PING
    };
    pub(super) const UNKNOWN_OPERATION: Self = Self {
        code: ErrorCode::UNIMPLEMENTED,
        zxid: Some(UNKNOWN_OPERATION_ZXID),
        close: true,
        null_token: false,
    };
}
