//! What a shard says to what: inputs and outputs as text.

mod support;

use oxkeeper_link::contract::set;
use oxkeeper_link::{Request, Token};
use oxkeeper_model::{Query, SessionGrant, Term};
use oxkeeper_shard::{Input, LinkId, OperationKind};
use support::{Driven, LINK, ME, Machine, attach, open_session, options, persistent, write};

/// Compares without indentation of the expectation's own.
fn expect(said: String, expected: &str) {
    let trim = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(trim(&said), trim(expected), "\n{said}");
}

fn barrier(token: u64) -> Request {
    Request::Query {
        token: Token(token),
        query: Query::Barrier,
    }
}

#[test]
fn a_new_shard_is_fenced_then_leads_and_is_founded_before_it_serves() {
    let machine = Machine::default();
    let mut driven = Driven::open(&machine, options());
    driven.open_link(LINK);
    driven.step(Input::NewTerm { term: Term(1) });
    driven.step(Input::BecomeLeader {
        term: Term(1),
        ensemble: vec![ME],
    });
    driven.run_all();
    driven.step(Input::BecomeLeader {
        term: Term(1),
        ensemble: vec![ME],
    });
    driven.run_all();
    driven.open_link(LinkId(2));
    expect(
        driven.said(),
        "> open link 1
           link 1: Closed
         > new term 1
           start PersistTerm
         > lead term 1
           refused: the term was not made durable here before
         > done PersistTerm
           fenced in 1 at 0/0
         > lead term 1
           start SyncLog
         > done SyncLog
           start SyncLog
         > done SyncLog
           leads 1
         > open link 2
           link 2: opened",
    );
}

#[test]
fn commands_of_a_turn_share_an_entry_and_nothing_is_told_before_it_is_durable() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    driven.open_link(LinkId(2));
    driven.request(LINK, open_session(1, 10_000));
    driven.request(LinkId(2), open_session(2, 10_000));
    driven.turn();
    driven.run_all();
    expect(
        driven.said(),
        "> open link 1
           link 1: opened
         > open link 2
           link 2: opened
         > link 1: command 1
         > link 2: command 2
         > turn
           start SyncLog
         > done SyncLog
           link 1: revision 1
           link 2: revision 1
           link 1: outcome 1
           link 1: revision 2
           link 2: revision 2
           link 2: outcome 2",
    );
}

#[test]
fn entries_are_appended_during_a_sync_and_share_the_next_one() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    for token in 1..=3 {
        driven.request(LINK, open_session(token, 10_000));
        driven.turn();
    }
    driven.run_all();
    expect(
        driven.said(),
        "> open link 1
           link 1: opened
         > link 1: command 1
         > turn
           start SyncLog
         > link 1: command 2
         > turn
         > link 1: command 3
         > turn
         > done SyncLog
           start SyncLog
           link 1: revision 1
           link 1: outcome 1
         > done SyncLog
           link 1: revision 2
           link 1: outcome 2
           link 1: revision 3
           link 1: outcome 3",
    );
}

#[test]
fn a_query_waits_for_what_was_sent_before_it_and_for_nothing_else() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    driven.request(LINK, barrier(1));
    driven.request(LINK, open_session(2, 10_000));
    driven.request(LINK, barrier(3));
    driven.turn();
    driven.run_all();
    driven.step(Input::Close { link: LINK });
    driven.request(LINK, barrier(4));
    expect(
        driven.said(),
        "> open link 1
           link 1: opened
         > link 1: query 1
           link 1: answer 1
         > link 1: command 2
         > link 1: query 3
         > turn
           start SyncLog
         > done SyncLog
           link 1: revision 1
           link 1: outcome 2
           link 1: answer 3
         > close link 1
         > link 1: query 4",
    );
}

#[test]
fn a_higher_term_ends_the_leadership_and_is_persisted() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    driven.request(LINK, open_session(1, 10_000));
    driven.turn();
    driven.step(Input::NewTerm { term: Term(5) });
    driven.step(Input::NewTerm { term: Term(4) });
    driven.run_all();
    driven.step(Input::BecomeLeader {
        term: Term(5),
        ensemble: vec![ME],
    });
    driven.run_all();
    driven.open_link(LinkId(2));
    expect(
        driven.said(),
        "> open link 1
           link 1: opened
         > link 1: command 1
         > turn
           start SyncLog
         > new term 5
           link 1: Closed
           stepped down from 1
           start PersistTerm
         > new term 4
           refused: the term is over: this node is in term 5
         > done SyncLog
         > done PersistTerm
           fenced in 5 at 1/3
         > lead term 5
           start SyncLog
         > done SyncLog
           leads 5
         > open link 2
           link 2: opened",
    );
    assert_eq!(driven.shard.revision().0, 1, "it was in the log");
}

