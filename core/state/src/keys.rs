//! Every key of a shard's store, on one page.
//!
//! The first byte is the kind of row. These bytes are persisted: never renumber, never reuse.
//!
//! | byte | since | key | row |
//! |---|---|---|---|
//! | 1 | 1 | depth (u16 BE), path | the record's head, and its value if it is a leaf's and small |
//! | 2 | 1 | depth (u16 BE), path | any other value, as it is; none if null or empty |
//! | 3 | 2 | list id (u64 BE) | an access list and how many records have it |
//! | 4 | 1 | session (u64 BE), path | nothing: the session owns this ephemeral record |
//! | 5 | 1 | path | nothing: a container or TTL record |
//! | 6 | 1 | session (u64 BE) | a session |
//! | 7 | 1 | | what the shard is as of its applied offset |
//! | 8 | 1 | | the applied offset that the rows of kinds 3 and 6 belong to |
//! | 9 | 2 | session (u64 BE) | the revision at which a session ended that still has rows of kind 4 |
//!
//! Depth is the number of `/` in the path. It comes first so that the direct children of a path
//! are one contiguous range, sorted by name, without their descendants in between.

use oxkeeper_model::{SessionId, parent_of};

use oxkeeper_store::KeyRange;

pub const HEAD: u8 = 1;
pub const VALUE: u8 = 2;
pub const ACL: u8 = 3;
pub const EPHEMERAL: u8 = 4;
pub const REAP: u8 = 5;
pub const SESSION: u8 = 6;
pub const META: u8 = 7;
pub const CHECKPOINT: u8 = 8;
pub const GRAVE: u8 = 9;

/// A path with more `/` than this has no key.
pub const DEPTH_MAX: usize = u16::MAX as usize;

/// Number of `/` in a path.
pub fn depth(path: &str) -> usize {
    path.bytes().filter(|&byte| byte == b'/').count()
}

fn by_path(out: &mut Vec<u8>, kind: u8, path: &str) {
    by_prefix(out, kind, depth(path), path);
}

fn by_prefix(out: &mut Vec<u8>, kind: u8, depth: usize, prefix: &str) {
    let depth = u16::try_from(depth).unwrap_or(u16::MAX);
    out.clear();
    out.push(kind);
    out.extend_from_slice(&depth.to_be_bytes());
    out.extend_from_slice(prefix.as_bytes());
}

/// Overwrites `out` with the key of a head.
pub fn head(out: &mut Vec<u8>, path: &str) {
    by_path(out, HEAD, path);
}

/// Overwrites `out` with the key of a value.
pub fn value(out: &mut Vec<u8>, path: &str) {
    by_path(out, VALUE, path);
}

/// Heads of the direct children of `path`. Of the root it includes the root itself,
/// which [`is_child`] tells apart.
pub fn children(path: &str) -> KeyRange {
    descendants_at(path, 1)
}

/// Heads of the records `levels` below `path`; see [`children`].
pub fn descendants_at(path: &str, levels: usize) -> KeyRange {
    let mut out = Vec::new();
    if path == "/" {
        by_prefix(&mut out, HEAD, levels, "/");
    } else {
        by_prefix(&mut out, HEAD, depth(path).saturating_add(levels), path);
        out.push(b'/');
    }
    KeyRange::prefix(&out)
}

/// Whether `child` is below the root or another path: the root has the depth of its children.
pub fn is_child(child: &str) -> bool {
    parent_of(child).is_some()
}

/// The path in a key of a head or a value.
pub fn path_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(3..)?).ok()
}

pub fn acl(out: &mut Vec<u8>, id: u64) {
    out.clear();
    out.push(ACL);
    out.extend_from_slice(&id.to_be_bytes());
}

pub fn acl_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

/// With an empty path, the prefix of all of the session's.
pub fn ephemeral(out: &mut Vec<u8>, session: SessionId, path: &str) {
    out.clear();
    out.push(EPHEMERAL);
    out.extend_from_slice(&session.0.to_be_bytes());
    out.extend_from_slice(path.as_bytes());
}

