//! Requests of a session: header, then one record per operation. Decoding borrows from the frame.

use bytes::{BufMut, BytesMut};

use crate::jute::{self, DecodeError, Parse, Text};
use crate::limits::{ACL_BYTES_MIN, TEXT_BYTES_MIN};
use crate::multi::{self, MultiOp, MultiReadOp};
use crate::ops::OpCode;
use crate::records::AclRecord;

/// What every request starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub xid: i32,
    pub op: OpCode,
}

/// Any of the four create operations. The operation, not the flags, decides about container and TTL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest<'a> {
    pub op: OpCode,
    pub path: Text<'a>,
    pub data: Option<&'a [u8]>,
    /// Null and empty are both refused, but by the proxy.
    pub acl: Option<Vec<AclRecord<'a>>>,
    pub flags: i32,
    /// `Some` exactly for [`OpCode::CREATE_TTL`].
    pub ttl_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRequest<'a> {
    pub path: Text<'a>,
    pub version: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetDataRequest<'a> {
    pub path: Text<'a>,
    pub data: Option<&'a [u8]>,
    pub version: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRequest<'a> {
    pub path: Text<'a>,
    pub version: i32,
}

/// A list of setWatches. A null one fails the request, but only when its turn comes.
pub type Paths<'a> = Option<Vec<Text<'a>>>;

/// Everything a client can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Create(CreateRequest<'a>),
    Delete(DeleteRequest<'a>),
    Exists {
        path: Text<'a>,
        watch: bool,
    },
    GetData {
        path: Text<'a>,
        watch: bool,
    },
    SetData(SetDataRequest<'a>),
    GetAcl {
        path: Text<'a>,
    },
    SetAcl {
        path: Text<'a>,
        acl: Option<Vec<AclRecord<'a>>>,
        version: i32,
    },
    GetChildren {
        path: Text<'a>,
        watch: bool,
    },
    GetChildren2 {
        path: Text<'a>,
        watch: bool,
    },
    Sync {
        path: Text<'a>,
    },
    Ping,
    /// Outside of a multi: to be refused.
    Check(CheckRequest<'a>),
    Multi(Vec<MultiOp<'a>>),
    MultiRead(Vec<MultiReadOp<'a>>),
    Reconfig {
        joining: Text<'a>,
        leaving: Text<'a>,
        new_members: Text<'a>,
        config_id: i64,
    },
    CheckWatches {
        path: Text<'a>,
        kind: i32,
    },
    RemoveWatches {
        path: Text<'a>,
        kind: i32,
    },
    Auth {
        kind: i32,
        scheme: Text<'a>,
        auth: Option<&'a [u8]>,
    },
    SetWatches {
        relative_zxid: i64,
        data: Paths<'a>,
        exist: Paths<'a>,
        child: Paths<'a>,
    },
    SetWatches2 {
        relative_zxid: i64,
        data: Paths<'a>,
        exist: Paths<'a>,
        child: Paths<'a>,
        persistent: Paths<'a>,
        persistent_recursive: Paths<'a>,
    },
    AddWatch {
        path: Text<'a>,
        mode: i32,
    },
    Sasl {
        token: Option<&'a [u8]>,
    },
    GetEphemerals {
        prefix: Text<'a>,
    },
    GetAllChildrenNumber {
        path: Text<'a>,
    },
    WhoAmI,
    CloseSession,
    /// Internal to ZooKeeper's servers: to be refused, so its body is not read.
    CreateSession,
    /// Internal to ZooKeeper's servers: to be refused, so its body is not read.
    DeleteContainer,
}

/// Takes the header off `frame`, which is left at the body. A frame too short for it closes the connection.
pub fn decode_header(frame: &mut &[u8]) -> Result<RequestHeader, DecodeError> {
    let (xid, op, rest) = jute::finish(parse_header(frame))?;
    *frame = rest;
    Ok(RequestHeader {
        xid,
        op: OpCode(op),
    })
}

fn parse_header(input: &[u8]) -> Parse<'_, (i32, i32, &[u8])> {
    let (input, xid) = jute::int(input)?;
    let (input, op) = jute::int(input)?;
    Ok((input, (xid, op, input)))
}

/// Reads the record of `op`. Bytes after it are ignored.
pub fn decode_body(op: OpCode, body: &[u8]) -> Result<Request<'_>, DecodeError> {
    jute::finish(parse_body(op, body))
}

fn parse_body(op: OpCode, input: &[u8]) -> Parse<'_, Request<'_>> {
    match op {
        OpCode::GET_DATA => parse_watched(input, |path, watch| Request::GetData { path, watch }),
        OpCode::EXISTS => parse_watched(input, |path, watch| Request::Exists { path, watch }),
        OpCode::GET_CHILDREN => {
            parse_watched(input, |path, watch| Request::GetChildren { path, watch })
        }
        OpCode::GET_CHILDREN2 => {
            parse_watched(input, |path, watch| Request::GetChildren2 { path, watch })
        }
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
            map(CreateRequest::parse(op, input), Request::Create)
        }
        OpCode::DELETE => map(DeleteRequest::parse(input), Request::Delete),
        OpCode::SET_DATA => map(SetDataRequest::parse(input), Request::SetData),
        OpCode::CHECK => map(CheckRequest::parse(input), Request::Check),
        OpCode::MULTI => map(multi::parse_writes(input), Request::Multi),
        OpCode::MULTI_READ => map(multi::parse_reads(input), Request::MultiRead),
        OpCode::GET_ACL => map(jute::text(input), |path| Request::GetAcl { path }),
        OpCode::SYNC => map(jute::text(input), |path| Request::Sync { path }),
        OpCode::GET_ALL_CHILDREN_NUMBER => map(jute::text(input), |path| {
            Request::GetAllChildrenNumber { path }
        }),
        OpCode::GET_EPHEMERALS => map(jute::text(input), |prefix| Request::GetEphemerals {
            prefix,
        }),
        OpCode::SASL => map(jute::buffer(input), |token| Request::Sasl { token }),
        OpCode::CHECK_WATCHES => {
            parse_numbered(input, |path, kind| Request::CheckWatches { path, kind })
        }
        OpCode::REMOVE_WATCHES => {
            parse_numbered(input, |path, kind| Request::RemoveWatches { path, kind })
        }
        OpCode::ADD_WATCH => parse_numbered(input, |path, mode| Request::AddWatch { path, mode }),
        OpCode::SET_ACL => parse_set_acl(input),
        OpCode::RECONFIG => parse_reconfig(input),
        OpCode::AUTH => parse_auth(input),
        OpCode::SET_WATCHES => parse_set_watches(input),
        OpCode::SET_WATCHES2 => parse_set_watches2(input),
        OpCode::PING => Ok((input, Request::Ping)),
        OpCode::WHO_AM_I => Ok((input, Request::WhoAmI)),
        OpCode::CLOSE_SESSION => Ok((input, Request::CloseSession)),
        OpCode::CREATE_SESSION => Ok((input, Request::CreateSession)),
        OpCode::DELETE_CONTAINER => Ok((input, Request::DeleteContainer)),
        _ => jute::fail(DecodeError::UnknownOperation(op)),
    }
}

fn map<'a, T, U>(parsed: Parse<'a, T>, make: impl FnOnce(T) -> U) -> Parse<'a, U> {
    parsed.map(|(input, value)| (input, make(value)))
}

