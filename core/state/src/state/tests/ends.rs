//! The ends of sessions that own much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use oxkeeper_model::{
    Answer, Attachment, ChangeSet, ClientCommand, Command, CommandOutcome, Entry, Lifetime, Nonce,
    OpError, Query, Term, TreeOp, TxnOutcome, limits,
};
use oxkeeper_store::{
    FlushWait, KeyRange, KeyValueStore, MemoryFrozen, MemoryStore, RowReader, RowVisitor,
    StoreError, WriteBatch,
};

use super::fixture::*;
use crate::{Applied, HashKey, ShardState};

/// A store that counts the rows that are read and written.
#[derive(Clone, Debug, Default)]
struct CountingStore {
    store: MemoryStore,
    rows: Arc<AtomicUsize>,
}

impl CountingStore {
    /// Rows since the last call.
    fn take_rows(&self) -> usize {
        self.rows.swap(0, Relaxed)
    }
}

impl RowReader for CountingStore {
    fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        self.rows.fetch_add(1, Relaxed);
        self.store.get(key, read)
    }

    fn scan(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        self.store.scan(range, &mut |key, row| {
            self.rows.fetch_add(1, Relaxed);
            visit(key, row)
        })
    }

    fn scan_back(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        self.store.scan_back(range, visit)
    }
}

impl KeyValueStore for CountingStore {
    type Frozen = MemoryFrozen;

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        self.rows.fetch_add(batch.len(), Relaxed);
        self.store.write(batch)
    }

    fn freeze(&mut self) -> Result<MemoryFrozen, StoreError> {
        self.store.freeze()
    }

    fn start_flush(&mut self) -> Result<FlushWait, StoreError> {
        self.store.start_flush()
    }

    fn dirty_bytes(&self) -> usize {
        self.store.dirty_bytes()
    }
}

/// A shard whose every step is counted.
struct Counted {
    store: CountingStore,
    state: ShardState<CountingStore>,
}

impl Counted {
    fn new() -> Self {
        let store = CountingStore::default();
        let opened = ShardState::open(&descriptor(), store.clone(), HashKey(7));
        let mut counted = Self {
            state: opened.expect("an empty store opens"),
            store,
        };
        counted.apply(genesis());
        counted
    }

    fn apply(&mut self, command: Command) -> Applied {
        let entry = Entry {
            term: Term(1),
            wall_ms: START_MS,
            elapsed_ms: 0,
            commands: vec![command],
        };
        let (offset, mut out) = (self.state.applied().next(), Vec::new());
        self.state.apply(offset, &entry, &mut out).expect("applied");
        out.remove(0)
    }

    fn open(&mut self, nonce: u64) -> Client {
        let applied = self.apply(Command::Client(ClientCommand::OpenSession {
            nonce: Nonce(nonce),
            timeout_ms: 10_000,
        }));
        match applied.outcome {
            CommandOutcome::SessionGranted(Ok(grant)) => Client {
                grant,
                ..Client::of(grant.session)
            },
            outcome => panic!("{outcome:?}"),
        }
    }

    fn write(&mut self, client: &mut Client, ops: Vec<TreeOp>) {
        client.acknowledged = client.seq;
        let write = client.next(ops);
        let applied = self.apply(Command::Client(ClientCommand::Write(write)));
        assert!(applied.change.is_some_and(|set| !set.changes.is_empty()));
    }

    /// Gives the client `records` ephemerals below `parents` parents.
    fn own(&mut self, client: &mut Client, records: usize, parents: usize) {
        let parent = |at: usize| format!("/p{:06}", at % parents);
        let all: Vec<usize> = (0..parents).collect();
        for some in all.chunks(1_000) {
            self.write(client, some.iter().map(|&at| create(&parent(at))).collect());
        }
        let all: Vec<usize> = (0..records).collect();
        for some in all.chunks(1_000) {
            let path = |at: usize| format!("{}/e{at:06}", parent(at));
            self.write(
                client,
                some.iter().map(|&at| ephemeral(&path(at))).collect(),
            );
        }
    }
}

const PREPARED_AT_ONCE: usize = 500;

