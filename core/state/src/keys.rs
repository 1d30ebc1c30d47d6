//! Every key of a shard's store, on one page.
//!
//! The first byte is the kind of row. These bytes are persisted: never renumber, never reuse.
//!
//! | byte | since | key | row |
//! |---|---|---|---|
//! | 1 | 2 | order key | the record's head, and its value if it is a leaf's and small |
//! | 2 | 2 | order key | any other value, as it is; none if null or empty |
//! | 3 | 2 | list id (u64 BE) | an access list and how many records have it |
//! | 4 | 1 | session (u64 BE), path | nothing: the session owns this ephemeral record |
//! | 5 | 1 | path | nothing: a container or TTL record |
//! | 6 | 1 | session (u64 BE) | a session |
//! | 7 | 1 | | what the shard is as of its applied offset |
//! | 8 | 1 | | the applied offset that the rows of kinds 3 and 6 belong to |
//! | 9 | 2 | session (u64 BE) | the revision at which a session ended that still has rows of kind 4 |
//!
//! The order key of a path is Oxia's of hierarchical order: the number of `/` in it (u16 BE; one less
//! if the path ends in `//`; the top bit is set for Oxia's own keys, which begin with `__oxia/`), then
//! the path with each `/` as 0xff, a byte that UTF-8 does not have. So shallow paths come first, then
//! the slash sorts last, and the direct children of a path are one contiguous range, without their
//! descendants in between: from `/a/` to `/a//`.

use oxkeeper_model::SessionId;

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
pub const DEPTH_MAX: usize = (1 << 15) - 1;

/// Oxia's own keys.
const INTERNAL: &str = "__oxia/";

/// `/` in an order key.
const SLASH: u8 = 0xff;

/// Number of `/` in a path.
pub fn depth(path: &str) -> usize {
    path.bytes().filter(|&byte| byte == b'/').count()
}

fn by_path(out: &mut Vec<u8>, kind: u8, path: &str) {
    let depth = depth(path) - usize::from(path.ends_with("//"));
    by_text(out, kind, depth, path);
}

fn by_text(out: &mut Vec<u8>, kind: u8, depth: usize, text: &str) {
    let depth = depth.min(DEPTH_MAX) as u16 | u16::from(text.starts_with(INTERNAL)) << 15;
    out.clear();
    out.push(kind);
    out.extend_from_slice(&depth.to_be_bytes());
    out.extend(text.bytes().map(|byte| match byte {
        b'/' => SLASH,
        byte => byte,
    }));
}

/// Overwrites `out` with the key of a head.
pub fn head(out: &mut Vec<u8>, path: &str) {
    by_path(out, HEAD, path);
}

/// Overwrites `out` with the key of a value.
pub fn value(out: &mut Vec<u8>, path: &str) {
    by_path(out, VALUE, path);
}

/// Heads of the direct children of `path`.
pub fn children(path: &str) -> KeyRange {
    descendants_at(path, 1)
}

/// Heads of the records `levels` below `path`.
pub fn descendants_at(path: &str, levels: usize) -> KeyRange {
    // What all of them begin with.
    let folder = match path {
        "/" => "/".to_owned(),
        path => format!("{path}/"),
    };
    let depth = depth(&folder).saturating_add(levels.saturating_sub(1));
    let mut first = Vec::new();
    by_text(&mut first, HEAD, depth, &folder);
    let mut end = first.clone();
    end.push(SLASH);
    // Without the root, which begins like its children.
    KeyRange {
        to: Some(end),
        ..KeyRange::all()
    }
    .after(&first)
}

/// Whether a path is of components with a slash before each, or the root; only such records have
/// their place below another.
pub fn is_in_tree(path: &str) -> bool {
    path == "/" || (path.starts_with('/') && !path.ends_with('/') && !path.contains("//"))
}