fn parse_watched<'a>(
    input: &'a [u8],
    make: impl FnOnce(Text<'a>, bool) -> Request<'a>,
) -> Parse<'a, Request<'a>> {
    let (input, path) = jute::text(input)?;
    let (input, watch) = jute::boolean(input)?;
    Ok((input, make(path, watch)))
}

fn parse_numbered<'a>(
    input: &'a [u8],
    make: impl FnOnce(Text<'a>, i32) -> Request<'a>,
) -> Parse<'a, Request<'a>> {
    let (input, path) = jute::text(input)?;
    let (input, number) = jute::int(input)?;
    Ok((input, make(path, number)))
}

fn parse_acl(input: &[u8]) -> Parse<'_, Option<Vec<AclRecord<'_>>>> {
    jute::list(input, ACL_BYTES_MIN, AclRecord::parse)
}

fn parse_set_acl(input: &[u8]) -> Parse<'_, Request<'_>> {
    let (input, path) = jute::text(input)?;
    let (input, acl) = parse_acl(input)?;
    let (input, version) = jute::int(input)?;
    Ok((input, Request::SetAcl { path, acl, version }))
}

fn parse_reconfig(input: &[u8]) -> Parse<'_, Request<'_>> {
    let (input, joining) = jute::text(input)?;
    let (input, leaving) = jute::text(input)?;
    let (input, new_members) = jute::text(input)?;
    let (input, config_id) = jute::long(input)?;
    Ok((
        input,
        Request::Reconfig {
            joining,
            leaving,
            new_members,
            config_id,
        },
    ))
}

