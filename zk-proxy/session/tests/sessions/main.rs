//! Whole sessions, at frame level.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

mod broken_link;
mod pipelining;
mod world;
