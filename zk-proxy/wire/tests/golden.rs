//! Byte for byte: what ZooKeeper 3.9's own record classes wrote (`data/golden.txt`) must decode to the values given
//! here, and the values must encode to those bytes.

#![allow(clippy::unwrap_used, clippy::too_many_lines)]

use bytes::{Buf, BytesMut};
use oxkeeper_wire::client::{self, MultiResult};
use oxkeeper_wire::{
    AclRecord, BodyWriter, CheckRequest, ConnectRequest, ConnectResponse, CreateRequest,
    DeleteRequest, ErrorCode, EventType, MultiOp, MultiReadOp, OpCode, Request, RequestHeader,
    SetDataRequest, Stat, Text, decode_body, decode_header, notification, reply,
};

const DATA: Option<&[u8]> = Some(&[1, 2, 3]);

const STAT: Stat = Stat {
    czxid: 1,
    mzxid: 2,
    ctime_ms: 3,
    mtime_ms: 4,
    version: 5,
    cversion: 6,
    aversion: 7,
    ephemeral_owner: 8,
    data_length: 9,
    num_children: 10,
    pzxid: 11,
};

fn golden(name: &str) -> Vec<u8> {
    let hex = include_str!("data/golden.txt")
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no golden record {name}"));
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn text(text: &str) -> Text<'_> {
    Some(text.into())
}

fn acl() -> Option<Vec<AclRecord<'static>>> {
    Some(vec![
        AclRecord::open(),
        AclRecord::new(1, "digest", "bob:x"),
    ])
}

fn create(
    op: OpCode,
    path: &'static str,
    data: Option<&'static [u8]>,
    flags: i32,
) -> CreateRequest<'static> {
    CreateRequest {
        op,
        path: text(path),
        data,
        acl: acl(),
        flags,
        ttl_ms: None,
    }
}

fn plain_requests() -> Vec<(&'static str, Request<'static>)> {
    let path = || text("/a");
    let nulls = CreateRequest {
        acl: None,
        ..create(OpCode::CREATE2, "/a", None, 0)
    };
    let ttl = CreateRequest {
        ttl_ms: Some(60_000),
        ..create(OpCode::CREATE_TTL, "/a/b", DATA, 5)
    };
    vec![
        (
            "create",
            Request::Create(create(OpCode::CREATE, "/a/b", DATA, 3)),
        ),
        ("create_null", Request::Create(nulls)),
        ("create_ttl", Request::Create(ttl)),
        (
            "delete",
            Request::Delete(DeleteRequest {
                path: path(),
                version: -1,
            }),
        ),
        (
            "exists",
            Request::Exists {
                path: path(),
                watch: true,
            },
        ),
        (
            "get",
            Request::GetData {
                path: path(),
                watch: false,
            },
        ),
        (
            "set",
            Request::SetData(SetDataRequest {
                path: path(),
                data: DATA,
                version: 4,
            }),
        ),
        ("get_acl", Request::GetAcl { path: path() }),
        (
            "set_acl",
            Request::SetAcl {
                path: path(),
                acl: acl(),
                version: 2,
            },
        ),
        (
            "children",
            Request::GetChildren {
                path: path(),
                watch: true,
            },
        ),
        (
            "children2",
            Request::GetChildren2 {
                path: text("/é"),
                watch: false,
            },
        ),
        ("sync", Request::Sync { path: path() }),
        (
            "check",
            Request::Check(CheckRequest {
                path: path(),
                version: 6,
            }),
        ),
        ("ephemerals", Request::GetEphemerals { prefix: text("/p") }),
        (
            "all_children",
            Request::GetAllChildrenNumber { path: path() },
        ),
        (
            "check_watches",
            Request::CheckWatches {
                path: path(),
                kind: 1,
            },
        ),
        (
            "remove_watches",
            Request::RemoveWatches {
                path: path(),
                kind: 3,
            },
        ),
        (
            "add_watch",
            Request::AddWatch {
                path: path(),
                mode: 1,
            },
        ),
        ("sasl", Request::Sasl { token: DATA }),
        (
            "auth",
            Request::Auth {
                kind: 0,
                scheme: text("digest"),
                auth: Some(b"bob:secret"),
            },
        ),
    ]
}

