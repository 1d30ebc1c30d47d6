//! How much a request weighs, in queues and in the log.

use oxkeeper_model::{AclEntry, ClientCommand, TreeOp};

use crate::link::{Request, SessionBeat};

/// What a request weighs apart from its paths and values.
const REQUEST_BYTES: usize = 256;

/// About how much memory, and how much of a log entry, a request takes.
pub fn request_bytes(request: &Request) -> usize {
    match request {
        Request::Command {
            command: ClientCommand::Write(write),
            ..
        } => REQUEST_BYTES + write.ops.iter().map(op_bytes).sum::<usize>(),
        Request::Heartbeat { beats } => REQUEST_BYTES + size_of::<SessionBeat>() * beats.len(),
        Request::Query { .. } | Request::Command { .. } => REQUEST_BYTES,
    }
}

fn op_bytes(op: &TreeOp) -> usize {
    let acl_bytes = |acl: &[AclEntry]| {
        acl.iter()
            .map(|entry| 16 + entry.scheme.len() + entry.id.len())
            .sum::<usize>()
    };
    let content = match op {
        TreeOp::Create(create) => {
            create.path.len()
                + create.value.as_ref().map_or(0, |v| v.len())
                + acl_bytes(&create.acl)
        }
        TreeOp::SetValue { path, value, .. } => path.len() + value.as_ref().map_or(0, |v| v.len()),
        TreeOp::SetAcl { path, acl, .. } => path.len() + acl_bytes(acl),
        TreeOp::Delete { path, .. } | TreeOp::Check { path, .. } | TreeOp::Get { path } => {
            path.len()
        }
        TreeOp::Refused { .. } => 0,
    };
    64 + content
}
