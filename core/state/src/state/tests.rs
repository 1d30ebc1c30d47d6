//! Behaviour of the state machine, on the store in memory.

mod durability;
mod fixture;
mod lifetimes;
mod model;
mod queries;
mod sessions;
mod tree_ops;
