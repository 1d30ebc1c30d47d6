//! Behaviour of the state machine, on the store in memory.

mod any_bytes;
mod durability;
mod ends;
mod fixture;
mod lifetimes;
mod model;
mod queries;
mod sessions;
mod tree_ops;
