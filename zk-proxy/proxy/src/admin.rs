//! What an administrator and their tools see: the four-letter words, and everything that is counted.
//!
//! It reads what connections and link keep up to date, and asks the shard; it changes nothing but counters.

pub(crate) mod four_letter;
pub(crate) mod monitor;
