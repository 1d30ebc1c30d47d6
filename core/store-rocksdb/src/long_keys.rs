//! Long keys in tables.
//!
//! RocksDB keeps a key for each block of a table in memory, whole, so names of a megabyte would stay
//! in memory for good. So a key of more than [`KEY_BYTES_MAX`] bytes stands in a table as
//!
//! | | |
//! |---|---|
//! | key | its first 512 bytes, then the SHA-256 of all of it |
//! | value | length of the rest of the key (u32 LE), that rest, the value |
//!
//! Keys that differ in their first 512 bytes keep their order by that. The others are a *group*: they
//! are sorted when a scan meets them, a bounded part of them at a time.

use std::collections::BTreeMap;

use oxkeeper_store::overlay::Direction;
use oxkeeper_store::{KeyRange, OwnedRow, StoreError, StoreErrorKind};
use sha2::{Digest, Sha256};

use crate::limits::{KEY_BYTES_MAX, SORTED_BYTES_MAX};

/// Whether a key is long; in a table, whether it stands for a long one.
pub(crate) fn is_long(key: &[u8]) -> bool {
    key.len() > KEY_BYTES_MAX
}

/// What all keys of a long key's group begin with.
pub(crate) fn group_of(key: &[u8]) -> &[u8] {
    &key[..key.len().min(KEY_BYTES_MAX)]
}

/// The key in the tables of a long key.
pub(crate) fn table_key(key: &[u8]) -> Vec<u8> {
    [group_of(key), &Sha256::digest(key)].concat()
}

/// The value in the tables of a long key.
pub(crate) fn table_value(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = &key[KEY_BYTES_MAX..];
    [&(rest.len() as u32).to_le_bytes(), rest, value].concat()
}

/// The rest of the key, and the value.
pub(crate) fn split(table_value: &[u8]) -> Result<(&[u8], &[u8]), StoreError> {
    let parts = table_value
        .split_first_chunk()
        .and_then(|(bytes, after)| after.split_at_checked(u32::from_le_bytes(*bytes) as usize));
    let malformed = "a row with a long key is not understood";
    parts.ok_or_else(|| StoreError::of(StoreErrorKind::Damaged, "reading a row", malformed))
}

/// The keys of tables among which those of the range are, and perhaps a few more.
pub(crate) fn table_range(range: &KeyRange) -> KeyRange {
    let to = match &range.to {
        Some(to) if is_long(to) => KeyRange::prefix(group_of(to)).to,
        to => to.clone(),
    };
    KeyRange {
        from: group_of(&range.from).to_vec(),
        to,
    }
}

/// Rows of one group, sorted: the first that a scan has not met yet.
pub(crate) struct Group {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    direction: Direction,
    /// Whether there are more than these.
    pub(crate) is_cut: bool,
}

impl Group {
    pub(crate) fn new(direction: Direction) -> Self {
        Self {
            rows: BTreeMap::new(),
            bytes: 0,
            direction,
            is_cut: false,
        }
    }

    /// Adds a row; gives up the last ones if they are too many.
    pub(crate) fn add(&mut self, key: Vec<u8>, value: &[u8]) {
        self.bytes += key.len() + value.len();
        self.rows.insert(key, value.to_vec());
        while self.bytes > SORTED_BYTES_MAX && self.rows.len() > 1 {
            let last = match self.direction {
                Direction::Forward => self.rows.pop_last(),
                Direction::Back => self.rows.pop_first(),
            };
            self.removed(last);
            self.is_cut = true;
        }
    }

    pub(crate) fn first(&self) -> Option<(&[u8], &[u8])> {
        let first = match self.direction {
            Direction::Forward => self.rows.first_key_value(),
            Direction::Back => self.rows.last_key_value(),
        };
        first.map(|(key, value)| (&key[..], &value[..]))
    }

    pub(crate) fn pop_first(&mut self) -> Option<Vec<u8>> {
        let first = match self.direction {
            Direction::Forward => self.rows.pop_first(),
            Direction::Back => self.rows.pop_last(),
        };
        self.removed(first)
    }

    fn removed(&mut self, row: Option<OwnedRow>) -> Option<Vec<u8>> {
        let (key, value) = row?;
        self.bytes -= key.len() + value.len();
        Some(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_row_has_its_persisted_bytes() {
        let key = [vec![7; 512], b"tail".to_vec()].concat();
        let table_key = table_key(&key);
        assert_eq!(table_key[..512], [7; 512]);
        assert_eq!(table_key[512..516], [0xda, 0xc6, 0x27, 0xb4]);
        assert_eq!(table_key.len(), 544);
        let row = table_value(&key, b"v");
        assert_eq!(row, b"\x04\0\0\0tailv");
        assert_eq!(split(&row), Ok((&b"tail"[..], &b"v"[..])));
        for bad in [&b""[..], b"\x04\0\0", b"\x04\0\0\0tai"] {
            assert_eq!(split(bad).expect_err("cut").kind, StoreErrorKind::Damaged);
        }
    }

    #[test]
    fn a_group_holds_a_bounded_part_of_its_rows() {
        for direction in [Direction::Forward, Direction::Back] {
            let mut group = Group::new(direction);
            let value = vec![0; SORTED_BYTES_MAX / 4];
            for key in [5u8, 3, 8, 1, 9, 2] {
                group.add(vec![key], &value);
            }
            assert!(group.is_cut);
            let expected = match direction {
                Direction::Forward => [1, 2, 3],
                Direction::Back => [9, 8, 5],
            };
            let keys: Vec<_> = std::iter::from_fn(|| group.pop_first()).collect();
            assert_eq!(keys, expected.map(|key: u8| vec![key]));
        }
    }
}
