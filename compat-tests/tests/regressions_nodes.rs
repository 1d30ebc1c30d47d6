//! Behaviours of nodes, their Stat and their names that other servers got wrong.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::proto::{Reply, Request, Stat, err, event, mode, op, open_acl};
use oxkeeper_compat_tests::server::ServerOptions;
use oxkeeper_compat_tests::session::{create_request, eventually};

/// <https://github.com/ClickHouse/ClickHouse/issues/115457>
#[test]
fn cversion_and_pzxid_of_a_parent_follow_creates_and_deletes_and_not_data() {
    let bed = Bed::new();
    let child = bed.at("/a");
    let mut s = bed.session();
    let parent = |s: &mut oxkeeper_compat_tests::session::Session| s.stat(&bed.root).unwrap();
    let fresh = parent(&mut s);
    assert_eq!((fresh.cversion, fresh.pzxid), (0, fresh.czxid));
    let (header, _) = s
        .exchange(create_request(op::CREATE, &child, b"", mode::PERSISTENT))
        .unwrap();
    let created = Stat {
        cversion: 1,
        num_children: 1,
        pzxid: header.zxid,
        ..fresh
    };
    assert_eq!(parent(&mut s), created);
    s.set(&child, b"x", -1).unwrap();
    s.make(&bed.at("/a/grandchild")).unwrap();
    s.delete(&bed.at("/a/grandchild"), -1).unwrap();
    assert_eq!(parent(&mut s), created);
    let delete = oxkeeper_compat_tests::session::delete_request(&child, -1);
    let (header, _) = s.exchange(delete).unwrap();
    let deleted = Stat {
        cversion: 2,
        num_children: 0,
        pzxid: header.zxid,
        ..fresh
    };
    assert_eq!(parent(&mut s), deleted);
}

/// <https://github.com/ClickHouse/ClickHouse/issues/55595>, <https://github.com/ClickHouse/ClickHouse/pull/108909>
#[test]
fn create2_answers_with_the_stat_of_the_new_node() {
    let bed = Bed::new();
    let mut s = bed.session();
    let (path, stat) = s
        .create2(op::CREATE2, &bed.at("/a"), b"12345", mode::EPHEMERAL)
        .unwrap();
    assert_eq!(path, bed.at("/a"));
    assert_eq!((stat.data_length, stat.ephemeral_owner), (5, s.id));
    assert_eq!(stat.czxid, s.last_zxid);
    assert_eq!(stat, s.stat(&path).unwrap());
}

/// <https://github.com/ClickHouse/ClickHouse/pull/108908>, <https://github.com/apache/zookeeper/pull/838>
#[test]
fn containers_and_ttl_nodes_show_no_ephemeral_owner() {
    let bed = Bed::new();
    let mut s = bed.session();
    let (_, stat) = s
        .create2(op::CREATE_CONTAINER, &bed.at("/c"), b"", mode::CONTAINER)
        .unwrap();
    assert_eq!(stat.ephemeral_owner, 0);
    let reply = s.call(create_ttl(&bed.at("/t"), 3_600_000)).unwrap();
    assert!(matches!(reply, Reply::PathStat(_, stat) if stat.ephemeral_owner == 0));
    for path in ["/c", "/t"] {
        assert_eq!(s.stat(&bed.at(path)).unwrap().ephemeral_owner, 0);
    }
}

fn create_ttl(path: &str, ttl_ms: i64) -> Request {
    Request::CreateTtl {
        path: Some(path.to_owned()),
        data: None,
        acl: open_acl(),
        flags: mode::PERSISTENT_TTL,
        ttl_ms,
    }
}

/// <https://github.com/ClickHouse/ClickHouse/pull/100397>
#[test]
fn a_ttl_node_may_have_children_and_an_ephemeral_may_not() {
    let bed = Bed::new();
    let mut s = bed.session();
    s.call(create_ttl(&bed.at("/t"), 3_600_000)).unwrap();
    s.make(&bed.at("/t/child")).unwrap();
    s.create(&bed.at("/e"), b"", mode::EPHEMERAL).unwrap();
    let refused = s.make(&bed.at("/e/child")).unwrap_err();
    assert_eq!(refused.code(), Some(err::NO_CHILDREN_FOR_EPHEMERALS));
}

