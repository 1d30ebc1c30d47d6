//! ZooKeeper's sessions over the link, as a value: bytes and events in, bytes and requests out.
//!
//! No clock, socket, thread or runtime in here: whoever drives it (a server's tasks, a simulator) moves bytes,
//! tells the time and calls back. All methods may be called from many threads; a single-threaded driver
//! gets the same output for the same input.
//!
//! Entry types: [`FrontEnd`] is one front end. [`FrontEnd::open_link`] connects it to a shard, whose events go to a
//! [`Consumer`]; [`FrontEnd::connect`] makes an [`Endpoint`] per client connection.
//! [`tree_seed`] has the records that a tree starts with.
//!
//! Inside: `pipeline` keeps one connection's requests in order, `outbox` what goes back to it, `writes` and
//! `reads` translate, `feed` receives what the shard says, `view` and `watch` are what it keeps up to date.

mod auth;
mod connection;
mod endpoint;
mod feed;
mod front_end;
pub mod limits;
mod load;
mod options;
mod outbox;
mod pipeline;
mod reads;
mod reconcile;
mod seed;
mod stats;
mod translate;
mod view;
mod watch;
mod watched;
mod writes;

pub use connection::{Connection, ConnectionId, ConnectionReport};
pub use endpoint::{Endpoint, Next};
pub use feed::Consumer;
pub use front_end::FrontEnd;
pub use options::SessionOptions;
pub use outbox::DirectWrite;
pub use seed::tree_seed;
pub use stats::{Amounts, ConnectionStats, Latencies, Stats, WatchesFired};
pub use translate::zxid;
pub use watch::Kinds;
