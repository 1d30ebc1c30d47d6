//! The write-ahead log of a shard: what was accepted, in order, before anything else happens to it.
//!
//! Entries are opaque bytes with an offset and a term. The log knows no commands, no network,
//! no runtime: its calls block, and one thread owns a [`Wal`]. Any number of [`WalReader`]s follow it from other threads.
//! It must never acknowledge what is not on disk, never return an entry that was not appended, and never
//! go on after a failed write or sync.
//!
//! # What is on disk before what
//!
//! 1. The records of a segment, before the next segment is started. So only the last segment can be torn.
//! 2. A segment's header and its whole length (content synced), before it gets its `.wal` name; and that name
//!    (folder synced), before its first record is written.
//! 3. The name of a new segment, before those that it replaces are given up. Truncation and the
//!    cut of a torn tail write nothing over old records: a new segment takes over from the offset of the cut,
//!    in one rename, and no old record behind the cut can come back.
//! 4. The new name of a given-up file (`.spare`), before the next one is given up, and before it is reused. So
//!    trimming leaves no gap.
//! 5. Records that are found at open are written and synced again unless a later record
//!    proves that they were durable, before `durable` shows them.
//!
//! # Torn or damaged
//!
//! Everything that a crash can do to a log under these rules is repaired by [`Wal::open`]; everything else is
//! [`WalError::Damaged`] with file and position. `recover.rs` has the rule, `format.rs` the bytes.
//!
//! Nothing here keeps two processes from opening one folder: lock the data directory.

mod cursor;
mod disk;
mod dump;
mod error;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod memory_disk;
mod reader;
mod recover;
mod spare;
mod view;
mod wal;

#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskFile, FileDisk};
pub use dump::{Dumped, dump, dump_disk};
pub use error::WalError;
pub use memory_disk::{MemoryDisk, MemoryFile};
pub use reader::{LogRecord, WalReader};
pub use spare::Preparer;
pub use wal::{SEGMENT_BYTES_MIN, Wal, WalOptions};
