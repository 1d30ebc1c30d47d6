//! Checkpoints, crashes, replay, and equal replicas.

use oxkeeper_model::placement::{KeyOrder, ShardDescriptor};
use oxkeeper_model::{
    Attachment, ClientCommand, Command, CommandOutcome, Digest, Entry, FeatureLevel, Nonce, Offset,
    Query, Revision, SessionError, SessionId, ShardUuid, Term, TreeOp, WriteSeq, limits,
};
use proptest::prelude::*;

use super::fixture::*;
use super::model::{Action, actions, perform};
use oxkeeper_store::{KeyValueStore, MemoryStore, StoreErrorKind, WriteBatch};

use crate::keys;
use crate::{HashKey, ShardState, StateError};

fn open(disk: &MemoryStore) -> ShardState<MemoryStore> {
    open_state(disk, SMALL_ENDS)
}

fn replay(state: &mut ShardState<MemoryStore>, log: &[Entry]) {
    for entry in &log[state.applied().0 as usize..] {
        state
            .apply(state.applied().next(), entry, &mut Vec::new())
            .expect("replay");
    }
}

#[test]
fn a_crash_goes_back_to_the_last_checkpoint_that_was_waited_for() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    let checkpoint = shard.state.start_checkpoint().expect("start");
    assert_eq!(checkpoint.offset, Offset(3));
    shard.ok(&mut client, ephemeral("/b"));
    assert_eq!(checkpoint.wait(), Ok(Offset(3)));
    let unwaited = shard.state.start_checkpoint().expect("start");
    drop(unwaited);
    let (digest, rows) = (shard.state.digest(), shard.tree());
    shard.disk.crash();
    shard.state = open(&shard.disk);
    shard.check();
    assert_eq!(shard.state.applied(), Offset(3));
    assert!(shard.find("/a").is_some() && shard.find("/b").is_none());
    replay(&mut shard.state, &shard.log);
    shard.check();
    assert_eq!((shard.state.digest(), shard.tree()), (digest, rows));
    shard.ok(&mut client, create("/c"));
}

#[test]
fn kept_outcomes_survive_a_restart() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let ops = vec![
        create("/a"),
        set("/a", "x"),
        get("/a"),
        check("/a", None),
        delete("/a"),
    ];
    let (first, _) = shard.send(client.next(ops));
    let acl = acl(&[(31, "world", "anyone"), (1, "ip", "::1")]);
    let (second, _) =
        shard.send(client.next(vec![create("/b"), set_acl("/b", acl, None), delete("/b")]));
    let (failed, _) = shard.send(client.next(vec![get("/zookeeper"), delete("/none")]));
    shard
        .state
        .start_checkpoint()
        .expect("start")
        .wait()
        .expect("flush");
    shard.disk.crash();
    shard.state = open(&shard.disk);
    for (seq, expected) in [(1, first), (2, second), (3, failed)] {
        let (again, change) = shard.send(client.write(seq, vec![]));
        assert_eq!((again, change), (expected, None));
    }
}

#[test]
fn a_store_that_is_not_at_a_checkpoint_is_refused() {
    let mut shard = Shard::new();
    shard
        .state
        .start_checkpoint()
        .expect("start")
        .wait()
        .expect("flush");
    shard.open();
    shard.disk.flush().expect("flush");
    let error =
        ShardState::open(&descriptor(), shard.disk.clone(), HashKey(7)).expect_err("refused");
    let (applied, checkpoint) = (Offset(2), Offset(1));
    assert_eq!(
        error,
        StateError::NotAtCheckpoint {
            applied,
            checkpoint
        }
    );
}

#[test]
fn a_store_of_another_shard_an_old_one_or_another_order_is_refused() {
    let mut shard = Shard::new();
    let checkpoint = shard.state.start_checkpoint().expect("start");
    checkpoint.wait().expect("flush");
    let mut disk = shard.disk.clone();
    let error = |change: fn(&mut ShardDescriptor)| {
        let mut descriptor = descriptor();
        change(&mut descriptor);
        ShardState::open(&descriptor, shard.disk.clone(), HashKey(7)).expect_err("refused")
    };
    let (found, expected) = (descriptor().uuid, ShardUuid([1; 16]));
    assert_eq!(
        error(|shard| shard.uuid = ShardUuid([1; 16])),
        StateError::OtherShard { found, expected }
    );
    assert_eq!(
        error(|shard| shard.key_order = KeyOrder::Natural),
        StateError::NaturalOrder
    );
    let mut old = WriteBatch::default();
    old.put(&[keys::META], &[1, 1, 2, 2, 4, 5, 6]);
    disk.write(&old).expect("write");
    let error = error(|_| {}).to_string();
    assert!(error.contains("start with an empty data folder"), "{error}");
}

