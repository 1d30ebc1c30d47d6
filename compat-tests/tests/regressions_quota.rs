//! Quota statistics: `zookeeper_stats` follows what happens below a path that has `zookeeper_limits`.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::proto::{Stat, event, mode, op};
use oxkeeper_compat_tests::session::{Session, create_request, delete_request, set_request};

const LIMITS: &[u8] = b"count=3,bytes=-1";
const STATS: &[u8] = b"count=0,bytes=0";

fn quota_at(path: &str, name: &str) -> String {
    format!("/zookeeper/quota{path}/{name}")
}

fn make_quota_nodes(s: &mut Session, path: &str) {
    let mut above = "/zookeeper/quota".to_owned();
    for name in path.split('/').skip(1) {
        above = format!("{above}/{name}");
        if s.exists(&above, false).unwrap().is_none() {
            s.make(&above).unwrap();
        }
    }
}

fn set_limits(s: &mut Session, path: &str) {
    let limits = quota_at(path, "zookeeper_limits");
    s.create(&limits, LIMITS, mode::PERSISTENT).unwrap();
}

fn make_stats(s: &mut Session, path: &str) {
    let stats = quota_at(path, "zookeeper_stats");
    s.create(&stats, STATS, mode::PERSISTENT).unwrap();
}

/// What `setquota` does.
fn set_quota(s: &mut Session, path: &str) {
    make_quota_nodes(s, path);
    set_limits(s, path);
    make_stats(s, path);
}

fn stats(s: &mut Session, path: &str) -> String {
    let (data, stat) = s.get(&quota_at(path, "zookeeper_stats"), false).unwrap();
    let data = data.unwrap();
    assert_eq!(stat.data_length as usize, data.len());
    String::from_utf8(data).unwrap()
}

fn stats_stat(s: &mut Session, path: &str) -> Stat {
    let mut stat = s.stat(&quota_at(path, "zookeeper_stats")).unwrap();
    stat.data_length = 0;
    stat
}

#[test]
fn statistics_count_the_tree_that_is_there_and_follow_every_write() {
    let bed = Bed::new();
    let mut s = bed.session();
    let root = bed.at("/q");
    s.create(&root, b"12345", mode::PERSISTENT).unwrap();
    s.create(&bed.at("/q/b"), b"123", mode::PERSISTENT).unwrap();
    s.create(&bed.at("/q/b/c"), b"1", mode::PERSISTENT).unwrap();
    // A neighbour whose name begins alike does not count.
    s.create(&bed.at("/qq"), b"1", mode::PERSISTENT).unwrap();
    set_quota(&mut s, &root);
    assert_eq!(stats(&mut s, &root), "count=3,bytes=9");
    let fresh = stats_stat(&mut s, &root);
    s.create(&bed.at("/q/d"), b"1234567890", mode::PERSISTENT)
        .unwrap();
    assert_eq!(stats(&mut s, &root), "count=4,bytes=19");
    s.set(&bed.at("/q/d"), b"1", -1).unwrap();
    assert_eq!(stats(&mut s, &root), "count=4,bytes=10");
    s.set(&root, b"", -1).unwrap();
    assert_eq!(stats(&mut s, &root), "count=4,bytes=5");
    s.delete(&bed.at("/q/d"), -1).unwrap();
    s.create(&bed.at("/qqq"), b"1", mode::PERSISTENT).unwrap();
    assert_eq!(stats(&mut s, &root), "count=3,bytes=4");
    assert_eq!(stats_stat(&mut s, &root), fresh, "only the length moves");
}

#[test]
fn statistics_follow_sessions_and_multis_and_wake_no_watch() {
    let bed = Bed::new();
    let mut s = bed.session();
    let root = bed.at("/q");
    s.create(&root, b"1", mode::PERSISTENT).unwrap();
    set_quota(&mut s, &root);
    let mut watcher = bed.session();
    let node = quota_at(&root, "zookeeper_stats");
    watcher.get(&node, true).unwrap();
    let mut owner = bed.session();
    for path in ["/q/e1", "/q/e2"] {
        owner
            .create(&bed.at(path), b"xyz", mode::EPHEMERAL)
            .unwrap();
    }
    s.sync("/").unwrap();
    assert_eq!(stats(&mut s, &root), "count=3,bytes=7");
    owner.close().unwrap();
    s.sync("/").unwrap();
    assert_eq!(stats(&mut s, &root), "count=1,bytes=1");
    let (a, b) = (bed.at("/q/a"), bed.at("/q/b"));
    s.multi(vec![
        create_request(op::CREATE, &a, b"11", mode::PERSISTENT),
        create_request(op::CREATE, &b, b"22", mode::PERSISTENT),
        set_request(&a, b"9999", -1),
        delete_request(&b, -1),
    ])
    .unwrap();
    assert_eq!(stats(&mut s, &root), "count=2,bytes=5");
    s.multi(vec![
        create_request(op::CREATE, &b, b"22", mode::PERSISTENT),
        create_request(op::CREATE, &a, b"33", mode::PERSISTENT),
    ])
    .unwrap();
    assert_eq!(stats(&mut s, &root), "count=2,bytes=5", "it failed");
    watcher.sync("/").unwrap();
    assert_eq!(watcher.drain_events().unwrap(), []);
    s.set(&node, b"count=7,bytes=7", -1).unwrap();
    let told = watcher.next_event_pair().unwrap();
    assert_eq!(told, (event::DATA_CHANGED, node));
}