fn parse_auth(input: &[u8]) -> Parse<'_, Request<'_>> {
    let (input, kind) = jute::int(input)?;
    let (input, scheme) = jute::text(input)?;
    let (input, auth) = jute::buffer(input)?;
    Ok((input, Request::Auth { kind, scheme, auth }))
}

fn parse_paths(input: &[u8]) -> Parse<'_, Paths<'_>> {
    jute::list(input, TEXT_BYTES_MIN, jute::text)
}

fn parse_set_watches(input: &[u8]) -> Parse<'_, Request<'_>> {
    let (input, relative_zxid) = jute::long(input)?;
    let (input, data) = parse_paths(input)?;
    let (input, exist) = parse_paths(input)?;
    let (input, child) = parse_paths(input)?;
    Ok((
        input,
        Request::SetWatches {
            relative_zxid,
            data,
            exist,
            child,
        },
    ))
}

fn parse_set_watches2(input: &[u8]) -> Parse<'_, Request<'_>> {
    let (input, relative_zxid) = jute::long(input)?;
    let (input, data) = parse_paths(input)?;
    let (input, exist) = parse_paths(input)?;
    let (input, child) = parse_paths(input)?;
    let (input, persistent) = parse_paths(input)?;
    let (input, persistent_recursive) = parse_paths(input)?;
    Ok((
        input,
        Request::SetWatches2 {
            relative_zxid,
            data,
            exist,
            child,
            persistent,
            persistent_recursive,
        },
    ))
}

impl<'a> CreateRequest<'a> {
    pub(crate) fn parse(op: OpCode, input: &'a [u8]) -> Parse<'a, Self> {
        let (input, path) = jute::text(input)?;
        let (input, data) = jute::buffer(input)?;
        let (input, acl) = parse_acl(input)?;
        let (input, flags) = jute::int(input)?;
        let (input, ttl_ms) = match op {
            OpCode::CREATE_TTL => map(jute::long(input), Some)?,
            _ => (input, None),
        };
        Ok((
            input,
            Self {
                op,
                path,
                data,
                acl,
                flags,
                ttl_ms,
            },
        ))
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        jute::put_text(out, self.path.as_deref());
        jute::put_buffer(out, self.data);
        put_acl(out, self.acl.as_deref());
        out.put_i32(self.flags);
        if let Some(ttl_ms) = self.ttl_ms {
            out.put_i64(ttl_ms);
        }
    }
}

impl<'a> DeleteRequest<'a> {
    pub(crate) fn parse(input: &'a [u8]) -> Parse<'a, Self> {
        let (input, path) = jute::text(input)?;
        let (input, version) = jute::int(input)?;
        Ok((input, Self { path, version }))
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        jute::put_text(out, self.path.as_deref());
        out.put_i32(self.version);
    }
}

impl<'a> SetDataRequest<'a> {
    pub(crate) fn parse(input: &'a [u8]) -> Parse<'a, Self> {
        let (input, path) = jute::text(input)?;
        let (input, data) = jute::buffer(input)?;
        let (input, version) = jute::int(input)?;
        Ok((
            input,
            Self {
                path,
                data,
                version,
            },
        ))
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        jute::put_text(out, self.path.as_deref());
        jute::put_buffer(out, self.data);
        out.put_i32(self.version);
    }
}

impl<'a> CheckRequest<'a> {
    pub(crate) fn parse(input: &'a [u8]) -> Parse<'a, Self> {
        let (input, path) = jute::text(input)?;
        let (input, version) = jute::int(input)?;
        Ok((input, Self { path, version }))
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        jute::put_text(out, self.path.as_deref());
        out.put_i32(self.version);
    }
}

impl Request<'_> {
    pub fn op(&self) -> OpCode {
        match self {
            Self::Create(create) => create.op,
            Self::Delete(_) => OpCode::DELETE,
            Self::Exists { .. } => OpCode::EXISTS,
            Self::GetData { .. } => OpCode::GET_DATA,
            Self::SetData(_) => OpCode::SET_DATA,
            Self::GetAcl { .. } => OpCode::GET_ACL,
            Self::SetAcl { .. } => OpCode::SET_ACL,
            Self::GetChildren { .. } => OpCode::GET_CHILDREN,
            Self::GetChildren2 { .. } => OpCode::GET_CHILDREN2,
            Self::Sync { .. } => OpCode::SYNC,
            Self::Ping => OpCode::PING,
            Self::Check(_) => OpCode::CHECK,
            Self::Multi(_) => OpCode::MULTI,
            Self::MultiRead(_) => OpCode::MULTI_READ,
            Self::Reconfig { .. } => OpCode::RECONFIG,
            Self::CheckWatches { .. } => OpCode::CHECK_WATCHES,
            Self::RemoveWatches { .. } => OpCode::REMOVE_WATCHES,
            Self::Auth { .. } => OpCode::AUTH,
            Self::SetWatches { .. } => OpCode::SET_WATCHES,
            Self::SetWatches2 { .. } => OpCode::SET_WATCHES2,
            Self::AddWatch { .. } => OpCode::ADD_WATCH,
            Self::Sasl { .. } => OpCode::SASL,
            Self::GetEphemerals { .. } => OpCode::GET_EPHEMERALS,
            Self::GetAllChildrenNumber { .. } => OpCode::GET_ALL_CHILDREN_NUMBER,
            Self::WhoAmI => OpCode::WHO_AM_I,
            Self::CloseSession => OpCode::CLOSE_SESSION,
            Self::CreateSession => OpCode::CREATE_SESSION,
            Self::DeleteContainer => OpCode::DELETE_CONTAINER,
        }
    }

