//! The ZooKeeper records: requests as the tests want to write them, replies as they want to
//! read them. A [`Request`] may be invalid on purpose (null paths, wild flags, raw bodies).

use crate::jute::{JuteError, Reader, Writer};

pub mod op {
    //! Request types on the wire.
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE: i32 = -11;
}

pub mod err {
    //! Error codes in reply headers and in multi results.
    pub const OK: i32 = 0;
    pub const RUNTIME_INCONSISTENCY: i32 = -2;
    pub const MARSHALLING: i32 = -5;
    pub const UNIMPLEMENTED: i32 = -6;
    pub const BAD_ARGUMENTS: i32 = -8;
    pub const NO_NODE: i32 = -101;
    pub const NO_AUTH: i32 = -102;
    pub const BAD_VERSION: i32 = -103;
    pub const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
    pub const NODE_EXISTS: i32 = -110;
    pub const NOT_EMPTY: i32 = -111;
    pub const INVALID_ACL: i32 = -114;
    pub const AUTH_FAILED: i32 = -115;
    pub const NO_WATCHER: i32 = -121;
    pub const RECONFIG_DISABLED: i32 = -123;
}

pub mod mode {
    //! Flags of a create.
    pub const PERSISTENT: i32 = 0;
    pub const EPHEMERAL: i32 = 1;
    pub const PERSISTENT_SEQUENTIAL: i32 = 2;
    pub const EPHEMERAL_SEQUENTIAL: i32 = 3;
    pub const CONTAINER: i32 = 4;
    pub const PERSISTENT_TTL: i32 = 5;
    pub const PERSISTENT_SEQUENTIAL_TTL: i32 = 6;
}

pub mod event {
    //! Types of a watch event.
    pub const CREATED: i32 = 1;
    pub const DELETED: i32 = 2;
    pub const DATA_CHANGED: i32 = 3;
    pub const CHILDREN_CHANGED: i32 = 4;
}

pub mod xid {
    //! Transaction ids with a meaning of their own.
    pub const NOTIFICATION: i32 = -1;
    pub const PING: i32 = -2;
    pub const AUTH: i32 = -4;
    pub const SET_WATCHES: i32 = -8;
}

pub mod perm {
    //! Permission bits of an ACL entry.
    pub const READ: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const CREATE: i32 = 4;
    pub const DELETE: i32 = 8;
    pub const ADMIN: i32 = 16;
    pub const ALL: i32 = 31;
}

/// One ACL entry; scheme and id may be null on the wire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    pub perms: i32,
    pub scheme: Option<String>,
    pub id: Option<String>,
}

impl Acl {
    pub fn new(perms: i32, scheme: &str, id: &str) -> Self {
        Self {
            perms,
            scheme: Some(scheme.to_owned()),
            id: Some(id.to_owned()),
        }
    }
}

/// `world:anyone` with every permission.
pub fn open_acl() -> Option<Vec<Acl>> {
    Some(vec![Acl::new(perm::ALL, "world", "anyone")])
}

/// Stat of a node, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

