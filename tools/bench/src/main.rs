//! Compares oxkeeper with Apache ZooKeeper in speed and size. See the library's `bench`.
//!
//! `bench --rounds 3 --seconds 4 --large`

use std::process::ExitCode;

use clap::Parser;
use oxkeeper_bench::{BenchOptions, run};

/// Loads Apache ZooKeeper and oxkeeper in turn, and writes docs/benchmarks.md.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    options: BenchOptions,
}

fn main() -> ExitCode {
    match run(Args::parse().options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("bench: {fault:#}");
            ExitCode::FAILURE
        }
    }
}
