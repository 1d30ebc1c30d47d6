//! Measures the state machine on RocksDB: time per operation, memory, disk, and reopening.
//!
//! `cargo run --release -p oxkeeper-bench --example apply_bench -- [records] [value bytes]`

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use oxkeeper_format as log_format;
use oxkeeper_model::placement::ShardDescriptor;
use oxkeeper_model::{
    Acl, AclEntry, Attachment, ClientCommand, Command, CommandOutcome, Create, Entry, Head,
    Identities, Identity, Lifetime, Nonce, Offset, Record, Revision, SeedRecord, SessionId,
    SessionWrite, ShardId, ShardUuid, Term, TreeOp, WriteSeq,
};
use oxkeeper_state::{HashKey, ShardState};
use oxkeeper_store_rocksdb::{RocksOptions, RocksStore};
use smallvec::smallvec;

const COMMANDS_PER_ENTRY: usize = 64;
const CHECKPOINT_DIRTY_BYTES: usize = 20 << 20;
const CHILDREN_PER_PARENT: usize = 1000;

/// Of the kernel's accounts, on every Linux that is in use.
const TICKS_PER_SECOND: f64 = 100.0;

struct Bench {
    state: ShardState<RocksStore>,
    session: SessionId,
    seq: u64,
    now_ms: i64,
    identities: Identities,
    acl: Acl,
    /// Entries since the last durable checkpoint, for the replay.
    log: Vec<(Offset, Bytes)>,
    flush: Option<std::thread::JoinHandle<Offset>>,
    applied: Vec<oxkeeper_state::Applied>,
    encode_seconds: f64,
    apply_seconds: f64,
    slowest_entry_ms: f64,
}

/// Time this thread was on a processor: what other programs do does not count.
fn thread_cpu_seconds() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let on_cpu_ns = schedstat
        .split_whitespace()
        .next()
        .and_then(|text| text.parse::<f64>().ok());
    on_cpu_ns.unwrap_or(0.0) / 1e9
}

/// Processor time of all threads: flushes and compactions too.
fn process_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|text| text.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS_PER_SECOND
}

fn open(directory: &Path) -> ShardState<RocksStore> {
    let store = RocksStore::open(directory, &RocksOptions::default()).expect("open");
    let shard = ShardDescriptor::whole("default", ShardId(0), ShardUuid::default());
    ShardState::open(&shard, store, HashKey(1)).expect("state")
}

impl Bench {
    fn new(directory: &Path) -> Self {
        let acl: Acl = Arc::new([AclEntry {
            permissions: 31,
            scheme: "world".into(),
            id: "anyone".into(),
        }]);
        let identities = Arc::new([Identity {
            scheme: "ip".into(),
            id: "127.0.0.1".into(),
        }]);
        let mut bench = Self {
            state: open(directory),
            session: SessionId(0),
            seq: 0,
            now_ms: 1_700_000_000_000,
            identities,
            acl: acl.clone(),
            log: Vec::new(),
            flush: None,
            applied: Vec::new(),
            encode_seconds: 0.0,
            apply_seconds: 0.0,
            slowest_entry_ms: 0.0,
        };
        let seed = vec![SeedRecord {
            path: "/".into(),
            record: root(acl),
        }];
        bench.entry(vec![Command::Genesis {
            secret: [7; 32],
            seed,
        }]);
        bench.entry(vec![Command::Client(ClientCommand::OpenSession {
            nonce: Nonce(1),
            timeout_ms: 30_000,
        })]);
        let CommandOutcome::SessionGranted(Ok(grant)) = &bench.applied[0].outcome else {
            panic!("no session: {:?}", bench.applied);
        };
        bench.session = grant.session;
        bench
    }

