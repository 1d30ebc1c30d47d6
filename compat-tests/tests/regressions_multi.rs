//! Behaviours of multi, multiRead and of unknown requests that other servers got wrong.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::conn::DEADLINE;
use oxkeeper_compat_tests::proto::{MultiResult, Reply, Request, err, event, mode, op, open_acl};
use oxkeeper_compat_tests::session::{
    Session, check_request, create_request, delete_request, set_request,
};

fn failed(code: i32) -> MultiResult {
    MultiResult {
        kind: -1,
        header_err: code,
        reply: Reply::Error(code),
    }
}

/// The session still works, and nothing of an earlier request is left in the stream.
fn assert_in_step(s: &mut Session) {
    s.ping().unwrap();
    s.sync("/").unwrap();
}

/// <https://github.com/ClickHouse/ClickHouse/pull/79247>, <https://github.com/JDRaftKeeper/RaftKeeper/pull/327>
#[test]
fn a_failed_multi_fires_no_watch_and_changes_nothing_but_the_zxid() {
    let bed = Bed::new();
    let (a, b) = (bed.at("/a"), bed.at("/b"));
    let mut s = bed.session();
    s.make(&a).unwrap();
    let root = bed.root.clone();
    let before = s.stat(&root).unwrap();
    let mut watcher = bed.session();
    watcher.get(&a, true).unwrap();
    watcher.exists(&b, true).unwrap();
    watcher.children(&root, true).unwrap();
    watcher.add_watch(&root, 1).unwrap();
    s.sync("/").unwrap();
    let zxid = s.last_zxid;
    s.multi(vec![
        set_request(&a, b"x", -1),
        create_request(op::CREATE, &b, b"", mode::PERSISTENT),
        check_request(&a, 99),
    ])
    .unwrap();
    assert_eq!(s.last_zxid, zxid + 1);
    assert_eq!(watcher.drain_events().unwrap(), []);
    assert_eq!(s.stat(&root).unwrap(), before);
    // The watches are still there.
    s.set(&a, b"y", 0).unwrap();
    let event = watcher.next_event_pair().unwrap();
    assert_eq!(event, (event::DATA_CHANGED, a));
}

/// <https://github.com/ClickHouse/ClickHouse/pull/117135>, <https://github.com/etcd-io/zetcd/pull/101>
#[test]
fn a_failed_multi_has_header_error_0_and_one_result_per_operation_at_every_position() {
    const LEN: usize = 4;
    let bed = Bed::new();
    let mut s = bed.session();
    for bad in 0..LEN {
        let ops = (0..LEN)
            .map(|i| {
                if i == bad {
                    return delete_request(&bed.at("/missing"), -1);
                }
                let path = bed.at(&format!("/n{i}"));
                create_request(op::CREATE, &path, b"", mode::PERSISTENT)
            })
            .collect();
        let (header, reply) = s.exchange(Request::Multi(ops)).unwrap();
        assert_eq!(header.err, 0);
        let wanted = (0..LEN).map(|i| match i.cmp(&bad) {
            std::cmp::Ordering::Less => failed(0),
            std::cmp::Ordering::Equal => failed(err::NO_NODE),
            std::cmp::Ordering::Greater => failed(err::RUNTIME_INCONSISTENCY),
        });
        assert_eq!(reply, Reply::Multi(wanted.collect()), "failing at {bad}");
    }
}

/// <https://github.com/ClickHouse/ClickHouse/issues/58747>, <https://github.com/JDRaftKeeper/RaftKeeper/issues/161>
#[test]
fn an_error_in_a_multi_read_has_type_minus_1_and_the_others_are_answered() {
    let bed = Bed::new();
    let mut s = bed.session();
    s.create(&bed.at("/a"), b"one", mode::PERSISTENT).unwrap();
    let get = |path: String| Request::GetData {
        path: Some(path),
        watch: false,
    };
    let list = Request::GetChildren {
        path: Some(bed.root.clone()),
        watch: false,
    };
    let ops = vec![get(bed.at("/missing")), get(bed.at("/a")), list];
    let (header, reply) = s.exchange(Request::MultiRead(ops)).unwrap();
    assert_eq!(header.err, 0);
    let Reply::Multi(results) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(results.len(), 3);
    assert_eq!(results[0], failed(err::NO_NODE));
    assert_eq!((results[1].kind, results[1].header_err), (op::GET_DATA, 0));
    assert!(matches!(&results[1].reply, Reply::Data(Some(d), _) if d == b"one"));
    assert_eq!(results[2].kind, op::GET_CHILDREN);
    assert_eq!(results[2].reply, Reply::Children(vec!["a".to_owned()]));
}

/// <https://github.com/JDRaftKeeper/RaftKeeper/issues/399>, <https://github.com/ClickHouse/ClickHouse/pull/115768>
#[test]
fn a_multi_with_reads_or_unknown_operations_is_refused_as_a_whole_and_the_server_lives() {
    let bed = Bed::new();
    let mut s = bed.session();
    let good = create_request(op::CREATE, &bed.at("/a"), b"", mode::PERSISTENT);
    let wrong = [
        Request::GetData {
            path: Some(bed.root.clone()),
            watch: false,
        },
        Request::Exists {
            path: Some(bed.root.clone()),
            watch: false,
        },
        Request::Raw {
            op: 77,
            body: vec![0; 40],
        },
        Request::Raw {
            op: op::MULTI,
            body: vec![],
        },
        Request::Raw {
            op: op::CLOSE,
            body: vec![],
        },
    ];
    for bad in wrong {
        let (header, reply) = s
            .exchange(Request::Multi(vec![good.clone(), bad.clone()]))
            .unwrap();
        assert_eq!(header.err, err::MARSHALLING, "{bad:?} {reply:?}");
        assert_eq!(s.exists(&bed.at("/a"), false).unwrap(), None);
    }
    let writes_in_read = Request::MultiRead(vec![good]);
    assert_eq!(s.exchange(writes_in_read).unwrap().0.err, err::MARSHALLING);
    assert_in_step(&mut s);
}

