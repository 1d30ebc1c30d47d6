//! Access control that other servers ignored or got wrong.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::conn::DEADLINE;
use oxkeeper_compat_tests::proto::{Acl, Reply, Request, err, mode, perm};
use oxkeeper_compat_tests::server::{SUPER_CREDENTIALS, ServerOptions};
use oxkeeper_compat_tests::session::Session;

/// digest id of `u1:p1`.
const U1: &str = "u1:fpT/y03U+EjItKZOSLGvjnJlyng=";

fn logged_in(bed: &Bed, credentials: &str) -> Session {
    let mut s = bed.session();
    s.auth("digest", credentials.as_bytes()).unwrap();
    s
}

fn code<T: std::fmt::Debug>(
    result: Result<T, oxkeeper_compat_tests::session::CallError>,
) -> Option<i32> {
    result.unwrap_err().code()
}

/// <https://github.com/etcd-io/zetcd/issues/15>
#[test]
fn access_lists_are_enforced_for_every_operation() {
    let bed = Bed::new();
    let node = bed.at("/a");
    let mut owner = logged_in(&bed, "u1:p1");
    let list = vec![Acl::new(perm::ALL, "digest", U1)];
    owner
        .create_with_acl(&node, b"x", Some(list.clone()), mode::PERSISTENT)
        .unwrap();
    let mut other = logged_in(&bed, "u2:p2");
    let denied = Some(err::NO_AUTH);
    assert_eq!(code(other.get(&node, false)), denied);
    assert_eq!(code(other.exists(&node, false)), denied);
    assert_eq!(code(other.children(&node, false)), denied);
    assert_eq!(code(other.get_acl(&node)), denied);
    assert_eq!(code(other.set(&node, b"", -1)), denied);
    assert_eq!(code(other.set_acl(&node, list.clone(), -1)), denied);
    assert_eq!(code(other.make(&bed.at("/a/b"))), denied);
    owner.make(&bed.at("/a/b")).unwrap();
    assert_eq!(code(other.delete(&bed.at("/a/b"), -1)), denied);
    assert_eq!(owner.set_acl(&node, list, 0).unwrap().aversion, 1);
    owner.get(&node, false).unwrap();
}

/// <https://github.com/ClickHouse/ClickHouse/pull/48595>
#[test]
fn the_auth_scheme_becomes_every_identity_of_the_connection() {
    let bed = Bed::new();
    let mut s = logged_in(&bed, "u1:p1");
    s.auth("digest", b"u2:p2").unwrap();
    let list = Some(vec![Acl::new(perm::ALL, "auth", "")]);
    s.create_with_acl(&bed.at("/a"), b"", list.clone(), mode::PERSISTENT)
        .unwrap();
    let (mut acl, _) = s.get_acl(&bed.at("/a")).unwrap();
    acl.sort();
    let schemes: Vec<_> = acl.iter().map(|a| a.scheme.as_deref()).collect();
    assert_eq!(schemes, [Some("digest"), Some("digest")]);
    assert_eq!(acl[0].id.as_deref(), Some(U1));
    let mut nobody = bed.session();
    let refused = nobody.create_with_acl(&bed.at("/b"), b"", list, mode::PERSISTENT);
    assert_eq!(code(refused), Some(err::INVALID_ACL));
}

/// <https://github.com/ClickHouse/ClickHouse/pull/33249>
#[test]
fn digest_ids_are_taken_as_they_are_and_match_the_hashed_credentials() {
    let bed = Bed::new();
    let node = bed.at("/a");
    let list = vec![Acl::new(perm::ALL, "digest", U1)];
    bed.session()
        .create_with_acl(&node, b"", Some(list.clone()), mode::PERSISTENT)
        .unwrap();
    let mut owner = logged_in(&bed, "u1:p1");
    assert_eq!(owner.get_acl(&node).unwrap().0, list);
    let mut stranger = logged_in(&bed, "u1:wrong");
    assert_eq!(code(stranger.get_acl(&node)), Some(err::NO_AUTH));
}

/// <https://github.com/ClickHouse/ClickHouse/pull/82755>, <https://github.com/ClickHouse/ClickHouse/pull/120265>
#[test]
fn world_entries_keep_their_permissions_beside_other_entries() {
    let bed = Bed::new();
    let node = bed.at("/a");
    let list = vec![
        Acl::new(perm::READ, "world", "anyone"),
        Acl::new(perm::ALL, "digest", U1),
    ];
    let mut s = bed.session();
    s.create_with_acl(&node, b"x", Some(list), mode::PERSISTENT)
        .unwrap();
    s.get(&node, false).unwrap();
    assert_eq!(code(s.set(&node, b"", -1)), Some(err::NO_AUTH));
    let (masked, _) = s.get_acl(&node).unwrap();
    assert_eq!(masked[0], Acl::new(perm::READ, "world", "anyone"));
    // Without ADMIN the hash is not shown.
    assert_eq!(masked[1], Acl::new(perm::ALL, "digest", "u1:x"));
    let both = vec![
        Acl::new(perm::ALL, "digest", U1),
        Acl::new(perm::ALL, "world", "anyone"),
    ];
    let open = bed.at("/open");
    s.create_with_acl(&open, b"", Some(both.clone()), mode::PERSISTENT)
        .unwrap();
    assert_eq!(s.get_acl(&open).unwrap().0, both);
}

