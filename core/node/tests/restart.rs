//! What a restart keeps, whatever ended the node before.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxkeeper_link::contract::{TestClient, create, set};
use oxkeeper_link::{Event, Request, Token};
use oxkeeper_log::WalOptions;
use oxkeeper_model::{
    Answer, ClientCommand, CommandOutcome, Create, Lifetime, OpResult, Query, SessionGrant,
    SessionId, Term, TreeOp, TxnOutcome, WriteOutcome,
};
use oxkeeper_node::{MemoryTerm, Node, NodeOptions, StartParts, TermStore};
use oxkeeper_store::MemoryStore;
use support::{Machine, SHARD, options, shard, stats};

const LONG_MS: u32 = 600_000;

fn created(outcome: &WriteOutcome) -> String {
    match &outcome.result {
        Ok(TxnOutcome::Applied(results)) => match &results[0] {
            OpResult::Created { path, .. } => path.to_string(),
            other => panic!("unexpected {other:?}"),
        },
        other => panic!("unexpected {other:?}"),
    }
}

fn sequential(value: String) -> TreeOp {
    TreeOp::Create(Create {
        path: "/q/n-".into(),
        value: Some(value.into()),
        acl: [].into(),
        lifetime: Lifetime::Persistent,
        sequential: true,
        malformed: false,
    })
}

#[test]
fn after_an_orderly_stop_nothing_is_replayed_and_all_is_there() {
    let machine = Machine::default();
    let node = machine.start(options());
    let mut client = TestClient::open(&shard(&node), None);
    let session = client.open_session(LONG_MS);
    for seq in 1..=100 {
        client.write(
            &session,
            seq,
            create(&format!("/{seq}"), Lifetime::Ephemeral),
        );
    }
    node.shutdown();
    assert_eq!(node.failed(), None);
    drop(node);
    machine.crash(1);

    let node = machine.start(options());
    assert_eq!(stats(&node).replayed_entries.get(), 0);
    assert_eq!(stats(&node).sessions.get(), 1);
    let mut again = TestClient::open(&shard(&node), None);
    assert_eq!(again.opened.position, client.position);
    assert!(again.exists("/100"));
    assert_eq!(
        again.attach(&session).map(|grant| grant.session),
        Ok(session.session)
    );
}

#[test]
fn a_link_resumes_over_a_restart_from_the_replayed_log() {
    let machine = Machine::default();
    let node = machine.start(options());
    let mut client = TestClient::open(&shard(&node), None);
    let session = client.open_session(LONG_MS);
    let before = client.position;
    client.write(&session, 1, create("/a", Lifetime::Persistent));
    client.write(&session, 2, create("/b", Lifetime::Persistent));
    machine.kill(node);
    let node = machine.start(options());
    assert!(stats(&node).replayed_entries.get() > 0);
    let mut resumed = TestClient::open(&shard(&node), Some(before));
    assert!(resumed.opened.resumed);
    resumed.query(Query::Barrier);
    assert_eq!(resumed.position, client.position);
}

/// A client that, as a proxy does, sends what was not answered again after a failure.
struct Writer {
    grant: Option<SessionGrant>,
    next_seq: u64,
    /// Sent and not answered.
    open: BTreeMap<u64, String>,
    /// Value → path and revision of the answered creates.
    answered: BTreeMap<String, (String, u64)>,
}

impl Writer {
    fn request(&self, client: &mut TestClient, seq: u64, value: &str) -> Request {
        let grant = self.grant.expect("a session");
        let (_, mut request) = client.write_request(&grant, seq, [sequential(value.to_owned())]);
        if let Request::Command {
            token,
            command: ClientCommand::Write(write),
        } = &mut request
        {
            *token = Token(seq);
            let lowest = self.open.keys().next().copied().unwrap_or(seq);
            write.acknowledged.0 = lowest - 1;
        }
        request
    }