/// <https://github.com/JDRaftKeeper/RaftKeeper/pull/400>
#[test]
fn the_ttl_of_a_create_is_read_and_the_stream_stays_in_step() {
    let bed = Bed::new();
    let mut s = bed.session();
    let create = |path: String| Request::CreateTtl {
        path: Some(path),
        data: Some(b"x".to_vec()),
        acl: open_acl(),
        flags: mode::PERSISTENT_TTL,
        ttl_ms: 3_600_000,
    };
    let reply = s.call(create(bed.at("/alone"))).unwrap();
    assert!(matches!(reply, Reply::PathStat(..)), "{reply:?}");
    let after = create_request(op::CREATE, &bed.at("/after"), b"", mode::PERSISTENT);
    let results = s.multi(vec![create(bed.at("/in-multi")), after]).unwrap();
    let kinds: Vec<i32> = results.iter().map(|r| r.kind).collect();
    assert_eq!(kinds, [op::CREATE2, op::CREATE]);
    assert_in_step(&mut s);
}

/// <https://github.com/JDRaftKeeper/RaftKeeper/issues/399>
#[test]
fn an_unknown_request_is_answered_with_minus_6_and_the_connection_closed() {
    let bed = Bed::new();
    for op in [10, 23, 99, 108, 500, 501, -2, 0, -1, i32::MAX, i32::MIN] {
        let mut s = bed.session();
        let body = vec![0; 16];
        let (header, _) = s.exchange(Request::Raw { op, body }).unwrap();
        assert_eq!(
            (header.zxid, header.err),
            (-1, err::UNIMPLEMENTED),
            "type {op}"
        );
        s.conn.expect_close(DEADLINE).unwrap();
        // Only the connection is gone, not the session.
        s.last_zxid = 0;
        s.reattach(bed.addr()).unwrap();
    }
}

/// <https://github.com/apache/zookeeper/pull/1988>
#[test]
fn a_check_outside_of_a_multi_is_unknown_and_harms_nothing() {
    let bed = Bed::new();
    let mut s = bed.session();
    let (header, _) = s.exchange(check_request(&bed.root, -1)).unwrap();
    assert_eq!(header.err, err::UNIMPLEMENTED);
    s.conn.expect_close(DEADLINE).unwrap();
    bed.session().stat(&bed.root).unwrap();
}

/// <https://github.com/apache/zookeeper/pull/1978>
#[test]
fn create2_inside_a_multi_is_answered_as_create2_with_its_stat() {
    let bed = Bed::new();
    let mut s = bed.session();
    let a = bed.at("/a");
    let results = s
        .multi(vec![
            create_request(op::CREATE2, &a, b"12345", mode::PERSISTENT),
            create_request(op::CREATE, &bed.at("/b"), b"", mode::PERSISTENT),
            create_request(op::CREATE_CONTAINER, &bed.at("/c"), b"", mode::CONTAINER),
        ])
        .unwrap();
    assert_eq!(results[0].kind, op::CREATE2);
    let Reply::PathStat(path, stat) = &results[0].reply else {
        panic!("{results:?}");
    };
    assert_eq!((path, stat.data_length), (&a, 5));
    assert_eq!(*stat, s.stat(&a).unwrap());
    assert_eq!(results[1].kind, op::CREATE);
    assert_eq!(results[2].kind, op::CREATE2);
}

#[test]
fn later_operations_of_a_multi_see_the_earlier_ones() {
    let bed = Bed::new();
    let mut s = bed.session();
    let a = bed.at("/a");
    let results = s
        .multi(vec![
            create_request(op::CREATE, &a, b"", mode::PERSISTENT),
            set_request(&a, b"x", 0),
            check_request(&a, 1),
            create_request(
                op::CREATE,
                &bed.at("/a/s-"),
                b"",
                mode::PERSISTENT_SEQUENTIAL,
            ),
            create_request(
                op::CREATE,
                &bed.at("/a/s-"),
                b"",
                mode::PERSISTENT_SEQUENTIAL,
            ),
            delete_request(&bed.at("/a/s-0000000000"), 0),
        ])
        .unwrap();
    assert!(results.iter().all(|r| r.kind != -1), "{results:?}");
    let (children, stat) = s.children(&a, false).unwrap();
    assert_eq!(children, ["s-0000000001"]);
    assert_eq!(
        (stat.cversion, stat.czxid, stat.mzxid, stat.pzxid),
        (3, stat.czxid, stat.czxid, stat.czxid)
    );
}

#[test]
fn an_empty_multi_succeeds_and_takes_a_zxid() {
    let bed = Bed::new();
    let mut s = bed.session();
    s.sync("/").unwrap();
    let before = s.last_zxid;
    assert_eq!(s.multi(vec![]).unwrap(), []);
    assert_eq!(s.last_zxid, before + 1);
}

#[test]
fn a_failed_sequential_create_in_a_multi_gives_its_number_back() {
    let bed = Bed::new();
    let mut s = bed.session();
    let sequential = create_request(op::CREATE, &bed.at("/s-"), b"", mode::PERSISTENT_SEQUENTIAL);
    s.multi(vec![sequential, check_request(&bed.at("/missing"), 0)])
        .unwrap();
    let made = s.create(&bed.at("/s-"), b"", mode::PERSISTENT_SEQUENTIAL);
    assert_eq!(made.unwrap(), bed.at("/s-0000000000"));
}
