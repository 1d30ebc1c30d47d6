//! `simulate SEED` prints the trace of a seed; `simulate FROM..TO` runs many and says what happened.

use std::process::ExitCode;

use oxkeeper_sim::Counters;
use oxkeeper_zk_sim::run::{MUST_HAPPEN, Options, run};

fn main() -> ExitCode {
    let Some(what) = std::env::args().nth(1) else {
        eprintln!("say which: a seed, or FROM..TO");
        return ExitCode::FAILURE;
    };
    match what.split_once("..") {
        None => what.parse().map_or_else(|_| unknown(&what), one),
        Some((from, to)) => match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) => many(from, to),
            _ => unknown(&what),
        },
    }
}

fn unknown(what: &str) -> ExitCode {
    eprintln!("{what} is no seed and no range of seeds");
    ExitCode::FAILURE
}

fn one(seed: u64) -> ExitCode {
    let report = run(
        seed,
        Options {
            trace: true,
            ..Options::default()
        },
    );
    print!("{}{}", report.trace, report.counters);
    match report.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
    }
}

fn many(from: u64, to: u64) -> ExitCode {
    let mut counters = Counters::default();
    let mut failed = Vec::new();
    for seed in from..to {
        let report = run(seed, Options::default());
        counters.merge(&report.counters);
        if let Some(violation) = report.violation {
            println!("seed {seed}: {violation}");
            failed.push(seed);
        }
    }
    print!("{counters}");
    for missing in counters.missing(MUST_HAPPEN) {
        println!("it never happened: {missing}");
    }
    println!("{} of {} seeds failed", failed.len(), to - from);
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
