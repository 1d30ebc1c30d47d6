//! Every limit of sessions and their requests in one place.

/// Requests read from clients and not yet answered, over all connections. Beyond it the proxy
/// stops reading until some are answered.
pub(crate) const OUTSTANDING_REQUESTS_MAX: usize = 1 << 15;

/// The same, in bytes of frames.
pub(crate) const OUTSTANDING_BYTES_MAX: usize = 64 << 20;

/// Requests of one connection that are read and not yet answered. Also bounds the outcomes that a
/// shard keeps for its session.
pub(crate) const CONNECTION_REQUESTS_MAX: usize = 1000;

/// The same, in bytes of frames. One larger frame is let through alone.
pub(crate) const CONNECTION_BYTES_MAX: usize = 4 << 20;

/// Replies waiting for a slow client, in bytes, at which no more of its requests are read.
pub(crate) const UNSENT_PAUSE_BYTES: usize = 1 << 20;

/// Replies waiting for a slow client at which even requests whose turn has come wait. Higher than the
/// pause, because a read that waits longer than for its turn may see later writes of its session.
pub(crate) const UNSENT_STALL_BYTES: usize = 8 << 20;

/// Events waiting for a client that does not read at all: then its connection is closed. Its
/// session lives on, and what it missed comes with its next setWatches.
pub(crate) const UNSENT_CLOSE_BYTES: usize = 64 << 20;

/// Replies of one delivery to so many connections at once are written by whoever delivers; to more, by
/// their drivers, which can be on several threads.
pub(crate) const DIRECT_WRITES_MAX: usize = 2;

/// Share of the view's budget that one child list may take; longer lists are read from the shard.
pub(crate) const CHILD_LIST_BUDGET_SHARE: usize = 4;

const _: () = assert!(CONNECTION_REQUESTS_MAX < oxkeeper_model::limits::KEPT_OUTCOMES_MAX);
const _: () = assert!(UNSENT_PAUSE_BYTES < UNSENT_STALL_BYTES);
const _: () = assert!(UNSENT_STALL_BYTES < UNSENT_CLOSE_BYTES);
const _: () = assert!(CONNECTION_REQUESTS_MAX < OUTSTANDING_REQUESTS_MAX);
