//! What a client may ask for at once: more than any limit inside the server, on one connection or on many.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::proto::op;
use oxkeeper_compat_tests::proto::{Acl, Reply, Request, err, mode, perm};
use oxkeeper_compat_tests::server::ServerOptions;
use oxkeeper_compat_tests::session::{Session, create_request};

fn set(path: &str, data: &[u8]) -> Request {
    Request::SetData {
        path: Some(path.to_owned()),
        data: Some(data.to_vec()),
        version: -1,
    }
}

fn get(path: &str) -> Request {
    Request::GetData {
        path: Some(path.to_owned()),
        watch: false,
    }
}

fn expect_all_ok(s: &mut Session, count: usize) {
    for number in 0..count {
        let (header, _) = s.receive_reply().unwrap();
        assert_eq!(header.err, err::OK, "reply {number}");
    }
}

#[test]
fn thousands_of_pipelined_sets_are_answered() {
    let bed = Bed::new();
    let node = bed.at("/a");
    for count in [1001, 5000] {
        let mut s = bed.session();
        let _ = s.make(&node);
        s.send(&vec![set(&node, b"x"); count]).unwrap();
        expect_all_ok(&mut s, count);
        s.stat(&node).unwrap();
    }
}

#[test]
fn thousands_of_reads_behind_writes_are_answered() {
    let bed = Bed::new();
    let node = bed.at("/a");
    let mut s = bed.session();
    s.make(&node).unwrap();
    let pairs: Vec<_> = (0..2000)
        .flat_map(|_| [set(&node, b"x"), get(&node)])
        .collect();
    s.send(&pairs).unwrap();
    expect_all_ok(&mut s, pairs.len());
}

/// More bytes than may be under way, in frames of up to the largest size.
#[test]
fn megabytes_of_pipelined_sets_are_answered() {
    let bed = Bed::new();
    let node = bed.at("/a");
    let mut s = bed.session();
    s.make(&node).unwrap();
    let sizes = [
        1_000_000, 10, 300_000, 1_000_000, 1_000_000, 500_000, 1_000_000, 1_000_000, 7,
    ];
    let sets: Vec<_> = sizes
        .iter()
        .map(|&bytes| set(&node, &vec![1; bytes]))
        .collect();
    s.send(&sets).unwrap();
    expect_all_ok(&mut s, sets.len());
    assert_eq!(s.get(&node, false).unwrap().1.data_length, 7);
}

#[test]
fn many_connections_beyond_their_limits_at_once_are_answered() {
    let bed = Bed::new();
    let clients: Vec<_> = (0..10)
        .map(|number| {
            let (mut s, node) = (bed.session(), bed.at(&format!("/{number}")));
            std::thread::spawn(move || {
                s.make(&node).unwrap();
                s.send(&vec![set(&node, b"x"); 1500]).unwrap();
                expect_all_ok(&mut s, 1500);
            })
        })
        .collect();
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
}

