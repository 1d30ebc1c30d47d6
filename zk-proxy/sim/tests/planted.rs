//! The checkers find what is planted, without knowing it: each bug in at most 200 seeds.

mod common;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::in_parallel;
use oxkeeper_zk_sim::run::{Options, run};
use oxkeeper_zk_sim::sabotage::Bug;

/// A bug that survives so many seeds was not found.
const SEEDS_MAX: u64 = 200;

#[test]
fn every_planted_bug_is_found() {
    let mut survivors = Vec::new();
    for &bug in Bug::ALL {
        match find(bug) {
            Some((seed, what)) => println!("{bug:?}: seed {seed}: {what:.160}"),
            None => survivors.push(bug),
        }
    }
    assert!(survivors.is_empty(), "not found: {survivors:?}");
}

/// The first seed that finds the bug, and what it says.
fn find(bug: Bug) -> Option<(u64, String)> {
    let found = AtomicU64::new(u64::MAX);
    let options = Options {
        bug: Some(bug),
        ..Options::default()
    };
    let results = in_parallel(0..SEEDS_MAX, |seed| {
        // Later ones are not needed any more.
        if seed > found.load(Relaxed) {
            return None;
        }
        let violation = run(seed, options).violation?;
        found.fetch_min(seed, Relaxed);
        Some((seed, violation.to_string()))
    });
    results.into_iter().flatten().next()
}
