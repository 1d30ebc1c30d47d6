//! The rows of the last checkpoint, in RocksDB's tables.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxkeeper_store::overlay::{Cursor, Direction};
use oxkeeper_store::{KeyRange, StoreError, StoreErrorKind};
use parking_lot::Mutex;
use rocksdb::{
    DB, DBRawIterator, IngestExternalFileOptions, Options, ReadOptions, Snapshot, WriteBatch,
    WriteOptions,
};
use self_cell::self_cell;

use crate::error::{io_failed, read_failed, write_failed};
use crate::long_keys::{self, Group, group_of, is_long};
use crate::tuning::{self, RocksOptions};

/// Where tables are written before RocksDB takes them.
const INCOMING: &str = "incoming";

pub(crate) struct Tables {
    db: DB,
    pub(crate) options: Options,
    read_options: ReadOptions,
    pub(crate) incoming: PathBuf,
    pub(crate) table_bytes: usize,
    /// Layers of the overlay up to this generation are in the tables. Held by the flush that is
    /// changing that.
    pub(crate) flushed: Mutex<u64>,
}

impl Tables {
    pub(crate) fn open(directory: &Path, options: &RocksOptions) -> Result<Self, StoreError> {
        let failed = write_failed("opening the database");
        let table_bytes = options.table_bytes;
        let options = tuning::options(options).map_err(&failed)?;
        let db = DB::open(&options, directory).map_err(&failed)?;
        check_files(&db, directory)?;
        let incoming = directory.join(INCOMING);
        clear(&incoming).map_err(io_failed("removing an unfinished checkpoint"))?;
        Ok(Self {
            db,
            options,
            read_options: ReadOptions::default(),
            incoming,
            table_bytes,
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

    /// Makes the rows durable without new tables.
    pub(crate) fn write_through(&self, rows: WriteBatch) -> Result<(), StoreError> {
        let failed = write_failed("writing through the memtable");
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(rows, &options).map_err(&failed)?;
        self.db.flush().map_err(&failed)
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

/// Whether all tables are there, and as long as they should be.
fn check_files(db: &DB, directory: &Path) -> Result<(), StoreError> {
    let files = db.live_files().map_err(read_failed("listing the tables"))?;
    for file in files {
        let path = directory.join(file.name.trim_start_matches('/'));
        let found = fs::metadata(&path).map(|metadata| metadata.len());
        let reason = match found {
            Ok(bytes) if bytes == file.size as u64 => continue,
            Ok(bytes) => format!(
                "{} has {bytes} bytes instead of {}",
                path.display(),
                file.size
            ),
            Err(error) => format!("{}: {error}", path.display()),
        };
        return Err(StoreError::of(
            StoreErrorKind::Damaged,
            "opening a table",
            reason,
        ));
    }
    Ok(())
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
    if is_long(key) {
        return get_long(db, options, key, read);
    }
    let value = db.get_pinned_opt(key, options);
    let value = value.map_err(read_failed("reading a row"))?;
    if let Some(value) = &value {
        read(value);
    }
    Ok(value.is_some())
}

fn get_long(
    db: &DB,
    options: &ReadOptions,
    key: &[u8],
    read: &mut dyn FnMut(&[u8]),
) -> Result<bool, StoreError> {
    let row = db.get_pinned_opt(long_keys::table_key(key), options);
    let Some(row) = row.map_err(read_failed("reading a row"))? else {
        return Ok(false);
    };
    read(long_keys::split(&row)?.1);
    Ok(true)
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
    range: KeyRange,
    /// Rows with long keys that come before that of `rows`.
    group: Group,
}

impl<'a> TableCursor<'a> {
    fn new(
        db: &'a DB,
        mut options: ReadOptions,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Self, StoreError> {
        let bounds = long_keys::table_range(range);
        options.set_iterate_lower_bound(bounds.from);
        if let Some(to) = bounds.to {
            options.set_iterate_upper_bound(to);
        }
        let mut rows = db.raw_iterator_opt(options);
        match direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Back => rows.seek_to_last(),
        }
        let mut cursor = Self {
            rows,
            direction,
            range: range.clone(),
            group: Group::new(direction),
        };
        cursor.settle()?;
        Ok(cursor)
    }

    /// Goes on until there is a row to show.
    fn settle(&mut self) -> Result<(), StoreError> {
        while self.group.is_empty()
            && let Some(key) = self.rows.key()
        {
            if is_long(key) {
                let group = group_of(key).to_vec();
                self.gather(&group, None)?;
            } else if self.range.contains(key) {
                return Ok(());
            } else {
                self.step_rows();
            }
        }
        self.checked()
    }

    fn step_rows(&mut self) {
        match self.direction {
            Direction::Forward => self.rows.next(),
            Direction::Back => self.rows.prev(),
        }
    }

    /// Reads all of the group on from here, and keeps its first rows behind `met`.
    fn gather(&mut self, group: &[u8], met: Option<&[u8]>) -> Result<(), StoreError> {
        self.group.is_cut = false;
        while let Some((table_key, row)) = self.rows.item()
            && is_long(table_key)
            && group_of(table_key) == group
        {
            let (rest, value) = long_keys::split(row)?;
            let key = [group, rest].concat();
            let is_new = met.is_none_or(|met| self.direction.is_before(met, &key));
            if is_new && self.range.contains(&key) {
                self.group.add(key, value);
            }
            self.step_rows();
        }
        self.checked()
    }

    /// Goes back to where the group begins, for what did not fit before.
    fn gather_again(&mut self, met: &[u8]) -> Result<(), StoreError> {
        let group = group_of(met).to_vec();
        match self.direction {
            // The shortest key beyond the group itself, and one beyond all hashes.
            Direction::Forward => self.rows.seek([&group[..], &[0]].concat()),
            Direction::Back => self
                .rows
                .seek_for_prev([&group[..], &[u8::MAX; 33]].concat()),
        }
        self.gather(&group, Some(met))
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
        let (key, value) = self.group.first().or_else(|| self.rows.item())?;
        Some((key, Some(value)))
    }

    fn step(&mut self) -> Result<(), StoreError> {
        match self.group.pop_first() {
            None => self.step_rows(),
            Some(met) if self.group.is_empty() && self.group.is_cut => self.gather_again(&met)?,
            Some(_) => {}
        }
        self.settle()
    }
}