    fn entry(&mut self, commands: Vec<Command>) {
        self.now_ms += 1;
        let entry = Entry {
            term: Term(1),
            wall_ms: self.now_ms,
            elapsed_ms: self.log.len() as u64,
            commands,
        };
        let mut bytes = Vec::new();
        let start = Instant::now();
        log_format::encode(&entry, &mut bytes);
        self.encode_seconds += start.elapsed().as_secs_f64();
        let offset = self.state.applied().next();
        self.log.push((offset, bytes.into()));
        self.applied.clear();
        let start = Instant::now();
        self.state
            .apply(offset, &entry, &mut self.applied)
            .expect("apply");
        let seconds = start.elapsed().as_secs_f64();
        self.apply_seconds += seconds;
        self.slowest_entry_ms = self.slowest_entry_ms.max(seconds * 1e3);
        self.checkpoint_if_due();
    }

    fn checkpoint_if_due(&mut self) {
        if self.flush.as_ref().is_some_and(|flush| flush.is_finished()) {
            self.end_flush();
        }
        if self.flush.is_none() && self.state.dirty_bytes() >= CHECKPOINT_DIRTY_BYTES {
            self.start_flush();
        }
    }

    fn start_flush(&mut self) {
        let checkpoint = self.state.start_checkpoint().expect("checkpoint");
        self.flush = Some(std::thread::spawn(|| checkpoint.wait().expect("flush")));
    }

    fn end_flush(&mut self) {
        if let Some(flush) = self.flush.take() {
            let durable = flush.join().expect("flush");
            self.log.retain(|(offset, _)| *offset > durable);
        }
    }

    fn run(&mut self, name: &str, count: usize, mut op: impl FnMut(&Self, usize) -> TreeOp) {
        (
            self.encode_seconds,
            self.apply_seconds,
            self.slowest_entry_ms,
        ) = (0.0, 0.0, 0.0);
        let (start, cpu_start) = (Instant::now(), thread_cpu_seconds());
        let process_start = process_cpu_seconds();
        for first in (0..count).step_by(COMMANDS_PER_ENTRY) {
            let indexes = first..count.min(first + COMMANDS_PER_ENTRY);
            let ops: Vec<TreeOp> = indexes.map(|index| op(self, index)).collect();
            let commands = ops.into_iter().map(|op| self.write(op)).collect();
            self.entry(commands);
            for applied in &self.applied {
                let CommandOutcome::Written(outcome) = &applied.outcome else {
                    panic!()
                };
                assert!(
                    matches!(outcome.result, Ok(oxkeeper_model::TxnOutcome::Applied(_))),
                    "{outcome:?}"
                );
            }
        }
        println!(
            "{name:26} {:6.2} us cpu, {:6.2} in all threads, {:6.2} us apply, {:5.2} us encode, slowest entry {:6.1} ms, {:8.0} ops/s overall, rss {} MiB",
            (thread_cpu_seconds() - cpu_start) * 1e6 / count as f64,
            (process_cpu_seconds() - process_start) * 1e6 / count as f64,
            self.apply_seconds * 1e6 / count as f64,
            self.encode_seconds * 1e6 / count as f64,
            self.slowest_entry_ms,
            count as f64 / start.elapsed().as_secs_f64(),
            rss_mib(),
        );
    }

    fn write(&mut self, op: TreeOp) -> Command {
        self.seq += 1;
        Command::Client(ClientCommand::Write(SessionWrite {
            session: self.session,
            attachment: Attachment(1),
            seq: WriteSeq(self.seq),
            follows: WriteSeq(self.seq - 1),
            acknowledged: WriteSeq(self.seq.saturating_sub(2 * COMMANDS_PER_ENTRY as u64)),
            identities: self.identities.clone(),
            ops: smallvec![op],
        }))
    }
}

fn root(acl: Acl) -> Record {
    Record {
        head: Head::new(Revision(0), 0, acl),
        value: None,
    }
}

fn rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

fn create(bench: &Bench, path: String, value: Bytes) -> TreeOp {
    TreeOp::Create(Create {
        path: path.into(),
        value: Some(value),
        acl: bench.acl.clone(),
        lifetime: Lifetime::Persistent,
        sequential: false,
        malformed: false,
    })
}

