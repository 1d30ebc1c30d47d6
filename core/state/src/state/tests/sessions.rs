//! Sessions: opening, attaching, exactly-once writes, and their end.

use oxkeeper_model::{
    Answer, Attachment, ChangeKind, ClientCommand, Command, Nonce, OpError, OpResult, Query,
    Revision, SessionError, SessionId, ShardId, TxnOutcome, WriteRefusal, WriteSeq, limits,
};

use super::fixture::*;
use crate::sessions::{password_of, session_id};
use crate::{HashKey, ShardState};
use oxkeeper_model::CommandOutcome;

#[test]
fn ids_name_the_shard_and_are_counted_without_a_clock() {
    let id = |shard, count| session_id(ShardId(shard), count);
    assert_eq!(id(0, 1), Some(SessionId(0x0001_0000_0000_0001)));
    assert_eq!(id(0, 2), Some(SessionId(0x0001_0000_0000_0002)));
    assert_eq!(id(255, 1), Some(SessionId(0x0100_0000_0000_0001)));
    let last = id(limits::SHARD_ID_MAX.0, (1 << 48) - 1);
    assert_eq!(last, Some(SessionId(i64::MAX)), "always positive");
    assert_eq!(id(0, 1 << 48), None);
    assert_eq!(id(limits::SHARD_ID_MAX.0 + 1, 1), None);
}

#[test]
fn ids_do_not_come_back_whatever_the_clock_does() {
    let mut shard = Shard::new();
    let mut first = shard.open();
    shard.close(&mut first);
    shard.now_ms -= 1 << 40;
    assert_eq!(shard.open().id().0, first.id().0 + 1);
}

#[test]
fn passwords_depend_on_secret_and_session() {
    let password = password_of(&SECRET, SessionId(1));
    assert_eq!(password, password_of(&SECRET, SessionId(1)));
    assert_ne!(password, password_of(&SECRET, SessionId(2)));
    assert_ne!(password, password_of(&[8; 32], SessionId(1)));
    // HMAC-SHA256 of eight bytes 00…01 under 32 bytes 09, first half.
    assert_eq!(hex(&password), "37c5da248ffbdf05eca8544071d790ef");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_open_session_is_granted_with_its_password() {
    let mut shard = Shard::new();
    let client = shard.open();
    assert_eq!(client.grant.attachment, Attachment(1));
    assert_eq!(client.grant.password, password_of(&SECRET, client.id()));
    assert_eq!(client.grant.timeout_ms, 10_000);
    let other = shard.open();
    assert!(other.id() > client.id());
    let mut sessions: Vec<_> = shard.state.sessions().map(|view| view.id).collect();
    sessions.sort_unstable();
    assert_eq!(sessions, [client.id(), other.id()]);
}

#[test]
fn attaching_needs_the_password_and_a_live_session() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let mut attach = |session, password, timeout_ms| {
        let (replaces, nonce) = (Attachment(1), Nonce(7));
        let applied = shard.apply_one(Command::Client(ClientCommand::Attach {
            session,
            password,
            replaces,
            nonce,
            timeout_ms,
        }));
        assert_eq!(applied.change, None);
        match applied.outcome {
            CommandOutcome::SessionGranted(result) => result,
            outcome => panic!("{outcome:?}"),
        }
    };
    let (id, password) = (client.id(), client.grant.password);
    assert_eq!(attach(id, [0; 16], 5_000), Err(SessionError::WrongPassword));
    assert_eq!(
        attach(SessionId(1), password, 5_000),
        Err(SessionError::Expired)
    );
    let grant = attach(id, password, 5_000).expect("attached");
    assert_eq!((grant.attachment, grant.timeout_ms), (Attachment(2), 5_000));
    assert_eq!((grant.session, grant.password), (id, password));
    let view = shard.state.session(id).expect("live");
    assert_eq!((view.attachment, view.timeout_ms), (Attachment(2), 5_000));
    client.attachment = Attachment(2);
    shard.close(&mut client);
    let applied = shard.apply_one(Command::Client(ClientCommand::Attach {
        session: id,
        password,
        replaces: Attachment(2),
        nonce: Nonce(8),
        timeout_ms: 1,
    }));
    assert_eq!(
        applied.outcome,
        CommandOutcome::SessionGranted(Err(SessionError::Expired))
    );
}

