//! Compares oxkeeper with Apache ZooKeeper in speed and size. See the library's `bench`.
//!
//! `bench --rounds 3 --seconds 4 --large`

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use oxkeeper_compat_tests::bench::{self, BenchOptions};

/// Loads Apache ZooKeeper and oxkeeper in turn, and writes docs/benchmarks.md.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    options: BenchOptions,
}

fn main() -> Result<ExitCode> {
    let all_measured = bench::run(Args::parse().options)?;
    Ok(if all_measured {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
