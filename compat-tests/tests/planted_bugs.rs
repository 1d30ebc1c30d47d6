//! The comparison bites: ten bugs that clones had, each played by a proxy before a real
//! ZooKeeper, are found by it; and the proxy alone is not.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use oxkeeper_compat_tests::diff::{self, Divergence, generate};
use oxkeeper_compat_tests::liar::{Liar, Lie};
use oxkeeper_compat_tests::server::oracle::Oracle;
use oxkeeper_compat_tests::server::{External, TestServer};

/// Plans that are tried until a bug is found.
const SEEDS: u64 = 60;
const REQUESTS_EACH: usize = 1_000;
/// Plans on which the honest proxy must not be noticed.
const HONEST_SEEDS: u64 = 4;

/// The first divergence between a real server and one behind the proxy.
fn first_divergence(lie: Lie, seeds: u64) -> Option<(u64, Divergence)> {
    let options = diff::server_options();
    let real = Oracle::start(&options).unwrap();
    let behind = Oracle::start(&options).unwrap();
    let liar = Liar::start(behind.addr(), lie).unwrap();
    let other = External::new(&liar.addr().to_string()).unwrap();
    (0..seeds).find_map(|seed| {
        let plan = generate::plan(seed, REQUESTS_EACH);
        let found = diff::run_pair(&plan, &real, &other).unwrap();
        found.map(|found| (seed, found))
    })
}

fn is_found(lie: Lie) {
    let found = first_divergence(lie, SEEDS);
    let (seed, found) = found.unwrap_or_else(|| panic!("{lie:?} is not found"));
    println!("{lie:?}: found by seed {seed}: {found}");
}

#[test]
fn the_proxy_alone_is_not_noticed() {
    if let Some((seed, found)) = first_divergence(Lie::Honest, HONEST_SEEDS) {
        panic!("seed {seed}: {found}");
    }
}

#[test]
fn an_event_before_the_read_reply_that_set_it_is_found() {
    is_found(Lie::EventBeforeTheReadThatSetIt);
}

#[test]
fn a_child_watch_triggered_by_a_childs_data_is_found() {
    is_found(Lie::ChildWatchTriggeredByData);
}

#[test]
fn a_parents_pzxid_left_alone_on_expiry_is_found() {
    is_found(Lie::PzxidLeftAloneOnExpiry);
}

#[test]
fn multi_errors_without_minus_2_are_found() {
    is_found(Lie::MultiErrorsWithoutMinus2);
}

#[test]
fn a_watch_fired_by_a_failed_multi_is_found() {
    is_found(Lie::WatchFiredByAFailedMulti);
}

#[test]
fn a_sequence_from_the_visible_cversion_is_found() {
    is_found(Lie::SequenceFromTheVisibleCversion);
}

#[test]
fn a_moved_session_that_is_answered_and_not_closed_is_found() {
    is_found(Lie::MovedSessionAnswered);
}

#[test]
fn a_handshake_of_37_bytes_for_one_of_44_is_found() {
    is_found(Lie::HandshakeAlwaysOf37Bytes);
}

#[test]
fn set_watches_without_child_watches_is_found() {
    is_found(Lie::SetWatchesWithoutChildWatches);
}

#[test]
fn a_new_session_for_a_wrong_password_is_found() {
    is_found(Lie::NewSessionForAWrongPassword);
}