/// Ends a session of many records while another one writes; returns the rows that each step took at
/// most: of preparing, of the end itself, and of each entry after it.
fn steps_of_an_end(records: usize, parents: usize) -> [usize; 3] {
    let mut shard = Counted::new();
    let (mut owner, mut other) = (shard.open(1), shard.open(2));
    shard.own(&mut owner, records, parents);
    shard.write(&mut other, vec![create("/other")]);
    let mut most = [0; 3];
    let mut ready = false;
    while !ready {
        shard.store.take_rows();
        let prepared = shard.state.prepare_end(owner.id(), PREPARED_AT_ONCE);
        ready = prepared.expect("prepared");
        most[0] = most[0].max(shard.store.take_rows());
        shard.write(&mut other, vec![set("/other", "x")]);
    }
    shard.store.take_rows();
    let applied = shard.apply(Command::ExpireSession {
        session: owner.id(),
        attachment: Attachment(1),
    });
    most[1] = shard.store.take_rows();
    let set = applied.change.expect("a revision");
    assert!(set.changes.is_empty() && set.parents.is_empty());
    let end = set.end.as_ref().expect("an end that lists nothing");
    assert_eq!((end.records.len(), end.parents.len()), (records, parents));
    while shard.state.has_to_sweep() {
        shard.write(&mut other, vec![set_once(&set, "/other")]);
        most[2] = most[2].max(shard.store.take_rows());
    }
    assert_eq!(shard.state.check_invariants(), Ok(()));
    let left = |key: &Vec<u8>| matches!(key[0], 4 | 9);
    assert_eq!(
        shard
            .store
            .store
            .rows()
            .keys()
            .filter(|key| left(key))
            .count(),
        0
    );
    most
}

fn set_once(set: &ChangeSet, path: &str) -> TreeOp {
    self::set(path, &set.revision.to_string())
}

#[test]
fn the_work_of_each_step_does_not_grow_with_what_the_session_owns() {
    for parents in [1, 10, 5_000] {
        let few = steps_of_an_end(5_000, parents);
        let many = steps_of_an_end(10_000, parents);
        // A record is looked at once, with its head and its parent's.
        assert!(many[0] <= 3 * PREPARED_AT_ONCE + 1, "{many:?}");
        // Its rows are read and deleted, its parent's read and written.
        let swept_max = 8 * limits::SWEPT_RECORDS_MAX + 8;
        assert!(many[1] <= swept_max && many[2] <= swept_max, "{many:?}");
        assert!(many[1] <= few[1] + 8, "{few:?} {many:?}");
    }
}

fn ephemerals(shard: &mut Shard, client: &mut Client, count: usize) {
    shard.ok(client, create("/p"));
    for at in 0..count {
        let long = "x".repeat(300 * (at % 2));
        let path = format!("/p/e{at}");
        shard.multi(client, vec![ephemeral(&path), set(&path, &long)]);
    }
}

fn end_of(shard: &mut Shard, client: &Client) -> Arc<ChangeSet> {
    let change = shard.expire(client).expect("ended");
    assert!(change.end.is_some());
    assert!(shard.state.has_to_sweep());
    change
}

