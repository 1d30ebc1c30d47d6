//! What every transport of the link must do, as a suite that takes a way to make a fresh shard.
//!
//! [`run_all`] panics at the first promise that is not kept. [`TestClient`] is a link with its
//! events in a channel, for other tests as well.

mod cases;
mod client;

use std::sync::Arc;

use oxkeeper_model::{Acl, Head, Path, Record, Revision, SeedRecord};

use crate::Shard;

pub use client::{TestClient, create, set};

/// A shard that was just made, with [`seed`] in it and nothing else.
pub struct TestShard {
    pub shard: Arc<dyn Shard>,
    /// So many requests wait at most, and as many again may be under way.
    pub queue_requests_max: usize,
    /// Bytes of change sets that the shard keeps for links that resume.
    pub history_bytes_max: usize,
    /// How often sessions are looked at; small, or the suite takes long.
    pub session_tick_ms: u32,
    /// Stops the shard in an orderly way.
    pub stop: Box<dyn FnOnce()>,
}

/// Runs all cases, each on a shard of its own.
pub fn run_all(make: impl Fn() -> TestShard) {
    for (name, case) in cases::ALL {
        println!("contract: {name}");
        case(make());
    }
}

/// The records of a [`TestShard`].
pub fn seed() -> Vec<SeedRecord> {
    vec![root()]
}

/// The record `/`, open to all.
pub fn root() -> SeedRecord {
    let head = Head {
        value_bytes: Some(0),
        ..Head::new(Revision(0), 0, open_acl())
    };
    SeedRecord {
        path: Path::root(),
        record: Record {
            head,
            value: Some(bytes::Bytes::new()),
        },
    }
}

pub(crate) fn open_acl() -> Acl {
    Acl::from([])
}