#[test]
fn entries_are_applied_once_and_without_gaps() {
    let mut shard = Shard::new();
    let entry = Entry {
        term: Term(1),
        wall_ms: 0,
        elapsed_ms: 0,
        commands: vec![Command::TermStart],
    };
    let applied = Offset(1);
    for offset in [Offset(0), Offset(1), Offset(3)] {
        let result = shard.state.apply(offset, &entry, &mut Vec::new());
        assert_eq!(result, Err(StateError::OutOfOrder { offset, applied }));
    }
    assert_eq!(
        shard.state.apply(Offset(2), &entry, &mut Vec::new()),
        Ok(())
    );
}

#[test]
fn commands_before_the_genesis_are_refused_and_stop_nothing() {
    let mut state = open(&MemoryStore::new());
    assert!(!state.is_seeded());
    let open_session = ClientCommand::OpenSession {
        nonce: Nonce(1),
        timeout_ms: 1,
    };
    let session = SessionId(1);
    let mut client = Client::of(session);
    let write = ClientCommand::Write(client.next(vec![create("/a")]));
    let (seq, follows) = (WriteSeq(2), WriteSeq(1));
    let close = ClientCommand::CloseSession {
        session,
        attachment: Attachment(1),
        seq,
        follows,
    };
    let mut commands: Vec<Command> = [open_session, write, close].map(Command::Client).into();
    commands.extend([
        Command::ExpireSession {
            session,
            attachment: Attachment(1),
        },
        Command::Reap { path: "/".into() },
        Command::FeatureLevel {
            level: FeatureLevel(1),
        },
        Command::Acknowledge {
            sessions: vec![(session, Attachment(1), WriteSeq(1))],
        },
        Command::Time,
    ]);
    let mut applied = Vec::new();
    let entry = Entry {
        term: Term(1),
        wall_ms: 0,
        elapsed_ms: 0,
        commands,
    };
    assert_eq!(state.apply(Offset(1), &entry, &mut applied), Ok(()));
    assert!(applied.iter().all(|applied| applied.change.is_none()));
    let refused = CommandOutcome::SessionGranted(Err(SessionError::Expired));
    assert_eq!(applied[0].outcome, refused);
    assert_eq!((state.revision(), state.session_count()), (Revision(0), 0));
    assert_eq!(state.check_invariants(), Ok(()));
    let entry = Entry {
        commands: vec![genesis()],
        ..entry
    };
    assert_eq!(state.apply(Offset(2), &entry, &mut applied), Ok(()));
    assert!(state.is_seeded());
}

/// A shard with `/a` and `/b`, none of which is in memory.
fn shard_with_records_on_disk() -> (Shard, Client) {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    shard.ok(&mut client, create("/b"));
    let checkpoint = shard.state.start_checkpoint().expect("started");
    checkpoint.wait().expect("flushed");
    shard.state = open(&shard.disk);
    let mut key = Vec::new();
    crate::keys::head(&mut key, "/a");
    shard.disk.damage(&key);
    (shard, client)
}

#[test]
fn a_read_of_a_damaged_row_fails_alone() {
    let (mut shard, mut client) = shard_with_records_on_disk();
    let records = |path: &str| Query::Records {
        paths: vec![path.into()],
        with_values: true,
    };
    match shard.state.query(&records("/a")) {
        Err(StateError::Store(error)) => assert_eq!(error.kind, StoreErrorKind::Damaged),
        other => panic!("{other:?}"),
    }
    assert!(shard.state.query(&records("/b")).is_ok());
    let before = shard.state.query(&Query::Stats);
    assert!(before.is_ok());
    // Writes that need not read it go on.
    shard.check_each = false;
    shard.ok(&mut client, set("/b", "x"));
    assert_eq!(shard.value("/b").as_deref(), Some(&b"x"[..]));
}

