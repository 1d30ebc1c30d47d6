//! What every [`KeyValueStore`] must do, as a suite that takes a way to open, and one to crash.

mod interleavings;

use std::ops::ControlFlow;

use crate::{
    KeyRange, KeyValueStore, OwnedRow, RowReader, WriteBatch, first_row, get_vec, last_row,
};

pub use interleavings::{Action, Machine, actions, run_actions};

/// Runs the suite on stores that `fresh` makes. Panics where one breaks the contract.
///
/// What a crash leaves is checked by [`flushed_state`] and [`unflushed_writes`], which the caller
/// puts around its own way of crashing, and by [`run_actions`].
pub fn run<S: KeyValueStore>(mut fresh: impl FnMut() -> S) {
    reads_see_writes_at_once(fresh());
    a_batch_applies_in_order(fresh());
    scans_visit_the_range_in_order(fresh());
    scans_merge_what_is_flushed_and_what_is_not(fresh());
    scans_stop_when_told(fresh());
    a_visitor_may_read(fresh());
    neighbours_of_a_key_are_found(fresh());
    reads_see_writes_around_flushes(fresh());
    a_frozen_view_stays_as_it_was(fresh());
    frozen_views_are_read_on_other_threads(fresh());
    a_flush_that_nobody_waited_for_is_part_of_the_next(fresh());
    flushes_may_end_in_any_order(fresh());
    dirty_bytes_end_with_a_flush(fresh());
    odd_keys_and_values_survive(fresh());
    long_keys_keep_their_order(fresh());
}

fn put(store: &mut impl KeyValueStore, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::default();
    batch.put(key, value);
    store.write(&batch).expect("write");
}

fn delete(store: &mut impl KeyValueStore, key: &[u8]) {
    let mut batch = WriteBatch::default();
    batch.delete(key);
    store.write(&batch).expect("write");
}

fn get(store: &impl RowReader, key: &[u8]) -> Option<Vec<u8>> {
    get_vec(store, key).expect("get")
}

