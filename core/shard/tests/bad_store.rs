//! A store without space for a checkpoint, and one with a row that cannot be read.

mod support;

use oxkeeper_link::contract::set;
use oxkeeper_link::{Request, Token};
use oxkeeper_model::{Query, SessionGrant};
use oxkeeper_shard::limits::CHECKPOINT_AGAIN_US;
use oxkeeper_shard::{Input, ShardOptions};
use oxkeeper_state::keys;
use oxkeeper_store::{StoreError, StoreErrorKind};
use support::{Driven, LINK, Machine, options, persistent, write};

fn shard_options() -> ShardOptions {
    ShardOptions {
        checkpoint_dirty_bytes: 32 << 10,
        ..options()
    }
}

fn write_value(driven: &mut Driven, grant: &SessionGrant, seq: u64) -> String {
    driven.said();
    let op = set("/", &"v".repeat(4_000));
    driven.request(LINK, write(grant, seq, seq, op));
    driven.turn();
    driven.run_all();
    driven.said()
}

#[test]
fn a_checkpoint_without_space_is_made_again_and_poisons_nothing() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, shard_options());
    driven.open_link(LINK);
    let grant = driven.session(LINK, 1_000_000);
    let full = StoreError::of(StoreErrorKind::NoSpace, "flushing", "no space");
    machine.store.fail_flushes(Some(full));
    let mut seq = 1;
    while !write_value(&mut driven, &grant, seq).contains("CheckpointPostponed") {
        seq += 1;
        assert!(seq < 100, "no checkpoint was tried");
    }
    // More and more waits in memory: at the same size again writes are refused, until there is space.
    while write_value(&mut driven, &grant, seq + 1).contains("outcome") {
        seq += 1;
        assert!(seq < 200, "memory grows for ever");
    }
    let token = Token(900);
    let query = Query::Barrier;
    driven.request(LINK, Request::Query { token, query });
    assert!(driven.said().contains("answer 900"), "reads go on");
    assert!(driven.shard.next_wake_us() <= Some(driven.now.monotonic_us + CHECKPOINT_AGAIN_US));

    machine.store.fail_flushes(None);
    driven.pass_ms(CHECKPOINT_AGAIN_US / 1_000);
    driven.turn();
    driven.run_all();
    assert!(write_value(&mut driven, &grant, seq + 1).contains("outcome"));
    driven.step(Input::Stop);
    driven.run_all();
    let revision = driven.shard.revision();
    assert!(driven.has_ended());
    drop(driven);
    machine.crash(5);
    assert_eq!(
        Driven::leading(&machine, options()).shard.revision(),
        revision
    );
}

#[test]
fn a_row_that_cannot_be_read_fails_its_reads_only() {
    let machine = Machine::default();
    let mut driven = Driven::leading(&machine, options());
    driven.open_link(LINK);
    let grant = driven.session(LINK, 1_000_000);
    driven.request(LINK, write(&grant, 1, 1, persistent("/bad")));
    driven.request(LINK, write(&grant, 2, 2, set("/bad", &"v".repeat(1_000))));
    driven.turn();
    driven.run_all();
    let mut key = Vec::new();
    keys::value(&mut key, "/bad");
    machine.store.damage(&key);
    driven.said();
    let read = |token, path: &str| Request::Query {
        token: Token(token),
        query: Query::Records {
            paths: vec![path.into()],
            with_values: true,
        },
    };
    driven.request(LINK, read(10, "/bad"));
    let said = driven.said();
    assert!(
        said.contains("notice: ReadFailed") && said.contains("answer 10"),
        "{said}"
    );
    driven.request(LINK, read(11, "/"));
    driven.request(LINK, write(&grant, 3, 3, persistent("/good")));
    driven.turn();
    driven.run_all();
    let said = driven.said();
    assert!(
        said.contains("answer 11") && said.contains("outcome 3"),
        "{said}"
    );
    assert!(!said.contains("notice"), "{said}");
    assert!(!driven.has_ended());
}
