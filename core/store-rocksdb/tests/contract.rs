//! The store's contract, with real crashes: a child process that aborts.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use oxkeeper_store::contract::{self, Machine};
use oxkeeper_store::{KeyRange, KeyValueStore, RowReader, StoreErrorKind, WriteBatch, get_vec};
use oxkeeper_store_rocksdb::{RocksOptions, RocksStore};
use proptest::prelude::*;
use tempfile::TempDir;

/// Tells the child where to write.
const CRASH_DIR: &str = "OXKEEPER_TEST_CRASH_DIR";

fn open(directory: &Path) -> RocksStore {
    RocksStore::open(directory, &RocksOptions::default()).expect("open")
}

/// A store whose checkpoints are many tables each.
fn open_with_small_tables(directory: &Path) -> RocksStore {
    let options = RocksOptions {
        table_bytes: 500,
        ..RocksOptions::default()
    };
    RocksStore::open(directory, &options).expect("open")
}

#[test]
fn rocksdb_keeps_the_contract() {
    let mut directories = Vec::new();
    contract::run(|| {
        directories.push(TempDir::new().expect("directory"));
        open(directories.last().expect("just pushed").path())
    });
}

/// A crash here is a close with all threads of the flushes gone.
struct Folder(TempDir);

impl Machine for Folder {
    type Store = RocksStore;

    fn open(&mut self) -> RocksStore {
        open(self.0.path())
    }

    fn crash(&mut self, store: RocksStore, _: u64) {
        drop(store);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rocksdb_agrees_with_a_map(actions in proptest::collection::vec(contract::actions(), 1..60)) {
        let mut folder = Folder(TempDir::new().expect("directory"));
        contract::run_actions(&mut folder, &actions);
    }
}

/// More of them than a scan sorts at a time, all of one group.
#[test]
fn scans_of_many_long_keys_are_sorted_part_by_part() {
    let directory = TempDir::new().expect("directory");
    let mut store = open(directory.path());
    let key = |row: u8| [&[1; 100_000], &[row][..]].concat();
    for row in 0..100 {
        let mut batch = WriteBatch::default();
        batch.put(&key(row), &[row]);
        store.write(&batch).expect("write");
    }
    store.flush().expect("flush");
    let rows = contract::rows(&store, &KeyRange::all());
    assert!(rows.iter().map(|(_, value)| value[0]).eq(0..100));
    let range = KeyRange {
        from: key(20),
        to: Some(key(90)),
    };
    let rows = contract::rows(&store, &range);
    assert!(rows.iter().map(|(_, value)| value[0]).eq(20..90));
}

#[test]
fn long_keys_are_not_kept_in_memory() {
    let directory = TempDir::new().expect("directory");
    let mut store = open(directory.path());
    for row in 0..200u8 {
        let mut batch = WriteBatch::default();
        batch.put(&[&vec![b'n'; 200_000], &[row][..]].concat(), b"");
        store.write(&batch).expect("write");
    }
    store.flush().expect("flush");
    assert_eq!(contract::rows(&store, &KeyRange::all()).len(), 200);
    let bytes = store.table_reader_bytes().expect("property");
    assert!(bytes < 1 << 20, "{bytes} bytes for keys of 40 MB");
}

#[test]
fn a_flush_that_fails_leaves_its_rows_to_the_next() {
    let directory = TempDir::new().expect("directory");
    let mut store = open(directory.path());
    let in_the_way = directory.path().join("incoming");
    std::fs::write(&in_the_way, "no folder").expect("write");
    store.write(&round_batch(1)).expect("write");
    let error = store.flush().expect_err("there is no place for a table");
    assert_eq!(error.kind, StoreErrorKind::Io);
    store
        .write(&round_batch(2))
        .expect("a failed flush stops nothing");
    assert_eq!(contract::rows(&store, &KeyRange::all()).len(), 201);
    std::fs::remove_file(&in_the_way).expect("remove");
    store.flush().expect("flush");
    drop(store);
    let rows = contract::rows(&open(directory.path()), &KeyRange::all());
    assert!(rows.len() == 201 && rows.iter().all(|(_, value)| value[7] == 2));
}

/// Names a folder on a file system of about 8 MB: for example a tmpfs.
const SMALL_DISK: &str = "OXKEEPER_TEST_SMALL_DISK";

#[test]
#[ignore = "needs a small file system, whose folder the environment names"]
fn a_full_disk_is_an_error_of_its_own_and_ends_with_the_space() {
    let small = std::env::var(SMALL_DISK).expect("the folder of a small file system");
    let directory = TempDir::new_in(small).expect("directory");
    let ballast = directory.path().join("ballast");
    let mut store = open(directory.path());
    let fill = |bytes| std::fs::write(&ballast, vec![1; bytes]);
    let mut megabytes = 64;
    while megabytes > 0 && fill(megabytes << 20).is_err() {
        megabytes -= 1;
    }
    let row = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut batch = WriteBatch::default();
    (0..200_000).for_each(|at| batch.put(&row(at), &row(!at)));
    store.write(&batch).expect("write");
    for _ in 0..3 {
        let error = store.flush().expect_err("no room");
        assert_eq!(error.kind, StoreErrorKind::NoSpace, "{error}");
        assert_eq!(get_vec(&store, &row(7)), Ok(Some(row(!7).to_vec())));
    }
    std::fs::remove_file(&ballast).expect("remove");
    store.flush().expect("there is room");
    drop(store);
    let rows = contract::rows(&open(directory.path()), &KeyRange::all());
    assert_eq!(rows.len(), 200_000);
}

fn table_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("list");
    let paths = entries.map(|entry| entry.expect("list").path());
    let mut tables: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    tables.sort();
    tables
}

