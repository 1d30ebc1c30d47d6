//! Starts a server for a test in another language, and obeys it.
//!
//! Prints the server's address as the first line. Then reads commands from its input, one per
//! line (`stop`, `start`, `kill9`), and answers each with `ok` or `error: ...`. At the end of the
//! input it ends, and the server with it.

use std::io::{BufRead, Write};

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use oxkeeper_compat_tests::server::oracle::{self, Oracle};
use oxkeeper_compat_tests::server::oxkeeper::ServerUnderTest;
use oxkeeper_compat_tests::server::{ServerOptions, TestServer};

#[derive(Debug, Parser)]
struct Args {
    #[arg(value_enum)]
    which: Which,
    /// How often empty containers and elapsed TTL nodes are looked for, in ms.
    #[arg(long, default_value_t = 3_600_000)]
    container_check_interval_ms: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// The binary of `OXKEEPER_BIN`, or the one beside this program.
    Oxkeeper,
    /// The real Apache ZooKeeper.
    Oracle,
    /// No server: prints the version of the real one.
    OracleVersion,
    /// No server: prints the folder with the real one's jars.
    OracleJars,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let options = ServerOptions {
        container_check_interval_ms: args.container_check_interval_ms,
        ..ServerOptions::default()
    };
    let mut server: Box<dyn TestServer> = match args.which {
        Which::Oxkeeper => Box::new(ServerUnderTest::start(&options)?),
        Which::Oracle => Box::new(Oracle::start(&options)?),
        Which::OracleVersion => {
            println!("{}", oracle::version()?);
            return Ok(());
        }
        Which::OracleJars => {
            println!("{}", oracle::jars()?.display());
            return Ok(());
        }
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", server.addr())?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        match obey(&mut *server, line?.trim()) {
            Ok(()) => writeln!(out, "ok")?,
            Err(e) => writeln!(out, "error: {e}")?,
        }
        out.flush()?;
    }
    Ok(())
}

fn obey(server: &mut dyn TestServer, command: &str) -> Result<()> {
    match command {
        "stop" => server.stop(),
        "start" => server.restart(),
        "kill9" => server.kill9(),
        other => bail!("unknown command {other:?}"),
    }
}
