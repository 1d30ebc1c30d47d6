//! Every limit of the core in one place.

use crate::{FeatureLevel, ShardId};

/// Shards are counted below this, so that one above them fits the upper 15 bits of a session id.
pub const SHARD_ID_MAX: ShardId = ShardId((1 << 15) - 2);

/// Longest name of a namespace.
pub const NAMESPACE_BYTES_MAX: usize = 255;

/// The highest feature level that this build knows.
pub const FEATURE_LEVEL_MAX: FeatureLevel = FeatureLevel(1);

/// Entries whose digests a replica keeps, for the leader's checksum of an entry it applied before.
pub const DIGESTS_KEPT_MAX: usize = 1024;

/// Outcomes a shard keeps per session until they are acknowledged. The next write of a session that
/// has so many waits before the log; so proxies keep below it.
pub const KEPT_OUTCOMES_MAX: usize = 1024;

/// Memory of the outcomes a shard keeps per session. From there on its next write waits, so that they
/// take as much and one more transaction's at most.
pub const KEPT_OUTCOME_BYTES_MAX: usize = 4 << 20;

/// A session's end that takes away more records does not list them as changes, and deletes their rows
/// bit by bit. Replicas must agree on it.
pub const END_LISTED_RECORDS_MAX: u64 = 1024;

/// Records of ended sessions whose rows one entry deletes. Replicas must agree on it.
pub const SWEPT_RECORDS_MAX: usize = 256;

/// Commands in one log entry.
pub const ENTRY_COMMANDS_MAX: usize = 1024;

/// Encoded size at which a log entry is closed. One command may exceed it.
pub const ENTRY_BYTES_TARGET: usize = 1 << 20;

/// Largest log entry: a command as large as the largest client packet, and room around it.
pub const ENTRY_BYTES_MAX: usize = 64 << 20;

/// A container that never had a child is deleted after this long; never, as by ZooKeeper 3.9's default.
pub const CONTAINER_NEVER_USED_MS: Option<u64> = None;

/// Longest TTL, 2^40 − 1 milliseconds, as in ZooKeeper.
pub const TTL_MS_MAX: u64 = (1 << 40) - 1;

const _: () = assert!(ENTRY_BYTES_TARGET < ENTRY_BYTES_MAX);
// An entry that sweeps deletes no more rows than one that ends a session and lists what went.
const _: () = assert!(SWEPT_RECORDS_MAX as u64 <= END_LISTED_RECORDS_MAX);
// A session whose kept outcomes are full has had answers that an entry could hold.
const _: () = assert!(KEPT_OUTCOME_BYTES_MAX <= ENTRY_BYTES_MAX);
// A session id names its shard in 16 bits of which the highest is 0.
const _: () = assert!(SHARD_ID_MAX.0 + 1 < 1 << 15);