/// A byte of the first block, which has the first rows.
fn damage(table: &Path) {
    let mut bytes = std::fs::read(table).expect("read");
    bytes[100] ^= 1;
    std::fs::write(table, bytes).expect("write");
}

#[test]
fn a_damaged_block_fails_the_reads_that_need_it_and_no_others() {
    let directory = TempDir::new().expect("directory");
    let row = |row: u64| [&b"row"[..], &row.to_be_bytes()].concat();
    let mut batch = WriteBatch::default();
    for at in 0..2_000 {
        batch.put(&row(at), b"as it was");
    }
    let mut store = open(directory.path());
    store.write(&batch).expect("write");
    store.flush().expect("flush");
    drop(store);
    let [table] = &table_files(directory.path())[..] else {
        panic!("one flush, one table");
    };
    damage(table);
    let mut store = open(directory.path());
    let bad_read = |store: &RocksStore, at| get_vec(store, &row(at)).expect_err("damaged");
    let error = bad_read(&store, 0);
    let name = table
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    assert_eq!(error.kind, StoreErrorKind::Damaged);
    assert!(error.reason.contains(name), "{error} names {name}");
    let scan = store.scan(&KeyRange::all(), &mut |_, _| ControlFlow::Continue(()));
    assert_eq!(
        scan.map_err(|error| error.kind),
        Err(StoreErrorKind::Damaged)
    );
    // More flushes than start a compaction, which meets the block too.
    for _ in 0..10 {
        store.write(&round_batch(1)).expect("write");
        store.flush().expect("flush");
        assert_eq!(
            get_vec(&store, &row(1_999)),
            Ok(Some(b"as it was".to_vec()))
        );
        assert_eq!(
            get_vec(&store, &row(150)),
            Ok(Some(1u64.to_be_bytes().to_vec()))
        );
    }
    drop(store);
    let store = open(directory.path());
    let rest = KeyRange::all().after(&row(999));
    assert_eq!(contract::rows(&store, &rest).len(), 1_000);
}

#[test]
fn a_missing_or_cut_table_is_noticed_at_open() {
    for cut in [false, true] {
        let directory = TempDir::new().expect("directory");
        contract::unflushed_writes(&mut open(directory.path()));
        let table = table_files(directory.path()).remove(0);
        if cut {
            let file = std::fs::File::options().write(true).open(&table);
            file.expect("open").set_len(100).expect("cut");
        } else {
            std::fs::remove_file(&table).expect("remove");
        }
        let error = RocksStore::open(directory.path(), &RocksOptions::default());
        let error = error.err().expect("refused");
        assert_eq!(error.kind, StoreErrorKind::Damaged);
        let name = table
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        assert!(error.reason.contains(name), "{error} names {name}");
    }
}

