//! Every size that this crate decides, but for RocksDB's own options (see `tuning.rs`).

/// The kernel reads ahead no more than this at a time.
pub(crate) const LOAD_STEP_BYTES: u64 = 128 << 10;

/// A longer key is not kept whole in the tables' keys. Persisted: never change.
pub(crate) const KEY_BYTES_MAX: usize = 512;

/// Rows with long keys that a scan sorts at a time.
pub(crate) const SORTED_BYTES_MAX: usize = 4 << 20;
