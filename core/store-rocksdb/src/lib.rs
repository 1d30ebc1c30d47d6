//! The store of a shard in RocksDB.
//!
//! One database per shard, with one column family: the prefix bytes of the keys separate the kinds
//! of rows, and one memtable makes a flush atomic by itself. RocksDB's own log is off. It must
//! never make a write durable unasked: the shard's state is only good at its checkpoints (see
//! [`KeyValueStore::start_flush`]). This crate knows rows only as bytes.
//!
//! Entry types: [`RocksStore`], [`RocksOptions`].

mod tuning;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_store::{
    BatchOp, FlushWait, KeyRange, KeyValueStore, RowVisitor, StoreError, WriteBatch,
};
use rocksdb::{
    DB, DBPinnableSlice, FlushOptions, ReadOptions, WriteBatch as RocksBatch, WriteOptions,
    properties,
};

pub use tuning::{BlockCache, RocksOptions};

/// How often a waiting flush looks whether it is done.
const FLUSH_POLL: Duration = Duration::from_millis(1);

/// A shard's database.
pub struct RocksStore {
    db: Arc<DB>,
    write_options: WriteOptions,
}

impl RocksStore {
    /// Opens or creates the database in `directory`.
    pub fn open(directory: &Path, options: &RocksOptions) -> Result<Self, StoreError> {
        let failed = |error| StoreError::new("opening the database", error);
        let db = DB::open(&tuning::options(options).map_err(failed)?, directory).map_err(failed)?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        Ok(Self {
            db: Arc::new(db),
            write_options,
        })
    }

    /// Bytes of all live table files.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.property(properties::LIVE_SST_FILES_SIZE.as_str())
    }

    /// Memory of the unflushed writes.
    pub fn memtable_bytes(&self) -> Result<u64, StoreError> {
        self.property(properties::CUR_SIZE_ALL_MEM_TABLES.as_str())
    }

    /// Memory of table readers outside the block cache.
    pub fn table_reader_bytes(&self) -> Result<u64, StoreError> {
        self.property(properties::ESTIMATE_TABLE_READERS_MEM.as_str())
    }

    /// RocksDB's own account of its levels, for people.
    pub fn levels(&self) -> Result<String, StoreError> {
        let levels = self.db.property_value(properties::LEVELSTATS);
        let levels = levels.map_err(|error| StoreError::new("reading a property", error))?;
        Ok(levels.unwrap_or_default())
    }

    fn property(&self, name: &str) -> Result<u64, StoreError> {
        property(&self.db, name)
    }
}

fn property(db: &DB, name: &str) -> Result<u64, StoreError> {
    let value = db.property_int_value(name);
    let value = value.map_err(|error| StoreError::new("reading a property", error))?;
    value.ok_or_else(|| StoreError::new("reading a property", name))
}

impl KeyValueStore for RocksStore {
    fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        let value: Option<DBPinnableSlice<'_>> = self
            .db
            .get_pinned(key)
            .map_err(|error| StoreError::new("reading a row", error))?;
        if let Some(value) = &value {
            read(value);
        }
        Ok(value.is_some())
    }

    fn scan(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError> {
        if range.to.as_ref().is_some_and(|to| *to <= range.from) {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        if let Some(to) = &range.to {
            options.set_iterate_upper_bound(to.clone());
        }
        let mut rows = self.db.raw_iterator_opt(options);
        rows.seek(&range.from);
        while let Some((key, value)) = rows.item() {
            if visit(key, value).is_break() {
                break;
            }
            rows.next();
        }
        rows.status()
            .map_err(|error| StoreError::new("scanning rows", error))
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        let mut rows = RocksBatch::with_capacity_bytes(batch.as_bytes().len());
        for op in batch.ops() {
            match op {
                BatchOp::Put { key, value } => rows.put(key, value),
                BatchOp::Delete { key } => rows.delete(key),
            }
        }
        self.db
            .write_opt(rows, &self.write_options)
            .map_err(|error| StoreError::new("writing a batch", error))
    }

    /// The memtable is switched before this returns, so later writes are not part of the flush.
    fn start_flush(&mut self) -> Result<FlushWait, StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.db
            .flush_opt(&options)
            .map_err(|error| StoreError::new("starting a flush", error))?;
        let db = self.db.clone();
        Ok(Box::new(move || wait_for_flush(&db)))
    }
}

/// RocksDB has no way to wait for a flush that was started; so this looks until no memtable is
/// left to be flushed.
fn wait_for_flush(db: &DB) -> Result<(), StoreError> {
    loop {
        let errors = property(db, properties::BACKGROUND_ERRORS.as_str())?;
        if errors > 0 {
            return Err(StoreError::new(
                "flushing",
                format!("{errors} background errors"),
            ));
        }
        if property(db, properties::NUM_IMMUTABLE_MEM_TABLE.as_str())? == 0 {
            return Ok(());
        }
        std::thread::sleep(FLUSH_POLL);
    }
}
