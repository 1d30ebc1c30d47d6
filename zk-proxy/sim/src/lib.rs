//! ZooKeeper clients in the simulated world: what they ask, what they are told, and whether it is right.

pub mod check;
pub mod client;
pub mod history;
pub mod logged;
pub mod model;
pub mod op;
pub mod reply;
pub mod truth;
