//! The rows of the last checkpoint, in RocksDB's tables.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxkeeper_store::overlay::{Cursor, Direction};
use oxkeeper_store::{KeyRange, StoreError};
use parking_lot::Mutex;
use rocksdb::{DB, DBRawIterator, IngestExternalFileOptions, Options, ReadOptions, Snapshot};
use self_cell::self_cell;

use crate::error::{io_failed, read_failed, write_failed};
use crate::tuning::{self, RocksOptions};

/// Where tables are written before RocksDB takes them.
const INCOMING: &str = "incoming";

pub(crate) struct Tables {
    db: DB,
    pub(crate) options: Options,
    read_options: ReadOptions,
    pub(crate) incoming: PathBuf,
    /// Layers of the overlay up to this generation are in the tables. Held by the flush that is
    /// changing that.
    pub(crate) flushed: Mutex<u64>,
}

impl Tables {
    pub(crate) fn open(directory: &Path, options: &RocksOptions) -> Result<Self, StoreError> {
        let failed = write_failed("opening the database");
        let options = tuning::options(options).map_err(&failed)?;
        let db = DB::open(&options, directory).map_err(&failed)?;
        let incoming = directory.join(INCOMING);
        clear(&incoming).map_err(io_failed("removing an unfinished checkpoint"))?;
        Ok(Self {
            db,
            options,
            read_options: ReadOptions::default(),
            incoming,
            flushed: Mutex::new(0),
        })
    }

    pub(crate) fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        get(&self.db, &self.read_options, key, read)
    }

    pub(crate) fn cursor(
        &self,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<TableCursor<'_>, StoreError> {
        TableCursor::new(&self.db, ReadOptions::default(), range, direction)
    }

    /// Makes all rows of the files part of the tables, at once and durably. The files are gone then.
    pub(crate) fn ingest(&self, files: Vec<PathBuf>) -> Result<(), StoreError> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        options.set_allow_blocking_flush(false);
        self.db
            .ingest_external_file_opts(&options, files)
            .map_err(write_failed("adding tables"))
    }

    pub(crate) fn property(&self, name: &str) -> Result<u64, StoreError> {
        let value = self.db.property_int_value(name);
        let value = value.map_err(read_failed("reading a property"))?;
        value.ok_or_else(|| StoreError::new("reading a property", name))
    }

    pub(crate) fn property_text(&self, name: &str) -> Result<String, StoreError> {
        let value = self.db.property_value(name);
        let value = value.map_err(read_failed("reading a property"))?;
        Ok(value.unwrap_or_default())
    }
}

/// Removes a folder and what is in it, if it is there.
pub(crate) fn clear(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != NotFound => Err(error),
        _ => Ok(()),
    }
}

fn get(
    db: &DB,
    options: &ReadOptions,
    key: &[u8],
    read: &mut dyn FnMut(&[u8]),
) -> Result<bool, StoreError> {
    let value = db.get_pinned_opt(key, options);
    let value = value.map_err(read_failed("reading a row"))?;
    if let Some(value) = &value {
        read(value);
    }
    Ok(value.is_some())
}

self_cell! {
    struct Pinned {
        owner: Arc<Tables>,
        #[covariant]
        dependent: Snapshot,
    }
}

/// The tables as they were at one moment.
pub(crate) struct FrozenTables(Pinned);

impl FrozenTables {
    pub(crate) fn new(tables: Arc<Tables>) -> Self {
        Self(Pinned::new(tables, |tables| tables.db.snapshot()))
    }

    pub(crate) fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        get(&self.0.borrow_owner().db, &self.read_options(), key, read)
    }

    pub(crate) fn cursor(
        &self,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<TableCursor<'_>, StoreError> {
        let db = &self.0.borrow_owner().db;
        TableCursor::new(db, self.read_options(), range, direction)
    }

    fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(self.0.borrow_dependent());
        options
    }
}

/// A place in the tables.
pub(crate) struct TableCursor<'a> {
    rows: DBRawIterator<'a>,
    direction: Direction,
}

impl<'a> TableCursor<'a> {
    fn new(
        db: &'a DB,
        mut options: ReadOptions,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Self, StoreError> {
        options.set_iterate_lower_bound(range.from.clone());
        if let Some(to) = &range.to {
            options.set_iterate_upper_bound(to.clone());
        }
        let mut rows = db.raw_iterator_opt(options);
        match direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Back => rows.seek_to_last(),
        }
        let cursor = Self { rows, direction };
        cursor.checked()?;
        Ok(cursor)
    }

    /// An iterator that has met damage looks like one that is at its end.
    fn checked(&self) -> Result<(), StoreError> {
        if self.rows.valid() {
            return Ok(());
        }
        self.rows.status().map_err(read_failed("scanning rows"))
    }
}

impl Cursor for TableCursor<'_> {
    fn row(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let (key, value) = self.rows.item()?;
        Some((key, Some(value)))
    }

    fn step(&mut self) -> Result<(), StoreError> {
        match self.direction {
            Direction::Forward => self.rows.next(),
            Direction::Back => self.rows.prev(),
        }
        self.checked()
    }
}