    /// Writes the record, without the header.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Create(create) => create.put(out),
            Self::Delete(delete) => delete.put(out),
            Self::SetData(set) => set.put(out),
            Self::Check(check) => check.put(out),
            Self::Multi(operations) => {
                operations.iter().for_each(|operation| operation.put(out));
                multi::put_end(out);
            }
            Self::MultiRead(operations) => {
                operations.iter().for_each(|operation| operation.put(out));
                multi::put_end(out);
            }
            Self::Exists { path, watch }
            | Self::GetData { path, watch }
            | Self::GetChildren { path, watch }
            | Self::GetChildren2 { path, watch } => {
                jute::put_text(out, path.as_deref());
                jute::put_boolean(out, *watch);
            }
            Self::GetAcl { path: text }
            | Self::Sync { path: text }
            | Self::GetAllChildrenNumber { path: text }
            | Self::GetEphemerals { prefix: text } => jute::put_text(out, text.as_deref()),
            Self::CheckWatches { path, kind: number }
            | Self::RemoveWatches { path, kind: number }
            | Self::AddWatch { path, mode: number } => {
                jute::put_text(out, path.as_deref());
                out.put_i32(*number);
            }
            Self::Sasl { token } => jute::put_buffer(out, *token),
            Self::Ping
            | Self::WhoAmI
            | Self::CloseSession
            | Self::CreateSession
            | Self::DeleteContainer => {}
            Self::SetAcl { .. }
            | Self::Reconfig { .. }
            | Self::Auth { .. }
            | Self::SetWatches { .. }
            | Self::SetWatches2 { .. } => self.put_rare(out),
        }
    }

    fn put_rare(&self, out: &mut BytesMut) {
        match self {
            Self::SetAcl { path, acl, version } => {
                jute::put_text(out, path.as_deref());
                put_acl(out, acl.as_deref());
                out.put_i32(*version);
            }
            Self::Reconfig {
                joining,
                leaving,
                new_members,
                config_id,
            } => {
                jute::put_text(out, joining.as_deref());
                jute::put_text(out, leaving.as_deref());
                jute::put_text(out, new_members.as_deref());
                out.put_i64(*config_id);
            }
            Self::Auth { kind, scheme, auth } => {
                out.put_i32(*kind);
                jute::put_text(out, scheme.as_deref());
                jute::put_buffer(out, *auth);
            }
            Self::SetWatches {
                relative_zxid,
                data,
                exist,
                child,
            } => {
                out.put_i64(*relative_zxid);
                [data, exist, child]
                    .into_iter()
                    .for_each(|paths| put_paths(out, paths));
            }
            Self::SetWatches2 {
                relative_zxid,
                data,
                exist,
                child,
                persistent,
                persistent_recursive,
            } => {
                out.put_i64(*relative_zxid);
                let lists = [data, exist, child, persistent, persistent_recursive];
                lists.into_iter().for_each(|paths| put_paths(out, paths));
            }
            _ => {}
        }
    }
}

fn put_paths(out: &mut BytesMut, paths: &Paths<'_>) {
    match paths {
        None => out.put_i32(-1),
        Some(paths) => jute::put_list(out, paths, |out, path| jute::put_text(out, path.as_deref())),
    }
}

fn put_acl(out: &mut BytesMut, acl: Option<&[AclRecord<'_>]>) {
    match acl {
        None => out.put_i32(-1),
        Some(entries) => jute::put_list(out, entries, |out, entry| entry.put(out)),
    }
}
