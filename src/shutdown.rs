//! Signals: the first SIGTERM or SIGINT asks for an orderly end, the second ends at once.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::logging::Log;

/// What a shell reports for a process that SIGINT ended.
const EXIT_CODE_SECOND_SIGNAL: i32 = 130;

/// Watches for signals; the token is cancelled by the first. Call inside the runtime.
pub(crate) fn on_signal(log: Log) -> anyhow::Result<CancellationToken> {
    let terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let shutdown = CancellationToken::new();
    tokio::spawn(watch(terminate, interrupt, shutdown.clone(), log));
    Ok(shutdown)
}

async fn watch(
    mut terminate: Signal,
    mut interrupt: Signal,
    shutdown: CancellationToken,
    log: Log,
) {
    let first = either(&mut terminate, &mut interrupt).await;
    tracing::info!(
        signal = first,
        "shutting down; a second signal ends at once"
    );
    shutdown.cancel();
    let second = either(&mut terminate, &mut interrupt).await;
    tracing::warn!(
        signal = second,
        "ended at once; the log is replayed at the next start"
    );
    log.flush();
    std::process::exit(EXIT_CODE_SECOND_SIGNAL);
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
