//! A world in which a shard runs under faults, from one seed: time, order, disks, stores, links.
//!
//! Everything that could differ from run to run is drawn from [`Random`]; so the same seed gives the
//! same run, byte for byte of its [`Trace`]. The code under test is the product's own; what stands
//! here is only what surrounds it. Nothing here reads a clock, sleeps or starts a thread.

mod chronicle;
mod counters;
mod disk;
mod node;
mod random;
mod schedule;
mod store;
mod trace;
mod violation;

pub use chronicle::Chronicle;
pub use counters::Counters;
pub use disk::{DiskLie, SimDisk};
pub use node::{Down, Node, NodeOptions};
pub use random::Random;
pub use schedule::Schedule;
pub use store::{SimStore, StoreLie};
pub use trace::Trace;
pub use violation::Violation;