#[test]
fn the_nearest_limits_count() {
    let bed = Bed::new();
    let mut s = bed.session();
    let (outer, inner) = (bed.at("/q"), bed.at("/q/in"));
    s.create(&outer, b"1", mode::PERSISTENT).unwrap();
    s.create(&inner, b"22", mode::PERSISTENT).unwrap();
    set_quota(&mut s, &outer);
    set_quota(&mut s, &inner);
    assert_eq!(stats(&mut s, &outer), "count=2,bytes=3");
    assert_eq!(stats(&mut s, &inner), "count=1,bytes=2");
    s.create(&bed.at("/q/in/a"), b"333", mode::PERSISTENT)
        .unwrap();
    assert_eq!(stats(&mut s, &outer), "count=2,bytes=3");
    assert_eq!(stats(&mut s, &inner), "count=2,bytes=5");
    s.delete(&quota_at(&inner, "zookeeper_limits"), -1).unwrap();
    s.create(&bed.at("/q/in/b"), b"4444", mode::PERSISTENT)
        .unwrap();
    assert_eq!(stats(&mut s, &outer), "count=3,bytes=7");
    assert_eq!(stats(&mut s, &inner), "count=2,bytes=5");
    set_limits(&mut s, &inner);
    s.delete(&bed.at("/q/in/b"), -1).unwrap();
    assert_eq!(stats(&mut s, &outer), "count=3,bytes=7");
    assert_eq!(stats(&mut s, &inner), "count=1,bytes=1");
}

#[test]
fn statistics_are_counted_when_their_node_is_made() {
    let bed = Bed::new();
    let mut s = bed.session();
    let root = bed.at("/q");
    // Nothing is there yet, and the limits come after the statistics.
    make_quota_nodes(&mut s, &root);
    make_stats(&mut s, &root);
    assert_eq!(stats(&mut s, &root), "count=0,bytes=0");
    s.create(&root, b"12", mode::PERSISTENT).unwrap();
    assert_eq!(stats(&mut s, &root), "count=0,bytes=0");
    set_limits(&mut s, &root);
    s.create(&bed.at("/q/a"), b"3", mode::PERSISTENT).unwrap();
    assert_eq!(stats(&mut s, &root), "count=1,bytes=1");
    // Without their node they are lost, and counted anew.
    s.delete(&quota_at(&root, "zookeeper_stats"), -1).unwrap();
    s.create(&bed.at("/q/b"), b"4", mode::PERSISTENT).unwrap();
    let node = quota_at(&root, "zookeeper_stats");
    s.create(&node, b"whatever", mode::PERSISTENT).unwrap();
    assert_eq!(stats(&mut s, &root), "count=3,bytes=4");
    // All of it within one transaction.
    let other = bed.at("/r");
    s.create(&other, b"9", mode::PERSISTENT).unwrap();
    make_quota_nodes(&mut s, &other);
    let node = quota_at(&other, "zookeeper_stats");
    let limits = quota_at(&other, "zookeeper_limits");
    s.multi(vec![
        create_request(op::CREATE, &limits, LIMITS, mode::PERSISTENT),
        create_request(op::CREATE, &node, STATS, mode::PERSISTENT),
        create_request(op::CREATE, &bed.at("/r/x"), b"55", mode::PERSISTENT),
    ])
    .unwrap();
    assert_eq!(stats(&mut s, &other), "count=2,bytes=3");
    s.multi(vec![
        set_request(&node, b"count=50,bytes=50", -1),
        create_request(op::CREATE, &bed.at("/r/y"), b"55", mode::PERSISTENT),
    ])
    .unwrap();
    assert_eq!(stats(&mut s, &other), "count=51,bytes=52");
}

#[test]
fn statistics_that_a_client_wrote_are_counted_on() {
    let bed = Bed::new();
    let mut s = bed.session();
    let root = bed.at("/q");
    s.create(&root, b"", mode::PERSISTENT).unwrap();
    set_quota(&mut s, &root);
    let node = quota_at(&root, "zookeeper_stats");
    let written = [
        ("count=100,bytes=200", "count=101,bytes=201"),
        ("count=100", "count=101,bytes=0"),
        ("", "count=0,bytes=0"),
        ("bytes=7,count=100,foo=3", "count=101,bytes=8=;foo=3"),
        (
            "count=1,bytes=1=;byteHardLimit=5;countHardLimit=6",
            "count=2,bytes=2=;byteHardLimit=5;countHardLimit=6",
        ),
    ];
    for (at, (before, after)) in written.into_iter().enumerate() {
        s.set(&node, before.as_bytes(), -1).unwrap();
        let path = bed.at(&format!("/q/{at}"));
        s.create(&path, b"1", mode::PERSISTENT).unwrap();
        assert_eq!(stats(&mut s, &root), after);
    }
}
