//! A store in memory, for tests and simulation: what was not flushed is lost by [`MemoryStore::crash`].

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::kv::{BatchOp, FlushWait, KeyRange, KeyValueStore, RowVisitor, StoreError, WriteBatch};

/// Clones are handles on one store, as several opens of one directory would be.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What undoes every write that is not durable yet, oldest first.
    undo: VecDeque<Undo>,
    /// Undo records that were dropped because their writes became durable.
    durable: u64,
}

#[derive(Debug)]
struct Undo {
    key: Vec<u8>,
    before: Option<Vec<u8>>,
}

impl Inner {
    fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        let before = match value {
            Some(value) => self.rows.insert(key.to_vec(), value.to_vec()),
            None => self.rows.remove(key),
        };
        self.undo.push_back(Undo {
            key: key.to_vec(),
            before,
        });
    }

    /// Makes the first `writes` of all writes ever durable.
    fn make_durable(&mut self, writes: u64) {
        let done = writes
            .saturating_sub(self.durable)
            .min(self.undo.len() as u64);
        self.undo.drain(..done as usize);
        self.durable += done;
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes back everything that no waited-for flush made durable.
    pub fn crash(&self) {
        let mut inner = self.inner.lock();
        while let Some(Undo { key, before }) = inner.undo.pop_back() {
            match before {
                Some(value) => inner.rows.insert(key, value),
                None => inner.rows.remove(&key),
            };
        }
    }

    /// Every row there is, for comparisons.
    pub fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.inner.lock().rows.clone()
    }
}

impl KeyValueStore for MemoryStore {
    fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        let inner = self.inner.lock();
        let value = inner.rows.get(key);
        if let Some(value) = value {
            read(value);
        }
        Ok(value.is_some())
    }

    fn scan(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        if range.to.as_ref().is_some_and(|to| *to <= range.from) {
            return Ok(());
        }
        let from = Bound::Included(range.from.as_slice());
        let to = range
            .to
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self.inner.lock().rows.range::<[u8], _>((from, to)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        for op in batch.ops() {
            match op {
                BatchOp::Put { key, value } => inner.set(key, Some(value)),
                BatchOp::Delete { key } => inner.set(key, None),
            }
        }
        Ok(())
    }

    fn start_flush(&mut self) -> Result<FlushWait, StoreError> {
        let inner = self.inner.clone();
        let frozen = {
            let inner = inner.lock();
            inner.durable + inner.undo.len() as u64
        };
        Ok(Box::new(move || {
            inner.lock().make_durable(frozen);
            Ok(())
        }))
    }
}
