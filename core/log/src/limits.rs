//! Every limit of the log in one place.

use oxkeeper_model::Offset;
pub use oxkeeper_model::limits::ENTRY_BYTES_MAX;

/// Smallest segment; a record that needs more gets a segment of its own length.
pub const SEGMENT_BYTES_MIN: u64 = 8 << 10;

/// Each segment is so many times as long as the one before, up to the full length.
pub(crate) const SEGMENT_GROWTH: u64 = 4;

/// Lengths of segments that one record made are multiples of this.
pub(crate) const SEGMENT_BYTES_STEP: u64 = 4 << 10;

/// A file of at most so many bytes is written with zeros when it is made; a longer one only gets
/// its space, and is filled by a [`crate::PrepareJob`] ahead of need.
pub(crate) const FILL_AT_ONCE_BYTES: u64 = 1 << 20;

/// Zeros written and synced at once, few so that the log's own syncs wait little behind them.
pub(crate) const FILL_BYTES: usize = 1 << 20;

/// Offsets above are taken for damage, so that counting up never overflows.
pub(crate) const OFFSET_MAX: Offset = Offset(u64::MAX >> 1);

/// Generations above are taken for foreign files.
pub(crate) const GENERATION_MAX: u64 = u64::MAX >> 1;

/// A buffer that grew above this for a large entry is given back.
pub(crate) const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Distance of the remembered places in a segment; a look-up of one entry reads no more.
pub(crate) const MARK_BYTES: u64 = 64 << 10;

/// Bytes read from a file at once, unless a record is longer.
pub(crate) const READ_BYTES: usize = 256 << 10;

/// Bytes read at once in the search behind the end.
pub(crate) const SEARCH_BYTES: usize = 256 << 10;

/// Bytes copied at once where an unproven tail is written again.
pub(crate) const REWRITE_BYTES: usize = 256 << 10;