/// A request, valid or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `op` is one of create, create2, createContainer.
    Create {
        op: i32,
        path: Option<String>,
        data: Option<Vec<u8>>,
        acl: Option<Vec<Acl>>,
        flags: i32,
    },
    CreateTtl {
        path: Option<String>,
        data: Option<Vec<u8>>,
        acl: Option<Vec<Acl>>,
        flags: i32,
        ttl_ms: i64,
    },
    Delete {
        path: Option<String>,
        version: i32,
    },
    Exists {
        path: Option<String>,
        watch: bool,
    },
    GetData {
        path: Option<String>,
        watch: bool,
    },
    SetData {
        path: Option<String>,
        data: Option<Vec<u8>>,
        version: i32,
    },
    GetAcl {
        path: Option<String>,
    },
    SetAcl {
        path: Option<String>,
        acl: Option<Vec<Acl>>,
        version: i32,
    },
    GetChildren {
        path: Option<String>,
        watch: bool,
    },
    GetChildren2 {
        path: Option<String>,
        watch: bool,
    },
    Sync {
        path: Option<String>,
    },
    Ping,
    Check {
        path: Option<String>,
        version: i32,
    },
    Multi(Vec<Request>),
    MultiRead(Vec<Request>),
    CheckWatches {
        path: Option<String>,
        kind: i32,
    },
    RemoveWatches {
        path: Option<String>,
        kind: i32,
    },
    AddWatch {
        path: Option<String>,
        mode: i32,
    },
    /// With the two persistent lists it is setWatches2 (105), else setWatches (101).
    SetWatches {
        relative_zxid: i64,
        data: Option<Vec<String>>,
        exist: Option<Vec<String>>,
        child: Option<Vec<String>>,
        persistent: Option<(Vec<String>, Vec<String>)>,
    },
    Auth {
        scheme: Option<String>,
        data: Option<Vec<u8>>,
    },
    GetEphemerals {
        prefix: Option<String>,
    },
    GetAllChildrenNumber {
        path: Option<String>,
    },
    WhoAmI,
    Reconfig {
        joining: Option<String>,
        leaving: Option<String>,
        members: Option<String>,
        config_id: i64,
    },
    CloseSession,
    /// Any type with any body: truncated records, unknown types.
    Raw {
        op: i32,
        body: Vec<u8>,
    },
}

fn write_acl(w: Writer, acl: &Acl) -> Writer {
    w.int(acl.perms)
        .string(acl.scheme.as_deref())
        .string(acl.id.as_deref())
}

fn write_strings(w: Writer, items: Option<&[String]>) -> Writer {
    w.vector(items, |w, s| w.string(Some(s)))
}

impl Request {
    /// The request type on the wire.
    pub fn op(&self) -> i32 {
        match self {
            Self::Create { op, .. } | Self::Raw { op, .. } => *op,
            Self::CreateTtl { .. } => op::CREATE_TTL,
            Self::Delete { .. } => op::DELETE,
            Self::Exists { .. } => op::EXISTS,
            Self::GetData { .. } => op::GET_DATA,
            Self::SetData { .. } => op::SET_DATA,
            Self::GetAcl { .. } => op::GET_ACL,
            Self::SetAcl { .. } => op::SET_ACL,
            Self::GetChildren { .. } => op::GET_CHILDREN,
            Self::GetChildren2 { .. } => op::GET_CHILDREN2,
            Self::Sync { .. } => op::SYNC,
            Self::Ping => op::PING,
            Self::Check { .. } => op::CHECK,
            Self::Multi(_) => op::MULTI,
            Self::MultiRead(_) => op::MULTI_READ,
            Self::CheckWatches { .. } => op::CHECK_WATCHES,
            Self::RemoveWatches { .. } => op::REMOVE_WATCHES,
            Self::AddWatch { .. } => op::ADD_WATCH,
            Self::SetWatches { persistent, .. } => {
                if persistent.is_some() {
                    op::SET_WATCHES2
                } else {
                    op::SET_WATCHES
                }
            }
            Self::Auth { .. } => op::AUTH,
            Self::GetEphemerals { .. } => op::GET_EPHEMERALS,
            Self::GetAllChildrenNumber { .. } => op::GET_ALL_CHILDREN_NUMBER,
            Self::WhoAmI => op::WHO_AM_I,
            Self::Reconfig { .. } => op::RECONFIG,
            Self::CloseSession => op::CLOSE,
        }
    }

    /// The xid that clients use for this request; `None` where they count.
    pub fn special_xid(&self) -> Option<i32> {
        match self {
            Self::Ping => Some(xid::PING),
            Self::Auth { .. } => Some(xid::AUTH),
            Self::SetWatches { .. } => Some(xid::SET_WATCHES),
            _ => None,
        }
    }

    /// A whole frame without its length: header and body.
    pub fn encode(&self, xid: i32) -> Vec<u8> {
        self.write_body(Writer::new().int(xid).int(self.op()))
            .finish()
    }