fn quick_containers() -> ServerOptions {
    ServerOptions {
        container_check_interval_ms: 200,
        ..ServerOptions::default()
    }
}

#[test]
fn a_container_goes_after_its_last_child_and_not_before_its_first() {
    let Some(bed) = Bed::own(&quick_containers()) else {
        return;
    };
    let (used, unused) = (bed.at("/used"), bed.at("/unused"));
    let mut s = bed.session();
    for path in [&used, &unused] {
        s.create2(op::CREATE_CONTAINER, path, b"", mode::CONTAINER)
            .unwrap();
    }
    let child = format!("{used}/child");
    s.make(&child).unwrap();
    s.exists(&used, true).unwrap();
    s.children(&bed.root, true).unwrap();
    s.delete(&child, -1).unwrap();
    let first = s.next_event().unwrap();
    let second = s.next_event().unwrap();
    assert_eq!((first.kind, &first.path), (event::DELETED, &used));
    assert_eq!(
        (second.kind, &second.path),
        (event::CHILDREN_CHANGED, &bed.root)
    );
    assert_eq!(first.zxid, second.zxid);
    assert_eq!(s.stat(&bed.root).unwrap().pzxid, first.zxid);
    assert!(s.exists(&unused, false).unwrap().is_some());
}

#[test]
fn a_ttl_node_goes_when_it_has_no_children_and_was_not_written_for_its_ttl() {
    let Some(bed) = Bed::own(&quick_containers()) else {
        return;
    };
    let (short, parent, long) = (bed.at("/short"), bed.at("/parent"), bed.at("/long"));
    let mut s = bed.session();
    s.call(create_ttl(&long, 3_600_000)).unwrap();
    s.call(create_ttl(&parent, 300)).unwrap();
    s.make(&format!("{parent}/child")).unwrap();
    s.call(create_ttl(&short, 300)).unwrap();
    eventually("the TTL has passed", || {
        s.exists(&short, false).unwrap().is_none()
    });
    assert!(s.exists(&parent, false).unwrap().is_some());
    assert!(s.exists(&long, false).unwrap().is_some());
    s.delete(&format!("{parent}/child"), -1).unwrap();
    eventually("the parent follows its child", || {
        s.exists(&parent, false).unwrap().is_none()
    });
}

/// <https://github.com/etcd-io/zetcd/issues/5>, <https://github.com/etcd-io/zetcd/pull/26>
#[test]
fn a_sequential_create_may_end_with_a_slash_and_gets_a_bare_number() {
    let bed = Bed::new();
    let mut s = bed.session();
    let made = s.create(&bed.at("/"), b"", mode::EPHEMERAL_SEQUENTIAL);
    assert_eq!(made.unwrap(), bed.at("/0000000000"));
}

#[test]
fn the_sequence_counts_all_creates_below_the_parent_and_no_deletes() {
    let bed = Bed::new();
    let mut s = bed.session();
    let mut next = |prefix: &str| {
        let path = bed.at(prefix);
        let made = s.create(&path, b"", mode::PERSISTENT_SEQUENTIAL).unwrap();
        made[bed.root.len()..].to_owned()
    };
    assert_eq!(next("/a-"), "/a-0000000000");
    assert_eq!(next("/b-"), "/b-0000000001");
    let mut other = bed.session();
    other.make(&bed.at("/plain")).unwrap();
    other.delete(&bed.at("/plain"), -1).unwrap();
    other.delete(&bed.at("/a-0000000000"), -1).unwrap();
    assert_eq!(next("/a-"), "/a-0000000003");
}

