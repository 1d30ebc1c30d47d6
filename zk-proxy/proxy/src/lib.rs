//! The ZooKeeper front end: speaks ZooKeeper's protocol to clients and the link to a shard.
//!
//! It owns connections, sessions as the wire sees them, watches, the tree view and the four-letter
//! words. It must not know how a shard stores, logs or replicates; all it has is
//! [`oxkeeper_link::Shard`].
//!
//! Entry types: [`Proxy`], started with [`ProxyOptions`]; [`tree_seed`] has the records that a tree
//! starts with.
//!
//! Inside: `connection` moves bytes (over `socket`), `pipeline` keeps one connection's requests in order, `writes` and
//! `reads` translate, `consumer` receives what the shard says, `view` and `watch` are what it keeps up
//! to date, `admin` tells administrators of it.

mod admin;
mod auth;
mod connection;
mod consumer;
mod limits;
mod options;
mod pipeline;
mod reads;
mod seed;
mod server;
mod socket;
mod stats;
mod translate;
mod tree;
mod view;
mod watch;
mod watched;
mod writes;

pub use options::ProxyOptions;
pub use seed::tree_seed;
pub use server::{Proxy, StartError};
