//! Which paths have a quota, and the text of its statistics.
//!
//! As in ZooKeeper, a path has a quota if `/zookeeper/quota<path>/zookeeper_limits` exists, and
//! `zookeeper_stats` beside it says how many records there are at and below the path, and how many
//! bytes their values have. The statistics are counted when their record is created, and from then
//! on moved along with every write below whose nearest quota it is. Nothing else of their record
//! moves, and no watch hears of it.
//!
//! Where ZooKeeper ends its process (statistics that are no numbers, limits of the root), the
//! statistics here just stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Bound;

use bytes::Bytes;
use oxkeeper_model::Path;

/// Where the records of quotas are.
pub(crate) const QUOTA_ROOT: &str = "/zookeeper/quota";
const LIMITS_NAME: &str = "/zookeeper_limits";
const STATS_NAME: &str = "/zookeeper_stats";

/// What a record is to quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role<'a> {
    None,
    /// Limits of this path.
    Limits(&'a str),
    /// Statistics of this path.
    Stats(&'a str),
}

impl<'a> Role<'a> {
    pub(crate) fn of(path: &'a str) -> Self {
        let Some(below) = path.strip_prefix(QUOTA_ROOT) else {
            return Self::None;
        };
        let is_path = |path: &&str| path.starts_with('/');
        if let Some(limited) = below.strip_suffix(LIMITS_NAME).filter(is_path) {
            Self::Limits(limited)
        } else if let Some(counted) = below.strip_suffix(STATS_NAME).filter(is_path) {
            Self::Stats(counted)
        } else {
            Self::None
        }
    }
}

pub(crate) fn stats_path(limited: &str) -> Path {
    format!("{QUOTA_ROOT}{limited}{STATS_NAME}").into()
}

pub(crate) fn limits_path(limited: &str) -> Path {
    format!("{QUOTA_ROOT}{limited}{LIMITS_NAME}").into()
}

/// How much a quota's statistics are to move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) records: i64,
    pub(crate) bytes: i64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

impl std::ops::Neg for Usage {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            records: -self.records,
            bytes: -self.bytes,
        }
    }
}

/// Paths that have limits. Invariant: exactly those whose limits record exists.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    limited: BTreeSet<Path>,
}

impl Quotas {
    pub(crate) fn is_empty(&self) -> bool {
        self.limited.is_empty()
    }

    pub(crate) fn insert(&mut self, limited: &str) {
        self.limited.insert(limited.into());
    }

    pub(crate) fn remove(&mut self, limited: &str) {
        self.limited.remove(limited);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.limited.iter()
    }

    /// The quota that a record at `path` counts for: that of the nearest path above it, or its own.
    ///
    /// Looks at the greatest limited path up to `path`. If that is no ancestor, every ancestor that is
    /// limited is one of both, so the search goes on from what they have in common.
    pub(crate) fn nearest(&self, path: &str) -> Option<&Path> {
        let mut upper = path;
        loop {
            let found = self.up_to(upper)?;
            let common = common_ancestor(found, upper);
            if common.len() == found.len() {
                return Some(found);
            }
            upper = common;
            if upper.is_empty() {
                return None;
            }
        }
    }

    fn up_to(&self, path: &str) -> Option<&Path> {
        let upper = (Bound::Unbounded, Bound::Included(path));
        self.limited.range::<str, _>(upper).next_back()
    }
}

/// The longest path at or above `path` that `other` starts with, as text; empty if there is none
/// but the root.
fn common_ancestor<'a>(other: &str, path: &'a str) -> &'a str {
    let (other, bytes) = (other.as_bytes(), path.as_bytes());
    let same = other.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    if bytes.len() == same || bytes[same] == b'/' {
        return &path[..same];
    }
    let slash = bytes[..same].iter().rposition(|&byte| byte == b'/');
    &path[..slash.unwrap_or(0)]
}

const COUNT: &str = "count";
const BYTES: &str = "bytes";

