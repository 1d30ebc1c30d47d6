//! The role `wal`: prints a shard's log for people. Reads only; works beside a running server.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::console;

#[derive(clap::Args)]
pub(crate) struct WalArgs {
    /// A shard's log: the folder `shard-N/log` of a data directory.
    dir: PathBuf,
    /// Print only what is wrong, and a summary.
    #[arg(long)]
    quiet: bool,
}

/// Fails if the log is damaged; a torn tail, which a crash may leave, is no damage.
pub(crate) fn run(args: &WalArgs) -> anyhow::Result<ExitCode> {
    let mut screen: Box<dyn Write> = if args.quiet {
        Box::new(std::io::sink())
    } else {
        Box::new(BufWriter::new(std::io::stdout().lock()))
    };
    let found = oxkeeper_log::dump(&args.dir, &mut screen)?;
    screen.flush().context("cannot write to standard output")?;
    drop(screen);
    for damage in &found.damage {
        console::tell(format_args!("DAMAGED: {damage}"));
    }
    let last = match found.last {
        Some((offset, term)) => format!("the last is offset {offset} of term {term}"),
        None => "it is empty".to_owned(),
    };
    let (records, segments) = (found.records, found.segments);
    console::print(format_args!(
        "{records} records in {segments} segments; {last}\n"
    ))?;
    Ok(if found.damage.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