#[test]
fn an_open_that_is_sent_again_gets_the_same_session() {
    let mut shard = Shard::new();
    let open = |nonce| {
        Command::Client(ClientCommand::OpenSession {
            nonce: Nonce(nonce),
            timeout_ms: 10_000,
        })
    };
    let first = shard.apply_one(open(70));
    assert!(first.change.is_some());
    let other = shard.apply_one(open(71));
    assert_ne!(other.outcome, first.outcome);
    let checkpoint = shard.state.start_checkpoint().expect("start");
    checkpoint.wait().expect("flush");
    shard.state = ShardState::open(&descriptor(), shard.disk.clone(), HashKey(7)).expect("open");
    let again = shard.apply_one(open(70));
    assert_eq!((again.outcome, again.change), (first.outcome, None));
    assert_eq!(shard.state.session_count(), 2);
}

#[test]
fn an_attach_replaces_the_attachment_that_it_names_and_no_other() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let (session, password) = (client.id(), client.grant.password);
    let mut attach = |replaces, nonce| {
        let applied = shard.apply_one(Command::Client(ClientCommand::Attach {
            session,
            password,
            replaces: Attachment(replaces),
            nonce: Nonce(nonce),
            timeout_ms: 10_000,
        }));
        match applied.outcome {
            CommandOutcome::SessionGranted(result) => result.map(|grant| grant.attachment.0),
            outcome => panic!("{outcome:?}"),
        }
    };
    assert_eq!(attach(2, 70), Err(SessionError::Moved));
    assert_eq!(attach(1, 70), Ok(2));
    assert_eq!(attach(1, 70), Ok(2), "sent again");
    assert_eq!(attach(1, 71), Err(SessionError::Moved), "by another");
    assert_eq!(attach(2, 71), Ok(3));
    assert_eq!(attach(1, 70), Err(SessionError::Moved), "sent again late");
    client.attachment = Attachment(3);
    shard.ok(&mut client, create("/a"));
    let query = Query::Attachment { session };
    let answer = shard.state.query(&query);
    assert_eq!(answer, Ok(Answer::Attachment(Some(Attachment(3)))));
    shard.close(&mut client);
    assert_eq!(shard.state.query(&query), Ok(Answer::Attachment(None)));
}

#[test]
fn numbers_may_leave_others_out_if_each_names_the_one_before() {
    let mut shard = Shard::new();
    let client = shard.open();
    let write = |seq, follows| {
        let mut write = client.write(seq, vec![sequential("/n-")]);
        write.follows = WriteSeq(follows);
        write
    };
    let (fifth, _) = shard.send(write(5, 0));
    assert!(fifth.result.is_ok());
    let (ninth, _) = shard.send(write(9, 5));
    assert!(ninth.result.is_ok());
    let gap = WriteRefusal::OutOfSequence { last: WriteSeq(9) };
    for (seq, follows) in [(10, 5), (12, 10), (7, 9), (10, 0)] {
        let (outcome, change) = shard.send(write(seq, follows));
        assert_eq!((refusal(&outcome), change), (gap, None), "{seq} {follows}");
    }
    assert_eq!(shard.send(write(5, 0)).0, fifth);
    assert_eq!(shard.send(write(9, 5)).0, ninth);
}

#[test]
fn the_shards_own_acknowledgement_drops_outcomes_of_that_attachment_only() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let (first, _) = shard.send(client.next(vec![create("/a")]));
    let (second, _) = shard.send(client.next(vec![create("/b")]));
    let id = client.id();
    let acknowledge = |attachment, up_to| Command::Acknowledge {
        sessions: vec![(id, Attachment(attachment), WriteSeq(up_to))],
    };
    let applied = shard.apply_one(acknowledge(0, 2));
    assert_eq!(
        (applied.outcome, applied.change),
        (CommandOutcome::None, None)
    );
    assert_eq!(shard.send(client.write(1, vec![])).0, first);
    shard.apply_one(acknowledge(1, 1));
    let (gone, _) = shard.send(client.write(1, vec![]));
    let last = WriteSeq(2);
    assert_eq!(refusal(&gone), WriteRefusal::OutOfSequence { last });
    assert_eq!(shard.send(client.write(2, vec![])).0, second);
}

#[test]
fn a_moved_session_is_not_written_from_its_old_connection() {
    let mut shard = Shard::new();
    let mut old = shard.open();
    shard.ok(&mut old, create("/a"));
    let mut new = old.clone();
    shard.attach(&mut new);
    shard.ok(&mut new, create("/b"));
    let revision = shard.state.revision();
    let (outcome, change) = shard.send(old.next(vec![create("/c")]));
    assert_eq!(refusal(&outcome), WriteRefusal::SessionMoved);
    assert_eq!(
        (outcome.revision, change),
        (revision, None),
        "no revision is taken"
    );
    let (closed, _) = shard.close(&mut old);
    assert_eq!(closed.result, Err(WriteRefusal::SessionMoved));
    assert_eq!(shard.state.revision(), revision);
    shard.ok(&mut new, create("/c"));
}

