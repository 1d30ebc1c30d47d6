//! Values for generated requests: mostly good ones from a small pool, so that requests meet
//! each other, and some that no server should accept.

use crate::proto::{Acl, perm};
use crate::rng::Rng;

const NAMES: [&str; 4] = ["a", "b", "c", "s-"];
const MAX_DEPTH: usize = 3;
/// Sequence numbers that plans are likely to reach below one parent.
const LIKELY_SEQUENCE: usize = 12;

/// Paths with something wrong or unusual about them. `None` is null on the wire.
const ODD_PATHS: [Option<&str>; 34] = [
    None,
    Some(""),
    Some("/"),
    Some("foo"),
    Some("foo/bar"),
    Some("//d"),
    Some("/d/"),
    Some("/d/a/"),
    Some("/d//a"),
    Some("/d/./x"),
    Some("/d/../x"),
    Some("/d/."),
    Some("/d/.."),
    Some("/d/.a"),
    Some("/d/a.."),
    Some("/d/..a"),
    Some("/d/ with space"),
    Some("/d/nul\0byte"),
    Some("/d/\u{1}"),
    Some("/d/\u{1f}"),
    Some("/d/\u{7f}"),
    Some("/d/\u{9f}"),
    Some("/d/\u{a0}"),
    Some("/d/\u{e000}"),
    Some("/d/\u{fff0}"),
    Some("/d/\u{ffff}"),
    Some("/d/\u{1f600}"),
    Some("/d/ü€漢"),
    Some("/zookeeper"),
    Some("/zookeeper/config"),
    Some("/zookeeper/quota"),
    Some("/zookeeper/zz"),
    Some("/e1"),
    Some("/nothing/here"),
];

/// digest ids of `u1:p1` and `u2:p2`.
const U1: &str = "u1:fpT/y03U+EjItKZOSLGvjnJlyng=";
const U2: &str = "u2:o9NxcCGDPOlcV7JVhmKHOf5ctVE=";

pub(super) fn path(rng: &mut Rng) -> Option<String> {
    if rng.percent(8) {
        rng.pick(&ODD_PATHS).map(str::to_owned)
    } else {
        Some(good_path(rng))
    }
}

/// A valid path below the plan's root.
pub(super) fn good_path(rng: &mut Rng) -> String {
    let mut path = super::runner::ROOT.to_owned();
    for _ in 0..1 + rng.below(MAX_DEPTH) {
        path.push('/');
        let name: &str = NAMES[rng.below(NAMES.len())];
        path.push_str(name);
        if path.ends_with('-') {
            path.push_str(&format!("{:010}", rng.below(LIKELY_SEQUENCE)));
        }
        if rng.percent(35) {
            break;
        }
    }
    path
}

pub(super) fn data(rng: &mut Rng) -> Option<Vec<u8>> {
    match rng.below(100) {
        0..10 => None,
        10..25 => Some(Vec::new()),
        25..97 => {
            let len = 1 + rng.below(40);
            Some(rng.bytes(len))
        }
        _ => {
            let len = 1 + rng.below(40_000);
            Some(rng.bytes(len))
        }
    }
}

pub(super) fn version(rng: &mut Rng) -> i32 {
    match rng.below(100) {
        0..55 => -1,
        55..95 => rng.below(4) as i32,
        95..97 => -2,
        97..98 => i32::MIN,
        98..99 => i32::MAX,
        _ => 1_000,
    }
}

/// ACL for a create: mostly open, or little else could happen.
pub(super) fn acl_for_create(rng: &mut Rng) -> Option<Vec<Acl>> {
    if rng.percent(85) {
        crate::proto::open_acl()
    } else {
        acl(rng)
    }
}

pub(super) fn acl(rng: &mut Rng) -> Option<Vec<Acl>> {
    if rng.percent(4) {
        return if rng.percent(50) { None } else { Some(vec![]) };
    }
    let count = match rng.below(10) {
        0..6 => 1,
        6..9 => 2,
        _ => 4,
    };
    let mut list: Vec<Acl> = (0..count).map(|_| acl_entry(rng)).collect();
    if rng.percent(15) {
        list.push(list[0].clone());
    }
    Some(list)
}

fn acl_entry(rng: &mut Rng) -> Acl {
    let perms = match rng.below(10) {
        0..5 => perm::ALL,
        5..8 => 1 << rng.below(5),
        8 => rng.below(32) as i32,
        _ => *rng.pick(&[0, 255, -1]),
    };
    if rng.percent(85) {
        let (scheme, id) = *rng.pick(&[
            ("world", "anyone"),
            ("digest", U1),
            ("digest", U2),
            ("auth", ""),
            ("ip", "127.0.0.1"),
            ("ip", "10.0.0.0/8"),
        ]);
        return Acl::new(perms, scheme, id);
    }
    let (scheme, id) = *rng.pick(&[
        (Some("world"), Some("bob")),
        (Some("auth"), Some("ignored")),
        (Some("auth"), None),
        (Some("digest"), Some("nocolon")),
        (Some("digest"), Some("a:b:c")),
        (Some("digest"), Some("plain:pw")),
        (Some("digest"), Some("")),
        (Some("ip"), Some("300.1.1.1")),
        (Some("ip"), Some("127.0.0.1/33")),
        (Some("ip"), Some("127.0.0.0/8")),
        (Some("ip"), Some("")),
        (Some("super"), Some("super")),
        (Some("sasl"), Some("who")),
        (Some("nosuch"), Some("x")),
        (Some(""), Some("")),
        (Some("world"), None),
        (None, Some("anyone")),
        (None, None),
    ]);
    Acl {
        perms,
        scheme: scheme.map(str::to_owned),
        id: id.map(str::to_owned),
    }
}

/// Credentials whose auth request succeeds.
pub(super) fn good_auth(rng: &mut Rng) -> (&'static str, &'static [u8]) {
    let all: [(&str, &[u8]); 7] = [
        ("digest", b"u1:p1"),
        ("digest", b"u1:p1"),
        ("digest", b"u2:p2"),
        ("digest", b"nocolon"),
        ("digest", b""),
        ("digest", b"super:test"),
        ("ip", b""),
    ];
    *rng.pick(&all)
}

/// Credentials that are refused, with the connection.
pub(super) fn bad_auth(rng: &mut Rng) -> (Option<&'static str>, Option<&'static [u8]>) {
    let all: [(Option<&str>, Option<&[u8]>); 4] = [
        (Some("nosuch"), Some(b"x")),
        (Some("world"), Some(b"anyone")),
        (Some("super"), Some(b"x")),
        (None, Some(b"x")),
    ];
    *rng.pick(&all)
}

/// Timeout fields of handshakes that keep a session for the whole plan.
pub(super) fn long_timeout_ms(rng: &mut Rng) -> i32 {
    *rng.pick(&[60_000, 60_000, 45_000, 59_999, 1_000_000, i32::MAX])
}
