//! Behaviours around sessions, time-outs and handshakes that other servers of this protocol got
//! wrong. One test per entry, with the report.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::conn::{Conn, ConnError, ConnectRequest, DEADLINE};
use oxkeeper_compat_tests::proto::{Reply, Request, event, mode, op, xid};
use oxkeeper_compat_tests::server::ServerOptions;
use oxkeeper_compat_tests::session::{Session, create_request, eventually};

/// Body of a SASL request: a token of no bytes.
const EMPTY_TOKEN: &[u8] = &[0; 4];
/// Body of an auth request: type 0, scheme `digest`, `u:p`.
const DIGEST_AUTH: &[u8] = b"\0\0\0\0\0\0\0\x06digest\0\0\0\x03u:p";

/// <https://github.com/ClickHouse/ClickHouse/issues/116690>
#[test]
fn reattach_to_an_unknown_session_is_refused_and_never_answered_with_a_new_one() {
    let bed = Bed::new();
    for read_only in [None, Some(false)] {
        let mut conn = Conn::open(bed.addr()).unwrap();
        let request = ConnectRequest {
            session_id: 0x7777_0000_1234,
            read_only,
            ..ConnectRequest::new_session(10_000)
        };
        let response = conn.handshake(&request).unwrap();
        assert_eq!((response.timeout_ms, response.session_id), (0, 0));
        assert_eq!(response.passwd.as_deref(), Some(&[0; 16][..]));
        assert_eq!(response.read_only, read_only);
        conn.expect_close(DEADLINE).unwrap();
    }
}

/// <https://github.com/ClickHouse/ClickHouse/issues/116690>
#[test]
fn a_wrong_password_is_refused_and_the_session_lives_on() {
    let bed = Bed::new();
    let s = bed.session();
    let mut wrong = s.reattach_request();
    wrong.passwd = Some(vec![9; 16]);
    let right = s.reattach_request();
    drop(s);
    let mut conn = Conn::open(bed.addr()).unwrap();
    let response = conn.handshake(&wrong).unwrap();
    assert_eq!((response.timeout_ms, response.session_id), (0, 0));
    let mut conn = Conn::open(bed.addr()).unwrap();
    assert_eq!(conn.handshake(&right).unwrap().session_id, right.session_id);
}

/// <https://github.com/ClickHouse/ClickHouse/issues/44571>
#[test]
fn a_session_is_restored_on_reconnect_with_its_ephemerals_and_watches_rearmed() {
    let bed = Bed::new();
    let (mine, other) = (bed.at("/mine"), bed.at("/other"));
    let mut s = bed.session();
    s.create(&mine, b"", mode::EPHEMERAL).unwrap();
    s.make(&other).unwrap();
    let mut s = s.reattach(bed.addr()).unwrap();
    let rearm = Request::SetWatches {
        relative_zxid: s.last_zxid,
        data: Some(vec![other.clone()]),
        exist: Some(vec![]),
        child: Some(vec![]),
        persistent: None,
    };
    s.call(rearm).unwrap();
    assert_eq!(s.stat(&mine).unwrap().ephemeral_owner, s.id);
    bed.session().set(&other, b"x", -1).unwrap();
    assert_eq!(s.next_event_pair().unwrap(), (event::DATA_CHANGED, other));
}