fn composite_requests() -> Vec<(&'static str, Request<'static>)> {
    let reconfig = Request::Reconfig {
        joining: text("j"),
        leaving: None,
        new_members: text(""),
        config_id: -1,
    };
    let set_watches = Request::SetWatches {
        relative_zxid: 99,
        data: Some(vec![text("/d")]),
        exist: Some(vec![text("/e"), text("/f")]),
        child: Some(vec![]),
    };
    let set_watches2 = Request::SetWatches2 {
        relative_zxid: 99,
        data: Some(vec![text("/d")]),
        exist: Some(vec![text("/e")]),
        child: Some(vec![text("/c")]),
        persistent: Some(vec![text("/p")]),
        persistent_recursive: Some(vec![text("/r"), text("/s")]),
    };
    let multi_read = Request::MultiRead(vec![
        MultiReadOp::GetData {
            path: text("/a"),
            watch: false,
        },
        MultiReadOp::GetChildren {
            path: text("/b"),
            watch: false,
        },
    ]);
    vec![
        ("reconfig", reconfig),
        ("set_watches", set_watches),
        ("set_watches2", set_watches2),
        ("multi", Request::Multi(multi())),
        ("multi_empty", Request::Multi(vec![])),
        ("multi_empty", Request::MultiRead(vec![])),
        ("multi_read", multi_read),
    ]
}

fn multi() -> Vec<MultiOp<'static>> {
    let ttl = CreateRequest {
        ttl_ms: Some(77),
        ..create(OpCode::CREATE_TTL, "/c", DATA, 5)
    };
    vec![
        MultiOp::Create(create(OpCode::CREATE, "/a", DATA, 0)),
        MultiOp::Create(create(OpCode::CREATE_CONTAINER, "/b", None, 4)),
        MultiOp::Create(ttl),
        MultiOp::SetData(SetDataRequest {
            path: text("/a"),
            data: DATA,
            version: 0,
        }),
        MultiOp::Check(CheckRequest {
            path: text("/a"),
            version: 1,
        }),
        MultiOp::Delete(DeleteRequest {
            path: text("/a"),
            version: -1,
        }),
    ]
}

fn all_requests() -> impl Iterator<Item = (&'static str, Request<'static>)> {
    plain_requests().into_iter().chain(composite_requests())
}

#[test]
fn requests_decode_from_zookeepers_bytes_and_encode_to_them() {
    for (name, request) in all_requests() {
        let bytes = golden(name);
        assert_eq!(
            decode_body(request.op(), &bytes).as_ref(),
            Ok(&request),
            "{name}"
        );

        let mut frame = BytesMut::new();
        client::encode_request(&mut frame, 7, &request);
        assert_eq!(
            frame.get_i32(),
            i32::try_from(8 + bytes.len()).unwrap(),
            "{name}"
        );
        let mut frame = &frame[..];
        assert_eq!(
            decode_header(&mut frame),
            Ok(RequestHeader {
                xid: 7,
                op: request.op()
            }),
            "{name}"
        );
        assert_eq!(frame, bytes, "{name}");
    }
}

#[test]
fn trailing_bytes_are_ignored() {
    for (name, request) in all_requests() {
        let mut bytes = golden(name);
        bytes.extend([1, 2, 3]);
        assert_eq!(decode_body(request.op(), &bytes), Ok(request), "{name}");
    }
}

#[test]
fn the_request_header_is_xid_and_operation() {
    let header = decode_header(&mut &golden("header")[..]).unwrap();
    assert_eq!(
        header,
        RequestHeader {
            xid: 7,
            op: OpCode::GET_DATA
        }
    );
    assert!(decode_header(&mut &golden("header")[..7]).is_err());
}

