//! The limits of one shard.

use oxkeeper_format::ENTRY_HEADER_BYTES_MAX;
use oxkeeper_model::limits::{ENTRY_BYTES_MAX, ENTRY_BYTES_TARGET};

/// Encoded bytes of one command. A larger one is refused before it enters a batch.
pub const COMMAND_BYTES_MAX: usize = ENTRY_BYTES_MAX - ENTRY_BYTES_TARGET - ENTRY_HEADER_BYTES_MAX;

/// Entries that were appended and are not applied yet. More commands wait in the batch.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 64;

/// Queries that wait for an entry while the shard takes more requests.
pub const QUERIES_WAITING_MAX: usize = 65_536;

/// Records that one entry deletes because their time has come, so that clients' commands do not wait
/// for a long one.
pub const REAPS_PER_ENTRY_MAX: usize = 128;

/// After the disk was found full, a write tries it again so much later.
pub const FULL_AGAIN_US: u64 = 500_000;

/// After a checkpoint found no space, the next begins so much later.
pub const CHECKPOINT_AGAIN_US: u64 = 1_000_000;

/// After files of the log could not be prepared, it is tried again so much later.
pub const PREPARE_AGAIN_US: u64 = 1_000_000;

/// Change sets in the history of a shard whose links may break are at most so old.
pub const HISTORY_AGE_MAX_US: u64 = 5_000_000;

/// What a change weighs in the history apart from its path and value.
pub const CHANGE_BYTES: usize = 256;

/// What a revision weighs apart from its changes.
pub const CHANGE_SET_BYTES: usize = 128;

// A batch that is not full takes any one command.
const _: () =
    assert!(ENTRY_HEADER_BYTES_MAX + ENTRY_BYTES_TARGET + COMMAND_BYTES_MAX <= ENTRY_BYTES_MAX);