/// <https://github.com/etcd-io/zetcd/issues/70>, <https://github.com/JDRaftKeeper/RaftKeeper/issues/5>
/// and <https://github.com/ClickHouse/ClickHouse/pull/33288>
#[test]
fn the_timeout_that_was_asked_for_is_granted_within_both_bounds() {
    let Some(bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let asked_and_granted = [
        (i32::MIN, 1_000),
        (-1, 1_000),
        (0, 1_000),
        (999, 1_000),
        (1_000, 1_000),
        (12_345, 12_345),
        (60_000, 60_000),
        (60_001, 60_000),
        (i32::MAX, 60_000),
    ];
    for (asked, granted) in asked_and_granted {
        let s = Session::open_with_timeout(bed.addr(), asked).unwrap();
        assert_eq!(s.timeout_ms, granted, "asked for {asked}");
    }
}

/// <https://github.com/ClickHouse/ClickHouse/issues/53749>, <https://github.com/apache/zookeeper/pull/2146>
#[test]
fn a_handshake_of_44_bytes_is_answered_with_36_and_one_of_45_with_37() {
    let bed = Bed::new();
    for (read_only, sent, answered) in [(None, 44, 36), (Some(false), 45, 37), (Some(true), 45, 37)]
    {
        let request = ConnectRequest {
            read_only,
            ..ConnectRequest::new_session(10_000)
        };
        assert_eq!(request.encode().len(), sent);
        let mut conn = Conn::open(bed.addr()).unwrap();
        conn.send_frame(&request.encode()).unwrap();
        assert_eq!(conn.read_frame(DEADLINE).unwrap().len(), answered);
    }
}

/// <https://github.com/ClickHouse/ClickHouse/pull/121361>
#[test]
fn reads_alone_keep_a_session_alive() {
    let bed = Bed::new();
    let mut s = Session::open_with_timeout(bed.addr(), 4_000).unwrap();
    let mut idle = Session::open_with_timeout(bed.addr(), 4_000).unwrap();
    let node = bed.at("/of-the-idle-one");
    idle.create(&node, b"", mode::EPHEMERAL).unwrap();
    drop(idle);
    // Another session of the same timeout dies meanwhile: that much time has passed.
    let mut reads = 0;
    eventually("the silent session expires", || {
        reads += 1;
        s.exists(&node, false).unwrap().is_none()
    });
    assert!(reads > 1);
    s.make(&bed.at("/still-here")).unwrap();
}

/// <https://github.com/ClickHouse/ClickHouse/pull/121361>
#[test]
fn pings_alone_keep_a_session_alive() {
    let bed = Bed::new();
    let mut observer = bed.session();
    let mut s = Session::open_with_timeout(bed.addr(), 4_000).unwrap();
    let mut idle = Session::open_with_timeout(bed.addr(), 4_000).unwrap();
    let node = bed.at("/of-the-idle-one");
    idle.create(&node, b"", mode::EPHEMERAL).unwrap();
    drop(idle);
    eventually("the silent session expires", || {
        s.ping().unwrap();
        observer.exists(&node, false).unwrap().is_none()
    });
    s.make(&bed.at("/still-here")).unwrap();
}

/// kazoo repeats its SASL token for ever where the server offers no SASL: only the session's end
/// frees it.
#[test]
fn logging_in_alone_does_not_keep_a_session_alive() {
    let bed = Bed::new();
    let mut observer = bed.session();
    for (op, xid, body) in [
        (op::SASL, 1, EMPTY_TOKEN),
        (op::AUTH, xid::AUTH, DIGEST_AUTH),
    ] {
        let mut s = Session::open_with_timeout(bed.addr(), 1_000).unwrap();
        let node = bed.at(&format!("/of-{op}"));
        s.create(&node, b"", mode::EPHEMERAL).unwrap();
        let frame = [&xid.to_be_bytes()[..], &op.to_be_bytes(), body].concat();
        eventually("the session expires", || {
            // The write fails once the server has closed the connection.
            let _ = s.conn.send_frame(&frame);
            observer.exists(&node, false).unwrap().is_none()
        });
        eventually("its connection is closed", || {
            s.conn.send_frame(&frame).is_err()
        });
    }
}

/// An empty token is answered, also where the server offers no SASL; a null one is a fault of the
/// client.
#[test]
fn a_null_sasl_token_ends_the_connection_and_an_empty_one_does_not() {
    let bed = Bed::new();
    let mut s = bed.session();
    let frame = |token: &[u8]| [&1i32.to_be_bytes()[..], &op::SASL.to_be_bytes(), token].concat();
    s.conn.send_frame(&frame(EMPTY_TOKEN)).unwrap();
    let reply = s.conn.read_frame(DEADLINE).unwrap();
    assert_eq!(reply[..4], 1i32.to_be_bytes());
    s.conn.send_frame(&frame(&(-1i32).to_be_bytes())).unwrap();
    s.conn.expect_close(DEADLINE).unwrap();
}

/// <https://github.com/ClickHouse/ClickHouse/pull/60749>
#[test]
fn reads_between_pipelined_writes_see_the_earlier_ones_and_no_later_one() {
    const ROUNDS: usize = 200;
    let bed = Bed::new();
    let mut s = bed.session();
    for round in 0..ROUNDS {
        let path = bed.at(&format!("/n{round}"));
        let exists = Request::Exists {
            path: Some(path.clone()),
            watch: false,
        };
        s.send(&[
            exists.clone(),
            create_request(op::CREATE, &path, b"", mode::PERSISTENT),
            exists.clone(),
            oxkeeper_compat_tests::session::set_request(&path, b"x", -1),
            exists.clone(),
            oxkeeper_compat_tests::session::delete_request(&path, -1),
            exists,
        ])
        .unwrap();
        let replies: Vec<_> = (0..7).map(|_| s.receive_reply().unwrap()).collect();
        let version = |i: usize| match &replies[i].1 {
            Reply::Stat(stat) => Some(stat.version),
            _ => None,
        };
        let seen = [version(0), version(2), version(4), version(6)];
        assert_eq!(seen, [None, Some(0), Some(1), None], "round {round}");
        for read in [2, 4, 6] {
            let (read, write) = (replies[read].0.zxid, replies[read - 1].0.zxid);
            assert_eq!(
                read, write,
                "a read shows the zxid of what it saw, round {round}"
            );
        }
    }
}

/// <https://github.com/ClickHouse/ClickHouse/pull/60749>
#[test]
fn lists_between_pipelined_writes_see_the_earlier_ones_and_no_later_one() {
    const ROUNDS: usize = 200;
    let bed = Bed::new();
    let mut s = bed.session();
    for round in 0..ROUNDS {
        let parent = bed.at(&format!("/p{round}"));
        let child = format!("{parent}/c");
        let list = Request::GetChildren2 {
            path: Some(parent.clone()),
            watch: false,
        };
        s.send(&[
            create_request(op::CREATE, &parent, b"", mode::PERSISTENT),
            list.clone(),
            create_request(op::CREATE, &child, b"", mode::PERSISTENT),
            list.clone(),
            oxkeeper_compat_tests::session::delete_request(&child, -1),
            list.clone(),
            oxkeeper_compat_tests::session::delete_request(&parent, -1),
            list,
        ])
        .unwrap();
        let replies: Vec<_> = (0..8).map(|_| s.receive_reply().unwrap()).collect();
        let seen = [1, 3, 5, 7].map(|i| match &replies[i].1 {
            Reply::ChildrenStat(names, stat) => Some((names.len(), stat.num_children)),
            _ => None,
        });
        let wanted = [Some((0, 0)), Some((1, 1)), Some((0, 0)), None];
        assert_eq!(seen, wanted, "round {round}");
        for read in [1, 3, 5, 7] {
            let (read, write) = (replies[read].0.zxid, replies[read - 1].0.zxid);
            assert_eq!(
                read, write,
                "a read shows the zxid of what it saw, round {round}"
            );
        }
    }
}

/// <https://github.com/ClickHouse/ClickHouse/pull/99484>
#[test]
fn reads_are_answered_while_other_sessions_close() {
    let bed = Bed::new();
    let mut reader = bed.session();
    for round in 0..50 {
        let mut closing = bed.session();
        let path = bed.at(&format!("/e{round}"));
        closing.create(&path, b"", mode::EPHEMERAL).unwrap();
        let read = Request::GetData {
            path: Some(path.clone()),
            watch: false,
        };
        reader.send(&vec![read.clone(); 20]).unwrap();
        closing.send(&[Request::CloseSession]).unwrap();
        reader.send(&vec![read; 20]).unwrap();
        for _ in 0..40 {
            reader.receive_reply().unwrap();
        }
        closing.receive_reply().unwrap();
        assert_eq!(reader.exists(&path, false).unwrap(), None);
    }
}

/// <https://github.com/ClickHouse/ClickHouse/pull/114401>, <https://github.com/ClickHouse/ClickHouse/issues/81633>
#[test]
fn a_connect_during_a_restart_is_answered_or_closed_and_does_not_hang() {
    let Some(mut bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    if bed.server.is_oracle() {
        // The real server leaves connections that come too early without any answer.
        return;
    }
    let addr = bed.addr();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let client = std::thread::spawn(move || {
        let mut answered = 0;
        while stopped.try_recv().is_err() {
            let Ok(mut conn) = Conn::open(addr) else {
                continue;
            };
            match conn.handshake(&ConnectRequest::new_session(10_000)) {
                Ok(_) => answered += 1,
                Err(ConnError::Closed) => {}
                Err(e) => panic!("neither answered nor closed: {e}"),
            }
        }
        answered
    });
    for _ in 0..3 {
        bed.server.restart().unwrap();
    }
    stop.send(()).unwrap();
    assert!(client.join().unwrap() > 0);
}

/// <https://github.com/JDRaftKeeper/RaftKeeper/pull/262>, <https://github.com/JDRaftKeeper/RaftKeeper/issues/121>
#[test]
fn session_ids_that_a_server_may_use_inside_are_unknown_sessions_from_outside() {
    let bed = Bed::new();
    for session_id in [
        -1,
        1,
        2,
        i64::MIN,
        i64::MAX,
        0xff00_0000_0000_0001_u64 as i64,
    ] {
        let mut conn = Conn::open(bed.addr()).unwrap();
        let request = ConnectRequest {
            session_id,
            ..ConnectRequest::new_session(10_000)
        };
        let response = conn.handshake(&request).unwrap();
        assert_eq!((response.timeout_ms, response.session_id), (0, 0));
    }
}

#[test]
fn session_ids_are_unique_not_zero_and_never_given_again_after_a_restart() {
    let Some(mut bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        for _ in 0..50 {
            let id = bed.session().id;
            assert!(id != 0 && id != -1 && id != i64::MIN);
            assert!(seen.insert(id), "session {id:#x} given twice");
        }
        bed.server.restart().unwrap();
    }
}

/// <https://github.com/ClickHouse/ClickHouse/pull/65198>
#[test]
fn what_a_session_pipelined_before_its_close_stands_and_survives_a_restart() {
    let Some(mut bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let mut s = bed.session();
    let mut requests: Vec<Request> = (0..100)
        .map(|i| {
            let flags = if i % 2 == 0 {
                mode::PERSISTENT
            } else {
                mode::EPHEMERAL
            };
            create_request(op::CREATE, &bed.at(&format!("/n{i:03}")), b"", flags)
        })
        .collect();
    requests.push(Request::CloseSession);
    s.send(&requests).unwrap();
    for _ in &requests {
        assert_eq!(s.receive_reply().unwrap().0.err, 0);
    }
    let before = bed.session().children(&bed.root, false).unwrap();
    assert_eq!(before.0.len(), 50);
    bed.server.kill9().unwrap();
    bed.server.restart().unwrap();
    assert_eq!(bed.session().children(&bed.root, false).unwrap(), before);
}

/// <https://github.com/bonifaido/rust-zookeeper/issues/50>, <https://github.com/kezhuw/zookeeper-client-rust/pull/82>
#[test]
fn a_notification_carries_the_zxid_of_its_transaction_and_catch_up_events_minus_one() {
    let bed = Bed::new();
    let (a, b) = (bed.at("/a"), bed.at("/b"));
    let mut s = bed.session();
    s.make(&a).unwrap();
    s.get(&a, true).unwrap();
    s.exists(&b, true).unwrap();
    let mut other = bed.session();
    let (header, _) = other
        .exchange(Request::Multi(vec![
            oxkeeper_compat_tests::session::set_request(&a, b"x", -1),
            create_request(op::CREATE, &b, b"", mode::PERSISTENT),
        ]))
        .unwrap();
    for wanted in [(event::DATA_CHANGED, &a), (event::CREATED, &b)] {
        let event = s.next_event().unwrap();
        assert_eq!((event.kind, &event.path), wanted);
        assert_eq!(event.zxid, header.zxid);
    }
    s.call(Request::SetWatches {
        relative_zxid: 0,
        data: Some(vec![a.clone()]),
        exist: Some(vec![b]),
        child: Some(vec![]),
        persistent: None,
    })
    .unwrap();
    for event in s.drain_events().unwrap() {
        assert_eq!(event.zxid, -1);
    }
}

#[test]
fn a_client_that_has_seen_more_than_the_server_is_turned_away_without_an_answer() {
    let bed = Bed::new();
    let mut s = bed.session();
    s.sync("/").unwrap();
    let mut request = s.reattach_request();
    request.last_zxid_seen = s.last_zxid + 1_000_000;
    let mut conn = Conn::open(bed.addr()).unwrap();
    conn.send_frame(&request.encode()).unwrap();
    conn.expect_close(DEADLINE).unwrap();
    s.reattach(bed.addr()).unwrap();
}

#[test]
fn a_moved_session_is_closed_on_its_old_connection_and_lives_on_the_new_one() {
    let bed = Bed::new();
    let node = bed.at("/mine");
    let mut old = bed.session();
    old.create(&node, b"", mode::EPHEMERAL).unwrap();
    let mut new = old.reattach(bed.addr()).unwrap();
    old.conn.expect_close(DEADLINE).unwrap();
    assert_eq!(new.stat(&node).unwrap().ephemeral_owner, new.id);
    new.set(&node, b"x", 0).unwrap();
}

#[test]
fn requests_sent_together_with_the_handshake_are_answered_after_it() {
    let bed = Bed::new();
    let path = bed.at("/early");
    let mut conn = Conn::open(bed.addr()).unwrap();
    let create = create_request(op::CREATE, &path, b"", mode::PERSISTENT);
    conn.send_frames(&[
        ConnectRequest::new_session(10_000).encode(),
        create.encode(1),
        Request::Ping.encode(xid::PING),
    ])
    .unwrap();
    assert_eq!(conn.read_frame(DEADLINE).unwrap().len(), 37);
    assert_eq!(conn.read_frame(DEADLINE).unwrap()[..4], [0, 0, 0, 1]);
    assert_eq!(
        conn.read_frame(DEADLINE).unwrap()[..4],
        [0xff, 0xff, 0xff, 0xfe]
    );
}