#[test]
fn what_a_large_session_owned_is_gone_at_once() {
    let mut shard = Shard::with_small_ends();
    let (mut owner, mut other) = (shard.open(), shard.open());
    ephemerals(&mut shard, &mut owner, 6);
    shard.ok(&mut other, create("/p/stays"));
    let before = shard.state.revision();
    let change = end_of(&mut shard, &owner);
    assert_eq!(change.revision, before.next());
    assert_eq!(change.session_ended, Some(owner.id()));
    assert_eq!(shard.names("/p"), ["stays"]);
    let parent = shard.head("/p");
    assert_eq!((parent.children.live, parent.children.created_ever), (1, 7));
    assert_eq!(parent.children.last_change, change.revision);
    assert_eq!(shard.find("/p/e0"), None);
    // Not `err`: it wants no row to change, and each entry sweeps one.
    let mut error = |op| match shard.txn(&mut other, vec![op]).0 {
        TxnOutcome::Failed { error, .. } => error,
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(error(set("/p/e1", "x")), OpError::NoNode);
    assert_eq!(error(delete("/p")), OpError::NotEmpty);
    let ask = |shard: &Shard, query| shard.state.query(&query).expect("answered");
    let (session, prefix) = (owner.id(), String::new());
    let owned = ask(&shard, Query::Ephemerals { session, prefix });
    assert_eq!(owned, Answer::Ephemerals(Vec::new()));
    let path = "/p".into();
    let below = ask(&shard, Query::DescendantCount { path });
    assert_eq!(below, Answer::DescendantCount(Some(1)));
    let path = "/p".into();
    let frozen = shard
        .state
        .freeze()
        .expect("frozen")
        .open()
        .expect("opened");
    match frozen.query(&Query::ChildNames { path }) {
        Ok(Answer::ChildNames(Some(children))) => {
            assert_eq!((children.names.len(), children.head.children.live), (1, 1));
        }
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn paths_of_a_large_session_can_be_used_again_at_once() {
    let mut shard = Shard::with_small_ends();
    let (mut owner, mut other) = (shard.open(), shard.open());
    ephemerals(&mut shard, &mut owner, 6);
    end_of(&mut shard, &owner);
    shard.ok(
        &mut other,
        create_with("/p/e5", Lifetime::Ephemeral, open_acl()),
    );
    assert_eq!(shard.head("/p/e5").session, Some(other.id()));
    // Made, taken back, made and deleted again, in one entry and in one transaction.
    let ops = vec![create("/p/e4"), create("/p/e4")];
    let (failed, _) = shard.txn(&mut other, ops);
    assert!(matches!(failed, TxnOutcome::Failed { index: 1, .. }));
    shard.multi(&mut other, vec![create("/p/e3"), delete("/p/e3")]);
    shard.multi(
        &mut other,
        vec![delete("/p/e5"), delete("/p"), create("/p")],
    );
    assert_eq!(shard.head("/p").children.live, 0);
    shard.ok(&mut other, create("/p/e5"));
    while shard.state.has_to_sweep() {
        shard.apply_one(Command::Time);
    }
    assert_eq!(shard.names("/p"), ["e5"]);
}

#[test]
fn a_prepared_end_follows_what_happens_until_it_is_decided() {
    let run = |prepare: bool| {
        let mut shard = Shard::with_small_ends();
        let (mut owner, mut other) = (shard.open(), shard.open());
        ephemerals(&mut shard, &mut owner, 6);
        let step = |shard: &mut Shard| {
            if prepare {
                shard.state.prepare_end(owner.id(), 2).expect("prepared");
                shard.check();
            }
        };
        step(&mut shard);
        shard.ok(&mut other, delete("/p/e0"));
        shard.ok(&mut other, set("/p/e1", "longer than before"));
        step(&mut shard);
        shard.ok(
            &mut other,
            set_acl(
                "/p",
                acl(&[(31, "world", "anyone"), (1, "ip", "::1")]),
                None,
            ),
        );
        shard.ok(
            &mut other,
            set_acl("/p/e1", acl(&[(1, "world", "anyone")]), None),
        );
        let mut owner = owner.clone();
        shard.ok(&mut owner, ephemeral("/p/e00"));
        step(&mut shard);
        // Nothing is looked at, and nothing is forgotten.
        let looked = shard.state.prepare_end(owner.id(), 0).expect("prepared");
        assert!(!looked || prepare);
        step(&mut shard);
        let ready = shard.state.prepare_end(owner.id(), 2).expect("prepared");
        assert!(ready || !prepare);
        shard.ok(&mut other, create("/p/other"));
        let change = end_of(&mut shard, &owner);
        for _ in 0..8 {
            shard.apply_one(Command::Time);
        }
        assert!(!shard.state.has_to_sweep());
        (change, shard.tree(), shard.state.digest())
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_session_that_lives_on_loses_its_preparation() {
    let mut shard = Shard::with_small_ends();
    let mut owner = shard.open();
    ephemerals(&mut shard, &mut owner, 3);
    shard.state.prepare_end(owner.id(), 1).expect("prepared");
    assert_eq!(shard.state.preparations.len(), 1);
    let mut moved = owner.clone();
    shard.attach(&mut owner);
    assert!(shard.state.preparations.is_empty());
    shard.state.prepare_end(owner.id(), 1).expect("prepared");
    let (closed, _) = shard.close(&mut moved);
    assert!(closed.result.is_err() && shard.state.preparations.is_empty());
    assert_eq!(shard.names("/p").len(), 3);
}

#[test]
fn a_restart_goes_on_sweeping() {
    let mut shard = Shard::with_small_ends();
    let mut owner = shard.open();
    ephemerals(&mut shard, &mut owner, 6);
    end_of(&mut shard, &owner);
    let mut restarts = 0;
    while shard.state.has_to_sweep() {
        let checkpoint = shard.state.start_checkpoint().expect("started");
        checkpoint.wait().expect("flushed");
        shard.disk.crash();
        shard.state = open_state(&shard.disk, SMALL_ENDS);
        shard.check();
        assert_eq!(shard.names("/p").len(), 0);
        shard.apply_one(Command::Time);
        restarts += 1;
    }
    assert_eq!(restarts, 6);
    let checkpoint = shard.state.start_checkpoint().expect("started");
    checkpoint.wait().expect("flushed");
    let grave = |key: &&Vec<u8>| key[0] == crate::keys::GRAVE;
    assert_eq!(shard.disk.rows().keys().filter(grave).count(), 0);
}
