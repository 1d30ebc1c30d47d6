//! The `oxkeeper` binary: reads the command line and the configuration, puts the rooms together,
//! and runs one role.
//!
//! All logic lives in the crates below `core/` and `zk-proxy/`; what is here is composition,
//! configuration, and what the operator sees. The only place where `anyhow` is at home.
//!
//! Exit codes: 0 done, 1 could not start or failed, 2 the command line or the configuration is
//! wrong (so a supervisor should not retry), 130 ended at once by a second signal.

// The macros that print panic where nobody can be told: see `console` and `logging`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod config;
mod console;
mod files;
mod hint;
mod http;
mod limits;
mod logging;
mod metrics_page;
mod node_metrics;
mod screen;
mod shutdown;
mod standalone;
mod wal;

/// Many small objects of several threads come and go: glibc's arenas keep twice the memory for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_CODE_FAILED: u8 = 1;
const EXIT_CODE_WRONG_USE: u8 = 2;

/// A coordination service that speaks ZooKeeper's protocol.
#[derive(Parser)]
#[command(name = "oxkeeper", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serve ZooKeeper clients from one process with its own store.
    Standalone(StandaloneArgs),
    /// Load a server that speaks ZooKeeper's protocol, check every reply, and measure.
    Perf(oxkeeper_perf::PerfArgs),
    /// Print a shard's log, and whether it is damaged.
    Wal(wal::WalArgs),
}

#[derive(clap::Args)]
struct StandaloneArgs {
    /// Configuration file: YAML with the names of the options below as keys, or a `zoo.cfg`
    /// (told by its ending, `.cfg` or `.properties`). Flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the configuration that would take effect, as YAML, and stop.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    flags: config::Layer,
}

fn main() -> ExitCode {
    let done = match Cli::parse().role {
        Role::Standalone(args) => standalone(args),
        Role::Perf(args) => perf(args),
        Role::Wal(args) => wal::run(&args),
    };
    done.unwrap_or_else(|problem| {
        console::tell(format_args!("oxkeeper: {}", told(&problem)));
        ExitCode::from(EXIT_CODE_FAILED)
    })
}

/// Fails if the run did not pass: a wrong reply, or an error that was not allowed.
fn perf(args: oxkeeper_perf::PerfArgs) -> anyhow::Result<ExitCode> {
    let passed = oxkeeper_perf::command(args)?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_CODE_FAILED)
    })
}

/// The error and its causes, but not those whose text an error above repeats.
fn told(problem: &anyhow::Error) -> String {
    let mut text = problem.to_string();
    for cause in problem.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn standalone(args: StandaloneArgs) -> anyhow::Result<ExitCode> {
    let loaded = match config::load(args.flags, args.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(problem) => {
            console::tell(format_args!("oxkeeper: {problem}"));
            return Ok(ExitCode::from(EXIT_CODE_WRONG_USE));
        }
    };
    if args.print_config {
        for warning in &loaded.warnings {
            console::tell(format_args!("oxkeeper: {warning}"));
        }
        console::print(&loaded.config)?;
        return Ok(ExitCode::SUCCESS);
    }
    standalone::run(loaded)?;
    Ok(ExitCode::SUCCESS)
}