    /// Writes until `count` more are answered or the node fails.
    fn run(&mut self, node: &Node, count: usize) -> Result<(), ()> {
        let mut client = TestClient::try_open(&shard(node), None).map_err(|_| ())?;
        if self.grant.is_none() {
            self.prepare(&mut client)?;
        }
        let again: Vec<_> = self.open.clone().into_iter().collect();
        for (seq, value) in again {
            let request = self.request(&mut client, seq, &value);
            client.try_send(&mut vec![request]).map_err(|_| ())?;
        }
        let until = self.answered.len() + count;
        while self.answered.len() < until {
            while self.open.len() < 8 {
                let (seq, value) = (self.next_seq, format!("value-{}", self.next_seq));
                self.next_seq += 1;
                self.open.insert(seq, value.clone());
                let request = self.request(&mut client, seq, &value);
                client.try_send(&mut vec![request]).map_err(|_| ())?;
            }
            self.hear(&client.next_event().ok_or(())?);
        }
        Ok(())
    }

    /// The session and the parent, which a failure may leave half done.
    fn prepare(&mut self, client: &mut TestClient) -> Result<(), ()> {
        let token = Token(u64::MAX);
        client
            .try_send(&mut vec![Request::Command {
                token,
                command: ClientCommand::OpenSession {
                    nonce: client.nonce(),
                    timeout_ms: LONG_MS,
                },
            }])
            .map_err(|_| ())?;
        let grant = loop {
            match client.next_event().ok_or(())? {
                Event::Outcome {
                    outcome: CommandOutcome::SessionGranted(result),
                    ..
                } => break result.expect("granted"),
                _ => continue,
            }
        };
        let (token, request) =
            client.write_request(&grant, 1, [create("/q", Lifetime::Persistent)]);
        client.try_send(&mut vec![request]).map_err(|_| ())?;
        while !matches!(client.next_event().ok_or(())?, Event::Outcome { token: t, .. } if t == token)
        {
        }
        self.grant = Some(grant);
        self.next_seq = 2;
        Ok(())
    }

    fn hear(&mut self, event: &Event) {
        if let Event::Outcome {
            outcome: CommandOutcome::Written(outcome),
            ..
        } = event
        {
            let value = self.open.remove(&outcome.seq.0).expect("answered once");
            self.answered
                .insert(value, (created(outcome), outcome.revision.0));
        }
    }

    /// Compares the shard's records with what was answered.
    fn check(&self, node: &Node) {
        let mut client = TestClient::open(&shard(node), None);
        let Answer::ChildNames(Some(children)) =
            client.query(Query::ChildNames { path: "/q".into() })
        else {
            assert!(self.answered.is_empty(), "the parent is lost");
            return;
        };
        let paths: Vec<String> = children
            .names
            .iter()
            .map(|name| format!("/q/{name}"))
            .collect();
        let query = Query::Records {
            paths: paths.iter().map(|path| path.as_str().into()).collect(),
            with_values: true,
        };
        let Answer::Records(records) = client.query(query) else {
            panic!("no records")
        };
        let mut there: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for (path, record) in paths.into_iter().zip(records) {
            let record = record.expect("listed by its parent");
            let value = record.value.flatten().expect("a value").to_vec();
            let value = String::from_utf8(value).expect("text");
            let twice = there.insert(value, (path, record.head.created_revision.0));
            assert_eq!(twice, None, "applied twice");
        }
        for (value, answered) in &self.answered {
            assert_eq!(
                there.get(value),
                Some(answered),
                "an answered write is as it was"
            );
        }
        for value in there.keys() {
            let known = self.answered.contains_key(value) || self.open.values().any(|v| v == value);
            assert!(known, "{value} was never sent");
        }
        assert_eq!(children.head.children.live as usize, there.len());
        assert_eq!(
            children.head.children.created_ever as usize,
            there.len(),
            "no suffix twice"
        );
    }
}

#[test]
fn no_answered_write_is_lost_or_done_twice_wherever_the_power_fails() {
    for seed in 0..60u64 {
        let machine = Machine::default();
        let options = NodeOptions {
            checkpoint_commands: 16 + seed % 32,
            ..options()
        };
        let mut writer = Writer {
            grant: None,
            next_seq: 0,
            open: BTreeMap::new(),
            answered: BTreeMap::new(),
        };
        for round in 0..5 {
            let faults = seed.wrapping_mul(31).wrapping_add(round * 17) % 90;
            match round % 3 {
                0 => machine.disk.fail_changes_after(faults),
                1 => machine.disk.fail_syncs_after(faults / 4),
                _ => {}
            }
            if let Ok(node) = machine.try_start(options.clone()) {
                let _ = writer.run(&node, 20 + faults as usize);
            }
            machine.crash(seed * 100 + round);
            let node = machine.try_start(options.clone());
            let node = node.unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
            writer.check(&node);
            machine.kill(node);
        }
        let node = machine.start(options);
        writer.run(&node, 50).expect("nothing fails now");
        writer.check(&node);
        assert!(writer.answered.len() >= 50);
    }
}