#[test]
fn applying_what_cannot_be_read_stops_the_state() {
    let (mut shard, mut client) = shard_with_records_on_disk();
    let revision = shard.state.revision();
    let entry = Entry {
        term: Term(1),
        wall_ms: 0,
        elapsed_ms: 0,
        commands: vec![Command::Client(ClientCommand::Write(
            client.next(vec![set("/a", "x")]),
        ))],
    };
    let offset = shard.state.applied().next();
    let apply = |shard: &mut Shard| shard.state.apply(offset, &entry, &mut Vec::new());
    match apply(&mut shard) {
        Err(StateError::Store(error)) => assert_eq!(error.kind, StoreErrorKind::Damaged),
        other => panic!("{other:?}"),
    }
    assert_eq!(apply(&mut shard), Err(StateError::Stopped));
    let query = Query::Stats;
    assert_eq!(shard.state.query(&query), Err(StateError::Stopped));
    // Nothing of it was written: another replica's copy of the row, or a repaired one, goes on from here.
    let meta = shard.disk.rows()[&vec![crate::keys::META]].clone();
    let meta = crate::rows::Meta::decode(&meta).expect("decoded");
    assert_eq!((meta.applied.next(), meta.revision), (offset, revision));
}

#[test]
fn a_full_disk_is_an_error_of_its_own() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.disk.set_capacity(Some(10));
    let checkpoint = shard.state.start_checkpoint().expect("started");
    match checkpoint.wait() {
        Err(error) => assert_eq!(error.kind, StoreErrorKind::NoSpace),
        Ok(offset) => panic!("durable up to {offset}"),
    }
    shard.ok(&mut client, create("/a"));
    shard.disk.set_capacity(None);
    let checkpoint = shard.state.start_checkpoint().expect("started");
    assert_eq!(checkpoint.wait(), Ok(shard.state.applied()));
    shard.disk.crash();
    shard.state = open(&shard.disk);
    assert!(shard.find("/a").is_some());
}

#[test]
fn dirty_bytes_grow_with_writes_until_a_checkpoint() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let before = shard.state.dirty_bytes();
    shard.ok(&mut client, set("/", &"x".repeat(1000)));
    assert!(shard.state.dirty_bytes() > before + 1000);
    shard
        .state
        .start_checkpoint()
        .expect("start")
        .wait()
        .expect("flush");
    assert_eq!(shard.state.dirty_bytes(), 0);
}

#[test]
fn the_digest_tells_histories_apart() {
    let digest = |value: &str| {
        let mut shard = Shard::new();
        let mut client = shard.open();
        shard.ok(&mut client, set("/", value));
        shard.state.digest()
    };
    assert_eq!(digest("a"), digest("a"));
    assert_ne!(digest("a"), digest("b"));
}

