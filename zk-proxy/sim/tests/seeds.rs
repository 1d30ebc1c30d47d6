//! Many seeds, each a run of its own: no promise is broken, and what is to be met was met.
//!
//! `OXKEEPER_SIM_SEEDS=100` runs fewer, `OXKEEPER_SIM_FIRST=5000` others.

mod common;

use common::{in_parallel, number};
use oxkeeper_sim::Counters;
use oxkeeper_zk_sim::run::{MUST_HAPPEN, Options, run};

/// Fewer cannot meet all that must happen.
const ENOUGH_SEEDS: u64 = 300;

/// Seeds that are named when many fail.
const TOLD_MAX: usize = 20;

/// What each seed must amount to.
const REQUESTS_MIN: u64 = 1_000;
const SESSIONS_MIN: u64 = 5;
const FAULTS_MIN: u64 = 2;

#[test]
fn no_seed_breaks_a_promise() {
    let (first, count) = (
        number("OXKEEPER_SIM_FIRST", 0),
        number("OXKEEPER_SIM_SEEDS", 2_000),
    );
    let reports = in_parallel(first..first + count, |seed| run(seed, Options::default()));
    let mut counters = Counters::default();
    let mut broken = Vec::new();
    for report in reports {
        let seed = report.seed;
        for (name, least) in [
            ("requests", REQUESTS_MIN),
            ("sessions", SESSIONS_MIN),
            ("faults", FAULTS_MIN),
        ] {
            let found = report.counters.get(name);
            if report.violation.is_none() && found < least {
                broken.push(format!("seed {seed}: {found} {name} are too few"));
            }
        }
        broken.extend(report.violation.map(|what| format!("seed {seed}: {what}")));
        counters.merge(&report.counters);
    }
    println!("{counters}");
    broken.truncate(TOLD_MAX);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    if count >= ENOUGH_SEEDS {
        let missing = counters.missing(MUST_HAPPEN);
        assert!(missing.is_empty(), "it never happened: {missing:?}");
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    let options = Options {
        trace: true,
        ..Options::default()
    };
    for seed in 0..6 {
        let (one, other) = (run(seed, options), run(seed, options));
        assert!(one.trace.len() > 10_000, "{}", one.trace.len());
        assert!(one.trace == other.trace, "seed {seed}");
        assert_eq!(one.counters, other.counters);
    }
}
