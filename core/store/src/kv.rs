//! The ordered key-value store under a shard, as traits with two implementations.
//!
//! A store has no log of its own: what was written and not yet flushed is lost by a crash, all of
//! it, and the shard replays its own log from there. So an implementation must never make a write
//! durable by itself, only when [`KeyValueStore::start_flush`] says so.

use std::ops::ControlFlow;

use crate::{KeyRange, StoreError, WriteBatch};

/// What a scan calls with each key and value; it says whether to go on.
pub type RowVisitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// A row that was copied out of a store.
pub type OwnedRow = (Vec<u8>, Vec<u8>);

/// Waits until what [`KeyValueStore::start_flush`] froze is durable, and does the work that this
/// still needs. May be called on any thread; several may run at once, in any order. If it fails or
/// is dropped, what it should have made durable stays in memory and is part of the next flush.
pub type FlushWait = Box<dyn FnOnce() -> Result<(), StoreError> + Send>;

/// Rows in the order of their keys.
pub trait RowReader {
    /// Calls `read` with the value, if there is one; says whether there was.
    fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError>;

    /// Visits keys and values in order until the visitor breaks.
    fn scan(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError>;

    /// [`Self::scan`] from the other end.
    fn scan_back(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError>;
}

/// An ordered map of bytes with atomic batches, frozen views and explicit durability.
pub trait KeyValueStore: RowReader + Send + 'static {
    /// Every row as it was at one moment, for any thread.
    type Frozen: RowReader + Send + Sync + 'static;

    /// Applies all operations in order, or none. Visible at once, durable only after a flush.
    fn write(&mut self, batch: &WriteBatch) -> Result<(), StoreError>;

    /// A view of the rows as they are now. It costs no copy of them; what is overwritten or deleted
    /// afterwards is kept until all views of it are dropped.
    fn freeze(&mut self) -> Result<Self::Frozen, StoreError>;

    /// Freezes exactly what was written until now and starts to make it durable. A crash leaves
    /// the store as it was at the freezing of one of the flushes started before, at least of the
    /// last one that was waited for; never between.
    fn start_flush(&mut self) -> Result<FlushWait, StoreError>;

    /// [`Self::start_flush`] and the wait.
    fn flush(&mut self) -> Result<(), StoreError> {
        self.start_flush()?()
    }

    /// Gives up the memory of what has become durable. The next write does so too; a store that
    /// is written no more would keep it.
    fn release_flushed(&mut self) {}

    /// Memory of the rows that are not durable yet, about.
    fn dirty_bytes(&self) -> usize;
}

/// A value as a vector; for where speed does not matter.
pub fn get_vec(rows: &impl RowReader, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut value = None;
    rows.get(key, &mut |bytes| value = Some(bytes.to_vec()))?;
    Ok(value)
}

/// The first row of a range.
pub fn first_row(rows: &impl RowReader, range: &KeyRange) -> Result<Option<OwnedRow>, StoreError> {
    let mut found = None;
    rows.scan(range, &mut |key, value| {
        found = Some((key.to_vec(), value.to_vec()));
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// The last row of a range: of [`KeyRange::up_to`] a key the row at or below it, of
/// [`KeyRange::below`] the next lower one.
pub fn last_row(rows: &impl RowReader, range: &KeyRange) -> Result<Option<OwnedRow>, StoreError> {
    let mut found = None;
    rows.scan_back(range, &mut |key, value| {
        found = Some((key.to_vec(), value.to_vec()));
        ControlFlow::Break(())
    })?;
    Ok(found)
}
