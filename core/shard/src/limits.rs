//! The limits of one shard.

use oxkeeper_format::ENTRY_HEADER_BYTES_MAX;
use oxkeeper_model::limits::{DIGESTS_KEPT_MAX, ENTRY_BYTES_MAX, ENTRY_BYTES_TARGET};

/// Encoded bytes of one command. A larger one is refused before it enters a batch.
pub const COMMAND_BYTES_MAX: usize = ENTRY_BYTES_MAX - ENTRY_BYTES_TARGET - ENTRY_HEADER_BYTES_MAX;

/// Entries that were appended and are not applied yet. More commands wait in the batch.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 64;

/// Queries that wait for an entry while the shard takes more requests.
pub const QUERIES_WAITING_MAX: usize = 65_536;

/// Records that one entry deletes because their time has come, so that clients' commands do not wait
/// for a long one.
pub const REAPS_PER_ENTRY_MAX: usize = 128;

/// Commands that wait before the log for something of their own session.
pub const WAITING_COMMANDS_MAX: usize = 4_096;

/// Records of a session that ends which one turn looks at, so that others' commands do not wait.
pub const END_RECORDS_PER_TURN: usize = 512;

/// A session that keeps fewer unacknowledged outcomes, and fewer bytes, acknowledges with its next write.
pub const KEPT_OUTCOMES_UNSAID: usize = 64;
pub const KEPT_BYTES_UNSAID: usize = 16 << 10;

/// Sessions whose heartbeats one command acknowledges.
pub const ACKNOWLEDGED_SESSIONS_MAX: usize = 1_024;

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
// The digest that a checksum names is still known when the checksum is applied.
const _: () = assert!(ENTRIES_IN_FLIGHT_MAX < DIGESTS_KEPT_MAX);
