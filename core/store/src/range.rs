//! Ranges of keys.

use std::ops::Bound;

/// Keys from `from` (included) to `to` (excluded; `None`: to the end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub from: Vec<u8>,
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    pub fn all() -> Self {
        Self::prefix(&[])
    }

    /// `key` and all before it.
    pub fn up_to(key: &[u8]) -> Self {
        let mut to = key.to_vec();
        to.push(0);
        Self {
            from: Vec::new(),
            to: Some(to),
        }
    }

    /// All keys before `key`.
    pub fn below(key: &[u8]) -> Self {
        Self {
            from: Vec::new(),
            to: Some(key.to_vec()),
        }
    }

    /// All keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self {
            from: prefix.to_vec(),
            to: successor(prefix),
        }
    }

    /// The part of this range after `key`.
    #[must_use]
    pub fn after(self, key: &[u8]) -> Self {
        let mut from = key.to_vec();
        from.push(0);
        Self {
            from: from.max(self.from),
            to: self.to,
        }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let to = self.to.as_deref();
        let from = Bound::Included(self.from.as_slice());
        (from, to.map_or(Bound::Unbounded, Bound::Excluded))
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.from.as_slice() && self.to.as_deref().is_none_or(|to| key < to)
    }
}

/// The first key after all that start with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut key = prefix[..=keep].to_vec();
    key[keep] += 1;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_range_holds_exactly_the_keys_with_the_prefix() {
        let range = KeyRange::prefix(&[1, 0xff]);
        assert!(range.contains(&[1, 0xff]) && range.contains(&[1, 0xff, 0xff, 0xff]));
        assert!(!range.contains(&[1, 0xfe, 9]) && !range.contains(&[2]));
        assert_eq!(KeyRange::prefix(&[0xff, 0xff]).to, None);
        let rest = KeyRange::prefix(b"a").after(b"ab");
        assert!(!rest.contains(b"ab") && rest.contains(b"ab\0") && !rest.contains(b"aa"));
    }

    #[test]
    fn ranges_end_at_a_key_or_just_below_it() {
        assert!(KeyRange::up_to(b"b").contains(b"b") && !KeyRange::up_to(b"b").contains(b"b\0"));
        assert!(KeyRange::below(b"b").contains(b"a\xff") && !KeyRange::below(b"b").contains(b"b"));
        assert!(KeyRange::below(b"").is_empty() && !KeyRange::all().is_empty());
    }
}
