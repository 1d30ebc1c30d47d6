//! The ZooKeeper front end as a server: listens, moves bytes, tells the time, answers administrators.
//!
//! What a request means is decided in [`oxkeeper_session`], which this crate drives: `net` has the listener, the
//! connections' tasks and the sockets, `service` the clock and the link's receiving end, `admin` the four-letter words
//! and everything that is counted. It must not know how a shard stores, logs or replicates; all it has is
//! [`oxkeeper_link::Shard`].
//!
//! Entry types: [`Proxy`], started with [`ProxyOptions`].

mod admin;
mod net;
mod options;
mod service;

pub use admin::{NodeSamples, Sample, Summary, Unwell, Value};
pub use net::listener::{Proxy, StartError};
pub use options::ProxyOptions;
pub use oxkeeper_session::{SessionOptions, tree_seed};
pub use oxkeeper_wire::Word;
