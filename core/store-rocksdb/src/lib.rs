//! The store of a shard in RocksDB.
//!
//! Rows that are not durable yet are in memory, in an [`Overlay`]; a flush writes them as sorted
//! tables and adds these to the database at once. RocksDB's own log is never used, and its memtable
//! is empty (or, where damage keeps it from taking tables, holds whole checkpoints). So it has
//! nothing else that it could make durable by itself, neither at a close, nor for a copy, nor when
//! it recovers from a full disk: the shard's state is only good at its checkpoints (see
//! [`KeyValueStore::start_flush`]). This crate knows rows only as bytes.
//!
//! Entry types: [`RocksStore`], [`RocksFrozen`], [`RocksOptions`].

mod error;
mod flush;
mod limits;
mod long_keys;
mod tables;
mod tuning;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use oxkeeper_store::overlay::{self, Cursor, Direction, Found, Layer, Layers, Overlay};
use oxkeeper_store::{
    FlushWait, KeyRange, KeyValueStore, RowReader, RowVisitor, StoreError, WriteBatch,
};
use rocksdb::properties;

use crate::flush::Flush;
use crate::tables::{FrozenTables, Tables};
pub use tuning::{BlockCache, RocksOptions};

/// A shard's database.
pub struct RocksStore {
    overlay: Overlay,
    tables: Arc<Tables>,
}

impl RocksStore {
    /// Opens or creates the database in `directory`.
    pub fn open(directory: &Path, options: &RocksOptions) -> Result<Self, StoreError> {
        Ok(Self {
            tables: Arc::new(Tables::open(directory, options)?),
            overlay: Overlay::new(RandomState::new().hash_one(0)),
        })
    }

    /// Bytes of all live table files.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.tables
            .property(properties::LIVE_SST_FILES_SIZE.as_str())
    }

    /// Memory of table readers outside the block cache.
    pub fn table_reader_bytes(&self) -> Result<u64, StoreError> {
        self.tables
            .property(properties::ESTIMATE_TABLE_READERS_MEM.as_str())
    }

    /// RocksDB's own account of its levels, for people.
    pub fn levels(&self) -> Result<String, StoreError> {
        self.tables.property_text(properties::LEVELSTATS.as_str())
    }
}

impl RowReader for RocksStore {
    fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        match self.overlay.get(key) {
            Found::Nothing => return self.tables.get(key, read),
            Found::Deleted => return Ok(false),
            Found::Value(value) => read(value),
        }
        Ok(true)
    }

    fn scan(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        self.scan_to(Direction::Forward, range, visit)
    }

    fn scan_back(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        self.scan_to(Direction::Back, range, visit)
    }
}

impl RocksStore {
    fn scan_to(
        &self,
        direction: Direction,
        range: &KeyRange,
        visit: RowVisitor<'_>,
    ) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        let mut tables = self.tables.cursor(range, direction)?;
        scan(self.overlay.layers(), &mut tables, range, direction, visit)
    }
}

/// The rows that are there, of layers and the tables below them.
fn scan<'a>(
    layers: impl DoubleEndedIterator<Item = &'a Layer>,
    tables: &mut impl Cursor,
    range: &KeyRange,
    direction: Direction,
    visit: RowVisitor<'_>,
) -> Result<(), StoreError> {
    overlay::merge(layers, tables, range, direction, &mut |key, value| {
        Ok(match value {
            Some(value) => visit(key, value),
            None => std::ops::ControlFlow::Continue(()),
        })
    })
}

impl KeyValueStore for RocksStore {
    type Frozen = RocksFrozen;

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        self.release_flushed();
        self.overlay.write(batch);
        Ok(())
    }

    fn freeze(&mut self) -> Result<RocksFrozen, StoreError> {
        self.release_flushed();
        Ok(RocksFrozen {
            layers: self.overlay.freeze(),
            seed: self.overlay.seed(),
            tables: FrozenTables::new(Arc::clone(&self.tables)),
        })
    }

    fn start_flush(&mut self) -> Result<FlushWait, StoreError> {
        self.release_flushed();
        let (layers, generation) = self.overlay.freeze_to_flush();
        let flush = Flush {
            tables: Arc::clone(&self.tables),
            layers,
            generation,
        };
        Ok(Box::new(move || flush.run()))
    }

    fn release_flushed(&mut self) {
        // Locked while a flush is under way, which nobody waits for here.
        if let Some(flushed) = self.tables.flushed.try_lock() {
            self.overlay.forget(*flushed);
        }
    }

    fn dirty_bytes(&self) -> usize {
        let flushed = self.tables.flushed.try_lock().map_or(0, |flushed| *flushed);
        self.overlay.bytes_above(flushed)
    }
}

/// Every row of a store as it was at one moment.
pub struct RocksFrozen {
    layers: Layers,
    /// Of the hashes in the layers.
    seed: u64,
    tables: FrozenTables,
}

impl RocksFrozen {
    fn scan_to(
        &self,
        direction: Direction,
        range: &KeyRange,
        visit: RowVisitor<'_>,
    ) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        let mut tables = self.tables.cursor(range, direction)?;
        let layers = self.layers.iter().map(Arc::as_ref);
        scan(layers, &mut tables, range, direction, visit)
    }
}

impl RowReader for RocksFrozen {
    fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        match overlay::get(&self.layers, key, overlay::Hash::of(key, self.seed)) {
            Found::Nothing => return self.tables.get(key, read),
            Found::Deleted => return Ok(false),
            Found::Value(value) => read(value),
        }
        Ok(true)
    }

    fn scan(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        self.scan_to(Direction::Forward, range, visit)
    }

    fn scan_back(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        self.scan_to(Direction::Back, range, visit)
    }
}