    fn write_body(&self, w: Writer) -> Writer {
        match self {
            Self::Create {
                path,
                data,
                acl,
                flags,
                ..
            } => w
                .string(path.as_deref())
                .buffer(data.as_deref())
                .vector(acl.as_deref(), write_acl)
                .int(*flags),
            Self::CreateTtl {
                path,
                data,
                acl,
                flags,
                ttl_ms,
            } => w
                .string(path.as_deref())
                .buffer(data.as_deref())
                .vector(acl.as_deref(), write_acl)
                .int(*flags)
                .long(*ttl_ms),
            Self::SetData {
                path,
                data,
                version,
            } => w
                .string(path.as_deref())
                .buffer(data.as_deref())
                .int(*version),
            Self::SetAcl { path, acl, version } => w
                .string(path.as_deref())
                .vector(acl.as_deref(), write_acl)
                .int(*version),
            Self::Delete { path, version } | Self::Check { path, version } => {
                w.string(path.as_deref()).int(*version)
            }
            Self::Exists { path, watch }
            | Self::GetData { path, watch }
            | Self::GetChildren { path, watch }
            | Self::GetChildren2 { path, watch } => w.string(path.as_deref()).bool(*watch),
            Self::GetAcl { path } | Self::Sync { path } | Self::GetAllChildrenNumber { path } => {
                w.string(path.as_deref())
            }
            Self::GetEphemerals { prefix } => w.string(prefix.as_deref()),
            Self::CheckWatches { path, kind } | Self::RemoveWatches { path, kind } => {
                w.string(path.as_deref()).int(*kind)
            }
            Self::AddWatch { path, mode } => w.string(path.as_deref()).int(*mode),
            Self::Multi(ops) | Self::MultiRead(ops) => ops
                .iter()
                .fold(w, |w, op| op.write_body(write_multi_header(w, op.op())))
                .raw(&MULTI_END),
            Self::Auth { scheme, data } => {
                w.int(0).string(scheme.as_deref()).buffer(data.as_deref())
            }
            Self::SetWatches { .. } => self.write_set_watches(w),
            Self::Reconfig {
                joining,
                leaving,
                members,
                config_id,
            } => w
                .string(joining.as_deref())
                .string(leaving.as_deref())
                .string(members.as_deref())
                .long(*config_id),
            Self::Raw { body, .. } => w.raw(body),
            Self::Ping | Self::WhoAmI | Self::CloseSession => w,
        }
    }

    fn write_set_watches(&self, w: Writer) -> Writer {
        let Self::SetWatches {
            relative_zxid,
            data,
            exist,
            child,
            persistent,
        } = self
        else {
            return w;
        };
        let w = w.long(*relative_zxid);
        let w = write_strings(w, data.as_deref());
        let w = write_strings(w, exist.as_deref());
        let w = write_strings(w, child.as_deref());
        match persistent {
            None => w,
            Some((plain, recursive)) => {
                write_strings(write_strings(w, Some(plain)), Some(recursive))
            }
        }
    }
}

/// MultiHeader{-1, true, -1}.
pub const MULTI_END: [u8; 9] = [0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff];

fn write_multi_header(w: Writer, op: i32) -> Writer {
    w.int(op).bool(false).int(-1)
}

/// Header of every reply and notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHeader {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
}

/// A watch event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    pub zxid: i64,
    pub kind: i32,
    pub state: i32,
    pub path: String,
}

/// One result inside a multi or multiRead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiResult {
    /// Type in its header: that of the operation, -1 for an error.
    pub kind: i32,
    /// Error in its header.
    pub header_err: i32,
    pub reply: Reply,
}

/// The body of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Empty,
    Path(Option<String>),
    PathStat(String, Stat),
    Stat(Stat),
    Data(Option<Vec<u8>>, Stat),
    Acl(Vec<Acl>, Stat),
    Children(Vec<String>),
    ChildrenStat(Vec<String>, Stat),
    Strings(Vec<String>),
    Int(i32),
    Multi(Vec<MultiResult>),
    /// (scheme, user) pairs.
    Identities(Vec<(String, String)>),
    /// An error, with the code of the header or of the sub-result.
    Error(i32),
    /// A body whose shape is not known for this request.
    Raw(Vec<u8>),
}

pub fn read_header(r: &mut Reader<'_>) -> Result<ReplyHeader, JuteError> {
    Ok(ReplyHeader {
        xid: r.int()?,
        zxid: r.long()?,
        err: r.int()?,
    })
}