/// While another session writes values of all sizes to the same node.
#[test]
fn a_read_between_two_writes_of_its_session_never_shows_the_second() {
    let bed = Bed::new();
    let (node, other) = (bed.at("/a"), bed.at("/x"));
    let mut s = bed.session();
    s.make(&node).unwrap();
    s.make(&other).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (mut s, stop, node) = (bed.session(), Arc::clone(&stop), node.clone());
        std::thread::spawn(move || {
            let mut sizes = [5_000, 10, 60_000, 4_097].into_iter().cycle();
            while !stop.load(Ordering::Relaxed) {
                let value = vec![b'w'; sizes.next().unwrap()];
                s.set(&node, &value, -1).unwrap();
            }
        })
    };
    for round in 0..500_u32 {
        let own = format!("own {round}");
        s.send(&[set(&other, b"x"), get(&node), set(&node, own.as_bytes())])
            .unwrap();
        let (before, _) = s.receive_reply().unwrap();
        let (read, reply) = s.receive_reply().unwrap();
        let (after, _) = s.receive_reply().unwrap();
        let Reply::Data(data, stat) = reply else {
            panic!("{reply:?}");
        };
        assert_ne!(data.as_deref(), Some(own.as_bytes()), "round {round}");
        assert!(before.zxid <= read.zxid && read.zxid < after.zxid);
        assert!(stat.mzxid <= read.zxid);
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn one_request_may_read_thousands_of_records_that_nobody_has_read_before() {
    let bed = Bed::new();
    let mut s = bed.session();
    let paths: Vec<_> = (0..4000)
        .map(|number| bed.at(&format!("/{number}")))
        .collect();
    for chunk in paths.chunks(500) {
        let creates = chunk
            .iter()
            .map(|path| create_request(op::CREATE, path, path.as_bytes(), mode::PERSISTENT));
        s.call(Request::Multi(creates.collect())).unwrap();
    }
    let mut reads: Vec<_> = paths.iter().map(|path| get(path)).collect();
    reads.extend((0..4000).map(|number| get(&bed.at(&format!("/missing{number}")))));
    reads.push(Request::GetChildren {
        path: Some(bed.root.clone()),
        watch: false,
    });
    let Reply::Multi(results) = s.call(Request::MultiRead(reads)).unwrap() else {
        panic!("not a multi");
    };
    assert_eq!(results.len(), 8001);
    for (path, result) in paths.iter().zip(&results) {
        let Reply::Data(data, _) = &result.reply else {
            panic!("{result:?}");
        };
        assert_eq!(data.as_deref(), Some(path.as_bytes()));
    }
    assert!(
        results[4000..8000]
            .iter()
            .all(|result| result.reply == Reply::Error(err::NO_NODE))
    );
}

#[test]
fn a_list_of_ten_thousands_of_entries_is_kept_as_it_is() {
    let bed = Bed::new();
    let mut s = bed.session();
    let mut list: Vec<_> = (0..20_000)
        .map(|user| Acl::new(perm::READ, "digest", &format!("user{user}:hash")))
        .collect();
    list.push(Acl::new(perm::ALL, "world", "anyone"));
    let node = bed.at("/a");
    let twice = [&list[..10], &list[..]].concat();
    s.create_with_acl(&node, b"", Some(twice), mode::PERSISTENT)
        .unwrap();
    assert_eq!(s.get_acl(&node).unwrap().0, list);
}

/// Whatever becomes of it, others go on.
#[test]
fn a_multi_whose_access_lists_grow_beyond_all_bounds_stops_nobody() {
    let Some(bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let mut s = bed.session();
    for user in 0..300 {
        s.auth("digest", format!("user{user}:password").as_bytes())
            .unwrap();
    }
    let everybody = Some(vec![Acl::new(perm::ALL, "auth", "")]);
    s.create_with_acl(&bed.at("/a"), b"", everybody.clone(), mode::PERSISTENT)
        .unwrap();
    assert_eq!(s.get_acl(&bed.at("/a")).unwrap().0.len(), 300);
    if bed.server.is_oracle() {
        return;
    }
    let create = |number| Request::Create {
        op: op::CREATE,
        path: Some(bed.at(&format!("/{number}"))),
        data: None,
        acl: everybody.clone(),
        flags: mode::PERSISTENT,
    };
    let (header, _) = s
        .exchange(Request::Multi((0..9000).map(create).collect()))
        .unwrap();
    assert_eq!(header.err, err::BAD_ARGUMENTS);
    s.make(&bed.at("/b")).unwrap();
    assert_eq!(bed.session().children(&bed.root, false).unwrap().0.len(), 2);
}

#[test]
fn addresses_are_valid_as_zookeeper_reads_them() {
    let bed = Bed::new();
    let mut s = bed.session();
    let node = bed.at("/a");
    s.make(&node).unwrap();
    let anyone = Acl::new(perm::ALL, "world", "anyone");
    for (id, valid) in [
        ("127.0.0.1", true),
        ("010.000.0.1", true),
        ("+1.2.3.4", true),
        ("1.2.3.4/08", true),
        ("1.2.3.4/0", true),
        ("1.2.3.4/32", true),
        ("1.2.3.4/33", false),
        ("1.2.3.4/", false),
        ("1.2.3", false),
        ("1.2.3.4.", false),
        ("1.2.3.256", false),
        ("::1", true),
        ("2001:db8::/32", true),
        ("1:2:3:4:5:6:7::", true),
        ("1:2:3:4:5:6:7:8", true),
        ("+1::2", true),
        ("::1/+8", true),
        ("::1/129", false),
        ("00001::1", false),
        ("1::2::3", false),
        ("::1.2.3.4", false),
        ("::ffff:1.2.3.4", false),
        ("localhost", false),
    ] {
        let list = vec![anyone.clone(), Acl::new(perm::READ, "ip", id)];
        let result = s.set_acl(&node, list, -1);
        let code = result.map_or_else(|error| error.code().unwrap(), |_| err::OK);
        let expected = if valid { err::OK } else { err::INVALID_ACL };
        assert_eq!(code, expected, "{id}");
    }
    let matching = vec![
        Acl::new(perm::READ, "ip", "0127.0.00.9/08"),
        Acl::new(perm::ADMIN, "world", "anyone"),
    ];
    s.set_acl(&node, matching, -1).unwrap();
    s.get(&node, false).unwrap();
    for (id, valid) in [
        ("bob:", false),
        (":", false),
        ("bob:x:", true),
        (":x", true),
    ] {
        let list = vec![anyone.clone(), Acl::new(perm::READ, "digest", id)];
        let result = s.set_acl(&node, list, -1);
        assert_eq!(result.is_ok(), valid, "{id}");
    }
}
