//! Requests as a client keeps them: owned, comparable, and encoded with the product's client codec.

use std::borrow::Cow;

use bytes::BytesMut;
use oxkeeper_wire::client::encode_request;
use oxkeeper_wire::{
    AclRecord, CheckRequest, CreateRequest, DeleteRequest, MultiOp, MultiReadOp, OpCode, Paths,
    Request, SetDataRequest, Text,
};

/// An entry of an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ace {
    pub permissions: i32,
    pub scheme: &'static str,
    pub id: &'static str,
}

/// Any of the four create operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    pub op: OpCode,
    pub path: String,
    pub data: Option<Vec<u8>>,
    pub acl: Vec<Ace>,
    pub flags: i32,
    pub ttl_ms: Option<i64>,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Create(Create),
    Delete {
        path: String,
        version: i32,
    },
    SetData {
        path: String,
        data: Option<Vec<u8>>,
        version: i32,
    },
    SetAcl {
        path: String,
        acl: Vec<Ace>,
        version: i32,
    },
    /// Inside a multi only.
    Check {
        path: String,
        version: i32,
    },
    Multi(Vec<Op>),
    /// Of `GetData` and `GetChildren`.
    MultiRead(Vec<Op>),
    Exists {
        path: String,
        watch: bool,
    },
    GetData {
        path: String,
        watch: bool,
    },
    GetChildren {
        path: String,
        watch: bool,
    },
    GetChildren2 {
        path: String,
        watch: bool,
    },
    GetAcl {
        path: String,
    },
    Sync {
        path: String,
    },
    GetEphemerals {
        prefix: String,
    },
    GetAllChildrenNumber {
        path: String,
    },
    AddWatch {
        path: String,
        mode: i32,
    },
    RemoveWatches {
        path: String,
        kind: i32,
    },
    SetWatches(WatchLists),
    /// Of scheme digest.
    Auth {
        credentials: &'static str,
    },
    Ping,
    CloseSession,
}

/// What setWatches2 brings back after a reconnect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchLists {
    pub relative_zxid: i64,
    pub data: Vec<String>,
    pub exist: Vec<String>,
    pub child: Vec<String>,
    pub persistent: Vec<String>,
    pub recursive: Vec<String>,
}

impl Op {
    /// Whether it goes through the log.
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Create(_)
                | Self::Delete { .. }
                | Self::SetData { .. }
                | Self::SetAcl { .. }
                | Self::Multi(_)
                | Self::CloseSession
        )
    }

    /// Appends the frame.
    pub fn encode(&self, xid: i32, out: &mut BytesMut) {
        encode_request(out, xid, &self.wire());
    }

    fn wire(&self) -> Request<'_> {
        match self {
            Self::Create(create) => Request::Create(create.wire()),
            Self::Delete { path, version } => Request::Delete(delete(path, *version)),
            Self::SetData {
                path,
                data,
                version,
            } => Request::SetData(set_data(path, data.as_deref(), *version)),
            Self::SetAcl { path, acl, version } => Request::SetAcl {
                path: text(path),
                acl: Some(records(acl)),
                version: *version,
            },
            Self::Check { path, version } => Request::Check(check(path, *version)),
            Self::Multi(ops) => Request::Multi(ops.iter().filter_map(Self::multi_wire).collect()),
            Self::MultiRead(ops) => {
                Request::MultiRead(ops.iter().filter_map(Self::multi_read_wire).collect())
            }
            Self::Exists { path, watch } => Request::Exists {
                path: text(path),
                watch: *watch,
            },
            Self::GetData { path, watch } => Request::GetData {
                path: text(path),
                watch: *watch,
            },
            Self::GetChildren { path, watch } => Request::GetChildren {
                path: text(path),
                watch: *watch,
            },
            Self::GetChildren2 { path, watch } => Request::GetChildren2 {
                path: text(path),
                watch: *watch,
            },
            Self::GetAcl { path } => Request::GetAcl { path: text(path) },
            Self::Sync { path } => Request::Sync { path: text(path) },
            Self::GetEphemerals { prefix } => Request::GetEphemerals {
                prefix: text(prefix),
            },
            Self::GetAllChildrenNumber { path } => {
                Request::GetAllChildrenNumber { path: text(path) }
            }
            Self::AddWatch { path, mode } => Request::AddWatch {
                path: text(path),
                mode: *mode,
            },
            Self::RemoveWatches { path, kind } => Request::RemoveWatches {
                path: text(path),
                kind: *kind,
            },
            Self::SetWatches(lists) => lists.wire(),
            Self::Auth { credentials } => Request::Auth {
                kind: 0,
                scheme: text("digest"),
                auth: Some(credentials.as_bytes()),
            },
            Self::Ping => Request::Ping,
            Self::CloseSession => Request::CloseSession,
        }
    }

    /// As an operation of a multi; nothing else has a form there.
    fn multi_wire(&self) -> Option<MultiOp<'_>> {
        Some(match self {
            Self::Create(create) => MultiOp::Create(create.wire()),
            Self::Delete { path, version } => MultiOp::Delete(delete(path, *version)),
            Self::SetData {
                path,
                data,
                version,
            } => MultiOp::SetData(set_data(path, data.as_deref(), *version)),
            Self::Check { path, version } => MultiOp::Check(check(path, *version)),
            _ => return None,
        })
    }

    fn multi_read_wire(&self) -> Option<MultiReadOp<'_>> {
        let watch = false;
        Some(match self {
            Self::GetData { path, .. } => MultiReadOp::GetData {
                path: text(path),
                watch,
            },
            Self::GetChildren { path, .. } => MultiReadOp::GetChildren {
                path: text(path),
                watch,
            },
            _ => return None,
        })
    }
}

impl Create {
    fn wire(&self) -> CreateRequest<'_> {
        CreateRequest {
            op: self.op,
            path: text(&self.path),
            data: self.data.as_deref(),
            acl: Some(records(&self.acl)),
            flags: self.flags,
            ttl_ms: self.ttl_ms,
        }
    }
}

impl WatchLists {
    pub fn is_empty(&self) -> bool {
        let Self {
            relative_zxid: _,
            data,
            exist,
            child,
            persistent,
            recursive,
        } = self;
        [data, exist, child, persistent, recursive]
            .iter()
            .all(|paths| paths.is_empty())
    }

    fn wire(&self) -> Request<'_> {
        fn paths(list: &[String]) -> Paths<'_> {
            Some(list.iter().map(|path| text(path)).collect())
        }
        Request::SetWatches2 {
            relative_zxid: self.relative_zxid,
            data: paths(&self.data),
            exist: paths(&self.exist),
            child: paths(&self.child),
            persistent: paths(&self.persistent),
            persistent_recursive: paths(&self.recursive),
        }
    }
}

fn text(text: &str) -> Text<'_> {
    Some(Cow::Borrowed(text))
}

fn records(acl: &[Ace]) -> Vec<AclRecord<'_>> {
    acl.iter()
        .map(|ace| AclRecord::new(ace.permissions, ace.scheme, ace.id))
        .collect()
}

fn delete(path: &str, version: i32) -> DeleteRequest<'_> {
    DeleteRequest {
        path: text(path),
        version,
    }
}

fn set_data<'a>(path: &'a str, data: Option<&'a [u8]>, version: i32) -> SetDataRequest<'a> {
    SetDataRequest {
        path: text(path),
        data,
        version,
    }
}

fn check(path: &str, version: i32) -> CheckRequest<'_> {
    CheckRequest {
        path: text(path),
        version,
    }
}