#[test]
fn handshakes_match_in_both_forms() {
    for (read_only, length) in [(Some(true), 45), (None, 44)] {
        let mut bytes = golden("connect");
        bytes.truncate(length);
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 5,
            timeout_ms: 30_000,
            session_id: 0x100,
            password: Some([0; 16].into()),
            read_only,
        };
        assert_eq!(ConnectRequest::decode(&bytes).as_ref(), Ok(&request));
        let mut frame = BytesMut::new();
        request.encode(&mut frame);
        assert_eq!(frame.get_i32() as usize, length);
        assert_eq!(frame, bytes);
    }
}

#[test]
fn connect_responses_match_in_both_forms() {
    for (read_only, length) in [(Some(false), 37), (None, 36)] {
        let mut bytes = golden("connect_response");
        bytes.truncate(length);
        let response = ConnectResponse {
            timeout_ms: 30_000,
            session_id: 0x1234,
            password: *b"0123456789abcdef",
            read_only,
        };
        assert_eq!(ConnectResponse::decode(&bytes).as_ref(), Ok(&response));
        let mut frame = BytesMut::new();
        response.encode(&mut frame);
        assert_eq!(frame.get_i32() as usize, length);
        assert_eq!(frame, bytes);
    }
}

#[test]
fn a_refused_reattach_answers_in_the_form_of_the_request() {
    for (read_only, length) in [(Some(true), 37), (None, 36)] {
        let request = ConnectRequest {
            session_id: 9,
            read_only,
            ..ConnectRequest::default()
        };
        let mut frame = BytesMut::new();
        ConnectResponse::session_expired(&request).encode(&mut frame);
        assert_eq!(frame.get_i32() as usize, length);
        let mut expected = vec![0; length];
        expected[19] = 16;
        assert_eq!(frame, expected);
    }
}

