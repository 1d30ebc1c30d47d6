//! What every transport of the link must do, as a suite that takes a way to make a fresh shard.