/// The statistics after `usage` was added; `None` if the text does not say what they are.
pub(crate) fn moved(text: &[u8], usage: Usage) -> Option<Bytes> {
    let mut numbers = parse(std::str::from_utf8(text).ok()?)?;
    let mut add = |key, delta| {
        // ZooKeeper counts on from −1 where there is no number.
        let number: &mut i64 = numbers.entry(key).or_insert(-1);
        *number = number.wrapping_add(delta);
    };
    add(COUNT, usage.records);
    add(BYTES, usage.bytes);
    Some(text_of(&numbers))
}

/// Statistics that were just counted.
pub(crate) fn counted(usage: Usage) -> Bytes {
    text_of(&BTreeMap::from([
        (COUNT, usage.records),
        (BYTES, usage.bytes),
    ]))
}

fn parse(text: &str) -> Option<BTreeMap<&str, i64>> {
    let pairs = text.split([',', ';']).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, number) = pair.split_once('=')?;
            // `bytes=1=` is what a pair before hard limits looks like.
            match number.trim_end_matches('=') {
                "" => Some((key, -1)),
                number => Some((key, number.parse().ok()?)),
            }
        })
        .collect()
}

/// Count and bytes first, as old clients want it; the odd `=` hides the rest from them.
fn text_of(numbers: &BTreeMap<&str, i64>) -> Bytes {
    let number = |key| numbers.get(key).copied().unwrap_or(-1);
    let mut text = format!("{COUNT}={},{BYTES}={}", number(COUNT), number(BYTES));
    let mut separator = "=;";
    for (key, number) in numbers {
        if *key != COUNT && *key != BYTES {
            // Writing to a String cannot fail.
            let _ = write!(text, "{separator}{key}={number}");
            separator = ";";
        }
    }
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_of_quotas_are_known_by_their_paths() {
        let limits = Role::of("/zookeeper/quota/a/b/zookeeper_limits");
        assert_eq!(limits, Role::Limits("/a/b"));
        assert_eq!(Role::of(&stats_path("/a/b")), Role::Stats("/a/b"));
        for other in [
            "/zookeeper/quota",
            "/zookeeper/quota/zookeeper_limits",
            "/zookeeper/quota/a/zookeeper_limits/x",
            "/zookeeper/quotas/a/zookeeper_limits",
            "/zookeeper/quota/a/no_zookeeper_stats",
            "/a/zookeeper_limits",
        ] {
            assert_eq!(Role::of(other), Role::None, "{other}");
        }
    }

    #[test]
    fn statistics_are_moved_as_zookeeper_writes_them() {
        let one = Usage {
            records: 1,
            bytes: 2,
        };
        let moved = |text: &str| moved(text.as_bytes(), one).map(|text| text.to_vec());
        let is = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(moved("count=1,bytes=5"), is("count=2,bytes=7"));
        assert_eq!(moved("count=1"), is("count=2,bytes=1"));
        assert_eq!(moved("count=,bytes=3"), is("count=0,bytes=5"));
        assert_eq!(moved(""), is("count=0,bytes=1"));
        let hard = "bytes=1=;countHardLimit=6;byteHardLimit=5,count=1";
        let after = "count=2,bytes=3=;byteHardLimit=5;countHardLimit=6";
        assert_eq!(moved(hard), is(after));
        for text in ["whatever", "count=x", "count=1,bytes"] {
            assert_eq!(moved(text), None, "{text}");
        }
        assert_eq!(super::moved(b"count=\xff", one), None);
        assert_eq!(&counted(one)[..], b"count=1,bytes=2");
    }

    proptest! {
        #[test]
        fn the_nearest_quota_is_the_longest_limited_path_above(
            limited in proptest::collection::btree_set("(/[a!]{1,2}){1,4}", 0..8),
            path in "(/[a!]{1,2}){1,5}",
        ) {
            let mut quotas = Quotas::default();
            limited.iter().for_each(|path| quotas.insert(path));
            let is_above = |above: &&String| {
                path == **above || path.strip_prefix(above.as_str()).is_some_and(|rest| rest.starts_with('/'))
            };
            let expected = limited.iter().filter(is_above).max_by_key(|path| path.len());
            prop_assert_eq!(quotas.nearest(&path).map(|path| &**path), expected.map(|path| &**path));
        }
    }
}
