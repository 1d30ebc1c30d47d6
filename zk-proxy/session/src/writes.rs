//! ZooKeeper's writes as tree operations, and their outcomes as replies.
//!
//! What the shard cannot know is decided here, before the write enters the log: path syntax, create
//! modes, access lists. A refusal still goes through the log as [`TreeOp::Refused`], because in
//! ZooKeeper a failed write takes a zxid and, inside a multi, its turn.

use bytes::{Bytes, BytesMut};
use oxkeeper_model::{
    Acl, Create, Identity, Lifetime, OpError, OpResult, Ops, Path, Revision, TreeOp, TxnOutcome,
    limits,
};
use oxkeeper_wire::{
    AclRecord, BodyWriter, CheckRequest, CreateRequest, DeleteRequest, ErrorCode, MultiOp, OpCode,
    Request, SetDataRequest, paths, reply,
};
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use crate::auth::{self, AuthError};
use crate::limits::WRITE_BYTES_MAX;
use crate::translate::{code, stat, zxid};

/// Any version will do.
const ANY_VERSION: i32 = -1;

/// Znodes that cannot be deleted.
const PROTECTED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"];

/// An operation that could not be read at all, which spoils its whole multi.
const GARBLED: OpError = OpError::FrontEnd(ErrorCode::MARSHALLING_ERROR.0);

/// How the outcome of a write is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Single(OpCode),
    /// The operations of a multi.
    Multi(SmallVec<[OpCode; 4]>),
}

/// What the translation of a write needs to know of its connection.
pub(crate) struct Caller<'a> {
    pub(crate) identities: &'a [Identity],
    pub(crate) extended_types_enabled: bool,
    /// What the write may still take. Access lists are counted as they are expanded, so that no more
    /// is ever made of them.
    room_bytes: usize,
}

/// A write as the shard gets it.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) ops: Ops,
    pub(crate) shape: Shape,
    /// About what it takes, at least what it takes in the log.
    pub(crate) bytes: usize,
}

/// A write is larger than the shard takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the write is larger than {WRITE_BYTES_MAX} bytes")]
pub(crate) struct WriteTooLarge;

/// What an operation takes beside its path, value and list, encoded, at most.
const OP_OVERHEAD_BYTES: usize = 64;

/// The write that a request asks for; `None` if it asks for none.
pub(crate) fn translate(
    request: &Request<'_>,
    mut caller: Caller<'_>,
) -> Option<Result<Translated, WriteTooLarge>> {
    let op = match request {
        Request::Create(create) => caller.create(create),
        Request::Delete(request) => delete(request),
        Request::SetData(request) => set_data(request),
        Request::SetAcl { path, acl, version } => {
            caller.set_acl(path.as_deref(), acl.as_deref(), *version)
        }
        Request::Reconfig { .. } => Err(Refused::Code(ErrorCode::RECONFIG_DISABLED)),
        // A null path spoils the whole multi, wherever it stands.
        Request::Multi(operations) if operations.iter().any(|op| path_of(op).is_none()) => {
            return Some(Ok(garbled_multi()));
        }
        Request::Multi(operations) => return Some(caller.multi(operations)),
        _ => return None,
    };
    let shape = Shape::Single(request.op());
    Some(caller.finish(op, shape))
}

/// A multi whose record cannot be read: it takes a zxid, unlike other garbled requests.
pub(crate) fn garbled_multi() -> Translated {
    let ErrorCode(code) = ErrorCode::MARSHALLING_ERROR;
    Translated {
        ops: smallvec![TreeOp::Refused { code }],
        shape: Shape::Single(OpCode::MULTI),
        bytes: OP_OVERHEAD_BYTES,
    }
}

fn path_of<'a>(op: &'a MultiOp<'_>) -> Option<&'a str> {
    match op {
        MultiOp::Create(create) => create.path.as_deref(),
        MultiOp::Delete(request) => request.path.as_deref(),
        MultiOp::SetData(request) => request.path.as_deref(),
        MultiOp::Check(request) => request.path.as_deref(),
    }
}

/// Why an operation is not translated.
enum Refused {
    /// Its own fault; it takes its turn all the same.
    Code(ErrorCode),
    /// The whole write does not reach the shard.
    TooLarge,
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<AuthError> for Refused {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::NullId => Self::Code(ErrorCode::MARSHALLING_ERROR),
            AuthError::InvalidAcl | AuthError::Failed => Self::Code(ErrorCode::INVALID_ACL),
            AuthError::TooLarge => Self::TooLarge,
        }
    }
}

impl<'a> Caller<'a> {
    pub(crate) fn new(identities: &'a [Identity], extended_types_enabled: bool) -> Self {
        Self {
            identities,
            extended_types_enabled,
            room_bytes: WRITE_BYTES_MAX - auth::identities_bytes(identities),
        }
    }

