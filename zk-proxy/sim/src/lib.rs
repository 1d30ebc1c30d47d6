//! ZooKeeper clients in the simulated world: what they ask, what they are told, and whether it is right.

pub mod check;
pub mod client;
pub mod history;
pub mod logged;
pub mod model;
pub mod op;
mod proxy;
pub mod reply;
pub mod run;
pub mod sabotage;
pub mod swarm;
pub mod truth;
mod world;