#[test]
fn a_term_of_before_the_start_is_not_led() {
    let machine = Machine::default();
    drop(Driven::leading(&machine, options()));
    machine.crash(1);
    let mut driven = Driven::open(&machine, options());
    driven.step(Input::NewTerm { term: Term(1) });
    driven.run_all();
    driven.step(Input::BecomeLeader {
        term: Term(1),
        ensemble: vec![ME],
    });
    expect(
        driven.said(),
        "> new term 1
           start PersistTerm
         > done PersistTerm
           fenced in 1 at 1/2
         > lead term 1
           refused: term 1 was known here before this start: only a later one can be led",
    );
}

#[test]
fn a_failed_sync_ends_the_shard_and_answers_nothing() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    driven.request(LINK, open_session(1, 10_000));
    driven.turn();
    machine.disk.fail_syncs_after(0);
    driven.run_all();
    driven.turn();
    let said = driven.said();
    assert!(
        said.contains("> done SyncLog\n  link 1: Closed\n  ended: log: cannot sync"),
        "{said}"
    );
    assert!(said.ends_with("> turn\n"), "nothing more is said:\n{said}");
    assert!(driven.has_ended());
}

#[test]
fn a_checkpoint_is_flushed_beside_the_work() {
    let machine = Machine::default();
    let options = support::options();
    let options = oxkeeper_shard::ShardOptions {
        checkpoint_commands: 4,
        ..options
    };
    let mut driven = Driven::leading(&machine, options);
    driven.open_link(LINK);
    for token in 1..=3 {
        driven.request(LINK, open_session(token, 10_000));
        driven.turn();
        if !driven.started.is_empty() {
            driven.run(OperationKind::SyncLog);
        }
    }
    driven.run(OperationKind::Flush);
    driven.step(Input::Stop);
    driven.run_all();
    expect(
        driven.said(),
        "> open link 1
           link 1: opened
         > link 1: command 1
         > turn
           start SyncLog
         > done SyncLog
           link 1: revision 1
           link 1: outcome 1
         > link 1: command 2
         > turn
           start SyncLog
         > done SyncLog
           link 1: revision 2
           link 1: outcome 2
           start Flush
         > link 1: command 3
         > turn
           start SyncLog
         > done SyncLog
           link 1: revision 3
           link 1: outcome 3
         > done Flush
         > stop
           start Flush
         > done Flush
           link 1: Closed
           ended",
    );
}

#[test]
fn the_log_is_given_up_behind_a_checkpoint() {
    let machine = Machine::default();
    let options = oxkeeper_shard::ShardOptions {
        checkpoint_dirty_bytes: 20 << 10,
        ..options()
    };
    let mut driven = Driven::leading(&machine, options);
    driven.open_link(LINK);
    let grant = driven.session(LINK, 10_000);
    for seq in 1..=12 {
        let op = set("/", &"v".repeat(4_000));
        driven.request(LINK, write(&grant, seq, seq, op));
        driven.turn();
        driven.run_all();
    }
    let said = driven.said();
    let order = [
        "start StartSegment",
        "start Flush",
        "done Flush",
        "start TrimLog",
    ];
    let found = order.map(|line| {
        said.find(line)
            .unwrap_or_else(|| panic!("no {line}:\n{said}"))
    });
    assert!(found.is_sorted(), "{said}");
    assert!(said.contains("outcome 12"), "{said}");
}

#[test]
fn only_an_attach_that_is_granted_keeps_a_session_alive() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    let silent = driven.session(LINK, 3_000);
    let known = driven.session(LINK, 3_000);
    driven.said();
    for round in 0..5 {
        driven.pass_ms(1_000);
        let current = |session| driven.shard.state().session(session).map(|s| s.attachment);
        let attachments = [current(silent.session), current(known.session)];
        let forged = SessionGrant {
            password: [9; 16],
            ..silent
        };
        for (grant, attachment) in [forged, known].into_iter().zip(attachments) {
            driven.request(LINK, attach(&grant, round, attachment.unwrap_or_default()));
        }
        driven.turn();
        driven.run_all();
    }
    let said = driven.said();
    assert_eq!(said.matches("ends a session").count(), 1, "{said}");
    assert!(driven.shard.state().session(silent.session).is_none());
    assert!(driven.shard.state().session(known.session).is_some());
}

#[test]
fn a_write_of_a_moved_session_does_not_keep_it_alive() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    let grant = driven.session(LINK, 3_000);
    driven.request(LINK, attach(&grant, 1, grant.attachment));
    driven.turn();
    driven.run_all();
    for seq in 1..=5 {
        driven.pass_ms(1_000);
        driven.request(LINK, write(&grant, seq, seq, persistent("/late")));
        driven.turn();
        driven.run_all();
    }
    assert!(driven.shard.state().session(grant.session).is_none());
}
