//! A full disk: reads go on, writes are refused, sessions come and go, and it ends by itself.

mod support;

use oxkeeper_link::contract::set;
use oxkeeper_link::{Request, Token};
use oxkeeper_model::{Query, SessionGrant};
use oxkeeper_shard::limits::{COMMAND_BYTES_MAX, FULL_AGAIN_US};
use support::{Driven, LINK, Machine, close, open_session, options, persistent, write};

/// A shard whose log finds no space for another segment, its session, and how many writes it took.
fn full(machine: &Machine) -> (Driven, SessionGrant, u64) {
    let mut driven = Driven::leading(machine, options());
    driven.open_link(LINK);
    let grant = driven.session(LINK, 1_000_000);
    machine.disk.set_capacity(Some(machine.disk.used_bytes()));
    for seq in 1..100 {
        driven.said();
        write_value(&mut driven, &grant, seq);
        let said = driven.said();
        if said.contains("refused") {
            assert!(said.contains("notice: DiskFull"), "{said}");
            return (driven, grant, seq - 1);
        }
    }
    panic!("the disk does not become full");
}

fn write_value(driven: &mut Driven, grant: &SessionGrant, seq: u64) {
    let op = set("/", &"v".repeat(3_000));
    driven.request(LINK, write(grant, seq, seq, op));
    driven.turn();
    driven.run_all();
}

fn machine() -> Machine {
    Machine {
        reserve_bytes: 64 << 10,
        ..Machine::default()
    }
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else_and_ends_by_itself() {
    let machine = machine();
    let (mut driven, grant, taken) = full(&machine);
    let revision = driven.shard.revision();

    write_value(&mut driven, &grant, taken + 1);
    let said = driven.said();
    assert!(
        said.contains("refused") && !said.contains("notice"),
        "{said}"
    );
    assert!(
        !said.contains("start"),
        "the disk is not asked each time: {said}"
    );
    assert_eq!(driven.shard.revision(), revision, "nothing was executed");

    let token = Token(500);
    let query = Query::Barrier;
    driven.request(LINK, Request::Query { token, query });
    assert!(driven.said().contains("answer 500"), "reads go on");

    for token in 600..620 {
        driven.request(LINK, open_session(token, 4_000));
        driven.turn();
        driven.run_all();
        assert!(driven.said().contains(&format!("outcome {token}")));
    }
    let other = driven.session(LINK, 4_000);
    driven.request(LINK, close(&other, 700, 1));
    driven.turn();
    driven.run_all();
    let said = driven.said();
    assert!(said.contains("ends a session") && said.contains("outcome 700"));
    for _ in 0..6 {
        driven.pass_ms(1_000);
        driven.turn();
        driven.run_all();
    }
    let said = driven.said();
    assert_eq!(
        said.matches("ends a session").count(),
        20,
        "they expire:\n{said}"
    );

    driven.pass_ms(FULL_AGAIN_US / 1_000 + 1);
    write_value(&mut driven, &grant, taken + 1);
    assert!(driven.said().contains("refused"), "it is still full");

    machine.disk.set_capacity(None);
    driven.pass_ms(2_000);
    driven.turn();
    driven.run_all();
    write_value(&mut driven, &grant, taken + 1);
    let said = driven.said();
    assert!(
        said.contains("SpaceAgain") && said.contains("outcome"),
        "{said}"
    );
    assert!(!driven.has_ended());
}

#[test]
fn a_query_behind_a_write_that_is_refused_is_answered() {
    let machine = machine();
    let (mut driven, grant, taken) = full(&machine);
    driven.pass_ms(FULL_AGAIN_US / 1_000 + 1);
    let op = set("/", &"v".repeat(3_000));
    driven.request(LINK, write(&grant, 1, taken + 1, op));
    let token = Token(2);
    let query = Query::Barrier;
    driven.request(LINK, Request::Query { token, query });
    driven.turn();
    driven.run_all();
    let said = driven.said();
    assert!(
        said.contains("refused 1") && said.contains("answer 2"),
        "{said}"
    );
}

#[test]
fn what_was_answered_on_a_full_disk_survives_the_loss_of_power() {
    let machine = machine();
    let (mut driven, _, _) = full(&machine);
    let other = driven.session(LINK, 1_000_000);
    let revision = driven.shard.revision();
    drop(driven);
    machine.crash(3);
    machine.disk.set_capacity(None);
    let driven = Driven::leading(&machine, options());
    assert_eq!(driven.shard.revision(), revision);
    assert!(driven.shard.state().session(other.session).is_some());
}

#[test]
fn what_no_entry_could_hold_is_refused_and_takes_no_number() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    let grant = driven.session(LINK, 1_000_000);
    driven.said();
    let huge = set("/", &"v".repeat(COMMAND_BYTES_MAX));
    driven.request(LINK, write(&grant, 1, 1, huge));
    driven.request(LINK, write(&grant, 2, 1, persistent("/next")));
    driven.turn();
    driven.run_all();
    let said = driven.said();
    assert!(said.contains("refused 1: the command is larger"), "{said}");
    assert!(
        said.contains("outcome 2\n"),
        "the number is still free: {said}"
    );
}
