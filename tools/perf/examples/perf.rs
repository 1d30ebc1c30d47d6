//! The load generator alone, without the server's binary.

use std::process::ExitCode;

use clap::Parser;
use oxkeeper_perf::{PerfArgs, command};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    perf: PerfArgs,
}

fn main() -> ExitCode {
    match command(Cli::parse().perf) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("perf: {fault}");
            ExitCode::from(2)
        }
    }
}
