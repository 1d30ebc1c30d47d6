//! Test number one: what a session's end leaves behind. zetcd, which kept ephemerals as
//! leases of its store, could not keep the parents right:
//! <https://github.com/etcd-io/zetcd/issues/88> and
//! <https://github.com/etcd-io/zetcd/issues/90>.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use std::collections::BTreeSet;
use std::time::Instant;

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::conn::DEADLINE;
use oxkeeper_compat_tests::proto::{Reply, Request, Stat, event, mode, op};
use oxkeeper_compat_tests::server::oracle::Oracle;
use oxkeeper_compat_tests::server::{ServerOptions, TestServer};
use oxkeeper_compat_tests::session::{Session, create_request, eventually, set_request};

const PARENTS: usize = 10;
const EPHEMERALS_EACH: usize = 100;
const SHORT_TIMEOUT_MS: i32 = 1_000;

/// A session with 1,000 ephemerals below ten parents. It is silent from now on.
fn session_with_ephemerals(
    addr: std::net::SocketAddr,
    timeout_ms: i32,
    parents: &[String],
) -> Session {
    let mut s = Session::open(addr).unwrap();
    for parent in parents {
        let requests: Vec<Request> = (0..EPHEMERALS_EACH)
            .map(|i| create_request(op::CREATE, &format!("{parent}/e{i}"), b"", mode::EPHEMERAL))
            .collect();
        s.send(&requests).unwrap();
        for _ in &requests {
            assert_eq!(s.receive_reply().unwrap().0.err, 0);
        }
    }
    if timeout_ms == s.timeout_ms {
        return s;
    }
    // Only now the short timeout: a slow machine must not lose the session while it fills.
    s.timeout_ms = timeout_ms;
    let again = s.reattach(addr).unwrap();
    assert_eq!(again.timeout_ms, timeout_ms);
    again
}

fn make_parents(s: &mut Session, root: &str) -> Vec<String> {
    let parents: Vec<String> = (0..PARENTS).map(|i| format!("{root}/p{i}")).collect();
    for parent in &parents {
        s.make(parent).unwrap();
    }
    parents
}

/// Stats of all parents, read in one pipeline.
fn stats(s: &mut Session, parents: &[String]) -> Vec<Stat> {
    let requests: Vec<Request> = parents
        .iter()
        .map(|p| Request::Exists {
            path: Some(p.clone()),
            watch: false,
        })
        .collect();
    s.send(&requests).unwrap();
    parents
        .iter()
        .map(|p| match s.receive_reply().unwrap().1 {
            Reply::Stat(stat) => stat,
            other => panic!("{p}: {other:?}"),
        })
        .collect()
}

#[test]
fn expiry_changes_every_parent_at_one_zxid_and_no_read_sees_half_of_it() {
    let bed = Bed::new();
    let mut observer = bed.session();
    let parents = make_parents(&mut observer, &bed.root);
    let victim = session_with_ephemerals(bed.addr(), SHORT_TIMEOUT_MS, &parents);
    let before = stats(&mut observer, &parents);
    for stat in &before {
        assert_eq!(stat.num_children, EPHEMERALS_EACH as i32);
        assert_eq!(stat.cversion, EPHEMERALS_EACH as i32);
    }
    for parent in &parents {
        observer.children(parent, true).unwrap();
    }
    drop(victim);

    let after = read_until_expired(&mut observer, &parents, &before);
    let zxids: BTreeSet<i64> = after.iter().map(|s| s.pzxid).collect();
    assert_eq!(zxids.len(), 1, "one session end, one zxid: {zxids:?}");
    let expiry_zxid = after[0].pzxid;

    let mut events = observer.drain_events().unwrap();
    events.sort_by(|a, b| a.path.cmp(&b.path));
    let got: Vec<(i32, &str)> = events.iter().map(|e| (e.kind, e.path.as_str())).collect();
    let mut wanted: Vec<(i32, &str)> = parents
        .iter()
        .map(|p| (event::CHILDREN_CHANGED, p.as_str()))
        .collect();
    wanted.sort();
    assert_eq!(got, wanted);
    assert!(events.iter().all(|e| e.zxid == expiry_zxid), "{events:?}");

    for parent in &parents {
        observer.delete(parent, 0).unwrap();
        assert_eq!(observer.exists(parent, false).unwrap(), None);
    }
}

