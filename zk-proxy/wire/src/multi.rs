//! multi and multiRead: a stream of headed sub-requests, closed by a header with `done` set.

use bytes::{BufMut, BytesMut};

use crate::jute::{self, DecodeError, Parse, Text};
use crate::ops::OpCode;
use crate::request::{CheckRequest, CreateRequest, DeleteRequest, SetDataRequest};

// Create flags, as far as they decide which operation a sub-create is.
const FLAG_EPHEMERAL_SEQUENTIAL: i32 = 3;
const FLAG_CONTAINER: i32 = 4;

/// A write of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiOp<'a> {
    /// Its `op` is what the operation amounts to, which need not be what was sent; see `resolve`.
    Create(CreateRequest<'a>),
    Delete(DeleteRequest<'a>),
    SetData(SetDataRequest<'a>),
    Check(CheckRequest<'a>),
}

impl<'a> MultiOp<'a> {
    pub fn op(&self) -> OpCode {
        match self {
            Self::Create(create) => create.op,
            Self::Delete(_) => OpCode::DELETE,
            Self::SetData(_) => OpCode::SET_DATA,
            Self::Check(_) => OpCode::CHECK,
        }
    }

    fn parse(op: OpCode, input: &'a [u8]) -> Parse<'a, Self> {
        match op {
            OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
                let (input, create) = CreateRequest::parse(op, input)?;
                match resolve(create) {
                    Ok(create) if create.acl.is_none() && op != OpCode::CREATE_TTL => {
                        jute::fail(DecodeError::NullAccessList)
                    }
                    Ok(create) => Ok((input, Self::Create(create))),
                    Err(fault) => jute::fail(fault),
                }
            }
            OpCode::DELETE => {
                DeleteRequest::parse(input).map(|(input, it)| (input, Self::Delete(it)))
            }
            OpCode::SET_DATA => {
                SetDataRequest::parse(input).map(|(input, it)| (input, Self::SetData(it)))
            }
            OpCode::CHECK => CheckRequest::parse(input).map(|(input, it)| (input, Self::Check(it))),
            _ => jute::fail(DecodeError::SubOperation(op)),
        }
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        put_header(out, self.op(), false, -1);
        match self {
            Self::Create(create) => create.put(out),
            Self::Delete(delete) => delete.put(out),
            Self::SetData(set) => set.put(out),
            Self::Check(check) => check.put(out),
        }
    }
}

/// Unlike alone, a create inside a multi is what its flags say, as in ZooKeeper 3.9: container flags make a
/// container under any operation, createTTL with ordinary flags is a plain create and its TTL is dropped. Flags
/// without a meaning spoil the whole multi, except under createTTL, where they are that operation's own error.
fn resolve(create: CreateRequest<'_>) -> Result<CreateRequest<'_>, DecodeError> {
    let op = match (create.op, create.flags) {
        (_, FLAG_CONTAINER) => OpCode::CREATE_CONTAINER,
        (OpCode::CREATE_TTL, 0..=FLAG_EPHEMERAL_SEQUENTIAL) => OpCode::CREATE,
        (OpCode::CREATE_TTL, _) => OpCode::CREATE_TTL,
        (op, 0..=FLAG_EPHEMERAL_SEQUENTIAL) => op,
        (_, flags) => return Err(DecodeError::CreateFlags(flags)),
    };
    let ttl_ms = create.ttl_ms.filter(|_| op == OpCode::CREATE_TTL);
    Ok(CreateRequest {
        op,
        ttl_ms,
        ..create
    })
}

/// A read of a multiRead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiReadOp<'a> {
    /// The watch flag has no effect in a multiRead.
    GetData {
        path: Text<'a>,
        watch: bool,
    },
    GetChildren {
        path: Text<'a>,
        watch: bool,
    },
}

impl<'a> MultiReadOp<'a> {
    pub fn op(&self) -> OpCode {
        match self {
            Self::GetData { .. } => OpCode::GET_DATA,
            Self::GetChildren { .. } => OpCode::GET_CHILDREN,
        }
    }

    fn parse(op: OpCode, input: &'a [u8]) -> Parse<'a, Self> {
        if op != OpCode::GET_DATA && op != OpCode::GET_CHILDREN {
            return jute::fail(DecodeError::SubOperation(op));
        }
        let (input, path) = jute::text(input)?;
        let (input, watch) = jute::boolean(input)?;
        let read = match op {
            OpCode::GET_DATA => Self::GetData { path, watch },
            _ => Self::GetChildren { path, watch },
        };
        Ok((input, read))
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        put_header(out, self.op(), false, -1);
        let (Self::GetData { path, watch } | Self::GetChildren { path, watch }) = self;
        jute::put_text(out, path.as_deref());
        jute::put_boolean(out, *watch);
    }
}

pub(crate) fn parse_writes(input: &[u8]) -> Parse<'_, Vec<MultiOp<'_>>> {
    parse_stream(input, MultiOp::parse)
}

pub(crate) fn parse_reads(input: &[u8]) -> Parse<'_, Vec<MultiReadOp<'_>>> {
    parse_stream(input, MultiReadOp::parse)
}

fn parse_stream<'a, T>(
    mut input: &'a [u8],
    operation: impl Fn(OpCode, &'a [u8]) -> Parse<'a, T>,
) -> Parse<'a, Vec<T>> {
    let mut operations = Vec::new();
    loop {
        let (rest, header) = parse_header(input)?;
        if header.done {
            return Ok((rest, operations));
        }
        let (rest, value) = operation(header.op, rest)?;
        operations.push(value);
        input = rest;
    }
}

/// What stands before each sub-request and each sub-result.
pub(crate) struct MultiHeader {
    pub(crate) op: OpCode,
    pub(crate) done: bool,
}

pub(crate) fn parse_header(input: &[u8]) -> Parse<'_, MultiHeader> {
    let (input, op) = jute::int(input)?;
    let (input, done) = jute::boolean(input)?;
    let (input, _err) = jute::int(input)?;
    Ok((
        input,
        MultiHeader {
            op: OpCode(op),
            done,
        },
    ))
}

pub(crate) fn put_header(out: &mut BytesMut, op: OpCode, done: bool, err: i32) {
    out.put_i32(op.0);
    jute::put_boolean(out, done);
    out.put_i32(err);
}

pub(crate) fn put_end(out: &mut BytesMut) {
    put_header(out, OpCode::ERROR, true, -1);
}
