//! What znodes are called and what they hold. Both follow from numbers, so that any reader can check any reply.

use std::fmt::Write;

/// Bytes that one step of the generator makes.
const WORD_BYTES: usize = 8;

/// The value of `slot` at `version`: any prefix of an endless stream that both seed.
fn word(slot: u64, version: i32, index: u64) -> [u8; WORD_BYTES] {
    let seed = (slot << 32) ^ u64::from(version.cast_unsigned());
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// Appends the value of `slot` at `version`.
pub(crate) fn put_value(out: &mut Vec<u8>, slot: u64, version: i32, bytes: usize) {
    let end = out.len() + bytes;
    let mut index = 0;
    while out.len() < end {
        let missing = end - out.len();
        out.extend_from_slice(&word(slot, version, index)[..missing.min(WORD_BYTES)]);
        index += 1;
    }
}

/// Whether `value` is what [`put_value`] makes of the same numbers, whatever its length.
pub(crate) fn is_value(value: &[u8], slot: u64, version: i32) -> bool {
    let mut words = (0..).map(|index| word(slot, version, index));
    value.chunks(WORD_BYTES).all(|chunk| {
        words
            .next()
            .is_some_and(|word| word[..chunk.len()] == *chunk)
    })
}

/// The path of a slot.
pub(crate) fn slot_path(root: &str, slot: u64) -> String {
    let mut path = String::with_capacity(root.len() + 12);
    put_slot_path(&mut path, root, slot);
    path
}

/// Replaces `path` by the path of a slot, in place.
pub(crate) fn put_slot_path(path: &mut String, root: &str, slot: u64) {
    path.clear();
    let _ = write!(path, "{root}/n{slot:010}");
}

/// Replaces `path` by that of the `number`th znode that a connection creates in this run.
pub(crate) fn put_created_path(
    path: &mut String,
    root: &str,
    run: u64,
    connection: usize,
    number: u64,
) {
    path.clear();
    let _ = write!(path, "{root}/c{run:x}-{connection}-{number}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_recognised_and_differ_by_slot_and_version() {
        for bytes in [0, 1, 7, 8, 9, 100, 4096] {
            let mut value = Vec::new();
            put_value(&mut value, 5, 3, bytes);
            assert_eq!(value.len(), bytes);
            assert!(is_value(&value, 5, 3));
            if bytes > 0 {
                assert!(!is_value(&value, 5, 4));
                assert!(!is_value(&value, 6, 3));
                value[bytes - 1] ^= 1;
                assert!(!is_value(&value, 5, 3));
            }
        }
    }

    #[test]
    fn paths_follow_from_numbers() {
        assert_eq!(slot_path("/perf", 42), "/perf/n0000000042");
        let mut path = "old".to_owned();
        put_created_path(&mut path, "/perf", 255, 3, 9);
        assert_eq!(path, "/perf/cff-3-9");
    }
}
