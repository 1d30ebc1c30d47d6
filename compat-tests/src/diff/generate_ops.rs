//! Generated requests: every opcode, valid and invalid.

use super::generate_values as values;
use super::plan::{Call, WatchLists};
use crate::proto::{Request, mode, op};
use crate::rng::Rng;

/// The largest frame that a server accepts by default (`jute.maxbuffer`, inclusive).
const LARGEST_FRAME_BYTES: usize = 0xf_ffff;
/// Frame bytes of a setData beside path and data.
const SET_DATA_OVERHEAD_BYTES: usize = 8 + 4 + 4 + 4;
/// The largest TTL, 2^40 - 1 ms.
const TTL_MAX_MS: i64 = (1 << 40) - 1;

/// One request that may stand anywhere in a batch: the connection survives it.
pub(super) fn call(rng: &mut Rng) -> Call {
    let request = match rng.below(1000) {
        0..180 => create(rng),
        180..200 => create_ttl(rng),
        200..290 => Request::Delete {
            path: values::path(rng),
            version: values::version(rng),
        },
        290..390 => set_data(rng),
        390..420 => Request::SetAcl {
            path: acl_target(rng),
            acl: values::acl(rng),
            version: values::version(rng),
        },
        420..700 => read(rng),
        700..800 => multi(rng),
        800..830 => multi_read(rng),
        830..910 => watch_op(rng),
        910..940 => return set_watches(rng),
        940..965 => truncated(rng),
        965..985 => padded(rng),
        985..988 => largest(rng),
        _ => return odd_xid(rng),
    };
    Call::Plain(request)
}

fn create(rng: &mut Rng) -> Request {
    let op = *rng.pick(&[
        op::CREATE,
        op::CREATE,
        op::CREATE,
        op::CREATE2,
        op::CREATE2,
        op::CREATE_CONTAINER,
    ]);
    let flags = match rng.below(100) {
        0..40 => mode::PERSISTENT,
        40..62 => mode::EPHEMERAL,
        62..76 => mode::PERSISTENT_SEQUENTIAL,
        76..88 => mode::EPHEMERAL_SEQUENTIAL,
        88..92 => mode::CONTAINER,
        92..94 => mode::PERSISTENT_TTL,
        94..96 => mode::PERSISTENT_SEQUENTIAL_TTL,
        _ => *rng.pick(&[-1, 7, 8, 100, i32::MIN]),
    };
    // See `allowed::NOT_SENT` for ephemeral containers.
    let flags = match (op, flags) {
        (op::CREATE_CONTAINER, mode::EPHEMERAL) => mode::PERSISTENT,
        (op::CREATE_CONTAINER, mode::EPHEMERAL_SEQUENTIAL) => mode::PERSISTENT_SEQUENTIAL,
        (_, flags) => flags,
    };
    Request::Create {
        op,
        path: create_path(rng, flags),
        data: values::data(rng),
        acl: values::acl_for_create(rng),
        flags,
    }
}

/// Sequential creates ask for a prefix, now and then one that ends with a slash.
fn create_path(rng: &mut Rng, flags: i32) -> Option<String> {
    let sequential = matches!(flags, 2 | 3 | 6);
    let mut path = values::path(rng);
    if let Some(p) = &mut path
        && sequential
        && let Some(cut) = p.find("s-")
    {
        p.truncate(cut + 2);
        if rng.percent(20) {
            p.truncate(cut);
        }
    }
    path
}

fn create_ttl(rng: &mut Rng) -> Request {
    let flags = match rng.below(10) {
        0..5 => mode::PERSISTENT_TTL,
        5..8 => mode::PERSISTENT_SEQUENTIAL_TTL,
        _ => *rng.pick(&[0, 1, 2, 3, 4, 7, -1]),
    };
    let ttl_ms = *rng.pick(&[
        1_000_000,
        1_000_000,
        TTL_MAX_MS,
        TTL_MAX_MS + 1,
        0,
        -1,
        -5,
        i64::MAX,
    ]);
    let is_ttl_flag = matches!(flags, 5 | 6);
    Request::CreateTtl {
        path: create_path(rng, flags),
        data: values::data(rng),
        acl: values::acl_for_create(rng),
        flags,
        // See `allowed::NOT_SENT`: this pair ends the real server.
        ttl_ms: if ttl_ms < 0 && !is_ttl_flag {
            7
        } else {
            ttl_ms
        },
    }
}