/// All rows of a range; the scan from the other end must agree.
pub fn rows(store: &impl RowReader, range: &KeyRange) -> Vec<OwnedRow> {
    let mut rows = Vec::new();
    store
        .scan(range, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .expect("scan");
    let mut back = rows.iter().rev();
    store
        .scan_back(range, &mut |key, value| {
            let expected = back.next().map(|(key, value)| (&key[..], &value[..]));
            assert_eq!(Some((key, value)), expected, "from the other end");
            ControlFlow::Continue(())
        })
        .expect("scan back");
    assert_eq!(back.next(), None, "not met from the other end");
    rows
}

fn all(store: &impl RowReader) -> Vec<OwnedRow> {
    rows(store, &KeyRange::all())
}

fn row(key: &[u8], value: &[u8]) -> OwnedRow {
    (key.to_vec(), value.to_vec())
}

fn reads_see_writes_at_once(mut store: impl KeyValueStore) {
    assert_eq!(get(&store, b"a"), None);
    put(&mut store, b"a", b"1");
    assert_eq!(get(&store, b"a").as_deref(), Some(&b"1"[..]));
    put(&mut store, b"a", b"");
    assert_eq!(
        get(&store, b"a").as_deref(),
        Some(&b""[..]),
        "an empty value is a value"
    );
    let mut batch = WriteBatch::default();
    batch.delete(b"a");
    batch.delete(b"never was");
    store.write(&batch).expect("write");
    assert_eq!(get(&store, b"a"), None);
}

fn a_batch_applies_in_order(mut store: impl KeyValueStore) {
    let mut batch = WriteBatch::default();
    batch.put(b"a", b"1");
    batch.delete(b"a");
    batch.put(b"b", b"1");
    batch.put(b"b", b"2");
    batch.delete(b"c");
    batch.put(b"c", b"3");
    store.write(&batch).expect("write");
    assert_eq!(get(&store, b"a"), None);
    assert_eq!(get(&store, b"b").as_deref(), Some(&b"2"[..]));
    assert_eq!(get(&store, b"c").as_deref(), Some(&b"3"[..]));
    store
        .write(&WriteBatch::default())
        .expect("an empty batch is fine");
}

fn scans_visit_the_range_in_order(mut store: impl KeyValueStore) {
    for key in [&b"b"[..], b"a", b"ab", b"aa\xff", b"c", b"\xff\xff", b"a\0"] {
        put(&mut store, key, key);
    }
    let keys = |range: &KeyRange| -> Vec<Vec<u8>> {
        rows(&store, range)
            .into_iter()
            .map(|(key, value)| {
                assert_eq!(key, value);
                key
            })
            .collect()
    };
    assert_eq!(
        keys(&KeyRange::prefix(b"a")),
        [&b"a"[..], b"a\0", b"aa\xff", b"ab"]
    );
    assert_eq!(
        keys(&KeyRange::prefix(b"a").after(b"a")),
        [&b"a\0"[..], b"aa\xff", b"ab"]
    );
    assert_eq!(keys(&KeyRange::prefix(b"\xff")), [b"\xff\xff"]);
    assert_eq!(
        keys(&KeyRange {
            from: b"b".to_vec(),
            to: Some(b"c".to_vec())
        }),
        [b"b"]
    );
    assert_eq!(
        keys(&KeyRange {
            from: b"c".to_vec(),
            to: Some(b"b".to_vec())
        }),
        [&b""[..]; 0]
    );
    assert_eq!(
        keys(&KeyRange {
            from: Vec::new(),
            to: None
        })
        .len(),
        7
    );
}

/// Keys on both sides of a flush, some overwritten and some deleted after it.
fn scans_merge_what_is_flushed_and_what_is_not(mut store: impl KeyValueStore) {
    for key in 0..60u8 {
        put(&mut store, &[key], b"flushed");
    }
    store.flush().expect("flush");
    for key in (0..120u8).step_by(2) {
        put(&mut store, &[key], b"written");
    }
    for key in (0..120u8).step_by(5) {
        delete(&mut store, &[key]);
    }
    let expected: Vec<OwnedRow> = (0..120u8)
        .filter(|key| key % 5 != 0 && (key % 2 == 0 || *key < 60))
        .map(|key| row(&[key], if key % 2 == 0 { b"written" } else { b"flushed" }))
        .collect();
    assert_eq!(all(&store), expected);
    let middle = KeyRange {
        from: vec![31],
        to: Some(vec![64]),
    };
    let within = expected.iter().filter(|(key, _)| middle.contains(key));
    assert!(rows(&store, &middle).iter().eq(within));
    store.flush().expect("flush");
    assert_eq!(all(&store), expected);
}

fn scans_stop_when_told(mut store: impl KeyValueStore) {
    for key in 0..10u8 {
        put(&mut store, &[key], b"");
    }
    let mut seen = Vec::new();
    let four = &mut |key: &[u8], _: &[u8]| {
        seen.push(key[0]);
        if seen.len() % 4 == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let range = KeyRange::prefix(&[]).after(&[2]);
    store.scan(&range, four).expect("scan");
    store.scan_back(&range, four).expect("scan back");
    assert_eq!(seen, [3, 4, 5, 6, 9, 8, 7, 6]);
}

fn a_visitor_may_read(mut store: impl KeyValueStore) {
    for key in 0..10u8 {
        put(&mut store, &[key], &[9 - key]);
    }
    let mut found = Vec::new();
    store
        .scan(&KeyRange::all(), &mut |_, other| {
            found.extend(get(&store, other));
            store
                .scan(&KeyRange::prefix(other), &mut |_, value| {
                    found.push(value.to_vec());
                    ControlFlow::Continue(())
                })
                .expect("scan within a scan");
            ControlFlow::Continue(())
        })
        .expect("scan");
    let expected: Vec<Vec<u8>> = (0..10u8).flat_map(|key| [vec![key], vec![key]]).collect();
    assert_eq!(found, expected);
}

fn neighbours_of_a_key_are_found(mut store: impl KeyValueStore) {
    for key in [b"b", b"d", b"f"] {
        put(&mut store, key, b"");
    }
    store.flush().expect("flush");
    put(&mut store, b"e", b"");
    delete(&mut store, b"d");
    let key = |row: Result<Option<OwnedRow>, _>| row.expect("read").map(|(key, _)| key);
    let floor = |of: &[u8]| key(last_row(&store, &KeyRange::up_to(of)));
    let lower = |of: &[u8]| key(last_row(&store, &KeyRange::below(of)));
    let higher = |of: &[u8]| key(first_row(&store, &KeyRange::all().after(of)));
    assert_eq!((floor(b"a"), lower(b"b")), (None, None));
    assert_eq!(
        (floor(b"b"), floor(b"d")),
        (Some(b"b".into()), Some(b"b".into()))
    );
    assert_eq!(
        (lower(b"e"), lower(b"f")),
        (Some(b"b".into()), Some(b"e".into()))
    );
    assert_eq!((higher(b"b"), higher(b"f")), (Some(b"e".into()), None));
}

fn reads_see_writes_around_flushes(mut store: impl KeyValueStore) {
    put(&mut store, b"a", b"1");
    put(&mut store, b"b", b"1");
    let wait = store.start_flush().expect("start");
    put(&mut store, b"a", b"2");
    assert_eq!(get(&store, b"a").as_deref(), Some(&b"2"[..]));
    std::thread::spawn(wait)
        .join()
        .expect("no panic")
        .expect("flush");
    let mut batch = WriteBatch::default();
    batch.delete(b"b");
    store.write(&batch).expect("write");
    store.flush().expect("flush");
    assert_eq!(all(&store), [row(b"a", b"2")]);
    store.flush().expect("nothing to flush");
}

fn a_frozen_view_stays_as_it_was(mut store: impl KeyValueStore) {
    put(&mut store, b"flushed", b"1");
    put(&mut store, b"gone", b"1");
    store.flush().expect("flush");
    put(&mut store, b"written", b"1");
    let first = store.freeze().expect("freeze");
    let same = store.freeze().expect("freeze");
    let expected = all(&store);
    put(&mut store, b"flushed", b"2");
    put(&mut store, b"written", b"2");
    put(&mut store, b"new", b"2");
    delete(&mut store, b"gone");
    let second = store.freeze().expect("freeze");
    let second_expected = all(&store);
    for _ in 0..3 {
        put(&mut store, b"written", b"3");
        delete(&mut store, b"new");
        store.flush().expect("flush");
        assert_eq!(
            (all(&first), all(&same)),
            (expected.clone(), expected.clone())
        );
        assert_eq!(all(&second), second_expected);
        assert_eq!(get(&first, b"written").as_deref(), Some(&b"1"[..]));
        assert_eq!((get(&first, b"new"), get(&second, b"gone")), (None, None));
        assert_eq!(get(&second, b"new").as_deref(), Some(&b"2"[..]));
    }
    drop((first, second));
    assert_eq!(all(&same), expected);
    assert_eq!(all(&store), [row(b"flushed", b"2"), row(b"written", b"3")]);
}

/// Readers compare what they see with itself while the store is written and flushed.
fn frozen_views_are_read_on_other_threads(mut store: impl KeyValueStore) {
    let mut readers = Vec::new();
    for round in 0..20u32 {
        for key in 0..200u32 {
            let key = (key * 7919 % 500).to_be_bytes();
            put(&mut store, &key, &round.to_be_bytes());
        }
        let view = store.freeze().expect("freeze");
        let expected = all(&store);
        readers.push(std::thread::spawn(move || {
            for _ in 0..3 {
                assert_eq!(all(&view), expected, "round {round}");
            }
        }));
        if round % 4 == 3 {
            let wait = store.start_flush().expect("start");
            readers.push(std::thread::spawn(|| wait().expect("flush")));
        }
    }
    for reader in readers {
        reader.join().expect("no panic");
    }
}

fn a_flush_that_nobody_waited_for_is_part_of_the_next(mut store: impl KeyValueStore) {
    put(&mut store, b"a", b"1");
    put(&mut store, b"b", b"1");
    drop(store.start_flush().expect("start"));
    put(&mut store, b"b", b"2");
    let view = store.freeze().expect("freeze");
    store.flush().expect("flush");
    assert_eq!(all(&store), [row(b"a", b"1"), row(b"b", b"2")]);
    assert_eq!(all(&view), all(&store));
    assert_eq!(store.dirty_bytes(), 0);
}

fn flushes_may_end_in_any_order(mut store: impl KeyValueStore) {
    put(&mut store, b"a", b"1");
    let first = store.start_flush().expect("start");
    put(&mut store, b"a", b"2");
    let second = store.start_flush().expect("start");
    delete(&mut store, b"a");
    put(&mut store, b"b", b"3");
    second().expect("flush");
    first().expect("a later one has done its work");
    assert_eq!(all(&store), [row(b"b", b"3")]);
    store.flush().expect("flush");
    assert_eq!(all(&store), [row(b"b", b"3")]);
}

fn dirty_bytes_end_with_a_flush(mut store: impl KeyValueStore) {
    assert_eq!(store.dirty_bytes(), 0);
    put(&mut store, b"a", &[1; 1000]);
    assert!(store.dirty_bytes() > 1000);
    let wait = store.start_flush().expect("start");
    assert!(store.dirty_bytes() > 1000, "not durable yet");
    wait().expect("flush");
    assert_eq!(store.dirty_bytes(), 0);
}

fn odd_keys_and_values_survive(mut store: impl KeyValueStore) {
    let long = vec![7; 1 << 20];
    put(&mut store, &[0], &long);
    put(&mut store, &long[..70_000], b"v");
    store.flush().expect("flush");
    assert_eq!(get(&store, &[0]), Some(long.clone()));
    assert_eq!(get(&store, &long[..70_000]).as_deref(), Some(&b"v"[..]));
}

/// Keys far longer than any block of a table, which differ only at their ends.
fn long_keys_keep_their_order(mut store: impl KeyValueStore) {
    let key = |tail: &[u8], bytes| [&vec![7; bytes], tail].concat();
    let mut expected = vec![row(&[7], b"short"), row(&[7, 8], b"after")];
    for bytes in [300, 511, 512, 513, 2_000, 70_000] {
        for tail in [&b""[..], b"\0", b"a", b"ab", b"b", b"\xff\xff"] {
            expected.push(row(&key(tail, bytes), tail));
        }
    }
    for (key, value) in &expected {
        put(&mut store, key, value);
    }
    expected.sort_unstable();
    for flushed in [false, true] {
        if flushed {
            store.flush().expect("flush");
        }
        assert_eq!(all(&store), expected);
        for (at, (key, value)) in expected.iter().enumerate() {
            assert_eq!(get(&store, key).as_ref(), Some(value));
            let after = rows(&store, &KeyRange::all().after(key));
            assert_eq!(after, expected[at + 1..]);
            assert_eq!(rows(&store, &KeyRange::up_to(key)), expected[..=at]);
            assert_eq!(
                rows(&store, &KeyRange::prefix(key)),
                with_prefix(&expected, key)
            );
        }
        assert_eq!(get(&store, &key(b"ac", 2_000)), None);
    }
    for (key, _) in expected.iter().step_by(2) {
        delete(&mut store, key);
    }
    let left: Vec<OwnedRow> = expected.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(all(&store), left);
    store.flush().expect("flush");
    assert_eq!(all(&store), left);
}

fn with_prefix(rows: &[OwnedRow], prefix: &[u8]) -> Vec<OwnedRow> {
    let fits = |row: &&OwnedRow| row.0.starts_with(prefix);
    rows.iter().filter(fits).cloned().collect()
}

const DURABLE_ROWS: u32 = 500;

/// Writes and flushes rows, then writes more, overwrites and deletes without a flush. After a
/// crash and a reopen, [`flushed_state`] must hold.
pub fn unflushed_writes(store: &mut impl KeyValueStore) {
    for row in 0..DURABLE_ROWS {
        put(store, &row.to_be_bytes(), b"durable");
    }
    store.flush().expect("flush");
    let mut batch = WriteBatch::default();
    for row in 0..DURABLE_ROWS {
        match row % 3 {
            0 => batch.put(&row.to_be_bytes(), b"lost"),
            1 => batch.delete(&row.to_be_bytes()),
            _ => batch.put(&(DURABLE_ROWS + row).to_be_bytes(), b"lost"),
        }
    }
    store.write(&batch).expect("write");
}

/// Exactly what was flushed by [`unflushed_writes`] is there.
pub fn flushed_state(store: &impl RowReader) {
    let rows = all(store);
    assert_eq!(rows.len(), DURABLE_ROWS as usize);
    for (row, (key, value)) in rows.iter().enumerate() {
        assert_eq!(key, &(row as u32).to_be_bytes());
        assert_eq!(value, b"durable");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Machine, actions, run_actions};
    use crate::MemoryStore;

    #[test]
    fn the_memory_store_keeps_the_contract() {
        super::run(MemoryStore::new);
    }

    #[test]
    fn a_crash_of_the_memory_store_loses_what_was_not_flushed() {
        let mut store = MemoryStore::new();
        super::unflushed_writes(&mut store);
        store.crash();
        super::flushed_state(&store);
    }

    impl Machine for MemoryStore {
        type Store = Self;

        fn open(&mut self) -> Self {
            self.clone()
        }

        fn crash(&mut self, _: Self, seed: u64) {
            self.crash_amid_flushes(seed);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_memory_store_agrees_with_a_map(actions in proptest::collection::vec(actions(), 1..80)) {
            run_actions(&mut MemoryStore::new(), &actions);
        }
    }
}