/// The path in a key of a head or a value; `path` is scratch space.
pub fn path_of<'a>(key: &[u8], path: &'a mut String) -> Option<&'a str> {
    path.clear();
    for (at, component) in key.get(3..)?.split(|&byte| byte == SLASH).enumerate() {
        if at > 0 {
            path.push('/');
        }
        path.push_str(std::str::from_utf8(component).ok()?);
    }
    Some(path)
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
    use std::cmp::Ordering;

    use oxkeeper_model::parent_of;
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
        assert_eq!(head_key("/a/b"), b"\x01\0\x02\xffa\xffb");
        value(&mut key, "/");
        assert_eq!(key, b"\x02\0\x01\xff");
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

    /// Oxia's rule, said without keys: fewer slashes first, then bytewise with the slash last.
    fn compare(a: &str, b: &str) -> Ordering {
        let slashes = |path: &str| {
            let all = path.matches('/').count();
            if path.ends_with("//") { all - 1 } else { all }
        };
        let group = |path: &str| (path.starts_with("__oxia/"), slashes(path));
        let bytes = |path: &str| -> Vec<u16> {
            let last = |byte| if byte == b'/' { 256 } else { u16::from(byte) };
            path.bytes().map(last).collect()
        };
        (group(a), bytes(a)).cmp(&(group(b), bytes(b)))
    }

    #[test]
    fn oxias_examples_are_in_order() {
        let sorted = [
            "a",
            "b",
            "/",
            "/a",
            "/a~",
            "/b",
            "//",
            "/a/",
            "/a/b",
            "/a//",
            "/b/a",
            "/a/b/c",
            "__oxia/a",
            "__oxia/b",
            "__oxia/a/b",
        ];
        for pair in sorted.windows(2) {
            assert!(head_key(pair[0]) < head_key(pair[1]), "{pair:?}");
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn the_deepest_path_has_a_key_of_its_own_depth() {
        let deepest = "/".repeat(DEPTH_MAX - 1) + "a/b";
        assert_eq!(depth(&deepest), DEPTH_MAX);
        assert_eq!(head_key(&deepest)[..3], [HEAD, 0x7f, 0xff]);
        assert_eq!(head_key(&format!("{deepest}/c"))[..3], [HEAD, 0x7f, 0xff]);
    }

    #[test]
    fn the_root_is_not_among_its_children() {
        assert!(!children("/").contains(&head_key("/")));
        assert!(children("/").contains(&head_key("/a")));
    }

    fn any_path() -> impl Strategy<Value = String> {
        prop_oneof![
            "(/[ab~]{0,2}){0,4}/{0,2}",
            "[a-c/~é]{0,8}",
            "__oxia(/[ab]{0,1}){0,3}",
            "(/\\PC{0,2}){0,3}",
        ]
    }

    proptest! {
        #[test]
        fn keys_are_in_oxias_order(a in any_path(), b in any_path()) {
            prop_assert_eq!(head_key(&a).cmp(&head_key(&b)), compare(&a, &b));
        }

        #[test]
        fn a_range_of_children_is_oxias_and_holds_exactly_the_direct_children(
            parent in "/|(/[ab]{1,2}){1,3}", other in any_path(),
        ) {
            let range = children(&parent);
            let folder = format!("{}/", parent.trim_end_matches('/'));
            let (from, to) = (head_key(&folder), head_key(&format!("{folder}/")));
            let key = head_key(&other);
            prop_assert_eq!(range.contains(&key), from < key && key < to);
            let is_child = parent_of(&other) == Some(&parent) && is_in_tree(&other);
            prop_assert_eq!(range.contains(&key) && is_in_tree(&other), is_child);
        }

        #[test]
        fn descendants_are_found_at_their_level(
            path in "/|(/[ab]{1,2}){1,2}", other in "(/[ab]{1,2}){1,5}", levels in 1usize..4,
        ) {
            let folder = format!("{}/", path.trim_end_matches('/'));
            let is_below = other.strip_prefix(&folder).is_some_and(|rest| depth(rest) + 1 == levels);
            prop_assert_eq!(descendants_at(&path, levels).contains(&head_key(&other)), is_below);
        }

        #[test]
        fn keys_round_trip(path in any_path(), id: i64, list: u64) {
            let (mut key, mut found) = (Vec::new(), "not yet".to_owned());
            head(&mut key, &path);
            prop_assert_eq!(path_of(&key, &mut found), Some(&*path));
            value(&mut key, &path);
            prop_assert_eq!(path_of(&key, &mut found), Some(&*path));
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
    }
}