#[test]
fn nothing_is_ever_in_rocksdbs_memtable_or_log() {
    let directory = TempDir::new().expect("directory");
    let mut store = open(directory.path());
    for round in 0..20 {
        store.write(&round_batch(round)).expect("write");
        store.flush().expect("flush");
    }
    drop(store);
    let db = rocksdb::DB::open_default(directory.path()).expect("open");
    assert_eq!(
        db.property_int_value("rocksdb.num-entries-active-mem-table"),
        Ok(Some(0))
    );
    let entries = std::fs::read_dir(directory.path()).expect("list");
    for entry in entries.map(|entry| entry.expect("list")) {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "log")
        {
            assert_eq!(entry.metadata().expect("metadata").len(), 0);
        }
    }
}

#[test]
fn a_close_keeps_exactly_what_was_flushed() {
    let directory = TempDir::new().expect("directory");
    let mut store = open(directory.path());
    contract::unflushed_writes(&mut store);
    drop(store);
    contract::flushed_state(&open(directory.path()));
}

#[test]
fn a_crash_keeps_exactly_what_was_flushed() {
    let directory = TempDir::new().expect("directory");
    run_child("child_that_aborts_after_unflushed_writes", directory.path());
    contract::flushed_state(&open(directory.path()));
}

#[test]
#[ignore = "run by a_crash_keeps_exactly_what_was_flushed in its own process"]
fn child_that_aborts_after_unflushed_writes() {
    let directory = std::env::var(CRASH_DIR).expect("set by the parent");
    contract::unflushed_writes(&mut open(Path::new(&directory)));
    std::process::abort();
}

const ROUNDS: u64 = 200;

fn round_batch(round: u64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    batch.put(b"round", &round.to_be_bytes());
    for row in 0..200u64 {
        batch.put(
            &[&b"row"[..], &row.to_be_bytes()].concat(),
            &round.to_be_bytes(),
        );
    }
    batch
}

/// While one thread waits for flushes and then dies at some moment, the other writes on.
#[test]
fn a_crash_amid_a_flush_leaves_the_moment_of_some_freeze() {
    for _ in 0..8 {
        let directory = TempDir::new().expect("directory");
        run_child("child_that_aborts_amid_flushes", directory.path());
        let rows = contract::rows(&open(directory.path()), &KeyRange::prefix(b""));
        let rounds: Vec<u64> = rows
            .iter()
            .map(|(_, value)| u64::from_be_bytes(value.as_slice().try_into().expect("a round")))
            .collect();
        assert_eq!(rounds.len(), 201);
        assert!(rounds.iter().all(|round| *round == rounds[0]), "{rounds:?}");
        assert_eq!(rounds[0] % 10, 0, "only every tenth round was frozen");
        assert!(rounds[0] > 0, "the first flush was waited for");
    }
}

#[test]
#[ignore = "run by a_crash_amid_a_flush_leaves_the_moment_of_some_freeze in its own process"]
fn child_that_aborts_amid_flushes() {
    let directory = std::env::var(CRASH_DIR).expect("set by the parent");
    let mut store = open_with_small_tables(Path::new(&directory));
    let mut waits = Vec::new();
    for round in 1..=ROUNDS {
        store.write(&round_batch(round)).expect("write");
        if round == 10 {
            store.flush().expect("flush");
        } else if round % 10 == 0 && waits.len() < 3 {
            let wait = store.start_flush().expect("start");
            waits.push(std::thread::spawn(wait));
        }
    }
    std::process::abort();
}

fn run_child(test: &str, directory: &Path) {
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", test, "--test-threads=1"])
        .env(CRASH_DIR, directory)
        .output()
        .expect("the child runs")
        .status;
    assert_eq!(
        status.code(),
        None,
        "the child must die by a signal: {status}"
    );
}
