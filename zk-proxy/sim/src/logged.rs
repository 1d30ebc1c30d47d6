//! What a shard's log holds, as far as it decides what clients are told.

use oxkeeper_model::{Attachment, ClientCommand, Command, Entry, SessionId, TreeOp, WriteSeq};

use crate::op::Op;

/// One entry: the times that its leader gave it, and its commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEntry {
    pub offset: u64,
    pub wall_ms: i64,
    pub elapsed_ms: u64,
    pub commands: Vec<Logged>,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    Open {
        nonce: u64,
    },
    Attach {
        session: i64,
        password: Vec<u8>,
        replaces: u64,
        nonce: u64,
    },
    Write {
        place: Place,
        ops: Vec<TreeOp>,
    },
    Close(Place),
    Expire {
        session: i64,
        attachment: u64,
    },
    Reap {
        path: String,
    },
    /// Nothing that a client could notice.
    Other,
}

/// A command's place among those of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub session: i64,
    pub attachment: u64,
    pub seq: u64,
    pub follows: u64,
}

impl LoggedEntry {
    pub fn new(offset: u64, entry: &Entry) -> Self {
        Self {
            offset,
            wall_ms: entry.wall_ms,
            elapsed_ms: entry.elapsed_ms,
            commands: entry.commands.iter().map(Logged::new).collect(),
        }
    }
}

impl Logged {
    fn new(command: &Command) -> Self {
        match command {
            Command::Client(command) => Self::of_client(command),
            Command::ExpireSession {
                session,
                attachment,
            } => Self::Expire {
                session: session.0,
                attachment: attachment.0,
            },
            Command::Reap { path } => Self::Reap {
                path: path.to_string(),
            },
            _ => Self::Other,
        }
    }

    fn of_client(command: &ClientCommand) -> Self {
        match command {
            ClientCommand::OpenSession { nonce, .. } => Self::Open { nonce: nonce.0 },
            ClientCommand::Attach {
                session,
                password,
                replaces,
                nonce,
                ..
            } => Self::Attach {
                session: session.0,
                password: password.to_vec(),
                replaces: replaces.0,
                nonce: nonce.0,
            },
            ClientCommand::Write(write) => Self::Write {
                place: Place::new(write.session, write.attachment, write.seq, write.follows),
                ops: write.ops.to_vec(),
            },
            ClientCommand::CloseSession {
                session,
                attachment,
                seq,
                follows,
            } => Self::Close(Place::new(*session, *attachment, *seq, *follows)),
        }
    }
}

impl Place {
    fn new(session: SessionId, attachment: Attachment, seq: WriteSeq, follows: WriteSeq) -> Self {
        Self {
            session: session.0,
            attachment: attachment.0,
            seq: seq.0,
            follows: follows.0,
        }
    }
}

/// Whether a logged transaction can be what became of a request.
pub fn corresponds(op: &Op, ops: &[TreeOp]) -> bool {
    match (op, ops) {
        (_, [TreeOp::Refused { .. }]) => op.is_write(),
        (Op::Multi(asked), _) => {
            asked.len() == ops.len()
                && asked
                    .iter()
                    .zip(ops)
                    .all(|(asked, logged)| is_operation(asked, logged))
        }
        (_, [logged]) => is_operation(op, logged),
        _ => false,
    }
}

fn is_operation(asked: &Op, logged: &TreeOp) -> bool {
    let version = |asked: i32, logged: &Option<i32>| asked == logged.unwrap_or(-1);
    match (asked, logged) {
        (_, TreeOp::Refused { .. }) => true,
        (Op::Create(asked), TreeOp::Create(logged)) => {
            asked.path == logged.path.as_str() && asked.data.as_deref() == logged.value.as_deref()
        }
        (
            Op::SetData {
                path,
                data,
                version: asked,
            },
            TreeOp::SetValue {
                path: logged,
                value,
                expected_version,
            },
        ) => {
            path == logged.as_str()
                && data.as_deref() == value.as_deref()
                && version(*asked, expected_version)
        }
        (
            Op::Delete {
                path,
                version: asked,
            },
            TreeOp::Delete {
                path: logged,
                expected_version,
            },
        )
        | (
            Op::Check {
                path,
                version: asked,
            },
            TreeOp::Check {
                path: logged,
                expected_version,
            },
        ) => path == logged.as_str() && version(*asked, expected_version),
        (
            Op::SetAcl {
                path,
                acl,
                version: asked,
            },
            TreeOp::SetAcl {
                path: logged,
                acl: logged_acl,
                expected_version,
            },
        ) => {
            path == logged.as_str()
                && version(*asked, expected_version)
                && acl.len().min(1) == logged_acl.len().min(1)
        }
        _ => false,
    }
}