fn set(path: String, value: Bytes) -> TreeOp {
    TreeOp::SetValue {
        path: path.into(),
        value: Some(value),
        expected_version: None,
    }
}

fn path_of(record: usize) -> String {
    format!(
        "/bench/p{:05}/node-{:09}",
        record / CHILDREN_PER_PARENT,
        record
    )
}

/// Bytes that do not compress, from a counter.
fn value(bytes: usize, mut seed: u64) -> Bytes {
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        value.extend_from_slice(&(seed ^ seed >> 33).to_le_bytes());
    }
    value.truncate(bytes);
    value.into()
}

fn argument(at: usize, default: usize) -> usize {
    std::env::args()
        .nth(at)
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn main() {
    let (records, value_bytes) = (argument(1, 1_000_000), argument(2, 100));
    let directory = tempfile::tempdir().expect("directory");
    println!("start: rss {} MiB", rss_mib());
    let mut bench = Bench::new(directory.path());
    bench.run("create /bench", 1, |bench, _| {
        create(bench, "/bench".into(), Bytes::new())
    });
    let parents = records.div_ceil(CHILDREN_PER_PARENT);
    bench.run("create parents", parents, |bench, at| {
        create(bench, format!("/bench/p{at:05}"), Bytes::new())
    });
    bench.run("create, children of 1000", records, |bench, at| {
        create(bench, path_of(at), value(value_bytes, at as u64))
    });
    let ops = 200_000;
    bench.run("set, one record", ops, |_, at| {
        set(path_of(0), value(value_bytes, at as u64))
    });
    bench.run("set, among 1000", ops, |_, at| {
        set(path_of(at % 1000), value(value_bytes, at as u64))
    });
    bench.run("set, among all", ops, |_, at| {
        set(
            path_of(at.wrapping_mul(7_919_717) % records),
            value(value_bytes, at as u64),
        )
    });
    bench.run("create, one big parent", ops, |bench, at| {
        create(
            bench,
            format!("/bench/q{at:09}"),
            value(value_bytes, at as u64),
        )
    });
    bench.end_flush();
    reopen(bench, directory.path(), records + ops);
}

fn reopen(mut bench: Bench, directory: &Path, records: usize) {
    bench.start_flush();
    bench.end_flush();
    let disk = bench.state.store().disk_bytes().expect("disk");
    println!(
        "flushed: {:.3} KB per record on disk, rss {} MiB, table readers {} KiB",
        disk as f64 / records as f64 / 1000.0,
        rss_mib(),
        bench.state.store().table_reader_bytes().expect("readers") >> 10,
    );
    println!("{}", bench.state.store().levels().expect("levels"));
    // As much unflushed as there can be before a checkpoint is due.
    while bench.state.dirty_bytes() < CHECKPOINT_DIRTY_BYTES - (1 << 20) {
        let at = bench.seq as usize;
        let op = create(&bench, format!("/bench/r{at:09}"), value(100, at as u64));
        let command = bench.write(op);
        bench.entry(vec![command]);
    }
    let (digest, log) = (bench.state.digest(), std::mem::take(&mut bench.log));
    drop(bench);
    let (start, cpu_start) = (Instant::now(), thread_cpu_seconds());
    let mut state = open(directory);
    let opened = start.elapsed();
    let mut applied = Vec::new();
    for (offset, bytes) in &log {
        let entry = log_format::decode(bytes).expect("decode");
        state.apply(*offset, &entry, &mut applied).expect("replay");
        applied.clear();
    }
    assert_eq!(
        state.digest(),
        digest,
        "the replay ends where the first run did"
    );
    println!(
        "reopen: {:.0} ms open, {:.0} ms with the replay of {} entries, {:.0} ms of them on a processor, rss {} MiB",
        opened.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3,
        log.len(),
        (thread_cpu_seconds() - cpu_start) * 1e3,
        rss_mib(),
    );
}
