//! Measures the end of a session that owns many records, on RocksDB: each step of it, and how long
//! the longest one holds up everybody else on the shard.
//!
//! `cargo run --release -p oxkeeper-bench --example end_bench -- [records] [parents]`

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use oxkeeper_model::placement::ShardDescriptor;
use oxkeeper_model::{
    Acl, AclEntry, Attachment, ChangeSet, ClientCommand, Command, CommandOutcome, Create, Entry,
    Head, Lifetime, Nonce, Record, Revision, SeedRecord, SessionId, SessionWrite, ShardId,
    ShardUuid, Term, TreeOp, WriteSeq,
};
use oxkeeper_state::{HashKey, ShardState};
use oxkeeper_store_rocksdb::{RocksOptions, RocksStore};

const RECORDS_PER_ENTRY: usize = 500;
const PREPARED_AT_ONCE: usize = 1_000;

struct Bench {
    state: ShardState<RocksStore>,
    session: SessionId,
    seq: u64,
    acl: Acl,
}

impl Bench {
    fn apply(&mut self, command: Command) -> (CommandOutcome, Option<Arc<ChangeSet>>) {
        let entry = Entry {
            term: Term(1),
            wall_ms: 1_700_000_000_000,
            elapsed_ms: 0,
            commands: vec![command],
        };
        let (offset, mut applied) = (self.state.applied().next(), Vec::new());
        self.state
            .apply(offset, &entry, &mut applied)
            .expect("applied");
        let applied = applied.remove(0);
        (applied.outcome, applied.change)
    }

    fn create(&mut self, paths: impl Iterator<Item = String>, lifetime: Lifetime) {
        let create = |path: String| {
            TreeOp::Create(Create {
                path: path.into(),
                value: Some(Bytes::from_static(b"0123456789abcdef")),
                acl: self.acl.clone(),
                lifetime,
                sequential: false,
                malformed: false,
            })
        };
        let ops = paths.map(create).collect();
        self.seq += 1;
        let (seq, before) = (WriteSeq(self.seq), WriteSeq(self.seq - 1));
        self.apply(Command::Client(ClientCommand::Write(SessionWrite {
            session: self.session,
            attachment: Attachment(1),
            seq,
            follows: before,
            acknowledged: before,
            identities: Arc::new([]),
            ops,
        })));
    }

    fn checkpoint(&mut self) {
        let checkpoint = self.state.start_checkpoint().expect("started");
        checkpoint.wait().expect("flushed");
        self.state.checkpoint_ended();
    }
}

fn genesis(acl: &Acl) -> Command {
    let record = Record {
        head: Head::new(Revision(0), 0, acl.clone()),
        value: None,
    };
    Command::Genesis {
        secret: [7; 32],
        seed: vec![SeedRecord {
            path: "/".into(),
            record,
        }],
    }
}

fn filled(directory: &std::path::Path, records: usize, parents: usize) -> Bench {
    let store = RocksStore::open(directory, &RocksOptions::default()).expect("opened");
    let shard = ShardDescriptor::whole("default", ShardId(0), ShardUuid::default());
    let acl: Acl = Arc::new([AclEntry {
        permissions: 31,
        scheme: "world".into(),
        id: "anyone".into(),
    }]);
    let mut bench = Bench {
        state: ShardState::open(&shard, store, HashKey(1)).expect("opened"),
        session: SessionId(0),
        seq: 0,
        acl,
    };
    bench.apply(genesis(&bench.acl.clone()));
    let open = ClientCommand::OpenSession {
        nonce: Nonce(1),
        timeout_ms: 10_000,
    };
    if let (CommandOutcome::SessionGranted(Ok(grant)), _) = bench.apply(Command::Client(open)) {
        bench.session = grant.session;
    }
    let parent = |at: usize| format!("/service-{:06}", at % parents);
    let all: Vec<usize> = (0..parents).collect();
    for some in all.chunks(RECORDS_PER_ENTRY) {
        bench.create(some.iter().map(|&at| parent(at)), Lifetime::Persistent);
    }
    let all: Vec<usize> = (0..records).collect();
    for some in all.chunks(RECORDS_PER_ENTRY) {
        let path = |&at: &usize| format!("{}/member-{at:010}", parent(at));
        bench.create(some.iter().map(path), Lifetime::Ephemeral);
    }
    bench.checkpoint();
    bench
}

/// Time that this thread has been on a processor: what other programs do does not count. Seconds.
fn cpu_seconds() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let on_cpu_ns = schedstat.split_whitespace().next();
    on_cpu_ns.and_then(|text| text.parse().ok()).unwrap_or(0.0) / 1e9
}

/// How often something was done, how long in all, and how long at most. Seconds.
#[derive(Default)]
struct Steps {
    count: u32,
    cpu: f64,
    longest_cpu: f64,
    longest: f64,
}

impl Steps {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (started, cpu_before) = (Instant::now(), cpu_seconds());
        let result = work();
        let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu_before);
        self.count += 1;
        self.cpu += cpu;
        self.longest_cpu = self.longest_cpu.max(cpu);
        self.longest = self.longest.max(took);
        result
    }

    fn print(&self, what: &str, records: usize) {
        println!(
            "  {what:<24} {:>5} steps, processor {:>8.1} ms ({:>5.2} µs per record), \
             longest step {:>7.2} ms (by the clock {:>7.2} ms)",
            self.count,
            self.cpu * 1e3,
            self.cpu * 1e6 / records as f64,
            self.longest_cpu * 1e3,
            self.longest * 1e3,
        );
    }
}

fn run(records: usize, parents: usize, prepare: bool) {
    let directory = tempfile::tempdir().expect("a folder");
    let mut bench = filled(directory.path(), records, parents);
    let session = bench.session;
    let (mut prepared, mut ended, mut swept) =
        (Steps::default(), Steps::default(), Steps::default());
    println!("{records} records below {parents} parents, prepared: {prepare}");
    let mut ready = !prepare;
    while !ready {
        let state = &mut bench.state;
        ready = prepared.time(|| {
            state
                .prepare_end(session, PREPARED_AT_ONCE)
                .expect("prepared")
        });
    }
    let end = Command::ExpireSession {
        session,
        attachment: Attachment(1),
    };
    let (_, change) = ended.time(|| bench.apply(end));
    while bench.state.has_to_sweep() {
        swept.time(|| bench.apply(Command::Time));
    }
    prepared.print("prepare", records);
    ended.print("the end's own entry", records);
    swept.print("entries that sweep", records);
    let mut read = Steps::default();
    let change = change.expect("a revision");
    let gone = read.time(|| {
        let end = change.end.as_ref();
        end.map_or(change.changes.len(), |end| end.records.keys().count())
    });
    assert_eq!(gone, records);
    read.print("walk through the change", records);
    let mut dropped = Steps::default();
    dropped.time(|| drop(change));
    dropped.print("forget the change", records);
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().ok());
    let records = arguments.next().flatten().unwrap_or(100_000);
    let parents = arguments.next().flatten().unwrap_or(100);
    run(records, parents, true);
    run(records, parents, false);
}