#[test]
fn a_write_sent_again_gets_its_first_outcome_and_has_no_second_effect() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let (first, _) = shard.send(client.next(vec![sequential("/n-")]));
    let (failed, _) = shard.send(client.next(vec![create("/zookeeper")]));
    let before = (shard.tree(), shard.state.revision());
    for (seq, expected) in [(1, &first), (2, &failed), (1, &first)] {
        let (again, change) = shard.send(client.write(seq, vec![sequential("/n-")]));
        assert_eq!((&again, change), (expected, None));
    }
    assert_eq!((shard.tree(), shard.state.revision()), before);
    let Ok(TxnOutcome::Applied(results)) = &first.result else {
        panic!("{first:?}")
    };
    assert_eq!(&*created_path(&results[0]), "/n-0000000000");
    assert_eq!(
        failed.result,
        Ok(TxnOutcome::Failed {
            index: 0,
            error: OpError::NodeExists
        })
    );
}

#[test]
fn an_acknowledged_outcome_is_forgotten() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    for path in ["/a", "/b", "/c"] {
        shard.send(client.next(vec![create(path)]));
    }
    client.acknowledged = 2;
    let (third, _) = shard.send(client.write(3, vec![]));
    assert!(
        matches!(third.result, Ok(TxnOutcome::Applied(_))),
        "{third:?}"
    );
    let (second, _) = shard.send(client.write(2, vec![create("/d")]));
    assert_eq!(
        refusal(&second),
        WriteRefusal::OutOfSequence { last: WriteSeq(3) }
    );
    client.acknowledged = u64::MAX;
    let (fourth, _) = shard.send(client.write(4, vec![create("/d")]));
    assert!(fourth.result.is_ok());
    client.acknowledged = 0;
    let (again, _) = shard.send(client.write(4, vec![]));
    assert_eq!(
        again, fourth,
        "an outcome cannot be acknowledged before it is there"
    );
}

#[test]
fn a_gap_in_the_sequence_is_refused() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    let revision = shard.state.revision();
    for seq in [0, 3, u64::MAX] {
        let (outcome, change) = shard.send(client.write(seq, vec![create("/b")]));
        assert_eq!(
            refusal(&outcome),
            WriteRefusal::OutOfSequence { last: WriteSeq(1) }
        );
        assert_eq!((outcome.revision, change), (revision, None));
    }
    let close = Command::Client(ClientCommand::CloseSession {
        session: client.id(),
        attachment: client.attachment,
        seq: WriteSeq(3),
        follows: WriteSeq(2),
    });
    let CommandOutcome::SessionClosed(_, closed) = shard.apply_one(close).outcome else {
        panic!()
    };
    assert_eq!(
        closed.result,
        Err(WriteRefusal::OutOfSequence { last: WriteSeq(1) })
    );
    assert!(shard.state.session(client.id()).is_some());
}

#[test]
fn attaching_restarts_the_sequence_and_drops_old_outcomes() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.send(client.next(vec![create("/a")]));
    shard.send(client.next(vec![create("/b")]));
    shard.attach(&mut client);
    let (outcome, _) = shard.send(client.write(2, vec![create("/c")]));
    assert_eq!(
        refusal(&outcome),
        WriteRefusal::OutOfSequence { last: WriteSeq(0) }
    );
    let (outcome, change) = shard.send(client.write(1, vec![create("/c")]));
    assert!(outcome.result.is_ok() && change.is_some());
}

#[test]
fn a_session_has_room_for_so_many_outcomes() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let room = |shard: &Shard| shard.state.outcome_room(client_id(shard));
    assert_eq!(room(&shard), limits::KEPT_OUTCOMES_MAX);
    let writes = (0..limits::KEPT_OUTCOMES_MAX)
        .map(|_| Command::Client(ClientCommand::Write(client.next(vec![]))))
        .collect();
    shard.apply(writes);
    assert_eq!(room(&shard), 0);
    // Nothing that was not acknowledged is dropped, whatever is in the log already.
    let (first, _) = shard.send(client.next(vec![]));
    let (again, _) = shard.send(client.write(client.seq, vec![]));
    assert_eq!(again, first);
    let (again, change) = shard.send(client.write(1, vec![]));
    assert!(again.result.is_ok() && change.is_none());
    let (session, attachment) = (client.id(), client.attachment);
    let acknowledge = |up_to| Command::Acknowledge {
        sessions: vec![(session, attachment, WriteSeq(up_to))],
    };
    shard.apply_one(acknowledge(11));
    assert_eq!(room(&shard), 10);
    // Of another attachment, or of nobody: no effect.
    let mut other = vec![(session, Attachment(9), WriteSeq(100))];
    other.push((SessionId(99), attachment, WriteSeq(100)));
    shard.apply_one(Command::Acknowledge { sessions: other });
    assert_eq!(room(&shard), 10);
    shard.apply_one(acknowledge(u64::MAX));
    assert_eq!(room(&shard), limits::KEPT_OUTCOMES_MAX);
}

