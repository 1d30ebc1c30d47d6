//! The promises, one function each.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use oxkeeper_model::{
    Answer, ChangeKind, ChangeSet, ClientCommand, CommandOutcome, Digest, Lifetime, Nonce,
    Position, Query, SessionError, SessionGrant, SessionId, TxnOutcome, WriteOutcome, WriteRefusal,
    WriteSeq,
};

use super::client::token_of;
use super::{TestClient, TestShard, create, set};
use crate::{Event, LinkError, LinkSink, Request, SessionBeat, Token};

type Case = (&'static str, fn(TestShard));

pub(super) const ALL: &[Case] = &[
    (
        "a link starts at the shard's position",
        a_link_starts_at_the_position,
    ),
    (
        "changes come before outcomes, without gaps",
        changes_come_before_outcomes,
    ),
    (
        "a query sees the writes sent before it",
        a_query_sees_earlier_writes,
    ),
    (
        "a failed transaction takes a revision without changes",
        a_failed_transaction,
    ),
    (
        "a write that is sent again gets its first outcome",
        a_repeated_write,
    ),
    ("a full queue takes all or nothing", a_full_queue),
    ("a link resumes within the history", a_link_resumes),
    (
        "a link does not resume beyond the history",
        a_link_does_not_resume,
    ),
    (
        "two links see one order, answers go to the sender",
        two_links,
    ),
    ("a link that is dropped leaves the others", a_dropped_link),
    ("a session is granted, moved and closed", a_session_lives),
    (
        "a silent session expires, a heard one does not",
        a_session_expires,
    ),
    ("links are closed when the shard stops", closed_on_stop),
];

/// Long enough for no session of a case to expire by accident.
const LONG_MS: u32 = 600_000;

fn beat(grant: &SessionGrant) -> SessionBeat {
    SessionBeat {
        session: grant.session,
        attachment: grant.attachment,
        acknowledged: WriteSeq(0),
    }
}

fn stop(test: TestShard) {
    (test.stop)();
}

fn is_applied(outcome: &WriteOutcome) -> bool {
    matches!(outcome.result, Ok(TxnOutcome::Applied(_)))
}

fn changed(event: &Event) -> Option<&Arc<ChangeSet>> {
    match event {
        Event::Changed(set) => Some(set),
        _ => None,
    }
}

fn a_link_starts_at_the_position(test: TestShard) {
    let mut first = TestClient::open(&test.shard, None);
    assert!(!first.opened.resumed);
    let session = first.open_session(LONG_MS);
    first.attach(&session).expect("a command without revision");
    let second = TestClient::open(&test.shard, None);
    assert_eq!(second.opened.position, first.position);
    assert_eq!(first.query(Query::Barrier), Answer::Barrier);
    stop(test);
}

fn changes_come_before_outcomes(test: TestShard) {
    let mut client = TestClient::open(&test.shard, None);
    let session = client.open_session(LONG_MS);
    let mut expected = Vec::new();
    let mut seq = 0;
    for burst in 0..20u64 {
        let mut requests = Vec::new();
        for n in 0..burst {
            seq += 1;
            let path = format!("/{burst}-{n}");
            let (token, request) =
                client.write_request(&session, seq, [create(&path, Lifetime::Persistent)]);
            expected.push((token, path));
            requests.push(request);
        }
        client.send(requests);
    }
    for (token, path) in expected {
        let event = client.until(|event| token_of(event).is_some());
        assert_eq!(
            token_of(&event),
            Some(token),
            "outcomes come in the order of the requests"
        );
        let Event::Outcome {
            outcome: CommandOutcome::Written(outcome),
            ..
        } = event
        else {
            panic!("not a write's outcome")
        };
        assert!(is_applied(&outcome), "{outcome:?}");
        assert_eq!(
            outcome.revision, client.position.revision,
            "its own change is the last one before it"
        );
        let set = client
            .seen
            .iter()
            .rev()
            .find_map(changed)
            .expect("a change");
        assert_eq!(
            (set.changes[0].path.as_str(), set.changes[0].kind),
            (&*path, ChangeKind::Created)
        );
    }
    stop(test);
}

fn a_query_sees_earlier_writes(test: TestShard) {
    let mut client = TestClient::open(&test.shard, None);
    let session = client.open_session(LONG_MS);
    for seq in 1..=50 {
        let path = format!("/q{seq}");
        let (written, write) =
            client.write_request(&session, seq, [create(&path, Lifetime::Persistent)]);
        let token = client.token();
        let paths = vec![path.as_str().into(), "/none".into()];
        let query = Query::Records {
            paths,
            with_values: true,
        };
        client.send(vec![
            write,
            Request::Query {
                token,
                query: query.clone(),
            },
        ]);
        client.answer(written);
        let Event::Answered {
            answer: Answer::Records(records),
            query: returned,
            ..
        } = client.answer(token)
        else {
            panic!("not an answer");
        };
        assert_eq!(returned, query, "the query comes back");
        let found = records[0].as_ref().expect("the record just written");
        assert_eq!(found.head.created_revision, client.position.revision);
        assert_eq!(found.value, Some(Some(path.into())));
        assert_eq!(records[1], None);
    }
    stop(test);
}

fn a_failed_transaction(test: TestShard) {
    let mut client = TestClient::open(&test.shard, None);
    let session = client.open_session(LONG_MS);
    let before = client.position.revision;
    let outcome = client.write(&session, 1, set("/none", "x"));
    assert!(
        matches!(outcome.result, Ok(TxnOutcome::Failed { index: 0, .. })),
        "{outcome:?}"
    );
    assert_eq!(
        (outcome.revision, client.position.revision),
        (before.next(), before.next())
    );
    let set = client
        .seen
        .iter()
        .rev()
        .find_map(changed)
        .expect("a change set");
    assert!(set.changes.is_empty());
    stop(test);
}

fn a_repeated_write(test: TestShard) {
    let mut client = TestClient::open(&test.shard, None);
    let session = client.open_session(LONG_MS);
    let (token, request) =
        client.write_request(&session, 1, [create("/once", Lifetime::Persistent)]);
    client.send(vec![request.clone()]);
    let first = client.written(token);
    assert!(is_applied(&first));
    let position = client.position;
    let mut other = TestClient::open(&test.shard, None);
    other.send(vec![request]);
    assert_eq!(other.written(token), first, "over another link as well");
    assert_eq!(other.position, position, "without a second effect");
    let gap = client.write(&session, 3, set("/once", "gap"));
    assert_eq!(
        gap.result,
        Err(WriteRefusal::OutOfSequence { last: WriteSeq(1) })
    );
    assert_eq!(client.position, position);
    stop(test);
}

/// Holds up the shard until the gate's other end is dropped.
struct Gate(Receiver<()>, Sender<Event>);

impl LinkSink for Gate {
    fn deliver(&mut self, events: &mut Vec<Event>) {
        let _ = self.0.recv();
        events
            .drain(..)
            .for_each(|event| self.1.send(event).expect("the test listens"));
    }

    fn closed(&mut self, _: LinkError) {}
}

fn a_full_queue(test: TestShard) {
    let (gate, gated) = channel();
    let (events, heard) = channel();
    let link = test
        .shard
        .open(None, Box::new(Gate(gated, events)))
        .expect("serves");
    let mut sent = 0;
    let mut batch = |count: u64| {
        let mut requests: Vec<Request> = (sent..sent + count)
            .map(|n| Request::Command {
                token: Token(n),
                command: ClientCommand::OpenSession {
                    nonce: Nonce(1 << 63 | n),
                    timeout_ms: LONG_MS,
                },
            })
            .collect();
        let before = requests.clone();
        let result = link.send(&mut requests);
        match result {
            Ok(()) => sent += count,
            Err(error) => assert_eq!((error, &requests), (LinkError::Busy, &before)),
        }
        result.is_ok()
    };
    let limit = 3 * test.queue_requests_max;
    let taken = (0..limit).take_while(|_| batch(3)).count();
    assert!(
        taken < limit,
        "a queue of {} took {taken} batches",
        test.queue_requests_max
    );
    let mut mixed = vec![
        Request::Heartbeat { beats: Vec::new() },
        Request::Query {
            token: Token(u64::MAX),
            query: Query::Barrier,
        },
    ];
    while mixed.len() < 4 {
        mixed.push(mixed[1].clone());
    }
    let requests = mixed[1..].to_vec();
    assert_eq!(link.send(&mut mixed), Err(LinkError::Busy));
    assert_eq!(mixed, requests, "the heartbeat was taken");
    drop(gate);
    for n in 0..sent {
        let event = loop {
            let event = heard
                .recv_timeout(Duration::from_secs(20))
                .expect("an event");
            if token_of(&event).is_some() {
                break event;
            }
        };
        assert_eq!(
            token_of(&event),
            Some(Token(n)),
            "every taken request is answered, in order"
        );
    }
    let mut client = TestClient::open(&test.shard, None);
    client.open_session(LONG_MS);
    let extra = heard
        .try_iter()
        .filter(|event| token_of(event).is_some())
        .count();
    assert_eq!(extra, 0, "nothing of the refused vector was taken");
    stop(test);
}

fn a_link_resumes(test: TestShard) {
    let mut writer = TestClient::open(&test.shard, None);
    let start = writer.opened.position;
    let session = writer.open_session(LONG_MS);
    for seq in 1..=10 {
        writer.write(
            &session,
            seq,
            create(&format!("/r{seq}"), Lifetime::Persistent),
        );
    }
    let all: Vec<_> = writer.seen.iter().filter_map(changed).cloned().collect();
    let positions = all.iter().map(|set| set.position());
    for (skipped, after) in std::iter::once(start).chain(positions).enumerate() {
        let mut resumed = TestClient::open(&test.shard, Some(after));
        assert_eq!(
            (resumed.opened.resumed, resumed.opened.position),
            (true, after)
        );
        resumed.query(Query::Barrier);
        assert_eq!(resumed.position, writer.position);
        let missed: Vec<_> = resumed.seen.iter().filter_map(changed).collect();
        let expected: Vec<_> = all[skipped..].iter().collect();
        assert_eq!(missed, expected, "exactly what was missed");
    }
    stop(test);
}

fn a_link_does_not_resume(test: TestShard) {
    let mut writer = TestClient::open(&test.shard, None);
    let start = writer.opened.position;
    for _ in 0..=test.history_bytes_max / (64 * 128) {
        let requests: Vec<Request> = (0..64)
            .map(|_| Request::Command {
                token: writer.token(),
                command: ClientCommand::OpenSession {
                    nonce: writer.nonce(),
                    timeout_ms: LONG_MS,
                },
            })
            .collect();
        let last = requests.last().and_then(|request| match request {
            Request::Command { token, .. } => Some(*token),
            _ => None,
        });
        writer.send(requests);
        writer.answer(last.expect("not empty"));
    }
    let position = writer.position;
    let later = Position {
        revision: position.revision.next(),
        ..position
    };
    let of_another_history = Position {
        digest: Digest(!position.digest.0),
        ..position
    };
    for other in [start, later, of_another_history] {
        let mut fresh = TestClient::open(&test.shard, Some(other));
        assert_eq!(
            (fresh.opened.resumed, fresh.opened.position),
            (false, writer.position)
        );
        fresh.query(Query::Barrier);
        assert_eq!(fresh.seen.iter().filter_map(changed).count(), 0);
    }
    stop(test);
}

fn two_links(test: TestShard) {
    let mut one = TestClient::open(&test.shard, None);
    let mut two = TestClient::open(&test.shard, None);
    let (first, second) = (one.open_session(LONG_MS), two.open_session(LONG_MS));
    let mut last = (Token(0), Token(0));
    for seq in 1..=100 {
        let path = format!("/both{seq}");
        let (token, request) =
            one.write_request(&first, seq, [create(&path, Lifetime::Persistent)]);
        one.send(vec![request]);
        last.0 = token;
        let (token, request) =
            two.write_request(&second, seq, [create(&path, Lifetime::Persistent)]);
        two.send(vec![request]);
        last.1 = token;
    }
    one.answer(last.0);
    two.answer(last.1);
    one.query(Query::Barrier);
    two.query(Query::Barrier);
    let changes = |client: &TestClient| -> Vec<_> {
        client.seen.iter().filter_map(changed).cloned().collect()
    };
    assert_eq!(changes(&one), changes(&two));
    for client in [&one, &two] {
        let answers = client
            .seen
            .iter()
            .filter(|event| token_of(event).is_some())
            .count();
        assert_eq!(answers, 1 + 100 + 1, "its own answers only");
    }
    let created: usize = changes(&one).iter().map(|set| set.changes.len()).sum();
    assert_eq!(created, 100, "each path was created by one of them");
    stop(test);
}

fn a_dropped_link(test: TestShard) {
    let mut stays = TestClient::open(&test.shard, None);
    let mut goes = TestClient::open(&test.shard, None);
    let session = goes.open_session(LONG_MS);
    let (_, request) = goes.write_request(&session, 1, [create("/left", Lifetime::Persistent)]);
    goes.send(vec![request]);
    drop(goes);
    stays.until(|event| {
        changed(event).is_some_and(|set| set.changes.iter().any(|c| &*c.path == "/left"))
    });
    assert!(stays.exists("/left"), "what was sent before is done");
    stop(test);
}

fn a_session_lives(test: TestShard) {
    let mut client = TestClient::open(&test.shard, None);
    let grant = client.open_session(LONG_MS);
    assert_ne!(grant.session, SessionId(0));
    client.write(&grant, 1, create("/e", Lifetime::Ephemeral));

    let mut moved = TestClient::open(&test.shard, None);
    let attached = moved.attach(&grant).expect("the right password");
    assert!(attached.attachment > grant.attachment);
    assert_eq!(attached.session, grant.session);
    let late = client.write(&grant, 2, set("/e", "late"));
    assert_eq!(late.result, Err(WriteRefusal::SessionMoved));

    let mut forged = attached;
    forged.password[0] ^= 1;
    assert_eq!(moved.attach(&forged), Err(SessionError::WrongPassword));

    let token = moved.token();
    let (session, attachment) = (attached.session, attached.attachment);
    moved.send(vec![Request::Command {
        token,
        command: ClientCommand::CloseSession {
            session,
            attachment,
            seq: WriteSeq(1),
            follows: WriteSeq(0),
        },
    }]);
    let Event::Outcome {
        outcome: CommandOutcome::SessionClosed(closed, outcome),
        ..
    } = moved.answer(token)
    else {
        panic!("not the answer to a close");
    };
    assert_eq!(
        (closed, outcome.result, outcome.revision),
        (session, Ok(()), moved.position.revision)
    );
    let end = moved
        .seen
        .iter()
        .rev()
        .find_map(changed)
        .expect("a change set");
    assert_eq!(
        (end.revision, end.session_ended),
        (moved.position.revision, Some(session))
    );
    assert_eq!(
        (&*end.changes[0].path, end.changes[0].kind),
        ("/e", ChangeKind::Deleted)
    );
    assert!(!client.exists("/e"));
    assert_eq!(moved.attach(&attached), Err(SessionError::Expired));
    stop(test);
}

fn a_session_expires(test: TestShard) {
    let mut client = TestClient::open(&test.shard, None);
    let timeout_ms = 4 * test.session_tick_ms;
    let silent = client.open_session(timeout_ms);
    let started = Instant::now();
    let heard = client.open_session(timeout_ms);
    client.write(&silent, 1, create("/silent", Lifetime::Ephemeral));
    client.write(&heard, 1, create("/heard", Lifetime::Ephemeral));
    let timeout = Duration::from_millis(u64::from(timeout_ms));
    let ended = loop {
        client.send(vec![Request::Heartbeat {
            beats: vec![beat(&heard)],
        }]);
        client.query(Query::Barrier);
        let ended = client
            .seen
            .iter()
            .filter_map(changed)
            .find(|set| set.session_ended.is_some());
        if let Some(set) = ended {
            break Arc::clone(set);
        }
        assert!(
            started.elapsed() < 20 * timeout,
            "the silent session did not end"
        );
        std::thread::sleep(timeout / 16);
    };
    assert!(started.elapsed() >= timeout, "not before its timeout");
    assert_eq!(ended.session_ended, Some(silent.session));
    assert_eq!(&*ended.changes[0].path, "/silent");
    assert_eq!(
        &*ended.parents[0].0, "/",
        "the parent is right at the same revision"
    );
    assert_eq!(ended.parents[0].1.children.live, 1);
    assert!(client.exists("/heard"));
    stop(test);
}

fn closed_on_stop(test: TestShard) {
    let mut client = TestClient::open(&test.shard, None);
    let session = client.open_session(LONG_MS);
    let (token, request) =
        client.write_request(&session, 1, [create("/last", Lifetime::Persistent)]);
    client.send(vec![request]);
    (test.stop)();
    assert!(
        is_applied(&client.written(token)),
        "what was queued is worked off"
    );
    client.until_closed();
    let mut late = vec![Request::Heartbeat {
        beats: vec![beat(&session)],
    }];
    assert_eq!(client.try_send(&mut late), Err(LinkError::Closed));
    assert!(TestClient::try_open(&test.shard, None).is_err());
}
