//! The core as its clients see it: the link, one ordered duplex stream per (client, shard).
//!
//! Everything a client learns of a shard arrives on its link **in commit order**: the changes of
//! each revision, the outcomes of its own requests, answers to its queries, and the end of
//! sessions. So whoever handles the events one after another always has an exact picture of the
//! shard as of the last event: a watch fired from a change precedes every reply that shows it,
//! and a session reads its own writes.
//!
//! The link is a trait with a contract suite ([`contract`]) that every transport passes. Today
//! there is one transport, in process, in `oxkeeper-node`; gRPC comes with replication.
//!
//! Entry types: [`Shard`] opens links, [`Link`] sends, [`LinkSink`] receives; [`Resume`] carries a
//! client over the end of one link to the next.

pub mod contract;
pub mod limits;
mod link;
pub mod parts;
mod resume;
mod weight;

pub use link::{Event, Link, LinkError, LinkSink, Opened, Request, SessionBeat, Shard, Token};
pub use resume::{Happened, Owner, Resume};
pub use weight::request_bytes;
