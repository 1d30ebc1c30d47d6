//! Every limit of sessions and their requests in one place.

use oxkeeper_model::limits::{ENTRY_BYTES_MAX, ENTRY_BYTES_TARGET, KEPT_OUTCOMES_MAX};

/// Requests read from clients and not yet answered, over all connections. Beyond it nothing is
/// read until some are answered.
pub const OUTSTANDING_REQUESTS_MAX: usize = 1 << 15;

/// The same, in bytes of frames.
pub const OUTSTANDING_BYTES_MAX: usize = 64 << 20;

/// Requests of one connection that are read and not yet answered. Also bounds the outcomes that a
/// shard keeps for its session.
pub const CONNECTION_REQUESTS_MAX: usize = 1000;

/// The same, in bytes of frames. One larger frame is let through alone.
pub const CONNECTION_BYTES_MAX: usize = 4 << 20;

/// What a request takes beside its frame while it waits.
pub(crate) const REQUEST_OVERHEAD_BYTES: usize = 256;

/// Bytes held for one client that does not read (replies, events, and requests that wait behind
/// them) at which no more of its requests are read, and none is answered that can wait.
pub const UNSENT_PAUSE_BYTES: usize = 1 << 20;

/// The same while half of [`UNSENT_TOTAL_BYTES_MAX`] is used up.
pub const UNSENT_TIGHT_BYTES: usize = 64 << 10;

/// Bytes held for one client that does not read at which its connection is closed. Its session
/// lives on, and what it missed comes with its next setWatches.
pub const UNSENT_CLOSE_BYTES: usize = 96 << 20;

/// Bytes held for clients that do not read, over all connections. Beyond it connections are closed,
/// those first whose client has taken nothing for the longest.
pub const UNSENT_TOTAL_BYTES_MAX: usize = 128 << 20;

/// What is left of [`UNSENT_TOTAL_BYTES_MAX`] after connections were closed for it.
pub(crate) const UNSENT_TOTAL_BYTES_LOW: usize = UNSENT_TOTAL_BYTES_MAX / 4 * 3;

/// Largest reply to one read. More is refused.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// What a record or a list of names that a request asks the shard for counts for, while the answer is not
/// there.
pub(crate) const ANSWER_GUESS_BYTES: usize = 64 << 10;

/// The most that one request's answer counts for. So few large ones are under way at once.
pub(crate) const ANSWER_GUESS_BYTES_MAX: usize = OUTSTANDING_BYTES_MAX / 4;

/// Largest write as the shard gets it, identities and expanded access lists included. More is refused.
pub const WRITE_BYTES_MAX: usize = ENTRY_BYTES_MAX - 2 * ENTRY_BYTES_TARGET;

/// What a write may be larger than its frame without being counted for more.
pub(crate) const WRITE_GROWTH_FREE_BYTES: usize = 4096;

/// Identities of one connection, its address included.
pub const IDENTITIES_MAX: usize = 1024;

/// The same, in bytes: every write carries them.
pub const IDENTITIES_BYTES_MAX: usize = 64 << 10;

/// Replies of one delivery to so many connections at once are written by whoever delivers; to more, by
/// their drivers, which can be on several threads.
pub(crate) const DIRECT_WRITES_MAX: usize = 2;

/// Watched paths that are asked for at once after a gap.
pub(crate) const RECONCILED_PATHS_MAX: usize = 1000;

/// A link that stays broken for this share of the shortest session timeout leaves too old a view:
/// then all connections are closed.
pub(crate) const STALE_TIMEOUT_SHARE: u64 = 2;

/// Share of the view's budget that one child list may take; longer lists are read from the shard.
pub(crate) const CHILD_LIST_BUDGET_SHARE: usize = 4;

const _: () = assert!(CONNECTION_REQUESTS_MAX < KEPT_OUTCOMES_MAX);
const _: () = assert!(CONNECTION_REQUESTS_MAX < OUTSTANDING_REQUESTS_MAX);
const _: () = assert!(UNSENT_TIGHT_BYTES < UNSENT_PAUSE_BYTES);
const _: () = assert!(UNSENT_PAUSE_BYTES + REPLY_BYTES_MAX < UNSENT_CLOSE_BYTES);
const _: () = assert!(UNSENT_CLOSE_BYTES < UNSENT_TOTAL_BYTES_MAX);
const _: () = assert!(WRITE_BYTES_MAX + ENTRY_BYTES_TARGET < ENTRY_BYTES_MAX);
const _: () = assert!(IDENTITIES_BYTES_MAX < WRITE_BYTES_MAX);