/// <https://github.com/ClickHouse/ClickHouse/pull/88513>, <https://github.com/apache/zookeeper/pull/252>
#[test]
fn delete_asks_the_parent_and_never_the_node() {
    let bed = Bed::new();
    let none = vec![Acl::new(0, "world", "anyone")];
    let mut s = bed.session();
    let locked = bed.at("/locked");
    s.create_with_acl(&locked, b"", Some(none), mode::PERSISTENT)
        .unwrap();
    s.delete(&locked, -1).unwrap();
    let parent = bed.at("/parent");
    s.make(&parent).unwrap();
    s.make(&bed.at("/parent/open")).unwrap();
    let no_delete = vec![Acl::new(perm::ALL & !perm::DELETE, "world", "anyone")];
    s.set_acl(&parent, no_delete, -1).unwrap();
    let refused = s.delete(&bed.at("/parent/open"), -1);
    assert_eq!(code(refused), Some(err::NO_AUTH));
}

#[test]
fn the_super_user_passes_every_list() {
    let Some(bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let node = bed.at("/a");
    let none = vec![Acl::new(0, "world", "anyone")];
    let mut s = bed.session();
    s.create_with_acl(&node, b"", Some(none), mode::PERSISTENT)
        .unwrap();
    assert_eq!(code(s.set(&node, b"x", -1)), Some(err::NO_AUTH));
    let mut root = logged_in(&bed, SUPER_CREDENTIALS);
    root.set(&node, b"x", -1).unwrap();
    root.set_acl(&node, vec![Acl::new(perm::ALL, "world", "anyone")], -1)
        .unwrap();
    s.get(&node, false).unwrap();
}

#[test]
fn a_refused_authentication_ends_the_connection_and_not_the_session() {
    let bed = Bed::new();
    let mut s = bed.session();
    let (header, _) = s
        .exchange(Request::Auth {
            scheme: Some("nosuch".to_owned()),
            data: Some(b"x".to_vec()),
        })
        .unwrap();
    assert_eq!((header.zxid, header.err), (0, err::AUTH_FAILED));
    s.conn.expect_close(DEADLINE).unwrap();
    s.reattach(bed.addr()).unwrap();
}

#[test]
fn events_are_withheld_from_those_who_may_not_read() {
    let bed = Bed::new();
    let node = bed.at("/secret");
    let mut s = bed.session();
    s.exists(&node, true).unwrap();
    s.children(&bed.root, true).unwrap();
    let mut owner = logged_in(&bed, "u1:p1");
    let list = vec![Acl::new(perm::ALL, "digest", U1)];
    owner
        .create_with_acl(&node, b"", Some(list), mode::PERSISTENT)
        .unwrap();
    let events = s.drain_events().unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].path, bed.root);
}

#[test]
fn who_am_i_names_the_address_and_the_users() {
    let bed = Bed::new();
    let mut s = logged_in(&bed, "u1:p1");
    let Reply::Identities(ids) = s.call(Request::WhoAmI).unwrap() else {
        panic!("no identities");
    };
    let has = |scheme: &str, user: &str| ids.contains(&(scheme.to_owned(), user.to_owned()));
    assert!(has("digest", "u1") && has("ip", "127.0.0.1"), "{ids:?}");
}

#[test]
fn a_digest_id_is_a_user_and_a_hash() {
    let bed = Bed::new();
    let mut s = bed.session();
    let path = bed.at("/a");
    for (id, valid) in [
        ("bob:hash", true),
        (":hash", true),
        ("bob:hash:", true),
        ("bob:hash::", true),
        ("bob:", false),
        ("bob::", false),
        ("bob", false),
        (":", false),
        ("", false),
        ("bob::hash", false),
        ("bob:ha:sh", false),
    ] {
        let list = Some(vec![Acl::new(perm::ALL, "digest", id)]);
        let made = s.create_with_acl(&path, b"", list, mode::PERSISTENT);
        match made {
            Ok(_) => {
                assert!(valid, "{id:?}");
                s.delete(&path, -1).unwrap();
            }
            Err(refused) => {
                assert!(!valid, "{id:?}");
                assert_eq!(refused.code(), Some(err::INVALID_ACL), "{id:?}");
            }
        }
    }
}