#[test]
fn a_sequence_number_is_not_used_again_after_its_record_was_deleted() {
    let machine = Machine::default();
    let node = machine.start(options());
    let mut client = TestClient::open(&shard(&node), None);
    let session = client.open_session(LONG_MS);
    client.write(&session, 1, create("/q", Lifetime::Persistent));
    let first = created(&client.write(&session, 2, sequential("one".to_owned())));
    client.write(
        &session,
        3,
        TreeOp::Delete {
            path: first.as_str().into(),
            expected_version: None,
        },
    );
    drop(node);
    machine.crash(7);
    let node = machine.start(options());
    let mut client = TestClient::open(&shard(&node), None);
    let second = created(&client.write(&session, 4, sequential("two".to_owned())));
    assert_eq!((&*first, &*second), ("/q/n-0000000000", "/q/n-0000000001"));
}

#[test]
fn a_restart_grants_a_session_its_full_timeout_once_more() {
    let machine = Machine::default();
    let timeout = Duration::from_millis(2_000);
    let node = machine.start(options());
    let mut client = TestClient::open(&shard(&node), None);
    let session = client.open_session(timeout.as_millis() as u32);
    client.write(&session, 1, create("/e", Lifetime::Ephemeral));
    std::thread::sleep(timeout / 2);
    machine.kill(node);
    let restarted = Instant::now();
    let node = machine.start(options());
    let mut client = TestClient::open(&shard(&node), None);
    let ended = client.until(|event| is_end_of(event, session.session));
    assert!(
        restarted.elapsed() >= timeout,
        "after {:?}",
        restarted.elapsed()
    );
    let Event::Changed(set) = ended else {
        panic!("not a change")
    };
    assert_eq!(&*set.changes[0].path, "/e");
    assert_eq!(stats(&node).sessions_expired.get(), 1);
    assert!(client.attach(&session).is_err());
}

fn is_end_of(event: &Event, session: SessionId) -> bool {
    matches!(event, Event::Changed(set) if set.session_ended == Some(session))
}

#[test]
fn checkpoints_trim_the_log_and_bound_the_replay() {
    let machine = Machine::default();
    let options = NodeOptions {
        checkpoint_commands: 100,
        ..options()
    };
    let node = machine.start(options.clone());
    let mut client = TestClient::open(&shard(&node), None);
    let session = client.open_session(LONG_MS);
    client.write(&session, 1, create("/x", Lifetime::Persistent));
    for seq in 2..=2_000 {
        client.write(&session, seq, set("/x", &"v".repeat(100)));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while stats(&node).checkpoint_ns.count() < 10 {
        assert!(Instant::now() < deadline, "no checkpoints");
        client.query(Query::Barrier);
    }
    // A busy machine may let the last flush wait, and the one that is due behind it.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(20));
        client.query(Query::Barrier);
    }
    drop(node);
    machine.crash(3);
    let node = machine.start(options);
    let replayed = stats(&node).replayed_entries.get();
    // One checkpoint may have been under way.
    assert!(replayed <= 200, "{replayed} entries were replayed");
    let files = oxkeeper_log::Disk::list(&machine.disk).expect("a list");
    assert!(files.len() < 20, "the log was not trimmed: {files:?}");
}

#[test]
fn each_start_takes_a_new_term_and_the_term_is_durable_first() {
    let machine = Machine::default();
    for term in 1..=3 {
        let node = machine.start(options());
        assert_eq!(stats(&node).term.get(), term);
        assert_eq!(machine.term.load().expect("in memory"), Term(term));
        machine.kill(node);
    }
    let lost = Machine {
        term: MemoryTerm::default(),
        ..machine
    };
    assert_eq!(
        stats(&lost.start(options())).term.get(),
        4,
        "the log knows it as well"
    );
}