    /// Counts an operation, whose access list is counted already.
    fn count(&mut self, op: Result<TreeOp, Refused>) -> Result<TreeOp, WriteTooLarge> {
        let op = match op {
            Ok(op) => op,
            Err(Refused::Code(ErrorCode(code))) => TreeOp::Refused { code },
            Err(Refused::TooLarge) => return Err(WriteTooLarge),
        };
        let left = self.room_bytes.checked_sub(op_bytes(&op));
        self.room_bytes = left.ok_or(WriteTooLarge)?;
        Ok(op)
    }

    fn finish(
        mut self,
        op: Result<TreeOp, Refused>,
        shape: Shape,
    ) -> Result<Translated, WriteTooLarge> {
        Ok(Translated {
            ops: smallvec![self.count(op)?],
            shape,
            bytes: WRITE_BYTES_MAX - self.room_bytes,
        })
    }

    fn multi(mut self, operations: &[MultiOp<'_>]) -> Result<Translated, WriteTooLarge> {
        let mut ops = Ops::new();
        for operation in operations {
            let op = self.multi_op(operation);
            ops.push(self.count(op)?);
        }
        Ok(Translated {
            ops,
            shape: Shape::Multi(operations.iter().map(MultiOp::op).collect()),
            bytes: WRITE_BYTES_MAX - self.room_bytes,
        })
    }

    fn multi_op(&mut self, op: &MultiOp<'_>) -> Result<TreeOp, Refused> {
        match op {
            MultiOp::Create(create) => self.create(create),
            MultiOp::Delete(request) => delete(request),
            MultiOp::SetData(request) => set_data(request),
            MultiOp::Check(request) => check(request),
        }
    }

    fn create(&mut self, request: &CreateRequest<'_>) -> Result<TreeOp, Refused> {
        let mode = CreateMode::of(request, self.extended_types_enabled)?;
        let path = request
            .path
            .as_deref()
            .ok_or(ErrorCode::MARSHALLING_ERROR)?;
        if !path.contains('/') || path.contains('\0') {
            return Err(ErrorCode::BAD_ARGUMENTS.into());
        }
        let acl = self.normalise(request.acl.as_deref())?;
        Ok(TreeOp::Create(Create {
            path: Path::from(path),
            value: request.data.map(Bytes::copy_from_slice),
            acl,
            lifetime: mode.lifetime,
            sequential: mode.sequential,
            malformed: is_malformed(path, mode.sequential),
        }))
    }

    fn normalise(&mut self, acl: Option<&[AclRecord<'_>]>) -> Result<Acl, AuthError> {
        auth::normalise(acl, self.identities, &mut self.room_bytes)
    }

    fn set_acl(
        &mut self,
        path: Option<&str>,
        acl: Option<&[AclRecord<'_>]>,
        version: i32,
    ) -> Result<TreeOp, Refused> {
        let path = valid_path(path)?;
        let acl = self.normalise(acl)?;
        Ok(TreeOp::SetAcl {
            path,
            acl,
            expected_version: expected(version),
        })
    }
}

/// What an operation takes apart from its access list.
fn op_bytes(op: &TreeOp) -> usize {
    let value_bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    OP_OVERHEAD_BYTES
        + match op {
            TreeOp::Create(Create { path, value, .. }) | TreeOp::SetValue { path, value, .. } => {
                path.len() + value_bytes(value)
            }
            TreeOp::SetAcl { path, .. }
            | TreeOp::Delete { path, .. }
            | TreeOp::Check { path, .. }
            | TreeOp::Get { path } => path.len(),
            TreeOp::Refused { .. } => 0,
        }
}

fn delete(request: &DeleteRequest<'_>) -> Result<TreeOp, Refused> {
    let path = request
        .path
        .as_deref()
        .ok_or(ErrorCode::MARSHALLING_ERROR)?;
    if !path.contains('/') || path.contains('\0') || PROTECTED.contains(&path) {
        return Err(ErrorCode::BAD_ARGUMENTS.into());
    }
    Ok(TreeOp::Delete {
        path: path.into(),
        expected_version: expected(request.version),
    })
}

fn set_data(request: &SetDataRequest<'_>) -> Result<TreeOp, Refused> {
    Ok(TreeOp::SetValue {
        path: valid_path(request.path.as_deref())?,
        value: request.data.map(Bytes::copy_from_slice),
        expected_version: expected(request.version),
    })
}

fn check(request: &CheckRequest<'_>) -> Result<TreeOp, Refused> {
    Ok(TreeOp::Check {
        path: valid_path(request.path.as_deref())?,
        expected_version: expected(request.version),
    })
}

fn expected(version: i32) -> Option<i32> {
    (version != ANY_VERSION).then_some(version)
}

fn valid_path(path: Option<&str>) -> Result<Path, ErrorCode> {
    match path {
        Some(path) if paths::validate(path).is_ok() => Ok(path.into()),
        _ => Err(ErrorCode::BAD_ARGUMENTS),
    }
}

/// Whether the path to create is ill-formed, once the suffix is there.
fn is_malformed(path: &str, sequential: bool) -> bool {
    if sequential {
        return paths::validate(&format!("{path}0")).is_err();
    }
    paths::validate(path).is_err()
}

struct CreateMode {
    lifetime: Lifetime,
    sequential: bool,
}

impl CreateMode {
    /// The operation decides about container and TTL, the flags about the rest.
    fn of(request: &CreateRequest<'_>, extended_types_enabled: bool) -> Result<Self, ErrorCode> {
        let (ephemeral, sequential, ttl_flag) = match request.flags {
            0 | 4 => (false, false, false),
            1 => (true, false, false),
            2 => (false, true, false),
            3 => (true, true, false),
            5 => (false, false, true),
            6 => (false, true, true),
            _ => return Err(ErrorCode::BAD_ARGUMENTS),
        };
        if ttl_flag && !extended_types_enabled {
            return Err(ErrorCode::UNIMPLEMENTED);
        }
        let lifetime = match (request.ttl_ms, ttl_flag) {
            (Some(ttl_ms), true) => Lifetime::Ttl {
                ttl_ms: valid_ttl(ttl_ms)?,
            },
            (Some(_), false) | (None, true) => return Err(ErrorCode::BAD_ARGUMENTS),
            (None, false) if request.op == OpCode::CREATE_CONTAINER => Lifetime::Container,
            (None, false) if ephemeral => Lifetime::Ephemeral,
            (None, false) => Lifetime::Persistent,
        };
        Ok(Self {
            lifetime,
            sequential,
        })
    }
}

fn valid_ttl(ttl_ms: i64) -> Result<u64, ErrorCode> {
    match u64::try_from(ttl_ms) {
        Ok(ttl_ms) if (1..=limits::TTL_MS_MAX).contains(&ttl_ms) => Ok(ttl_ms),
        _ => Err(ErrorCode::BAD_ARGUMENTS),
    }
}

/// Appends the reply to a write.
pub(crate) fn reply_outcome(
    out: &mut BytesMut,
    xid: i32,
    shape: &Shape,
    revision: Revision,
    outcome: &TxnOutcome,
) -> ErrorCode {
    let zxid = zxid(revision);
    match (outcome, shape) {
        (TxnOutcome::Applied(results), Shape::Single(op)) => {
            reply(out, xid, zxid, ErrorCode::OK, |body| {
                single_body(body, *op, results)
            });
            ErrorCode::OK
        }
        (TxnOutcome::Applied(results), Shape::Multi(ops)) => {
            reply(out, xid, zxid, ErrorCode::OK, |body| {
                ops.iter()
                    .zip(results)
                    .for_each(|(&op, result)| multi_body(body, op, result));
                body.multi_end();
            });
            ErrorCode::OK
        }
        // A garbled operation spoils the whole multi instead of counting as its failed one.
        (TxnOutcome::Failed { error, .. }, Shape::Single(_))
        | (
            TxnOutcome::Failed {
                error: error @ GARBLED,
                ..
            },
            Shape::Multi(_),
        ) => {
            let code = code(*error);
            reply(out, xid, zxid, code, |_| {});
            code
        }
        (TxnOutcome::Failed { index, error }, Shape::Multi(ops)) => {
            reply(out, xid, zxid, ErrorCode::OK, |body| {
                failed_multi_body(body, ops.len(), *index as usize, code(*error));
            });
            code(*error)
        }
    }
}

fn single_body(body: &mut BodyWriter<'_>, op: OpCode, results: &[OpResult]) {
    match results.first() {
        Some(OpResult::Created { path, head }) => {
            body.text(Some(path));
            if op != OpCode::CREATE {
                body.stat(&stat(head));
            }
        }
        Some(OpResult::ValueSet { head } | OpResult::AclSet { head }) => body.stat(&stat(head)),
        Some(OpResult::Deleted | OpResult::Checked | OpResult::Got { .. }) | None => {}
    }
}

fn multi_body(body: &mut BodyWriter<'_>, op: OpCode, result: &OpResult) {
    match result {
        OpResult::Created { path, head } => {
            // Container and TTL creates answer as create2.
            let op = if op == OpCode::CREATE {
                op
            } else {
                OpCode::CREATE2
            };
            body.multi_created(op, path, &stat(head));
        }
        OpResult::ValueSet { head } => body.multi_data_set(&stat(head)),
        _ => body.multi_done(op),
    }
}

/// One result per operation: done before the failed one, its code, not tried after it.
fn failed_multi_body(body: &mut BodyWriter<'_>, count: usize, failed: usize, error: ErrorCode) {
    for index in 0..count {
        body.multi_error(match index.cmp(&failed) {
            std::cmp::Ordering::Less => ErrorCode::OK,
            std::cmp::Ordering::Equal => error,
            std::cmp::Ordering::Greater => ErrorCode::RUNTIME_INCONSISTENCY,
        });
    }
    body.multi_end();
}
