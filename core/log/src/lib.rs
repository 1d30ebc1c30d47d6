//! The write-ahead log of a shard: what was accepted, in order, before anything else happens to it.
//!
//! Entries are opaque bytes with an offset and a term. The log knows no commands, no network, no runtime, and it has
//! no thread. One thread owns a [`Wal`]; any number of [`WalReader`]s follow it from others.
//! It must never acknowledge what is not on disk, never return an entry that was not appended, never
//! go on after a failed write or sync, and never drop anything without saying so.
//!
//! Appending writes to the system's memory. Whatever waits for the disk is a *job* that is started, run by
//! whoever drives the log on any thread, and told back: [`SyncJob`], [`SegmentJob`] (a segment is started:
//! the next one, after a truncation, or in an emptied log), [`TrimJob`], [`PrepareJob`]. One of each at a time. Each has
//! a form in line, for drivers that wait anyway: [`Wal::sync`], [`Wal::truncate_after`], [`Wal::trim_below`].
//!
//! # What is on disk before what
//!
//! 1. The records of a segment, before the next segment is started. So only the last segment can be torn.
//! 2. A segment's header and its whole length (content synced), before it gets its `.wal` name; and that name
//!    (folder synced), before its first record is written.
//! 3. The name of a new segment, before the one that it takes over from is closed with an end record, before
//!    those that it replaces are given up, and before its first record. So truncation, and the cut of a torn tail, is
//!    one rename; no old record behind the cut can come back; and a closed segment without a later one is noticed.
//! 4. The new name of a given-up file (`.spare`), before the next one is given up, and before it is reused. So
//!    trimming leaves no gap.
//! 5. Records that are found at open are written and synced again unless a later record
//!    proves that they were durable, before `durable` shows them.
//!
//! # Torn or damaged
//!
//! [`Recovery::look`] tells what a crash can do under these rules from everything else, and says what would be
//! [`Cut`]; [`Recovery::repair`] does it. `recover.rs` has the rule, `format.rs` the bytes.
//!
//! # A full disk
//!
//! Space is reserved before an entry is written, so a full disk is met where a segment or a spare is made, as
//! [`WalError::NoSpace`], and changes nothing. A file of [`WalOptions::reserve_bytes`] is kept for entries of [`Class::Own`].
//! As long as it is used up, clients' entries are refused; [`Wal::start_prepare`] makes it anew.
//!
//! Nothing here keeps two processes from opening one folder: lock the data directory.

mod chain;
mod cursor;
mod disk;
mod dump;
mod error;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod jobs;
pub mod limits;
mod memory_disk;
mod reader;
mod recover;
mod spare;
mod terms;
mod view;
mod wal;

#[cfg(test)]
mod tests;

pub use chain::{Chain, LogPoint};
pub use disk::{Disk, DiskFile, FileDisk};
pub use dump::{Dumped, dump, dump_disk};
pub use error::{Severity, WalError};
pub use jobs::{
    PrepareDone, PrepareJob, SegmentDone, SegmentJob, SyncDone, SyncJob, TrimDone, TrimJob,
};
pub use memory_disk::{BitFlip, DiskCounters, MemoryDisk, MemoryFile};
pub use reader::{LogRecord, WalReader};
pub use recover::Cut;
pub use wal::{Class, Recovery, Room, Wal, WalOptions};