/// Reads all parents again and again. Each must be as before or as after, and once one is as
/// after, so must be all that are read later.
fn read_until_expired(observer: &mut Session, parents: &[String], before: &[Stat]) -> Vec<Stat> {
    let until = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < until, "the session does not expire");
        let now = stats(observer, parents);
        let mut expired = false;
        for (stat, old) in now.iter().zip(before) {
            if stat == old {
                assert!(!expired, "a later read went back: {now:?}");
                continue;
            }
            expired = true;
            let wanted = Stat {
                num_children: 0,
                cversion: 2 * EPHEMERALS_EACH as i32,
                pzxid: stat.pzxid,
                ..*old
            };
            assert_eq!(*stat, wanted);
            assert!(stat.pzxid > before[before.len() - 1].pzxid);
        }
        if expired {
            // The pipeline in which the change came may have begun before it.
            return stats(observer, parents);
        }
    }
}

#[test]
fn a_graceful_close_does_the_same_before_its_reply() {
    let bed = Bed::new();
    let mut observer = bed.session();
    let parents = make_parents(&mut observer, &bed.root);
    let mut closing = session_with_ephemerals(bed.addr(), 30_000, &parents);
    observer.children(&parents[3], true).unwrap();
    let (header, _) = closing.exchange(Request::CloseSession).unwrap();
    for stat in stats(&mut observer, &parents) {
        assert_eq!(stat.pzxid, header.zxid);
        assert_eq!(stat.num_children, 0);
        assert_eq!(stat.cversion, 2 * EPHEMERALS_EACH as i32);
    }
    let event = observer.next_event().unwrap();
    assert_eq!(
        (event.kind, event.zxid),
        (event::CHILDREN_CHANGED, header.zxid)
    );
}

#[test]
fn child_watches_rearmed_by_set_watches_fire_on_expiry() {
    let bed = Bed::new();
    let mut observer = bed.session();
    let parents = make_parents(&mut observer, &bed.root);
    let victim = session_with_ephemerals(bed.addr(), SHORT_TIMEOUT_MS, &parents);
    stats(&mut observer, &parents);
    let mut observer = observer.reattach(bed.addr()).unwrap();
    rearm_children(&mut observer, &parents);
    drop(victim);
    let mut seen = BTreeSet::new();
    for _ in &parents {
        let event = observer.next_event().unwrap();
        assert_eq!(event.kind, event::CHILDREN_CHANGED);
        seen.insert(event.path);
    }
    assert_eq!(seen, parents.iter().cloned().collect());
}

#[test]
fn child_watches_rearmed_after_an_expiry_that_was_missed_fire_at_once() {
    let bed = Bed::new();
    let mut helper = bed.session();
    let mut observer = bed.session();
    let parents = make_parents(&mut observer, &bed.root);
    let victim = session_with_ephemerals(bed.addr(), SHORT_TIMEOUT_MS, &parents);
    stats(&mut observer, &parents);
    let away = observer.reattach_request();
    drop(observer);
    drop(victim);
    eventually("the ephemerals are gone", || {
        helper.stat(&parents[0]).unwrap().num_children == 0
    });
    let mut conn = oxkeeper_compat_tests::conn::Conn::open(bed.addr()).unwrap();
    let response = conn.handshake(&away).unwrap();
    let mut observer = Session::from_handshake(conn, response).unwrap();
    observer.last_zxid = away.last_zxid_seen;
    rearm_children(&mut observer, &parents);
    let caught_up = observer.drain_events().unwrap();
    assert_eq!(caught_up.len(), PARENTS);
    for event in caught_up {
        assert_eq!((event.kind, event.zxid), (event::CHILDREN_CHANGED, -1));
    }
}

fn rearm_children(s: &mut Session, parents: &[String]) {
    let (header, _) = s
        .exchange(Request::SetWatches {
            relative_zxid: s.last_zxid,
            data: Some(vec![]),
            exist: Some(vec![]),
            child: Some(parents.to_vec()),
            persistent: None,
        })
        .unwrap();
    assert_eq!(header.err, 0);
}

#[test]
fn a_service_that_restarts_and_only_sets_data_loses_its_node_with_the_old_session() {
    let bed = Bed::new();
    let node = bed.at("/service");
    let (old, mut new) = service_restart(&bed, &node);
    new.set(&node, b"second life", -1).unwrap();
    assert_eq!(new.stat(&node).unwrap().ephemeral_owner, old);
    eventually("the node goes with the session that created it", || {
        new.exists(&node, false).unwrap().is_none()
    });
    // The new session lives, and it never owned the node.
    new.create(&node, b"third life", mode::EPHEMERAL).unwrap();
}

