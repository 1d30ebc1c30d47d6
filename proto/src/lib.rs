//! The persisted and wire formats of the core: .proto files and the types made from them.
//!
//! Knows nothing else of the project. These types stay at the edges: the room
//! that owns a format turns them into the words of `oxkeeper-model`.

/// The shard's log: see `proto/oxkeeper/log/v1/log.proto`.
pub mod log {
    pub mod v1 {
        #![allow(clippy::all, missing_docs, unreachable_pub)]
        include!(concat!(env!("OUT_DIR"), "/oxkeeper.log.v1.rs"));
    }
}
