//! What every [`KeyValueStore`] must do, as a suite that takes a way to open, and one to crash.

use std::ops::ControlFlow;

use crate::kv::{KeyRange, KeyValueStore, WriteBatch, get_vec};

/// Runs the suite on stores that `fresh` makes. Panics where one breaks the contract.
///
/// What a crash leaves is checked by [`flushed_state`] and [`unflushed_writes`], which the caller
/// puts around its own way of crashing.
pub fn run<S: KeyValueStore>(mut fresh: impl FnMut() -> S) {
    reads_see_writes_at_once(fresh());
    a_batch_applies_in_order(fresh());
    scans_visit_the_range_in_order(fresh());
    scans_stop_when_told(fresh());
    reads_see_writes_around_flushes(fresh());
    odd_keys_and_values_survive(fresh());
}

fn put(store: &mut impl KeyValueStore, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::default();
    batch.put(key, value);
    store.write(&batch).expect("write");
}

fn get(store: &impl KeyValueStore, key: &[u8]) -> Option<Vec<u8>> {
    get_vec(store, key).expect("get")
}

/// All rows of a range.
pub fn rows(store: &impl KeyValueStore, range: &KeyRange) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    store
        .scan(range, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .expect("scan");
    rows
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

fn scans_stop_when_told(mut store: impl KeyValueStore) {
    for key in 0..10u8 {
        put(&mut store, &[key], b"");
    }
    let mut seen = 0;
    store
        .scan(
            &KeyRange {
                from: vec![3],
                to: None,
            },
            &mut |_, _| {
                seen += 1;
                if seen == 4 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        )
        .expect("scan");
    assert_eq!(seen, 4);
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
    assert_eq!(
        rows(&store, &KeyRange::prefix(b"")),
        [(b"a".to_vec(), b"2".to_vec())]
    );
    store.flush().expect("nothing to flush");
}

fn odd_keys_and_values_survive(mut store: impl KeyValueStore) {
    let long = vec![7; 1 << 20];
    put(&mut store, &[0], &long);
    put(&mut store, &long[..70_000], b"v");
    store.flush().expect("flush");
    assert_eq!(get(&store, &[0]), Some(long.clone()));
    assert_eq!(get(&store, &long[..70_000]).as_deref(), Some(&b"v"[..]));
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
pub fn flushed_state(store: &impl KeyValueStore) {
    let rows = rows(
        store,
        &KeyRange {
            from: Vec::new(),
            to: None,
        },
    );
    assert_eq!(rows.len(), DURABLE_ROWS as usize);
    for (row, (key, value)) in rows.iter().enumerate() {
        assert_eq!(key, &(row as u32).to_be_bytes());
        assert_eq!(value, b"durable");
    }
}

#[cfg(test)]
mod tests {
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
}