fn client_id(shard: &Shard) -> SessionId {
    shard.state.sessions().next().expect("a session").id
}

fn creates(client: &mut Client, count: usize) -> Command {
    let name = |at| create(&format!("/{:x}-{}-{at}", client.id().0, client.seq));
    let ops = (0..count).map(name).collect();
    Command::Client(ClientCommand::Write(client.next(ops)))
}

#[test]
fn outcomes_are_bounded_in_bytes_and_never_dropped() {
    let mut shard = Shard::new();
    shard.check_each = false;
    let mut client = shard.open();
    let mut sent = 0;
    while shard.state.outcome_room(client.id()) > 0 {
        shard.apply_one(creates(&mut client, 2_000));
        sent += 1;
        assert!(sent < limits::KEPT_OUTCOMES_MAX);
    }
    let kept = shard.state.session_bytes(client.id());
    let one = kept / sent;
    assert!(kept >= limits::KEPT_OUTCOME_BYTES_MAX);
    assert!(kept < limits::KEPT_OUTCOME_BYTES_MAX + 2 * one, "{kept}");
    let (again, _) = shard.send(client.write(1, vec![]));
    assert!(again.result.is_ok());
}

#[test]
fn acknowledged_outcomes_are_given_back() {
    let mut shard = Shard::new();
    shard.check_each = false;
    let mut clients: Vec<Client> = (0..20).map(|_| shard.open()).collect();
    for client in &mut clients {
        for _ in 0..3 {
            shard.apply_one(creates(client, 500));
        }
        let kept = shard.state.session_bytes(client.id());
        assert!(kept > 256 << 10, "{kept}");
    }
    let acknowledged = |client: &Client| (client.id(), client.attachment, WriteSeq(client.seq));
    shard.apply_one(Command::Acknowledge {
        sessions: clients.iter().map(acknowledged).collect(),
    });
    shard.check();
    for client in &clients {
        let kept = shard.state.session_bytes(client.id());
        assert!(kept < 64 << 10, "{kept}");
    }
}

#[test]
fn a_write_of_an_ended_session_is_refused() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let (closed, change) = shard.close(&mut client);
    assert_eq!(closed.result, Ok(()));
    assert_eq!(change.expect("a revision").session_ended, Some(client.id()));
    let (outcome, _) = shard.send(client.next(vec![create("/a")]));
    assert_eq!(refusal(&outcome), WriteRefusal::SessionExpired);
    let (again, change) = shard.close(&mut client);
    assert_eq!(
        (again.result, change),
        (Ok(()), None),
        "what it wanted is done"
    );
    assert_eq!(shard.state.session_count(), 0);
}

#[test]
fn a_close_deletes_ephemerals_at_one_revision() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let mut other = shard.open();
    shard.ok(&mut client, create("/a"));
    let OpResult::Created { head, .. } = shard.ok(&mut client, ephemeral("/a/2")) else {
        panic!()
    };
    assert_eq!(head.session, Some(client.id()));
    shard.ok(&mut client, ephemeral("/a/1"));
    shard.ok(&mut client, ephemeral("/z"));
    shard.ok(&mut other, ephemeral("/a/3"));
    // A write by another session keeps the owner.
    shard.ok(&mut other, set("/a/1", "x"));
    let last = shard.head("/a/1");
    let (closed, change) = shard.close(&mut client);
    let change = change.expect("a revision");
    assert_eq!(
        (closed.revision, shard.state.revision()),
        (change.revision, change.revision)
    );
    let deleted: Vec<_> = change
        .changes
        .iter()
        .map(|change| (&*change.path, change.kind))
        .collect();
    assert_eq!(
        deleted,
        [
            ("/a/1", ChangeKind::Deleted),
            ("/a/2", ChangeKind::Deleted),
            ("/z", ChangeKind::Deleted)
        ]
    );
    assert_eq!(change.changes[0].head, last);
    assert!(
        change
            .changes
            .iter()
            .all(|change| change.parent_acl.is_some())
    );
    assert_eq!(
        change.parents[..],
        [
            ("/a".into(), shard.head("/a")),
            ("/".into(), shard.head("/"))
        ]
    );
    let children = shard.head("/a").children;
    assert_eq!(
        (children.live, children.created_ever, children.last_change),
        (1, 3, change.revision)
    );
    assert_eq!(shard.names("/a"), ["3"]);
}

