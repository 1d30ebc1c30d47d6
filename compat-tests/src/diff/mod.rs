//! The differential run: the same seeded requests to two servers, every answer compared.
//!
//! A naive run that compares raw bytes fails at once: session ids, passwords and clocks
//! differ between any two servers, and so do zxids that other clients moved. So each server's
//! frames are decoded strictly (a body of the wrong shape or length is shown as hex), the
//! few things that may differ are renamed (`normal`), and what is left must be equal line
//! by line. [`allowed`] is the whole list of what may differ, each with its reason.
//!
//! A plan is made from its seed alone, before anything is sent ([`generate`]), so a plan can
//! be cut to the shortest one that still diverges ([`shrink`]).
//!
//! Steps go to one session at a time, and after each step every session is drained up to a
//! `sync`, so what a step caused is complete before the next one starts, on any machine.

pub mod allowed;
mod compare;
pub mod generate;
mod generate_bursts;
mod generate_ops;
mod generate_values;
mod normal;
pub mod plan;
mod runner;
pub mod shrink;

use anyhow::Result;

use crate::server::{ServerOptions, TestServer};

pub use compare::{Divergence, compare};
pub use plan::Plan;
pub use runner::{Transcript, run_plan};

/// Timeout that the run's servers grant at least. Expiry steps wait this long.
pub const MIN_SESSION_TIMEOUT_MS: u32 = 2_000;

/// Configuration of both servers of a differential run.
pub fn server_options() -> ServerOptions {
    ServerOptions {
        tick_ms: 200,
        min_session_timeout_ms: MIN_SESSION_TIMEOUT_MS,
        // The question here is what is answered, not what survives.
        force_sync: false,
        ..ServerOptions::default()
    }
}

/// Runs a plan on both servers at once and compares.
pub fn run_pair(
    plan: &Plan,
    left: &dyn TestServer,
    right: &dyn TestServer,
) -> Result<Option<Divergence>> {
    let (left, right) = (left.addr(), right.addr());
    let (a, b) = std::thread::scope(|scope| {
        let left = scope.spawn(|| run_plan(plan, left));
        let right = run_plan(plan, right);
        (left.join(), right)
    });
    let a = a.map_err(|_| anyhow::anyhow!("the left run panicked"))??;
    Ok(compare(&a, &b?))
}