#[test]
fn damage_in_the_log_is_named_with_file_and_position() {
    let machine = Machine::default();
    let node = machine.start(options());
    let mut client = TestClient::open(&shard(&node), None);
    let session = client.open_session(LONG_MS);
    client.write(&session, 1, create("/x", Lifetime::Persistent));
    for seq in 2..=200 {
        client.write(&session, seq, set("/x", &"v".repeat(100)));
    }
    machine.kill(node);
    let mut files = oxkeeper_log::Disk::list(&machine.disk).expect("a list");
    files.retain(|name| name.ends_with(".wal"));
    files.sort();
    let mut content = machine.disk.content(&files[1]).expect("a segment");
    content[4_000] ^= 0x40;
    machine.disk.put(&files[1], content);
    let error = machine
        .try_start(options())
        .err()
        .expect("must not start")
        .to_string();
    assert!(
        error.contains(&files[1]) && error.contains("is damaged at byte"),
        "{error}"
    );
}

#[test]
fn missing_log_files_are_noticed_and_not_taken_for_an_older_or_a_new_server() {
    let machine = Machine::default();
    let node = machine.start(options());
    let mut client = TestClient::open(&shard(&node), None);
    let session = client.open_session(LONG_MS);
    client.write(&session, 1, create("/x", Lifetime::Persistent));
    for seq in 2..=200 {
        client.write(&session, seq, set("/x", &"v".repeat(100)));
    }
    machine.kill(node);
    let mut files = oxkeeper_log::Disk::list(&machine.disk).expect("a list");
    files.retain(|name| name.ends_with(".wal"));
    files.sort();
    let refusal = || {
        let refused = machine.try_start(options()).err().expect("must not start");
        refused.to_string()
    };
    let newest = files.pop().expect("a segment");
    oxkeeper_log::Disk::remove(&machine.disk, &newest).expect("removed");
    let says = format!("the log goes on in {newest}, which is missing");
    assert!(refusal().contains(&says), "{}", refusal());
    for file in &files {
        oxkeeper_log::Disk::remove(&machine.disk, file).expect("removed");
    }
    let says = "all segments of the log are missing";
    assert!(refusal().contains(says), "{}", refusal());
}

#[test]
fn a_log_that_does_not_fit_the_store_is_refused() {
    let machine = Machine::default();
    machine.start(options()).shutdown();
    let other_log = Machine {
        store: machine.store.clone(),
        ..Machine::default()
    };
    let error = other_log
        .try_start(options())
        .err()
        .expect("must not start")
        .to_string();
    assert!(error.contains("log files are missing"), "{error}");
}

#[test]
fn a_data_folder_keeps_its_shards_and_is_locked() {
    let dir = tempfile::tempdir().expect("a folder");
    let stores: [MemoryStore; 2] = Default::default();
    let start = |shards| {
        let options = NodeOptions {
            shards,
            ..options()
        };
        Node::start(options, dir.path(), |shard, _| {
            Ok(stores[shard.0 as usize].clone())
        })
    };
    let node = start(2).expect("a new folder");
    let error = start(2).err().expect("locked").to_string();
    assert!(error.contains("in use by another process"), "{error}");
    let mut client = TestClient::open(&shard(&node), None);
    let session = client.open_session(LONG_MS);
    client.write(&session, 1, create("/kept", Lifetime::Persistent));
    drop(node);
    stores.iter().for_each(MemoryStore::crash);
    let error = start(1).err().expect("other shards").to_string();
    assert!(error.contains("has 2 shards"), "{error}");
    let node = start(2).expect("unlocked");
    assert!(TestClient::open(&shard(&node), None).exists("/kept"));
    assert_eq!(stats(&node).term.get(), 2);
}

#[test]
fn a_founded_shard_whose_files_are_gone_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let start = |store: &MemoryStore| Node::start(options(), dir.path(), |_, _| Ok(store.clone()));
    let store = MemoryStore::default();
    drop(start(&store).expect("a new folder"));
    store.crash();
    drop(start(&store).expect("it is all there"));
    std::fs::remove_dir_all(dir.path().join("shard-0/log")).expect("the log");
    let error = start(&MemoryStore::default())
        .err()
        .expect("lost")
        .to_string();
    assert!(error.contains("founded before"), "{error}");
    std::fs::remove_dir_all(dir.path().join("shard-0")).expect("the shard");
    let error = start(&MemoryStore::default())
        .err()
        .expect("lost")
        .to_string();
    assert!(error.contains("shard-0 is missing"), "{error}");
}