#[test]
fn an_end_covers_what_the_same_entry_created_and_deleted() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, ephemeral("/old"));
    shard.ok(&mut client, ephemeral("/kept"));
    let mut commands: Vec<Command> = [
        delete("/old"),
        ephemeral("/new"),
        ephemeral("/gone"),
        delete("/gone"),
    ]
    .into_iter()
    .map(|op| Command::Client(ClientCommand::Write(client.next(vec![op]))))
    .collect();
    commands.push(Command::ExpireSession {
        session: client.id(),
        attachment: client.attachment,
    });
    let applied = shard.apply(commands);
    let change = applied[4].change.as_ref().expect("a revision");
    let deleted: Vec<_> = change.changes.iter().map(|change| &*change.path).collect();
    assert_eq!(deleted, ["/kept", "/new"]);
    assert_eq!(shard.names("/"), ["zookeeper"]);
}

#[test]
fn an_expiry_after_a_new_attachment_has_no_effect() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, ephemeral("/e"));
    let silent = client.clone();
    shard.attach(&mut client);
    let revision = shard.state.revision();
    assert_eq!(shard.expire(&silent), None);
    assert_eq!(shard.state.revision(), revision);
    assert!(shard.find("/e").is_some());
    let change = shard.expire(&client).expect("ended");
    assert_eq!(
        (change.revision, change.session_ended),
        (revision.next(), Some(client.id()))
    );
    assert_eq!(shard.expire(&client), None, "it is gone already");
    assert_eq!(shard.find("/e"), None);
}

#[test]
fn a_thousand_ephemerals_under_ten_parents_expire_at_one_revision() {
    let mut shard = Shard::new();
    let mut owner = shard.open();
    let mut other = shard.open();
    let parents: Vec<String> = (0..10).map(|parent| format!("/p{parent}")).collect();
    shard.multi(
        &mut owner,
        parents.iter().map(|path| create(path)).collect(),
    );
    for child in 0..100 {
        let ops = parents
            .iter()
            .map(|parent| ephemeral(&format!("{parent}/e{child:03}")));
        shard.multi(&mut owner, ops.collect());
    }
    shard.ok(&mut other, create("/p0/stays"));
    assert_eq!(shard.err(&mut other, delete("/p1")), OpError::NotEmpty);
    let Answer::Ephemerals(paths) = shard
        .state
        .query(&Query::Ephemerals {
            session: owner.id(),
            prefix: "/p3".into(),
        })
        .expect("query")
    else {
        panic!()
    };
    assert_eq!(paths.len(), 100);
    let before = shard.state.revision();
    let change = shard.expire(&owner).expect("ended");
    assert_eq!(change.revision, before.next());
    assert_eq!(change.changes.len(), 1000);
    assert!(
        change
            .changes
            .is_sorted_by_key(|change| change.path.clone())
    );
    assert_eq!(change.parents.len(), 10);
    for (path, head) in &change.parents {
        assert_eq!(head, &shard.head(path));
        let stays = u32::from(&**path == "/p0");
        assert_eq!(head.children.live, stays);
        assert_eq!(head.children.created_ever, 100 + u64::from(stays));
        assert_eq!(head.children.last_change, change.revision);
        // ZooKeeper's cversion: one per create and one per delete.
        let cversion = 2 * head.children.created_ever - u64::from(head.children.live);
        assert_eq!(cversion, 200 + u64::from(stays));
    }
    for parent in &parents[1..] {
        shard.ok(&mut other, delete(parent));
    }
    assert_eq!(shard.names("/"), ["p0", "zookeeper"]);
}

#[test]
fn ephemerals_of_ended_sessions_are_recreated_by_new_ones() {
    let mut shard = Shard::new();
    let mut first = shard.open();
    let mut second = shard.open();
    shard.ok(&mut first, ephemeral("/lock"));
    // The restart trap: setting data keeps the old owner, deleting and creating does not.
    shard.ok(&mut second, set("/lock", "mine?"));
    assert_eq!(shard.head("/lock").session, Some(first.id()));
    shard.multi(&mut second, vec![delete("/lock"), ephemeral("/lock")]);
    shard.expire(&first);
    assert_eq!(shard.head("/lock").session, Some(second.id()));
    assert_eq!(shard.state.revision(), Revision(6));
}
