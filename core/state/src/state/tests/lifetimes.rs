//! Containers and TTL records.

use oxkeeper_model::{ChangeKind, Command, Lifetime};

use super::fixture::*;

fn container(path: &str) -> oxkeeper_model::TreeOp {
    create_with(path, Lifetime::Container, open_acl())
}

fn ttl(path: &str, ttl_ms: u64) -> oxkeeper_model::TreeOp {
    create_with(path, Lifetime::Ttl { ttl_ms }, open_acl())
}

fn candidates(shard: &mut Shard) -> Vec<String> {
    let elapsed_ms = shard.elapsed_ms;
    let paths = shard.state.reap_candidates(elapsed_ms, 100).expect("query");
    paths.iter().map(|path| path.to_string()).collect()
}

#[test]
fn a_container_goes_after_its_last_child() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, container("/c"));
    assert!(candidates(&mut shard).is_empty(), "it was never used");
    assert!(!shard.reap("/c"));
    shard.ok(&mut client, create("/c/x"));
    assert!(candidates(&mut shard).is_empty());
    assert!(!shard.reap("/c"));
    shard.ok(&mut client, delete("/c/x"));
    assert_eq!(candidates(&mut shard), ["/c"]);
    let revision = shard.state.revision();
    let applied = shard.apply_one(Command::Reap { path: "/c".into() });
    let change = applied.change.expect("a revision");
    assert_eq!(change.revision, revision.next());
    assert_eq!(change.changes[0].kind, ChangeKind::Deleted);
    assert_eq!(change.parents[..], [("/".into(), shard.head("/"))]);
    assert_eq!(shard.head("/").children.last_change, change.revision);
    assert!(candidates(&mut shard).is_empty());
    assert!(!shard.reap("/c"), "it is gone");
}

#[test]
fn a_ttl_record_goes_when_idle_and_childless() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, ttl("/t", 1000));
    shard.wait(1000);
    assert!(candidates(&mut shard).is_empty() && !shard.reap("/t"));
    shard.ok(&mut client, set("/t", "a write starts the time anew"));
    shard.wait(1000);
    assert!(!shard.reap("/t"));
    shard.ok(&mut client, create("/t/child"));
    shard.wait(1);
    assert!(candidates(&mut shard).is_empty() && !shard.reap("/t"));
    shard.ok(&mut client, delete("/t/child"));
    assert_eq!(candidates(&mut shard), ["/t"]);
    assert!(shard.reap("/t"));
    assert_eq!(shard.find("/t"), None);
}

#[test]
fn records_of_other_lifetimes_are_never_reaped() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/p"));
    shard.ok(&mut client, create("/p/x"));
    shard.ok(&mut client, delete("/p/x"));
    shard.ok(&mut client, ephemeral("/e"));
    shard.wait(1 << 50);
    for path in ["/p", "/e", "/", "/none"] {
        assert!(!shard.reap(path), "{path}");
    }
}

#[test]
fn candidates_are_found_in_turns() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    for record in 0..10 {
        shard.ok(&mut client, ttl(&format!("/t{record}"), 10));
    }
    shard.wait(11);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.extend(
            shard
                .state
                .reap_candidates(shard.elapsed_ms, 3)
                .expect("query"),
        );
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 10);
    assert_eq!(
        shard
            .state
            .reap_candidates(shard.elapsed_ms, 20)
            .expect("query")
            .len(),
        10
    );
    assert!(
        shard
            .state
            .reap_candidates(shard.elapsed_ms - 1, 20)
            .expect("query")
            .is_empty()
    );
}

#[test]
fn ages_do_not_follow_the_wall_clock() {
    const HOUR_MS: i64 = 3_600_000;
    const TEN_YEARS_MS: i64 = 10 * 365 * 24 * HOUR_MS;
    for jump_ms in [HOUR_MS, -HOUR_MS, TEN_YEARS_MS, -TEN_YEARS_MS] {
        let mut shard = Shard::new();
        let mut client = shard.open();
        shard.now_ms += jump_ms;
        shard.ok(&mut client, ttl("/t", 1000));
        assert_eq!(shard.head("/t").created_at_ms, START_MS + jump_ms);
        shard.now_ms -= jump_ms;
        shard.wait(1000);
        assert!(candidates(&mut shard).is_empty() && !shard.reap("/t"));
        shard.now_ms += jump_ms;
        assert!(candidates(&mut shard).is_empty() && !shard.reap("/t"));
        shard.now_ms -= jump_ms;
        shard.wait(1);
        assert_eq!(candidates(&mut shard), ["/t"]);
        assert!(shard.reap("/t"));
        // The stamps are right again as soon as the clock is.
        shard.ok(&mut client, create("/later"));
        assert_eq!(shard.head("/later").created_at_ms, START_MS + 1001);
    }
}

#[test]
fn elapsed_time_never_goes_back() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.wait(5000);
    shard.ok(&mut client, ttl("/t", 1000));
    shard.elapsed_ms = 0;
    shard.ok(&mut client, set("/t", "x"));
    assert_eq!(shard.state.elapsed_ms(), 5000);
    assert_eq!(shard.head("/t").idle_since_ms, 5000);
}
