//! Watch behaviours that other servers got wrong.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::conn::four_letter_word;
use oxkeeper_compat_tests::proto::{Reply, Request, err, event, mode, op};
use oxkeeper_compat_tests::session::{
    Arrival, Session, create_request, delete_request, eventually, set_request,
};

const PERSISTENT: i32 = 0;
const RECURSIVE: i32 = 1;

fn pairs(s: &mut Session) -> Vec<(i32, String)> {
    let events = s.drain_events().unwrap();
    events.into_iter().map(|e| (e.kind, e.path)).collect()
}

fn set_watches(s: &mut Session, data: &[&str], exist: &[&str], child: &[&str]) {
    let list = |paths: &[&str]| Some(paths.iter().map(|p| (*p).to_owned()).collect());
    s.call(Request::SetWatches {
        relative_zxid: s.last_zxid,
        data: list(data),
        exist: list(exist),
        child: list(child),
        persistent: None,
    })
    .unwrap();
}

/// <https://github.com/ClickHouse/ClickHouse/issues/115475>
#[test]
fn events_of_a_recursive_watch_carry_the_path_of_the_node_that_changed() {
    let bed = Bed::new();
    let (a, b) = (bed.at("/a"), bed.at("/a/b"));
    let mut watcher = bed.session();
    let reply = watcher.add_watch(&bed.root, RECURSIVE).unwrap();
    assert_eq!(reply, Reply::Int(0));
    let mut s = bed.session();
    s.make(&a).unwrap();
    s.make(&b).unwrap();
    s.set(&b, b"x", -1).unwrap();
    s.delete(&b, -1).unwrap();
    let wanted = [
        (event::CREATED, a),
        (event::CREATED, b.clone()),
        (event::DATA_CHANGED, b.clone()),
        (event::DELETED, b),
    ];
    assert_eq!(pairs(&mut watcher), wanted);
}

#[test]
fn a_persistent_watch_fires_for_the_node_and_its_list_and_survives_its_deletion() {
    let bed = Bed::new();
    let (a, b) = (bed.at("/a"), bed.at("/a/b"));
    let mut watcher = bed.session();
    watcher.add_watch(&a, PERSISTENT).unwrap();
    let mut s = bed.session();
    for _ in 0..2 {
        s.make(&a).unwrap();
        s.make(&b).unwrap();
        s.set(&b, b"x", -1).unwrap();
        s.set(&a, b"x", -1).unwrap();
        s.delete(&b, -1).unwrap();
        s.delete(&a, -1).unwrap();
        let wanted = [
            event::CREATED,
            event::CHILDREN_CHANGED,
            event::DATA_CHANGED,
            event::CHILDREN_CHANGED,
            event::DELETED,
        ]
        .map(|kind| (kind, a.clone()));
        assert_eq!(pairs(&mut watcher), wanted);
    }
}

fn watches_in_mntr(bed: &Bed) -> i64 {
    mntr(bed, "zk_watch_count")
}

