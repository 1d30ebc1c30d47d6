//! A bounded part of the differential run (`compat-diff` does as many as one likes): the server
//! under test must answer as the real ZooKeeper does.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use oxkeeper_compat_tests::diff::{self, generate, plan::Step};
use oxkeeper_compat_tests::server::oracle::Oracle;
use oxkeeper_compat_tests::server::{ENV_ADDR, TestServer, start};

const SEEDS: u64 = 20;
const REQUESTS_EACH: usize = 1_000;

#[test]
fn twenty_thousand_random_requests_are_answered_alike() {
    if std::env::var_os(ENV_ADDR).is_some() {
        eprintln!("not run: needs an empty server; see compat-diff --right-addr");
        return;
    }
    let options = diff::server_options();
    let real = Oracle::start(&options).unwrap();
    let server = start(&options).unwrap();
    for seed in 0..SEEDS {
        let plan = generate::plan(seed, REQUESTS_EACH);
        let found = diff::run_pair(&plan, &real, &*server).unwrap();
        if let Some(found) = found {
            let step = plan.steps.get(found.step).map(Step::to_string);
            panic!(
                "seed {seed} diverges (left: ZooKeeper) at {step:?}\n{found}\n\
                 for the shortest sequence: compat-diff --seeds {seed}..{} --ops {REQUESTS_EACH}",
                seed + 1
            );
        }
    }
    assert!(real.pid().is_some());
}

#[test]
fn two_fresh_servers_of_one_kind_give_one_transcript() {
    if std::env::var_os(ENV_ADDR).is_some() {
        eprintln!("not run: needs empty servers");
        return;
    }
    let options = diff::server_options();
    let (one, other) = (start(&options).unwrap(), start(&options).unwrap());
    let plan = generate::plan(1_000, 500);
    let first = diff::run_plan(&plan, one.addr()).unwrap();
    let second = diff::run_plan(&plan, other.addr()).unwrap();
    if let Some(found) = diff::compare(&first, &second) {
        panic!("{}\n{found}", plan.steps[found.step]);
    }
    assert!(first.steps.iter().flatten().count() > 500);
}
