//! What shows that clients cannot tell oxkeeper from Apache ZooKeeper.
//!
//! Three kinds of proof live here: a differential run that sends the same seeded
//! requests to a real ZooKeeper and to the server under test (`diff`, and the
//! `compat-diff` binary), behaviour tests that run on either of them (`tests/`),
//! and scripts that drive real clients (`clients/`).
//!
//! Must not: use oxkeeper's own crates. The encoding here (`jute`, `proto`) is written
//! a second time on purpose, so that a mistake in the server's codec cannot hide in its test.
//!
//! Entry types: [`server::TestServer`] with [`server::start`], [`session::Session`] for
//! ordinary calls, [`conn::Conn`] for frames and broken frames, [`diff::run_plan`].

pub mod bed;
pub mod conn;
pub mod diff;
pub mod jute;
pub mod liar;
pub mod proto;
pub mod rng;
pub mod server;
pub mod session;