fn mntr(bed: &Bed, name: &str) -> i64 {
    let text = four_letter_word(bed.addr(), "mntr").unwrap();
    let line = text.lines().find(|l| l.split('\t').next() == Some(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in:\n{text}"));
    value.split('\t').nth(1).unwrap().trim().parse().unwrap()
}

/// <https://github.com/ClickHouse/ClickHouse/issues/92480>, <https://github.com/JDRaftKeeper/RaftKeeper/issues/376>,
/// <https://github.com/ClickHouse/ClickHouse/pull/83583>
#[test]
fn no_watch_is_left_behind_by_a_session_that_closes_or_a_connection_that_breaks() {
    let bed = Bed::new();
    let before = watches_in_mntr(&bed);
    let watch_much = |s: &mut Session| {
        s.get(&bed.root, true).unwrap();
        s.children(&bed.root, true).unwrap();
        s.exists(&bed.at("/missing"), true).unwrap();
        s.add_watch(&bed.root, RECURSIVE).unwrap();
        s.add_watch(&bed.at("/other"), PERSISTENT).unwrap();
    };
    let mut closing = bed.session();
    watch_much(&mut closing);
    let mut breaking = bed.session();
    watch_much(&mut breaking);
    assert!(watches_in_mntr(&bed) > before);
    closing.close().unwrap();
    drop(breaking);
    eventually("all watches are gone", || watches_in_mntr(&bed) == before);
}

/// <https://github.com/ClickHouse/ClickHouse/pull/78799>
#[test]
fn the_count_of_ephemerals_in_mntr_goes_up_and_down() {
    let bed = Bed::new();
    let before = mntr(&bed, "zk_ephemerals_count");
    let mut s = bed.session();
    for name in ["/a", "/b", "/c"] {
        s.create(&bed.at(name), b"", mode::EPHEMERAL).unwrap();
    }
    assert_eq!(mntr(&bed, "zk_ephemerals_count"), before + 3);
    s.delete(&bed.at("/a"), -1).unwrap();
    assert_eq!(mntr(&bed, "zk_ephemerals_count"), before + 2);
    s.close().unwrap();
    assert_eq!(mntr(&bed, "zk_ephemerals_count"), before);
}

/// <https://github.com/ClickHouse/ClickHouse/issues/48141>
#[test]
fn set_watches_rearms_data_and_exists_watches_and_tells_what_was_missed() {
    let bed = Bed::new();
    let (kept, changed, deleted, appeared, missing) = (
        bed.at("/kept"),
        bed.at("/changed"),
        bed.at("/deleted"),
        bed.at("/appeared"),
        bed.at("/missing"),
    );
    let mut s = bed.session();
    for path in [&kept, &changed, &deleted] {
        s.make(path).unwrap();
    }
    let mut helper = bed.session();
    let request = s.reattach_request();
    drop(s);
    helper.set(&changed, b"x", -1).unwrap();
    helper.delete(&deleted, -1).unwrap();
    helper.make(&appeared).unwrap();
    let mut conn = oxkeeper_compat_tests::conn::Conn::open(bed.addr()).unwrap();
    let response = conn.handshake(&request).unwrap();
    let mut s = Session::from_handshake(conn, response).unwrap();
    s.last_zxid = request.last_zxid_seen;
    set_watches(
        &mut s,
        &[&kept, &changed, &deleted],
        &[&appeared, &missing],
        &[],
    );
    let caught_up = pairs(&mut s);
    let wanted = [
        (event::DATA_CHANGED, changed),
        (event::DELETED, deleted),
        (event::CREATED, appeared),
    ];
    assert_eq!(caught_up, wanted);
    helper.set(&kept, b"x", -1).unwrap();
    helper.make(&missing).unwrap();
    let wanted = [(event::DATA_CHANGED, kept), (event::CREATED, missing)];
    assert_eq!(pairs(&mut s), wanted);
}

/// Seed 5084 of the differential run.
#[test]
fn a_null_path_is_not_the_empty_one() {
    const CHILDREN: i32 = 1;
    let bed = Bed::new();
    let mut s = bed.session();
    // Nothing was missed: the watch is set, on the root of the tree.
    s.stat(&bed.root).unwrap();
    set_watches(&mut s, &[], &[], &[""]);
    let mut check = |path: Option<&str>| {
        let request = Request::CheckWatches {
            path: path.map(str::to_owned),
            kind: CHILDREN,
        };
        s.exchange(request).unwrap().0.err
    };
    assert_eq!(check(None), err::NO_WATCHER);
    assert_eq!(check(Some("")), 0);
}

/// <https://github.com/JDRaftKeeper/RaftKeeper/pull/400>
#[test]
fn set_watches_keeps_child_watches() {
    let bed = Bed::new();
    let mut s = bed.session();
    s.children(&bed.root, true).unwrap();
    let mut s = s.reattach(bed.addr()).unwrap();
    set_watches(&mut s, &[], &[], &[&bed.root]);
    bed.session().make(&bed.at("/new")).unwrap();
    let wanted = (event::CHILDREN_CHANGED, bed.root.clone());
    assert_eq!(s.next_event_pair().unwrap(), wanted);
}

/// <https://github.com/JDRaftKeeper/RaftKeeper/issues/34>
#[test]
fn a_recursive_watch_on_the_root_of_the_tree_can_be_set_and_sees_all() {
    let bed = Bed::new();
    let mut watcher = bed.session();
    let reply = watcher.add_watch("/", RECURSIVE).unwrap();
    assert_eq!(reply, Reply::Int(0));
    let path = bed.at("/deep");
    bed.session().make(&path).unwrap();
    // Other tests may share the server.
    let seen = pairs(&mut watcher);
    assert!(seen.contains(&(event::CREATED, path)), "{seen:?}");
}

/// <https://github.com/ClickHouse/ClickHouse/pull/28190>
#[test]
fn a_child_watch_is_not_triggered_by_the_data_of_a_child() {
    let bed = Bed::new();
    let child = bed.at("/a");
    let mut s = bed.session();
    s.make(&child).unwrap();
    s.children(&bed.root, true).unwrap();
    let mut other = bed.session();
    other.set(&child, b"x", -1).unwrap();
    other.set(&bed.root, b"x", -1).unwrap();
    assert_eq!(pairs(&mut s), []);
    other.delete(&child, -1).unwrap();
    assert_eq!(pairs(&mut s), [(event::CHILDREN_CHANGED, bed.root.clone())]);
}

/// <https://github.com/ClickHouse/ClickHouse/pull/28197>, <https://github.com/ClickHouse/ClickHouse/pull/18217>
#[test]
fn no_event_comes_before_the_reply_of_the_read_that_set_its_watch() {
    const ROUNDS: usize = 300;
    let bed = Bed::new();
    let path = bed.at("/a");
    let mut s = bed.session();
    s.make(&path).unwrap();
    let mut writer = bed.session();
    for round in 0..ROUNDS {
        // The write races with the read that sets the watch.
        writer.send(&[set_request(&path, b"x", -1)]).unwrap();
        s.send(&[Request::GetData {
            path: Some(path.clone()),
            watch: true,
        }])
        .unwrap();
        let first = s.receive(oxkeeper_compat_tests::conn::DEADLINE).unwrap();
        let Arrival::Reply(_, Reply::Data(_, stat)) = first else {
            panic!("round {round}: {first:?} before the reply");
        };
        let (header, _) = writer.receive_reply().unwrap();
        let events = s.drain_events().unwrap();
        if stat.mzxid == header.zxid {
            assert_eq!(events, [], "round {round}: the read had seen the write");
            // Consume the watch, so that each round begins without one.
            writer.call(set_request(&path, b"y", -1)).unwrap();
            assert_eq!(s.next_event_pair().unwrap().0, event::DATA_CHANGED);
        } else {
            assert_eq!(events.len(), 1, "round {round}: a change was missed");
        }
    }
}

#[test]
fn the_event_of_ones_own_write_comes_before_its_reply() {
    let bed = Bed::new();
    let path = bed.at("/a");
    let mut s = bed.session();
    s.make(&path).unwrap();
    s.get(&path, true).unwrap();
    s.children(&bed.root, true).unwrap();
    s.send(&[delete_request(&path, -1)]).unwrap();
    let deadline = oxkeeper_compat_tests::conn::DEADLINE;
    let arrivals: Vec<Arrival> = (0..3).map(|_| s.receive(deadline).unwrap()).collect();
    assert!(matches!(&arrivals[0], Arrival::Event(e) if e.kind == event::DELETED));
    assert!(matches!(&arrivals[1], Arrival::Event(e) if e.kind == event::CHILDREN_CHANGED));
    assert!(matches!(&arrivals[2], Arrival::Reply(h, _) if h.err == 0));
}

/// <https://github.com/ClickHouse/ClickHouse/pull/17203>
#[test]
fn exists_on_a_missing_node_sets_a_watch_and_get_data_does_not() {
    let bed = Bed::new();
    let (a, b) = (bed.at("/a"), bed.at("/b"));
    let mut s = bed.session();
    assert_eq!(s.exists(&a, true).unwrap(), None);
    assert_eq!(s.get(&b, true).unwrap_err().code(), Some(err::NO_NODE));
    assert_eq!(s.children(&b, true).unwrap_err().code(), Some(err::NO_NODE));
    let mut other = bed.session();
    other.make(&a).unwrap();
    other.make(&b).unwrap();
    assert_eq!(pairs(&mut s), [(event::CREATED, a)]);
}

/// <https://github.com/pH14/fdb-zk/issues/3>
#[test]
fn a_child_watch_fires_when_the_list_changed_and_changed_back() {
    let bed = Bed::new();
    let child = bed.at("/a");
    let mut s = bed.session();
    s.children(&bed.root, true).unwrap();
    let mut other = bed.session();
    other
        .multi(vec![
            create_request(op::CREATE, &child, b"", mode::PERSISTENT),
            delete_request(&child, -1),
        ])
        .unwrap();
    assert_eq!(pairs(&mut s), [(event::CHILDREN_CHANGED, bed.root.clone())]);
    // And again while nobody was connected to see it.
    let request = s.reattach_request();
    drop(s);
    other.make(&child).unwrap();
    other.delete(&child, -1).unwrap();
    let mut conn = oxkeeper_compat_tests::conn::Conn::open(bed.addr()).unwrap();
    let response = conn.handshake(&request).unwrap();
    let mut s = Session::from_handshake(conn, response).unwrap();
    s.last_zxid = request.last_zxid_seen;
    set_watches(&mut s, &[], &[], &[&bed.root]);
    assert_eq!(pairs(&mut s), [(event::CHILDREN_CHANGED, bed.root.clone())]);
}

#[test]
fn many_registrations_of_one_watch_give_one_event_and_a_deletion_one_for_both_kinds() {
    let bed = Bed::new();
    let path = bed.at("/a");
    let mut s = bed.session();
    s.make(&path).unwrap();
    for _ in 0..3 {
        s.get(&path, true).unwrap();
        s.exists(&path, true).unwrap();
        s.children(&path, true).unwrap();
    }
    bed.session().delete(&path, -1).unwrap();
    assert_eq!(pairs(&mut s), [(event::DELETED, path)]);
}

#[test]
fn removed_watches_do_not_fire_and_an_absent_one_cannot_be_removed() {
    let bed = Bed::new();
    let mut s = bed.session();
    let root = bed.root.clone();
    let remove = |kind: i32| Request::RemoveWatches {
        path: Some(root.clone()),
        kind,
    };
    s.get(&root, true).unwrap();
    assert_eq!(s.exchange(remove(1)).unwrap().0.err, err::NO_WATCHER);
    assert_eq!(s.exchange(remove(2)).unwrap().0.err, err::OK);
    assert_eq!(s.exchange(remove(3)).unwrap().0.err, err::NO_WATCHER);
    assert_eq!(s.exchange(remove(9)).unwrap().0.err, err::MARSHALLING);
    s.set(&root, b"x", -1).unwrap();
    assert_eq!(pairs(&mut s), []);
}