#[test]
fn a_failed_sync_stops_the_shard_and_answers_nothing_that_was_not_durable() {
    let machine = Machine::default();
    let failures = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&failures);
    let options = NodeOptions {
        on_failure: Some(Arc::new(move |shard, reason: &str| {
            told.lock().expect("whole").push((shard, reason.to_owned()));
        })),
        ..options()
    };
    let node = machine.start(options);
    let mut client = TestClient::open(&shard(&node), None);
    let session = client.open_session(LONG_MS);
    machine.disk.fail_syncs_after(0);
    let (_, request) = client.write_request(&session, 1, [create("/x", Lifetime::Persistent)]);
    client.send(vec![request]);
    assert_eq!(client.next_event(), None, "closed without an answer");
    assert!(TestClient::try_open(&shard(&node), None).is_err());
    node.shutdown();
    let (failed, reason) = node.failed().expect("it has failed");
    assert_eq!(failed, SHARD);
    assert!(reason.contains("cannot sync"), "{reason}");
    assert_eq!(
        *failures.lock().expect("whole"),
        [(SHARD, reason.to_owned())]
    );
}

struct Panics;

impl oxkeeper_link::LinkSink for Panics {
    fn deliver(&mut self, _: &mut Vec<Event>) {
        panic!("a sink that panics, on purpose");
    }

    fn closed(&mut self, _: oxkeeper_link::LinkError) {}
}

#[test]
fn a_panic_on_the_shard_thread_closes_the_links() {
    let node = Machine::default().start(options());
    let mut client = TestClient::open(&shard(&node), None);
    let _link = shard(&node).open(None, Box::new(Panics)).expect("serves");
    client.send(vec![Request::Command {
        token: Token(1),
        command: ClientCommand::OpenSession {
            nonce: client.nonce(),
            timeout_ms: LONG_MS,
        },
    }]);
    client.until_closed();
    node.shutdown();
    assert!(
        node.failed()
            .expect("it has failed")
            .1
            .contains("on purpose")
    );
}

#[test]
fn containers_are_reaped_when_their_last_child_has_gone() {
    let machine = Machine::default();
    let node = machine.start(NodeOptions {
        reap_interval_ms: 50,
        ..options()
    });
    let mut client = TestClient::open(&shard(&node), None);
    let session = client.open_session(LONG_MS);
    client.write(&session, 1, create("/c", Lifetime::Container));
    client.write(&session, 2, create("/c/x", Lifetime::Persistent));
    std::thread::sleep(Duration::from_millis(200));
    assert!(client.exists("/c"), "it has a child");
    client.write(
        &session,
        3,
        TreeOp::Delete {
            path: "/c/x".into(),
            expected_version: None,
        },
    );
    let gone = |event: &Event| matches!(event, Event::Changed(set) if set.changes.iter().any(|c| &*c.path == "/c"));
    client.until(gone);
    assert!(!client.exists("/c"));
    assert_eq!(stats(&node).records_reaped.get(), 1);
}

#[test]
fn sessions_that_end_together_share_log_entries() {
    let machine = Machine::default();
    let node = machine.start(options());
    let mut client = TestClient::open(&shard(&node), None);
    let tokens = 1..=500u64;
    client.send(
        tokens
            .clone()
            .map(|n| Request::Command {
                token: Token(n),
                command: ClientCommand::OpenSession {
                    nonce: client.nonce(),
                    timeout_ms: 300,
                },
            })
            .collect(),
    );
    client.until(|event| {
        matches!(
            event,
            Event::Outcome {
                token: Token(500),
                ..
            }
        )
    });
    let entries = stats(&node).applied_offset.get();
    for _ in tokens {
        client.until(|event| matches!(event, Event::Changed(set) if set.session_ended.is_some()));
    }
    let entries = stats(&node).applied_offset.get() - entries;
    assert!(entries <= 50, "500 expiries took {entries} entries");
}

#[test]
fn a_node_without_shards_is_refused() {
    let options = NodeOptions {
        shards: 0,
        ..options()
    };
    let parts = |_| -> Result<StartParts<oxkeeper_log::MemoryDisk, MemoryStore>, _> {
        panic!("{:?} must not be asked for", WalOptions::default())
    };
    assert!(Node::start_with(options, parts).is_err());
}