#[test]
fn a_service_that_restarts_with_delete_then_create_keeps_its_node() {
    let bed = Bed::new();
    let node = bed.at("/service");
    let marker = bed.at("/marker-of-the-old-session");
    let (_, mut new) = service_restart(&bed, &node);
    let results = new
        .multi(vec![
            oxkeeper_compat_tests::session::delete_request(&node, -1),
            create_request(op::CREATE, &node, b"second life", mode::EPHEMERAL),
        ])
        .unwrap();
    assert!(results.iter().all(|r| r.kind != -1), "{results:?}");
    eventually("the old session ends", || {
        new.exists(&marker, false).unwrap().is_none()
    });
    let (data, stat) = new.get(&node, false).unwrap();
    assert_eq!(data.as_deref(), Some(&b"second life"[..]));
    assert_eq!(stat.ephemeral_owner, new.id);
}

/// A service creates its node and dies; its successor connects while the old session lives.
fn service_restart(bed: &Bed, node: &str) -> (i64, Session) {
    let new = bed.session();
    let mut old = bed.session();
    old.create(node, b"first life", mode::EPHEMERAL).unwrap();
    old.create(&bed.at("/marker-of-the-old-session"), b"", mode::EPHEMERAL)
        .unwrap();
    old.timeout_ms = SHORT_TIMEOUT_MS;
    let old = old.reattach(bed.addr()).unwrap();
    (old.id, new)
}

#[test]
fn a_session_that_comes_back_in_time_keeps_its_ephemerals() {
    let bed = Bed::new();
    let node = bed.at("/mine");
    let mut s = bed.session();
    s.create(&node, b"", mode::EPHEMERAL).unwrap();
    let mut s = s.reattach(bed.addr()).unwrap();
    assert_eq!(s.stat(&node).unwrap().ephemeral_owner, s.id);
}

#[test]
fn a_session_that_comes_back_late_is_told_that_it_has_expired() {
    let bed = Bed::new();
    let node = bed.at("/mine");
    let mut observer = bed.session();
    let mut s = bed.session();
    s.create(&node, b"", mode::EPHEMERAL).unwrap();
    s.timeout_ms = SHORT_TIMEOUT_MS;
    let request = s.reattach(bed.addr()).unwrap().reattach_request();
    drop(s);
    eventually("the session ends", || {
        observer.exists(&node, false).unwrap().is_none()
    });
    let mut conn = oxkeeper_compat_tests::conn::Conn::open(bed.addr()).unwrap();
    let response = conn.handshake(&request).unwrap();
    assert_eq!((response.timeout_ms, response.session_id), (0, 0));
    assert_eq!(response.passwd.as_deref(), Some(&[0; 16][..]));
    conn.expect_close(DEADLINE).unwrap();
}

/// The parents' states through an expiry, as a reader sees them, with zxids as differences.
fn history_of_an_expiry(server: &dyn TestServer) -> Vec<String> {
    let mut observer = Session::open(server.addr()).unwrap();
    observer.make("/expiry-history").unwrap();
    let parents = make_parents(&mut observer, "/expiry-history");
    let base = observer.last_zxid;
    let victim = session_with_ephemerals(server.addr(), SHORT_TIMEOUT_MS, &parents);
    let busy = set_request(&parents[0], b"x", -1);
    observer.call(busy).unwrap();
    let show = |stats: &[Stat]| {
        let parts: Vec<String> = stats
            .iter()
            .map(|s| {
                format!(
                    "c{} m{} p{} v{} cv{} av{} eph{} len{} ch{}",
                    s.czxid - base,
                    s.mzxid - base,
                    s.pzxid - base,
                    s.version,
                    s.cversion,
                    s.aversion,
                    s.ephemeral_owner,
                    s.data_length,
                    s.num_children
                )
            })
            .collect();
        parts.join("; ")
    };
    let mut history = vec![show(&stats(&mut observer, &parents))];
    drop(victim);
    eventually("the expiry is seen", || {
        let now = stats(&mut observer, &parents);
        let done = now.iter().all(|s| s.num_children == 0);
        // A pipeline of reads may straddle the expiry: its mixture is not a state.
        let whole = done || now.iter().all(|s| s.num_children != 0);
        let text = show(&now);
        if whole && history.last() != Some(&text) {
            history.push(text);
        }
        done
    });
    for parent in &parents {
        observer.delete(parent, -1).unwrap();
    }
    let root = observer.stat("/expiry-history").unwrap();
    history.push(show(&[root]));
    observer.delete("/expiry-history", 0).unwrap();
    history
}

#[test]
fn every_state_of_the_parents_is_that_of_the_real_server() {
    let Some(bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let real = Oracle::start(&ServerOptions::default()).unwrap();
    let ours = history_of_an_expiry(&*bed.server);
    assert_eq!(ours.len(), 3, "{ours:#?}");
    assert_eq!(ours, history_of_an_expiry(&real));
}
