//! What waits before the log, and what the shard proposes for it by itself.

mod support;

use oxkeeper_link::SessionBeat;
use oxkeeper_link::contract::{create, set};
use oxkeeper_model::limits::{END_LISTED_RECORDS_MAX, KEPT_OUTCOME_BYTES_MAX};
use oxkeeper_model::{Lifetime, SessionGrant, TreeOp, WriteSeq};
use oxkeeper_shard::limits::END_RECORDS_PER_TURN;
use oxkeeper_shard::{Input, OperationKind};
use support::{Driven, LINK, Machine, close, options, persistent, write};

const LONG_MS: u32 = 1_000_000;
const LARGE: u64 = 3 * END_RECORDS_PER_TURN as u64;
const _: () = assert!(LARGE > END_LISTED_RECORDS_MAX);

/// A session that owns much.
fn large_session(driven: &mut Driven, timeout_ms: u32) -> SessionGrant {
    let grant = driven.session(LINK, timeout_ms);
    for seq in 1..=LARGE {
        let op = create(&format!("/e{seq}"), Lifetime::Ephemeral);
        driven.request(LINK, write(&grant, 0, seq, op));
        if seq % 200 == 0 {
            driven.turn();
            driven.run_all();
        }
    }
    driven.turn();
    driven.run_all();
    grant
}

/// Turns until the session has ended; a write of another session is answered in each.
fn turns_until_ended(driven: &mut Driven, other: &SessionGrant) -> u64 {
    for turn in 1..100 {
        driven.said();
        driven.request(LINK, write(other, 7, turn, set("/", "x")));
        // Others go on sending all the time.
        driven.step(Input::Turn { all_heard: false });
        driven.run_all();
        let said = driven.said();
        assert!(said.contains("outcome 7"), "the others go on:\n{said}");
        if said.contains("ends a session") {
            assert_eq!(said.matches("ends a session").count(), 1);
            return turn;
        }
        assert_eq!(
            driven.shard.next_wake_us(),
            Some(driven.now.monotonic_us),
            "it goes on by itself"
        );
    }
    panic!("it does not end: {}", driven.said());
}

fn swept(driven: &mut Driven) {
    for _ in 0..100 {
        if !driven.shard.state().has_to_sweep() {
            return;
        }
        assert_eq!(driven.shard.next_wake_us(), Some(driven.now.monotonic_us));
        driven.turn();
        driven.run_all();
    }
    panic!("rows of the ended session are left");
}

#[test]
fn a_large_session_is_closed_in_portions_while_others_write_and_swept_when_idle() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    let other = driven.session(LINK, LONG_MS);
    let large = large_session(&mut driven, LONG_MS);
    driven.request(LINK, close(&large, 8, LARGE + 1));
    let turns = turns_until_ended(&mut driven, &other);
    assert!(turns >= 3, "{turns}");
    assert!(driven.shard.state().session(large.session).is_none());
    swept(&mut driven);
}

#[test]
fn a_large_session_expires_in_portions() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    let other = driven.session(LINK, LONG_MS);
    let large = large_session(&mut driven, 3_000);
    for _ in 0..4 {
        driven.pass_ms(1_000);
        driven.turn();
    }
    assert!(turns_until_ended(&mut driven, &other) >= 2);
    assert!(driven.shard.state().session(large.session).is_none());
    swept(&mut driven);
}

/// Reads a large value in a transaction, whose outcome is as large.
fn get(grant: &SessionGrant, seq: u64, acknowledged: u64) -> oxkeeper_link::Request {
    let mut request = write(
        grant,
        seq,
        seq,
        TreeOp::Get {
            path: "/big".into(),
        },
    );
    if let oxkeeper_link::Request::Command {
        command: oxkeeper_model::ClientCommand::Write(write),
        ..
    } = &mut request
    {
        write.acknowledged = WriteSeq(acknowledged);
    }
    request
}

fn with_large_value(driven: &mut Driven) -> SessionGrant {
    driven.open_link(LINK);
    let grant = driven.session(LINK, LONG_MS);
    driven.request(LINK, write(&grant, 1, 1, persistent("/big")));
    driven.request(LINK, write(&grant, 2, 2, set("/big", &"v".repeat(1 << 20))));
    driven.turn();
    driven.run_all();
    grant
}

#[test]
fn a_heartbeat_acknowledges_for_a_session_that_writes_nothing() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    let grant = with_large_value(&mut driven);
    for seq in 3..=5 {
        driven.request(LINK, get(&grant, seq, 0));
    }
    driven.turn();
    driven.run_all();
    assert!(driven.shard.state().session_bytes(grant.session) > 3 << 20);
    let beat = |acknowledged| SessionBeat {
        session: grant.session,
        attachment: grant.attachment,
        acknowledged: WriteSeq(acknowledged),
    };
    let revision = driven.shard.revision();
    driven.step(Input::Heartbeat {
        beats: vec![beat(5)],
    });
    driven.turn();
    driven.run_all();
    assert!(driven.shard.state().session_bytes(grant.session) < 64 << 10);
    assert_eq!(driven.shard.revision(), revision, "it takes no revision");
    driven.said();
    driven.step(Input::Heartbeat {
        beats: vec![beat(5)],
    });
    driven.turn();
    assert!(!driven.said().contains("start"), "said once");
}

#[test]
fn at_the_bound_a_write_waits_until_what_it_acknowledges_is_forgotten() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    let grant = with_large_value(&mut driven);
    let bound = 2 + (KEPT_OUTCOME_BYTES_MAX >> 20) as u64;
    for seq in 3..=bound {
        driven.request(LINK, get(&grant, seq, 0));
        driven.turn();
        driven.run_all();
    }
    driven.said();
    let next = bound + 1;
    driven.request(LINK, get(&grant, next, bound));
    driven.request(LINK, get(&grant, next + 1, bound));
    let said = |driven: &mut Driven| {
        let said = driven.said();
        [next, next + 1].map(|seq| said.contains(&format!("outcome {seq}\n")))
    };
    assert_eq!(said(&mut driven), [false, false]);
    driven.turn();
    driven.run(OperationKind::SyncLog);
    driven.turn();
    driven.run_all();
    assert_eq!(said(&mut driven), [true, true], "in order");
    driven.request(LINK, get(&grant, bound, 0));
    driven.turn();
    driven.run_all();
}

#[test]
fn what_is_sent_again_never_waits() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    let grant = with_large_value(&mut driven);
    let bound = 2 + (KEPT_OUTCOME_BYTES_MAX >> 20) as u64;
    for _ in 0..2 {
        driven.said();
        for seq in 3..=bound {
            driven.request(LINK, get(&grant, seq, 0));
            driven.turn();
            driven.run_all();
        }
        assert_eq!(driven.said().matches("outcome").count() as u64, bound - 2);
    }
}