pub fn read_event(header: ReplyHeader, r: &mut Reader<'_>) -> Result<WatchEvent, JuteError> {
    let event = WatchEvent {
        zxid: header.zxid,
        kind: r.int()?,
        state: r.int()?,
        path: r.text()?,
    };
    r.end()?;
    Ok(event)
}

pub fn read_stat(r: &mut Reader<'_>) -> Result<Stat, JuteError> {
    Ok(Stat {
        czxid: r.long()?,
        mzxid: r.long()?,
        ctime: r.long()?,
        mtime: r.long()?,
        version: r.int()?,
        cversion: r.int()?,
        aversion: r.int()?,
        ephemeral_owner: r.long()?,
        data_length: r.int()?,
        num_children: r.int()?,
        pzxid: r.long()?,
    })
}

fn read_acl(r: &mut Reader<'_>) -> Result<Acl, JuteError> {
    Ok(Acl {
        perms: r.int()?,
        scheme: r.string()?,
        id: r.string()?,
    })
}

/// Reads the body that answers an operation of type `op`.
///
/// An error must have no body: that is part of the contract, so a body there is an error here.
pub fn read_reply(op: i32, err: i32, r: &mut Reader<'_>) -> Result<Reply, JuteError> {
    let reply = if err == err::OK {
        read_ok_reply(op, r)?
    } else {
        Reply::Error(err)
    };
    // ZooKeeper answers a multiRead that it cannot read with -5 and half a body.
    if op != op::MULTI_READ || err == err::OK {
        r.end()?;
    }
    Ok(reply)
}

fn read_ok_reply(op: i32, r: &mut Reader<'_>) -> Result<Reply, JuteError> {
    Ok(match op {
        op::CREATE => Reply::Path(Some(r.text()?)),
        op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            Reply::PathStat(r.text()?, read_stat(r)?)
        }
        op::EXISTS | op::SET_DATA | op::SET_ACL => Reply::Stat(read_stat(r)?),
        op::GET_DATA | op::RECONFIG => Reply::Data(r.buffer()?, read_stat(r)?),
        op::GET_ACL => Reply::Acl(r.vector(read_acl)?, read_stat(r)?),
        op::GET_CHILDREN => Reply::Children(r.vector(Reader::text)?),
        op::GET_CHILDREN2 => Reply::ChildrenStat(r.vector(Reader::text)?, read_stat(r)?),
        op::SYNC => Reply::Path(r.string()?),
        op::MULTI | op::MULTI_READ => Reply::Multi(read_multi(r)?),
        op::GET_EPHEMERALS => Reply::Strings(r.vector(Reader::text)?),
        op::GET_ALL_CHILDREN_NUMBER | op::ADD_WATCH => Reply::Int(r.int()?),
        op::WHO_AM_I => Reply::Identities(r.vector(|r| Ok((r.text()?, r.text()?)))?),
        op::DELETE
        | op::PING
        | op::CHECK
        | op::CHECK_WATCHES
        | op::REMOVE_WATCHES
        | op::AUTH
        | op::SET_WATCHES
        | op::SET_WATCHES2
        | op::CLOSE => Reply::Empty,
        _ => {
            let rest = r.remaining().to_vec();
            *r = Reader::new(&[]);
            Reply::Raw(rest)
        }
    })
}

fn read_multi(r: &mut Reader<'_>) -> Result<Vec<MultiResult>, JuteError> {
    let mut results = Vec::new();
    loop {
        let (kind, done, header_err) = (r.int()?, r.bool()?, r.int()?);
        if done {
            // The end marker is fixed; anything else is shown as one more result.
            if (kind, header_err) != (-1, -1) {
                results.push(MultiResult {
                    kind,
                    header_err,
                    reply: Reply::Raw(b"bad end marker".to_vec()),
                });
            }
            return Ok(results);
        }
        let reply = if kind == -1 {
            Reply::Error(r.int()?)
        } else {
            read_ok_reply(kind, r)?
        };
        results.push(MultiResult {
            kind,
            header_err,
            reply,
        });
    }
}
