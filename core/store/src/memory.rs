//! A store in memory, for tests and simulation, with the faults of a disk: it crashes, is full,
//! refuses to flush, and loses single rows. Same calls, same seeds, same outcome.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    BatchOp, FlushWait, KeyRange, KeyValueStore, RowReader, RowVisitor, StoreError, StoreErrorKind,
    WriteBatch,
};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Clones are handles on one store, as several opens of one directory would be.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

/// Rows as they were at one moment. The first write after it copies them all.
#[derive(Clone, Debug, Default)]
pub struct MemoryFrozen {
    rows: Arc<Rows>,
    /// Keys whose rows cannot be read.
    damaged: Arc<BTreeSet<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct Inner {
    now: MemoryFrozen,
    /// Of all rows, keys and values.
    bytes: u64,
    /// What undoes every write that is not durable yet, oldest first.
    undo: VecDeque<Undo>,
    /// Of `undo`.
    dirty_bytes: usize,
    /// Writes that became durable, ever. Invariant: `durable + undo.len()` is the number of writes
    /// that were not lost.
    durable: u64,
    /// How many writes each flush froze that was started and is not known to be durable.
    started: BTreeSet<u64>,
    /// Crashes so far. What was started before the last one has died with it.
    crashes: u64,
    capacity: Option<u64>,
    flush_error: Option<StoreError>,
}

#[derive(Debug)]
struct Undo {
    key: Vec<u8>,
    before: Option<Vec<u8>>,
    /// Of the key and of what was written.
    bytes: usize,
}

impl Inner {
    fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        let before = self.replace(key, value.map(<[u8]>::to_vec));
        let bytes = key.len() + value.map_or(0, <[u8]>::len);
        self.dirty_bytes += bytes;
        self.undo.push_back(Undo {
            key: key.to_vec(),
            before,
            bytes,
        });
    }

    fn replace(&mut self, key: &[u8], value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        if self.now.damaged.contains(key) {
            Arc::make_mut(&mut self.now.damaged).remove(key);
        }
        let bytes = |value: &Vec<u8>| (key.len() + value.len()) as u64;
        self.bytes += value.as_ref().map_or(0, bytes);
        let rows = Arc::make_mut(&mut self.now.rows);
        let before = match value {
            Some(value) => rows.insert(key.to_vec(), value),
            None => rows.remove(key),
        };
        self.bytes -= before.as_ref().map_or(0, bytes);
        before
    }

    /// What all flushes would freeze that start now.
    fn written(&self) -> u64 {
        self.durable + self.undo.len() as u64
    }

    /// Makes the first `writes` of all writes ever durable.
    fn make_durable(&mut self, writes: u64) {
        let done = writes.saturating_sub(self.durable);
        let bytes = self.undo.drain(..done as usize).map(|undo| undo.bytes);
        self.dirty_bytes -= bytes.sum::<usize>();
        self.durable += done;
        self.started.retain(|&started| started > self.durable);
    }

    /// Takes back all but the first `writes`.
    fn crash_to(&mut self, writes: u64) {
        while self.written() > writes
            && let Some(Undo { key, before, bytes }) = self.undo.pop_back()
        {
            self.dirty_bytes -= bytes;
            self.replace(&key, before);
        }
        self.make_durable(writes);
        self.started.clear();
        self.crashes += 1;
    }

    fn check_flush(&self, crashes: u64, bytes: u64) -> Result<(), StoreError> {
        if self.crashes > crashes {
            return Err(StoreError::new("flushing", "the store has crashed since"));
        }
        if let Some(error) = &self.flush_error {
            return Err(error.clone());
        }
        match self.capacity {
            Some(capacity) if bytes > capacity => Err(StoreError::of(
                StoreErrorKind::NoSpace,
                "flushing",
                format!("{bytes} bytes do not fit into {capacity}"),
            )),
            _ => Ok(()),
        }
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes back everything that no waited-for flush made durable.
    pub fn crash(&self) {
        let mut inner = self.inner.lock();
        let durable = inner.durable;
        inner.crash_to(durable);
    }

    /// A crash amid the flushes that were started and not waited for: the seed picks which of them
    /// had become durable, if any.
    pub fn crash_amid_flushes(&self, seed: u64) {
        let mut inner = self.inner.lock();
        let durable = inner.durable;
        let outcomes: Vec<u64> = std::iter::once(durable)
            .chain(inner.started.iter().copied())
            .collect();
        inner.crash_to(outcomes[(seed % outcomes.len() as u64) as usize]);
    }

    /// Flushes fail for want of space while the keys and values that they freeze are more bytes than
    /// this; `None`: never.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.inner.lock().capacity = bytes;
    }

    /// Every flush that is waited for fails like this; `None`: ends it.
    pub fn fail_flushes(&self, error: Option<StoreError>) {
        self.inner.lock().flush_error = error;
    }

    /// Makes the row of this key unreadable until it is written again.
    pub fn damage(&self, key: &[u8]) {
        Arc::make_mut(&mut self.inner.lock().now.damaged).insert(key.to_vec());
    }