pub fn ephemeral_of(key: &[u8]) -> Option<(SessionId, &str)> {
    let (session, path) = key.get(1..)?.split_at_checked(8)?;
    let session = i64::from_be_bytes(session.try_into().ok()?);
    Some((SessionId(session), std::str::from_utf8(path).ok()?))
}

pub fn reap(out: &mut Vec<u8>, path: &str) {
    out.clear();
    out.push(REAP);
    out.extend_from_slice(path.as_bytes());
}

pub fn reap_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(1..)?).ok()
}

pub fn session(out: &mut Vec<u8>, session: SessionId) {
    out.clear();
    out.push(SESSION);
    out.extend_from_slice(&session.0.to_be_bytes());
}

pub fn grave(out: &mut Vec<u8>, session: SessionId) {
    self::session(out, session);
    out[0] = GRAVE;
}

/// The session in a key of a session or a grave.
pub fn session_of(key: &[u8]) -> Option<SessionId> {
    Some(SessionId(i64::from_be_bytes(
        key.get(1..)?.try_into().ok()?,
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head_key(path: &str) -> Vec<u8> {
        let mut key = Vec::new();
        head(&mut key, path);
        key
    }

    #[test]
    fn keys_have_their_persisted_bytes() {
        let mut key = Vec::new();
        assert_eq!(head_key("/a/b"), b"\x01\0\x02/a/b");
        value(&mut key, "/");
        assert_eq!(key, b"\x02\0\x01/");
        acl(&mut key, 258);
        assert_eq!(key, b"\x03\0\0\0\0\0\0\x01\x02");
        ephemeral(&mut key, SessionId(0x0100_0000_0000_0002), "/e");
        assert_eq!(key, b"\x04\x01\0\0\0\0\0\0\x02/e");
        reap(&mut key, "/c");
        assert_eq!(key, b"\x05/c");
        session(&mut key, SessionId(1));
        assert_eq!(key, b"\x06\0\0\0\0\0\0\0\x01");
        grave(&mut key, SessionId(1));
        assert_eq!(key, b"\x09\0\0\0\0\0\0\0\x01");
        assert_eq!([META, CHECKPOINT], [7, 8]);
    }

    #[test]
    fn the_root_is_in_its_own_range_but_no_child() {
        assert!(children("/").contains(&head_key("/")));
        assert!(!is_child("/") && is_child("/a") && is_child("/a/"));
    }

    proptest! {
        #[test]
        fn a_range_of_children_holds_exactly_the_direct_children(
            parent in "(/[ab]{0,2}){1,3}", other in "(/[ab]{0,2}){1,4}",
        ) {
            // A path with two leading slashes is nobody's child; the state machine refuses it.
            prop_assume!(!parent.starts_with("//") && !other.starts_with("//"));
            let is_child_of = is_child(&other) && parent_of(&other) == Some(&parent);
            let in_range = is_child(&other) && children(&parent).contains(&head_key(&other));
            prop_assert_eq!(in_range, is_child_of);
        }

        #[test]
        fn keys_round_trip(path in "[/a-zé]{0,12}", id: i64, list: u64) {
            let mut key = Vec::new();
            head(&mut key, &path);
            prop_assert_eq!(path_of(&key), Some(&*path));
            value(&mut key, &path);
            prop_assert_eq!(path_of(&key), Some(&*path));
            acl(&mut key, list);
            prop_assert_eq!(acl_of(&key), Some(list));
            ephemeral(&mut key, SessionId(id), &path);
            prop_assert_eq!(ephemeral_of(&key), Some((SessionId(id), &*path)));
            reap(&mut key, &path);
            prop_assert_eq!(reap_of(&key), Some(&*path));
            session(&mut key, SessionId(id));
            prop_assert_eq!(session_of(&key), Some(SessionId(id)));
            grave(&mut key, SessionId(id));
            prop_assert_eq!(session_of(&key), Some(SessionId(id)));
        }

        #[test]
        fn heads_sort_by_depth_and_then_by_path(a in "(/[a-c]{0,2}){1,4}", b in "(/[a-c]{0,2}){1,4}") {
            prop_assert_eq!(head_key(&a).cmp(&head_key(&b)), (depth(&a), &a).cmp(&(depth(&b), &b)));
        }
    }
}