/// A reply frame's body as the writer makes it, its header checked.
fn body(write: impl FnOnce(&mut BodyWriter<'_>)) -> BytesMut {
    let mut frame = BytesMut::from(&b"earlier"[..]);
    reply(&mut frame, 7, 42, ErrorCode::NO_NODE, write);
    frame.advance(7);
    assert_eq!(frame.get_i32() as usize, frame.len());
    assert_eq!(frame.split_to(16), golden("reply_header"));
    frame
}

#[test]
fn response_records_match() {
    type Write = fn(&mut BodyWriter<'_>);
    let cases: [(&str, Write); 13] = [
        ("r_create", |w| w.text(Some("/a"))),
        ("r_sync", |w| w.text(None)),
        ("r_sasl", |w| w.buffer(None)),
        ("r_add_watch", |w| w.int(0)),
        ("r_count", |w| w.int(12)),
        ("r_set", |w| w.stat(&STAT)),
        ("r_children", |w| w.texts(["a", "b"])),
        ("r_ephemerals", |w| w.texts(["/x"])),
        ("r_whoami", |w| w.client_infos([("digest", "bob")])),
        ("r_create2", |w| {
            w.text(Some("/a"));
            w.stat(&STAT);
        }),
        ("r_get", |w| {
            w.buffer(DATA);
            w.stat(&STAT);
        }),
        ("r_get_null", |w| {
            w.buffer(None);
            w.stat(&STAT);
        }),
        ("r_acl", |w| {
            w.acl(acl().unwrap());
            w.stat(&STAT);
        }),
    ];
    for (name, write) in cases {
        assert_eq!(body(write), golden(name), "{name}");
    }
}

#[test]
fn multi_results_match() {
    let success = body(|w| {
        w.multi_created(OpCode::CREATE, "/a", &STAT);
        w.multi_created(OpCode::CREATE_CONTAINER, "/b", &STAT);
        w.multi_data_set(&STAT);
        w.multi_done(OpCode::CHECK);
        w.multi_done(OpCode::DELETE);
        w.multi_end();
    });
    assert_eq!(success, golden("r_multi"));
    let failure = body(|w| {
        w.multi_error(ErrorCode::OK);
        w.multi_error(ErrorCode::NODE_EXISTS);
        w.multi_error(ErrorCode::RUNTIME_INCONSISTENCY);
        w.multi_end();
    });
    assert_eq!(failure, golden("r_multi_failed"));
    let reads = body(|w| {
        w.multi_data(DATA, &STAT);
        w.multi_children(["a"]);
        w.multi_error(ErrorCode::NO_NODE);
        w.multi_end();
    });
    assert_eq!(reads, golden("r_multi_read"));
}

#[test]
fn notifications_match() {
    let mut frame = BytesMut::new();
    notification(&mut frame, 42, EventType::NodeDataChanged, "/a");
    assert_eq!(frame.get_i32() as usize, frame.len());
    assert_eq!(frame, golden("event"));
    let read = client::decode_reply(&frame).unwrap();
    assert_eq!(
        (read.xid, read.zxid, read.err),
        (client::XID_NOTIFICATION, 42, ErrorCode::OK)
    );
    let event = read.event().unwrap();
    assert_eq!((event.kind, event.state, event.path), (3, 3, text("/a")));
}

#[test]
fn the_client_reads_every_response_record() {
    let bytes = |name| -> &'static [u8] { golden(name).leak() };
    let read = |name| client::Reply {
        xid: 1,
        zxid: 2,
        err: ErrorCode::OK,
        body: bytes(name),
    };
    assert_eq!(read("r_create").path(), Ok(text("/a")));
    assert_eq!(read("r_sync").path(), Ok(None));
    assert_eq!(read("r_create2").path_and_stat(), Ok((text("/a"), STAT)));
    assert_eq!(read("r_get").data_and_stat(), Ok((DATA, STAT)));
    assert_eq!(read("r_get_null").data_and_stat(), Ok((None, STAT)));
    assert_eq!(read("stat").stat(), Ok(STAT));
    assert_eq!(read("r_acl").acl_and_stat(), Ok((acl(), STAT)));
    assert_eq!(
        read("r_children").texts(),
        Ok(Some(vec![text("a"), text("b")]))
    );
    assert_eq!(
        read("r_children2").texts_and_stat(),
        Ok((Some(vec![text("a"), text("b")]), STAT))
    );
    assert_eq!(read("r_add_watch").int(), Ok(0));
    assert_eq!(read("r_sasl").buffer(), Ok(None));
    assert_eq!(
        read("r_whoami").client_infos(),
        Ok(Some(vec![(text("digest"), text("bob"))]))
    );
    let failed = read("r_multi_failed").multi_results().unwrap();
    assert_eq!(
        failed,
        [0, -110, -2].map(|code| MultiResult::Error(ErrorCode(code)))
    );
    let reads = read("r_multi_read").multi_results().unwrap();
    assert_eq!(
        reads[0],
        MultiResult::Data {
            data: DATA,
            stat: STAT
        }
    );
    assert_eq!(reads[1], MultiResult::Children(Some(vec![text("a")])));
    assert_eq!(reads[2], MultiResult::Error(ErrorCode::NO_NODE));
    let writes = read("r_multi").multi_results().unwrap();
    assert_eq!(
        writes[0],
        MultiResult::Created {
            op: OpCode::CREATE,
            path: text("/a"),
            stat: None
        }
    );
    assert_eq!(
        writes[1],
        MultiResult::Created {
            op: OpCode::CREATE2,
            path: text("/b"),
            stat: Some(STAT)
        }
    );
    assert_eq!(writes[2], MultiResult::DataSet(STAT));
    assert_eq!(
        writes[3..],
        [
            MultiResult::Done(OpCode::CHECK),
            MultiResult::Done(OpCode::DELETE)
        ]
    );
}
