//! Log lines: to standard error, so that standard output stays free for what a command prints.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogLevel};

/// Installs the process's log. Call once, before anything logs.
pub(crate) fn start(level: &LogLevel, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&level.0).context("log-level is not usable")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    installed.map_err(|problem| anyhow::anyhow!("cannot start the log: {problem}"))
}