/// `/` and the nodes that outlive a plan keep their ACLs.
fn acl_target(rng: &mut Rng) -> Option<String> {
    match values::path(rng) {
        Some(p) if p.is_empty() || p == "/" || p.starts_with("/zookeeper") => {
            Some("/d/a".to_owned())
        }
        other => other,
    }
}

fn set_data(rng: &mut Rng) -> Request {
    let path = match values::path(rng) {
        Some(p) if p.starts_with("/zookeeper") => Some("/zookeeper/zz".to_owned()),
        other => other,
    };
    Request::SetData {
        path,
        data: values::data(rng),
        version: values::version(rng),
    }
}

fn read(rng: &mut Rng) -> Request {
    let watch = rng.percent(40);
    let path = values::path(rng);
    match rng.below(20) {
        0..4 => Request::Exists { path, watch },
        4..9 => Request::GetData { path, watch },
        9..11 => Request::GetChildren { path, watch },
        11..15 => Request::GetChildren2 { path, watch },
        15 => Request::GetAcl { path },
        16 => Request::GetAllChildrenNumber {
            path: path.filter(|p| !p.is_empty()),
        },
        17 => Request::GetEphemerals { prefix: path },
        18 => Request::Sync { path },
        _ => match rng.below(3) {
            0 => Request::Ping,
            1 => Request::WhoAmI,
            _ => Request::Reconfig {
                joining: None,
                leaving: None,
                members: Some("server.1=127.0.0.1:1:2:participant;3".to_owned()),
                config_id: -1,
            },
        },
    }
}

fn sub_write(rng: &mut Rng) -> Request {
    let mut request = any_sub_write(rng);
    if let Request::Create { acl, .. } | Request::CreateTtl { acl, .. } = &mut request
        && acl.is_none()
    {
        // See `allowed::NOT_SENT`.
        *acl = Some(vec![]);
    }
    request
}

fn any_sub_write(rng: &mut Rng) -> Request {
    match rng.below(20) {
        0..8 => create(rng),
        8 => create_ttl(rng),
        9..13 => Request::Delete {
            path: values::path(rng),
            version: values::version(rng),
        },
        13..17 => set_data(rng),
        _ => Request::Check {
            path: values::path(rng),
            version: values::version(rng),
        },
    }
}

fn multi(rng: &mut Rng) -> Request {
    let len = rng.below(6);
    let mut ops: Vec<Request> = (0..len).map(|_| sub_write(rng)).collect();
    if rng.percent(30) {
        // A chain that succeeds more often than independent operations do.
        let path = values::good_path(rng);
        let fresh = Request::Create {
            op: op::CREATE2,
            path: Some(path.clone()),
            data: values::data(rng),
            acl: crate::proto::open_acl(),
            flags: mode::PERSISTENT,
        };
        let change = Request::SetData {
            path: Some(path.clone()),
            data: values::data(rng),
            version: 0,
        };
        let check = Request::Check {
            path: Some(path),
            version: 1,
        };
        ops = vec![fresh, change, check];
        if rng.percent(50) {
            let at = rng.below(ops.len() + 1);
            ops.insert(at, sub_write(rng));
        }
    }
    if rng.percent(5) {
        let at = rng.below(ops.len() + 1);
        ops.insert(at, wrong_sub_op(rng));
    }
    Request::Multi(ops)
}

fn wrong_sub_op(rng: &mut Rng) -> Request {
    match rng.below(5) {
        0 => Request::Multi(vec![]),
        1 => Request::Raw {
            op: 77,
            body: vec![],
        },
        2 => Request::Ping,
        _ => read(rng),
    }
}

fn multi_read(rng: &mut Rng) -> Request {
    let len = rng.below(5);
    let ops = (0..len).map(|_| {
        let path = values::path(rng);
        match rng.below(20) {
            0..10 => Request::GetData { path, watch: false },
            10..19 => Request::GetChildren { path, watch: false },
            _ => wrong_sub_op(rng),
        }
    });
    Request::MultiRead(ops.collect())
}

fn watch_op(rng: &mut Rng) -> Request {
    let path = values::path(rng);
    match rng.below(10) {
        0..5 => Request::AddWatch {
            path,
            mode: *rng.pick(&[0, 0, 0, 1, 1, 1, 1, 2, -1]),
        },
        5..8 => Request::RemoveWatches {
            path,
            kind: *rng.pick(&[1, 2, 3, 3, 4, 5, 0, 6, -1]),
        },
        _ => Request::CheckWatches {
            path,
            kind: *rng.pick(&[1, 2, 3, 4, 5, 0, 6]),
        },
    }
}

