//! The store of a simulated machine: the in-memory store, and the plans of whoever wants it to lie.

use oxkeeper_store::{
    FlushWait, KeyRange, KeyValueStore, MemoryFrozen, MemoryStore, RowReader, RowVisitor,
    StoreError, WriteBatch,
};

/// A way in which a store can break its promises. Planted by tests that want to see it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreLie {
    /// Makes durable what it was not asked to: a crash loses nothing.
    KeepsEverything,
}

/// A store in memory with faults. Clones are handles on one.
#[derive(Clone, Debug)]
pub struct SimStore {
    inner: MemoryStore,
    lie: Option<StoreLie>,
}

impl SimStore {
    pub fn new(inner: MemoryStore, lie: Option<StoreLie>) -> Self {
        Self { inner, lie }
    }

    /// The store without the lies: where faults are asked for.
    pub fn inner(&self) -> &MemoryStore {
        &self.inner
    }

    /// The process is gone. Flushes that were under way have become durable or not.
    pub fn crash(&self, seed: u64) {
        if self.lie != Some(StoreLie::KeepsEverything) {
            self.inner.crash_amid_flushes(seed);
        }
    }
}

impl RowReader for SimStore {
    fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        self.inner.get(key, read)
    }

    fn scan(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        self.inner.scan(range, visit)
    }

    fn scan_back(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        self.inner.scan_back(range, visit)
    }
}

impl KeyValueStore for SimStore {
    type Frozen = MemoryFrozen;

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        self.inner.write(batch)
    }

    fn freeze(&mut self) -> Result<MemoryFrozen, StoreError> {
        self.inner.freeze()
    }

    fn start_flush(&mut self) -> Result<FlushWait, StoreError> {
        self.inner.start_flush()
    }

    fn dirty_bytes(&self) -> usize {
        self.inner.dirty_bytes()
    }
}