    /// Every row there is, for comparisons.
    pub fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        Rows::clone(&self.now().rows)
    }

    fn now(&self) -> MemoryFrozen {
        self.inner.lock().now.clone()
    }
}

impl MemoryFrozen {
    fn check(&self, key: &[u8]) -> Result<(), StoreError> {
        if !self.damaged.contains(key) {
            return Ok(());
        }
        let reason = format!("the row of key {key:02x?} is damaged");
        Err(StoreError::of(StoreErrorKind::Damaged, "reading", reason))
    }

    fn visit<'a>(
        &self,
        rows: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
        visit: RowVisitor<'_>,
    ) -> Result<(), StoreError> {
        for (key, value) in rows {
            self.check(key)?;
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl RowReader for MemoryFrozen {
    fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        let value = self.rows.get(key);
        if let Some(value) = value {
            self.check(key)?;
            read(value);
        }
        Ok(value.is_some())
    }

    fn scan(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        self.visit(self.rows.range::<[u8], _>(range.bounds()), visit)
    }

    fn scan_back(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        self.visit(self.rows.range::<[u8], _>(range.bounds()).rev(), visit)
    }
}

impl RowReader for MemoryStore {
    fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        self.now().get(key, read)
    }

    fn scan(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        self.now().scan(range, visit)
    }

    fn scan_back(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        self.now().scan_back(range, visit)
    }
}

impl KeyValueStore for MemoryStore {
    type Frozen = MemoryFrozen;

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

    fn freeze(&mut self) -> Result<MemoryFrozen, StoreError> {
        Ok(self.now())
    }

    fn start_flush(&mut self) -> Result<FlushWait, StoreError> {
        let (writes, bytes, crashes) = {
            let mut inner = self.inner.lock();
            let writes = inner.written();
            inner.started.insert(writes);
            (writes, inner.bytes, inner.crashes)
        };
        let inner = Arc::clone(&self.inner);
        Ok(Box::new(move || {
            let mut inner = inner.lock();
            inner.check_flush(crashes, bytes)?;
            inner.make_durable(writes);
            Ok(())
        }))
    }

    fn dirty_bytes(&self) -> usize {
        self.inner.lock().dirty_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::get_vec;

    fn put(store: &mut MemoryStore, value: &[u8]) {
        let mut batch = WriteBatch::default();
        batch.put(b"key", value);
        store.write(&batch).expect("write");
    }

    #[test]
    fn a_crash_amid_flushes_ends_at_one_of_them() {
        let mut ends = BTreeSet::new();
        for seed in 0..20 {
            let mut store = MemoryStore::new();
            put(&mut store, b"waited for");
            store.flush().expect("flush");
            put(&mut store, b"started");
            let first = store.start_flush().expect("start");
            put(&mut store, b"started too");
            drop(store.start_flush().expect("start"));
            put(&mut store, b"lost");
            store.crash_amid_flushes(seed);
            ends.insert(get_vec(&store, b"key").expect("get").expect("a value"));
            assert!(first().is_err(), "it died in the crash");
        }
        let expected = [&b"started"[..], b"started too", b"waited for"];
        assert_eq!(ends, expected.map(<[u8]>::to_vec).into());
    }

    #[test]
    fn a_full_store_flushes_once_there_is_space() {
        let mut store = MemoryStore::new();
        put(&mut store, b"123");
        store.set_capacity(Some(5));
        let error = store.flush().expect_err("full");
        assert_eq!(error.kind, StoreErrorKind::NoSpace);
        put(&mut store, b"12");
        store.flush().expect("it fits");
        store.crash();
        assert_eq!(store.rows().len(), 1);
    }

    #[test]
    fn a_failed_flush_leaves_its_rows_to_the_next() {
        let mut store = MemoryStore::new();
        put(&mut store, b"1");
        let error = StoreError::new("flushing", "injected");
        store.fail_flushes(Some(error.clone()));
        assert_eq!(store.flush(), Err(error));
        assert!(store.dirty_bytes() > 0);
        store.fail_flushes(None);
        store.flush().expect("flush");
        store.crash();
        assert_eq!((store.rows().len(), store.dirty_bytes()), (1, 0));
    }

    #[test]
    fn a_damaged_row_fails_its_own_reads_until_it_is_written() {
        let mut store = MemoryStore::new();
        put(&mut store, b"1");
        store.damage(b"key");
        let error = get_vec(&store, b"key").expect_err("damaged");
        assert_eq!(error.kind, StoreErrorKind::Damaged);
        let go_on = &mut |_: &[u8], _: &[u8]| std::ops::ControlFlow::Continue(());
        assert_eq!(store.scan(&KeyRange::all(), go_on), Err(error.clone()));
        assert_eq!(store.scan_back(&KeyRange::all(), go_on), Err(error));
        assert_eq!(get_vec(&store, b"other"), Ok(None));
        put(&mut store, b"2");
        assert_eq!(get_vec(&store, b"key"), Ok(Some(b"2".to_vec())));
    }
}