/// setWatches or setWatches2, as a client sends them after a reconnect.
pub(super) fn set_watches(rng: &mut Rng) -> Call {
    let list = |rng: &mut Rng| -> Vec<String> {
        let len = rng.below(4);
        (0..len)
            .map(|_| values::path(rng).unwrap_or_default())
            .collect()
    };
    let persistent = rng.percent(50).then(|| (list(rng), list(rng)));
    let zxids_ago = *rng.pick(&[0, 0, 1, 2, 5, 20, 1_000_000, -50]);
    let mut lists = [Some(list(rng)), Some(list(rng)), Some(list(rng))];
    if rng.percent(8) {
        // See `allowed::NOT_SENT`: nothing before a null list.
        let null = rng.below(lists.len());
        lists[..null].fill(Some(vec![]));
        lists[null] = None;
    }
    let [data, exist, child] = lists;
    Call::SetWatches(WatchLists {
        zxids_ago,
        data,
        exist,
        child,
        persistent,
    })
}

/// A record that ends too early.
fn truncated(rng: &mut Rng) -> Request {
    let whole = match call_of_any_record(rng).encode(0) {
        frame if frame.len() > 8 => frame,
        _ => Request::Sync {
            path: Some("/d".to_owned()),
        }
        .encode(0),
    };
    let (op, body) = split(&whole);
    let keep = rng.below(body.len());
    Request::Raw {
        op,
        body: body[..keep].to_vec(),
    }
}

/// A record with bytes after its end.
fn padded(rng: &mut Rng) -> Request {
    let whole = call_of_any_record(rng).encode(0);
    let (op, mut body) = split(&whole);
    let extra = 1 + rng.below(9);
    body.extend(rng.bytes(extra));
    Request::Raw { op, body }
}

fn split(frame: &[u8]) -> (i32, Vec<u8>) {
    let mut op = [0; 4];
    op.copy_from_slice(&frame[4..8]);
    (i32::from_be_bytes(op), frame[8..].to_vec())
}

fn call_of_any_record(rng: &mut Rng) -> Request {
    match rng.below(8) {
        0 => create(rng),
        1 => create_ttl(rng),
        2 => Request::Delete {
            path: Some(values::good_path(rng)),
            version: values::version(rng),
        },
        3 => set_data(rng),
        4 | 5 => read(rng),
        6 => multi(rng),
        _ => watch_op(rng),
    }
}

/// A frame of exactly the largest size that is accepted.
fn largest(rng: &mut Rng) -> Request {
    let path = values::good_path(rng);
    let len = LARGEST_FRAME_BYTES - SET_DATA_OVERHEAD_BYTES - path.len();
    Request::SetData {
        path: Some(path),
        data: Some(vec![b'x'; len]),
        version: -1,
    }
}

fn odd_xid(rng: &mut Rng) -> Call {
    let xid = *rng.pick(&[0, 1, 1, -3, -5, -100, i32::MIN, i32::MAX]);
    let request = if rng.percent(50) {
        read(rng)
    } else {
        create(rng)
    };
    Call::WithXid(xid, request)
}

/// A request after which the server closes. It is sent alone: its answer may overtake others.
pub(super) fn fatal_call(rng: &mut Rng) -> Call {
    let request = match rng.below(4) {
        0 => {
            let (scheme, data) = values::bad_auth(rng);
            Request::Auth {
                scheme: scheme.map(str::to_owned),
                data: data.map(<[u8]>::to_vec),
            }
        }
        1 => Request::Check {
            path: values::path(rng),
            version: values::version(rng),
        },
        2 => Request::Raw {
            op: *rng.pick(&[0, 10, 23, 50, 99, 108, 200, 500, 509, -1, -2, -12, i32::MAX]),
            body: rng.bytes(12),
        },
        _ => Request::Raw {
            op: *rng.pick(&[23, 1_000, -100]),
            body: vec![],
        },
    };
    Call::Plain(request)
}

pub(super) fn auth(rng: &mut Rng) -> Call {
    let (scheme, data) = values::good_auth(rng);
    Call::Plain(Request::Auth {
        scheme: Some(scheme.to_owned()),
        data: Some(data.to_vec()),
    })
}