#[test]
fn the_digest_takes_in_what_changes_do_not_carry() {
    let after = |command: fn(&mut Shard, &mut Client) -> Command| {
        let mut shard = Shard::new();
        let mut client = shard.open();
        shard.ok(&mut client, set("/", "x"));
        let command = command(&mut shard, &mut client);
        shard.apply_one(command);
        shard.state.digest()
    };
    let mut digests = vec![
        after(|_, _| Command::Time),
        // Taken in by their hashes.
        after(|_, client| write(client, set("/", &("x".repeat(5000) + "a")))),
        after(|_, client| write(client, set("/", &("x".repeat(5000) + "b")))),
        after(|_, client| write(client, set_acl("/", open_acl(), None))),
        after(|_, client| write(client, set_acl("/", acl(&[(1, "world", "anyone")]), None))),
        after(|_, _| open_with(1000)),
        after(|_, _| open_with(1001)),
        after(|_, client| Command::Acknowledge {
            sessions: vec![(client.id(), client.attachment, WriteSeq(1))],
        }),
        after(|shard, _| {
            shard.wait(1);
            Command::Time
        }),
    ];
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

fn write(client: &mut Client, op: TreeOp) -> Command {
    Command::Client(ClientCommand::Write(client.next(vec![op])))
}

fn open_with(nonce: u64) -> Command {
    Command::Client(ClientCommand::OpenSession {
        nonce: Nonce(nonce),
        timeout_ms: 10_000,
    })
}

/// Replicas of other versions compare with these numbers.
#[test]
fn the_digest_of_a_history_stays() {
    let mut shard = Shard::new();
    let founded = shard.state.digest();
    assert_eq!(shard.state.position().digest, Digest(0));
    let mut client = shard.open();
    shard.multi(
        &mut client,
        vec![create("/a"), set("/a", "x"), ephemeral("/a/e")],
    );
    let change = shard.change(
        &mut client,
        set_acl("/a", acl(&[(3, "ip", "10.0.0.1")]), None),
    );
    assert_eq!(change.position(), shard.state.position());
    shard.attach(&mut client);
    assert_eq!(
        change.position(),
        shard.state.position(),
        "it took no revision"
    );
    assert_ne!(change.digest, shard.state.digest());
    shard.close(&mut client);
    let digests = [founded, change.digest, shard.state.digest()].map(|each| each.to_string());
    assert_eq!(
        digests,
        ["cfc59ce9aac87def", "09b610e55a390257", "a0e9cd6b9dd53118"]
    );
}

#[test]
fn a_checksum_is_compared_with_what_the_digest_was_then() {
    let mut shard = Shard::new();
    let compare = |shard: &mut Shard, offset, digest| match shard
        .apply_one(Command::Checksum { offset, digest })
        .outcome
    {
        CommandOutcome::Compared(same) => same,
        outcome => panic!("{outcome:?}"),
    };
    shard.open();
    let (offset, digest) = (shard.state.applied(), shard.state.digest());
    shard.open();
    assert_eq!(compare(&mut shard, offset, digest), Some(true));
    assert_eq!(compare(&mut shard, offset, Digest(!digest.0)), Some(false));
    assert_eq!(compare(&mut shard, Offset(1000), digest), None);
    for _ in 0..limits::DIGESTS_KEPT_MAX {
        shard.apply(vec![Command::Time]);
    }
    assert_eq!(compare(&mut shard, offset, digest), None, "too long ago");
}

/// What befalls a replica after an entry.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Nothing,
    /// A checkpoint that is not known to be durable.
    Start,
    Checkpoint,
    Crash,
    CheckpointAndRestart,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        6 => Just(Fate::Nothing),
        1 => Just(Fate::Start),
        2 => Just(Fate::Checkpoint),
        2 => Just(Fate::Crash),
        1 => Just(Fate::CheckpointAndRestart),
    ];
    proptest::collection::vec(fate, 40)
}

/// A replica that applies `log` while it meets its fates.
fn run_replica(log: &[Entry], fates: &[Fate]) -> (ShardState<MemoryStore>, MemoryStore) {
    let disk = MemoryStore::new();
    let mut state = open(&disk);
    for (entry, fate) in log.iter().zip(fates.iter().cycle()) {
        replay(&mut state, &log[..entry_index(log, entry)]);
        state
            .apply(state.applied().next(), entry, &mut Vec::new())
            .expect("apply");
        match fate {
            Fate::Nothing => {}
            Fate::Start => drop(state.start_checkpoint().expect("start")),
            Fate::Checkpoint => {
                state
                    .start_checkpoint()
                    .expect("start")
                    .wait()
                    .expect("flush");
            }
            Fate::Crash => {
                disk.crash();
                state = open(&disk);
            }
            Fate::CheckpointAndRestart => {
                state
                    .start_checkpoint()
                    .expect("start")
                    .wait()
                    .expect("flush");
                state = open(&disk);
            }
        }
    }
    replay(&mut state, log);
    state
        .start_checkpoint()
        .expect("start")
        .wait()
        .expect("flush");
    (state, disk)
}

fn entry_index(log: &[Entry], entry: &Entry) -> usize {
    log.iter()
        .position(|each| std::ptr::eq(each, entry))
        .expect("of this log")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn replicas_agree_whatever_restarts_and_crashes_they_had(
        actions in proptest::collection::vec(actions(), 1..60), fates in fates(),
    ) {
        let mut shard = Shard::with_small_ends();
        run_actions(&mut shard, &actions);
        let calm = run_replica(&shard.log, &[Fate::Nothing]);
        let troubled = run_replica(&shard.log, &fates);
        prop_assert_eq!(calm.0.digest(), shard.state.digest());
        prop_assert_eq!(troubled.0.digest(), calm.0.digest());
        prop_assert_eq!(troubled.1.rows(), calm.1.rows());
        if let Err(error) = troubled.0.check_invariants() {
            panic!("{error}");
        }
    }
}

fn run_actions(shard: &mut Shard, actions: &[Action]) {
    let mut clients = Vec::new();
    for chunk in actions.chunks(3) {
        let commands: Vec<Command> = chunk
            .iter()
            .filter_map(|action| perform(shard, &mut clients, action))
            .collect();
        if !commands.is_empty() {
            shard.apply(commands);
        }
    }
}