/// <https://github.com/ClickHouse/ClickHouse/pull/27125>
#[test]
fn paths_that_are_no_paths_are_refused_with_the_code_of_zookeeper() {
    let bed = Bed::new();
    let mut s = bed.session();
    s.make(&bed.at("/a")).unwrap();
    let mut create = |path: &str| s.make(path).unwrap_err().code().unwrap();
    assert_eq!(create(""), err::BAD_ARGUMENTS);
    assert_eq!(create("/"), err::NODE_EXISTS);
    assert_eq!(create("foo"), err::BAD_ARGUMENTS);
    assert_eq!(create("foo/bar"), err::NO_NODE);
    assert_eq!(create(&bed.at("/a/")), err::BAD_ARGUMENTS);
    assert_eq!(create(&bed.at("/x//y")), err::NO_NODE);
    assert_eq!(create(&bed.at("/a//y")), err::NO_NODE);
    for bad in [
        "/.",
        "/..",
        "/a/../b",
        "/nul\0",
        "/\u{1}",
        "/\u{7f}",
        "/\u{e000}",
        "/\u{1f600}",
    ] {
        let code = create(&bed.at(bad));
        assert!(
            code == err::BAD_ARGUMENTS || code == err::NO_NODE,
            "{bad:?}: {code}"
        );
    }
    for good in ["/ with space", "/a..", "/..a", "/€", "/漢字"] {
        assert_eq!(s.make(&bed.at(good)).unwrap(), bed.at(good));
    }
}

/// <https://github.com/ClickHouse/ClickHouse/pull/37980>
#[test]
fn the_number_of_children_is_right_after_a_crash_in_the_middle_of_deletes() {
    let Some(mut bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let mut s = bed.session();
    let path = |i: usize| bed.at(&format!("/n{i}"));
    let creates: Vec<Request> = (0..200)
        .map(|i| create_request(op::CREATE, &path(i), b"", mode::PERSISTENT))
        .collect();
    s.send(&creates).unwrap();
    for _ in &creates {
        s.receive_reply().unwrap();
    }
    let deletes: Vec<Request> = (0..200)
        .map(|i| oxkeeper_compat_tests::session::delete_request(&path(i), -1))
        .collect();
    s.send(&deletes).unwrap();
    for _ in 0..50 {
        assert_eq!(s.receive_reply().unwrap().0.err, 0);
    }
    bed.server.kill9().unwrap();
    bed.server.restart().unwrap();
    let (children, stat) = bed.session().children(&bed.root, false).unwrap();
    assert!(children.len() <= 150);
    assert_eq!(stat.num_children as usize, children.len());
    assert_eq!(stat.cversion, 400 - children.len() as i32);
}

#[test]
fn null_and_empty_data_stay_apart() {
    let bed = Bed::new();
    let mut s = bed.session();
    for (path, data) in [("/null", None), ("/empty", Some(vec![]))] {
        s.call(Request::Create {
            op: op::CREATE,
            path: Some(bed.at(path)),
            data: data.clone(),
            acl: open_acl(),
            flags: 0,
        })
        .unwrap();
        let (got, stat) = s.get(&bed.at(path), false).unwrap();
        assert_eq!((got, stat.data_length), (data, 0));
    }
}

#[test]
fn the_nodes_of_the_system_are_there_and_cannot_be_deleted() {
    let bed = Bed::new();
    let mut s = bed.session();
    let (children, _) = s.children("/zookeeper", false).unwrap();
    assert_eq!(children, ["config", "quota"]);
    s.get("/zookeeper/config", true).unwrap();
    for path in ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
        let refused = s.delete(path, -1).unwrap_err();
        assert_eq!(refused.code(), Some(err::BAD_ARGUMENTS), "{path}");
    }
    let refused = s.set("/zookeeper/config", b"x", -1).unwrap_err();
    assert_eq!(refused.code(), Some(err::NO_AUTH));
    let reconfig = Request::Reconfig {
        joining: None,
        leaving: None,
        members: Some("server.1=a:1:2:participant;3".to_owned()),
        config_id: -1,
    };
    assert_eq!(s.exchange(reconfig).unwrap().0.err, err::RECONFIG_DISABLED);
}

#[test]
fn versions_guard_writes_and_minus_1_means_any() {
    let bed = Bed::new();
    let path = bed.at("/a");
    let mut s = bed.session();
    s.make(&path).unwrap();
    assert_eq!(
        s.set(&path, b"", 7).unwrap_err().code(),
        Some(err::BAD_VERSION)
    );
    assert_eq!(s.set(&path, b"", 0).unwrap().version, 1);
    assert_eq!(s.set(&path, b"", -1).unwrap().version, 2);
    assert_eq!(
        s.delete(&path, 1).unwrap_err().code(),
        Some(err::BAD_VERSION)
    );
    s.delete(&path, 2).unwrap();
}
