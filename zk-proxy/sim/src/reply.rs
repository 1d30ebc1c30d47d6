//! Replies as a client keeps them: every field, owned, comparable with what the model says.

use oxkeeper_wire::client::{MultiResult, Reply as WireReply, decode_reply};
use oxkeeper_wire::{DecodeError, ErrorCode, Stat};

use crate::op::Op;

/// A reply, decoded by what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    pub body: Body,
}

/// The record behind a reply's header. Lists without order are sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Nothing,
    Path(String),
    PathStat(String, Stat),
    Stat(Stat),
    Data(Option<Vec<u8>>, Stat),
    Names(Vec<String>),
    NamesStat(Vec<String>, Stat),
    /// (permissions, scheme, id)
    Acl(Vec<(i32, String, String)>, Stat),
    Number(i32),
    Results(Vec<Item>),
}

/// One result of a multi or multiRead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Created(String, Option<Stat>),
    Set(Stat),
    /// A delete or check.
    Done,
    Data(Option<Vec<u8>>, Stat),
    Names(Vec<String>),
    Error(i32),
}

/// What a server says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub zxid: i64,
    pub kind: i32,
    pub path: String,
}

/// The header of a frame tells whether it is a notification or a reply.
pub fn is_notification(frame: &[u8]) -> Result<bool, DecodeError> {
    Ok(decode_reply(frame)?.xid == oxkeeper_wire::client::XID_NOTIFICATION)
}

impl Notification {
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let reply = decode_reply(frame)?;
        let event = reply.event()?;
        Ok(Self {
            zxid: reply.zxid,
            kind: event.kind,
            path: event.path.unwrap_or_default().into_owned(),
        })
    }
}

impl Reply {
    /// Reads the reply to `op`.
    pub fn decode(op: &Op, frame: &[u8]) -> Result<Self, DecodeError> {
        let reply = decode_reply(frame)?;
        let body = if reply.err == ErrorCode::OK {
            body(op, &reply)?
        } else {
            Body::Nothing
        };
        Ok(Self {
            xid: reply.xid,
            zxid: reply.zxid,
            err: reply.err.0,
            body,
        })
    }
}

fn body(op: &Op, reply: &WireReply<'_>) -> Result<Body, DecodeError> {
    Ok(match op {
        Op::Create(create) if create.op == oxkeeper_wire::OpCode::CREATE => {
            Body::Path(owned(reply.path()?))
        }
        Op::Create(_) => {
            let (path, stat) = reply.path_and_stat()?;
            Body::PathStat(owned(path), stat)
        }
        Op::SetData { .. } | Op::SetAcl { .. } | Op::Exists { .. } => Body::Stat(reply.stat()?),
        Op::GetData { .. } => {
            let (data, stat) = reply.data_and_stat()?;
            Body::Data(data.map(<[u8]>::to_vec), stat)
        }
        Op::GetChildren { .. } | Op::GetEphemerals { .. } => Body::Names(sorted(reply.texts()?)),
        Op::GetChildren2 { .. } => {
            let (names, stat) = reply.texts_and_stat()?;
            Body::NamesStat(sorted(names), stat)
        }
        Op::GetAcl { .. } => {
            let (entries, stat) = reply.acl_and_stat()?;
            let entries = entries.unwrap_or_default().into_iter();
            let entries = entries.map(|ace| (ace.permissions, owned(ace.scheme), owned(ace.id)));
            Body::Acl(entries.collect(), stat)
        }
        Op::Sync { .. } => Body::Path(owned(reply.path()?)),
        Op::GetAllChildrenNumber { .. } | Op::AddWatch { .. } => Body::Number(reply.int()?),
        Op::Multi(_) | Op::MultiRead(_) => {
            Body::Results(reply.multi_results()?.into_iter().map(item).collect())
        }
        Op::Delete { .. }
        | Op::Check { .. }
        | Op::RemoveWatches { .. }
        | Op::SetWatches(_)
        | Op::Auth { .. }
        | Op::Ping
        | Op::CloseSession => Body::Nothing,
    })
}

fn item(result: MultiResult<'_>) -> Item {
    match result {
        MultiResult::Created { path, stat, .. } => Item::Created(owned(path), stat),
        MultiResult::DataSet(stat) => Item::Set(stat),
        MultiResult::Done(_) => Item::Done,
        MultiResult::Data { data, stat } => Item::Data(data.map(<[u8]>::to_vec), stat),
        MultiResult::Children(names) => Item::Names(sorted(names)),
        MultiResult::Error(code) => Item::Error(code.0),
    }
}

fn owned(text: oxkeeper_wire::Text<'_>) -> String {
    text.unwrap_or_default().into_owned()
}

fn sorted(names: Option<Vec<oxkeeper_wire::Text<'_>>>) -> Vec<String> {
    let mut names: Vec<String> = names.unwrap_or_default().into_iter().map(owned).collect();
    names.sort_unstable();
    names
}
