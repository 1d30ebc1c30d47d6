//! Measures the rows above a store's tables: what a row costs by hash, what an order costs when
//! it is asked for, beside an ordered map of the same rows. Processor time of one thread.
//!
//! `cargo run --release -p oxkeeper-bench --example overlay_bench [rows]`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::ControlFlow;

use oxkeeper_store::overlay::{Direction, NoRows, Overlay, merge};
use oxkeeper_store::{KeyRange, WriteBatch};

const VALUE_BYTES: usize = 150;
/// Writes between two scans of a hundred rows.
const WRITES_PER_SCAN: usize = 10;

fn key(row: usize, rows: usize) -> Vec<u8> {
    // In no order, with the long prefixes that paths have.
    let scattered = row.wrapping_mul(7_919_717) % rows;
    format!(
        "\x01\0\x03/bench/parent-{:05}/node-{scattered:09}",
        scattered % 100
    )
    .into_bytes()
}

fn cpu_seconds() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = schedstat.split_whitespace().next();
    first
        .and_then(|text| text.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1e9
}

fn timed<T>(what: &str, per: usize, work: impl FnOnce() -> T) -> T {
    let start = cpu_seconds();
    let result = work();
    println!(
        "{what:52} {:8.0} ns",
        (cpu_seconds() - start) * 1e9 / per as f64
    );
    result
}

fn main() {
    let rows = std::env::args().nth(1);
    let rows = rows.and_then(|text| text.parse().ok()).unwrap_or(60_000);
    let keys: Vec<Vec<u8>> = (0..rows).map(|row| key(row, rows)).collect();
    let missing: Vec<Vec<u8>> = keys.iter().map(|key| [key, &b"x"[..]].concat()).collect();
    let value = [7; VALUE_BYTES];
    map(&keys, &missing, &value);
    overlay(&keys, &missing, &value);
}

fn map(keys: &[Vec<u8>], missing: &[Vec<u8>], value: &[u8]) {
    let mut map = BTreeMap::new();
    let insert = |map: &mut BTreeMap<Vec<u8>, Vec<u8>>| {
        keys.iter()
            .for_each(|key| drop(map.insert(key.clone(), value.to_vec())));
    };
    timed("map: a new row", keys.len(), || insert(&mut map));
    timed("map: a row again", keys.len(), || insert(&mut map));
    let get = |keys: &[Vec<u8>]| keys.iter().filter(|key| map.contains_key(*key)).count();
    timed("map: a row that is not there", keys.len(), || {
        black_box(get(missing))
    });
    timed("map: all rows in order, each", keys.len(), || {
        black_box(map.keys().map(Vec::len).sum::<usize>())
    });
}

fn overlay(keys: &[Vec<u8>], missing: &[Vec<u8>], value: &[u8]) {
    let mut overlay = Overlay::new(1);
    let mut batch = WriteBatch::default();
    let mut put = |overlay: &mut Overlay, key: &[u8]| {
        batch.clear();
        batch.put(key, value);
        overlay.write(&batch);
    };
    timed("overlay: a new row", keys.len(), || {
        keys.iter().for_each(|key| put(&mut overlay, key))
    });
    timed("overlay: a row again", keys.len(), || {
        keys.iter().for_each(|key| put(&mut overlay, key))
    });
    let found =
        |overlay: &Overlay, key: &[u8]| overlay.get(key) != oxkeeper_store::overlay::Found::Nothing;
    timed("overlay: a row that is not there", keys.len(), || {
        black_box(missing.iter().filter(|key| found(&overlay, key)).count())
    });
    let count = |overlay: &Overlay, limit: usize| {
        let mut count = 0;
        let _ = merge(
            overlay.layers(),
            &mut NoRows,
            &KeyRange::all(),
            Direction::Forward,
            &mut |_, _| {
                count += 1;
                Ok(if count == limit {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            },
        );
        count
    };
    timed(
        "overlay: all rows in order for the first time, each",
        keys.len(),
        || black_box(count(&overlay, usize::MAX)),
    );
    timed("overlay: all rows in order again, each", keys.len(), || {
        black_box(count(&overlay, usize::MAX))
    });
    let scans = 2_000;
    timed(
        "overlay: ten new rows and a scan of a hundred",
        scans,
        || {
            for keys in missing.chunks(WRITES_PER_SCAN).take(scans) {
                keys.iter().for_each(|key| put(&mut overlay, key));
                black_box(count(&overlay, 100));
            }
        },
    );
    println!(
        "overlay: {} bytes a row",
        overlay.bytes_above(0) / (keys.len() + scans * WRITES_PER_SCAN)
    );
    timed("overlay: a freeze of it all", 1, || {
        black_box(overlay.freeze())
    });
}
