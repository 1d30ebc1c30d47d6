//! What an administrator and their tools see: the four-letter words, everything that is counted, and
//! whether clients are served.
//!
//! It reads what connections and link keep up to date, and asks the shard; it changes nothing but counters.

mod dump;
mod environment;
pub(crate) mod four_letter;
pub(crate) mod health;
pub(crate) mod monitor;
mod process;
mod sample;
mod watches;

pub use health::Unwell;
pub use sample::{NodeSamples, Sample, Summary, Value};
