//! A flush: frozen layers become tables, and those become part of the database, all at once.
//!
//! First all tables are written and synced outside the database, then RocksDB takes them with one
//! durable record of its manifest. Whatever fails or crashes before that record leaves the last
//! checkpoint, whatever comes after it has the new one. What a flush leaves outside the database
//! when it fails, or at the latest the next open, is removed.

use std::fs::{self, File};
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use oxkeeper_store::overlay::{Direction, Layers, NoRows, merge};
use oxkeeper_store::{KeyRange, StoreError, StoreErrorKind};
use rocksdb::{SstFileWriter, WriteBatch};
use rustix::fs::{Advice, fadvise};

use crate::error::{io_failed, write_failed};
use crate::limits::LOAD_STEP_BYTES;
use crate::long_keys::{group_of, is_long, table_key, table_value};
use crate::tables::{Tables, clear};

pub(crate) struct Flush {
    pub(crate) tables: Arc<Tables>,
    pub(crate) layers: Layers,
    /// Of the newest of the layers.
    pub(crate) generation: u64,
}

impl Flush {
    pub(crate) fn run(mut self) -> Result<(), StoreError> {
        let tables = Arc::clone(&self.tables);
        let mut flushed = tables.flushed.lock();
        // A later flush may have been faster.
        self.layers.retain(|layer| layer.generation() > *flushed);
        if self.layers.is_empty() {
            return Ok(());
        }
        let result = self.add_tables();
        if result.is_err() {
            // It is in the way of nothing; the next flush tries again.
            let _ = clear(&tables.incoming);
        }
        let files = result?;
        *flushed = self.generation;
        drop(flushed);
        files.iter().for_each(load);
        Ok(())
    }

    /// Returns the new tables' files.
    fn add_tables(&self) -> Result<Vec<File>, StoreError> {
        let paths = self.write_tables()?;
        let opened = paths.iter().map(File::open).collect::<Result<_, _>>();
        let files = opened.map_err(io_failed("opening a table"))?;
        match self.tables.ingest(paths) {
            Ok(()) => Ok(files),
            Err(error) if error.kind == StoreErrorKind::Damaged => {
                self.write_through()?;
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// RocksDB takes no table if it meets a damaged block while it looks where the table overlaps
    /// with others. So the rows go another way, that does not look: through the memtable, which holds
    /// all rows of a checkpoint or none, and a flush of it.
    fn write_through(&self) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        self.newest_rows(&mut |key, value| {
            match (value, is_long(key)) {
                (Some(value), true) => batch.put(table_key(key), table_value(key, value)),
                (Some(value), false) => batch.put(key, value),
                (None, true) => batch.delete(table_key(key)),
                (None, false) => batch.delete(key),
            }
            Ok(())
        })?;
        self.tables.write_through(batch)
    }

    /// Writes the newest rows of all layers, deletions too, and syncs them.
    fn write_tables(&self) -> Result<Vec<PathBuf>, StoreError> {
        let incoming = &self.tables.incoming;
        fs::create_dir_all(incoming).map_err(io_failed("writing a table"))?;
        let mut writer = TableWriter::new(&self.tables);
        self.newest_rows(&mut |key, value| writer.add(key, value))?;
        writer.finish()
    }

    fn newest_rows(
        &self,
        visit: &mut dyn FnMut(&[u8], Option<&[u8]>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let layers = self.layers.iter().map(Arc::as_ref);
        let range = KeyRange::all();
        merge(
            layers,
            &mut NoRows,
            &range,
            Direction::Forward,
            &mut |key, value| {
                visit(key, value)?;
                Ok(ControlFlow::Continue(()))
            },
        )
    }
}

/// Whoever writes tables for RocksDB drops them from the page cache; but new rows are those that
/// are read, and the next compaction reads them all.
fn load(file: &File) {
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    for at in (0..bytes).step_by(LOAD_STEP_BYTES as usize) {
        // Only advice: without it reads are slower.
        let _ = fadvise(file, at, NonZeroU64::new(LOAD_STEP_BYTES), Advice::WillNeed);
    }
}

/// Rows into as many tables as it takes.
struct TableWriter<'a> {
    tables: &'a Tables,
    /// The one that is being written, and its bytes so far.
    current: Option<(SstFileWriter<'a>, usize)>,
    files: Vec<PathBuf>,
    /// Rows with long keys, which stand in another order in a table.
    group: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl<'a> TableWriter<'a> {
    fn new(tables: &'a Tables) -> Self {
        Self {
            tables,
            current: None,
            files: Vec::new(),
            group: Vec::new(),
        }
    }

    fn add(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let is_of_group =
            |(first, _): &(Vec<u8>, _)| is_long(key) && group_of(first) == group_of(key);
        if !self.group.first().is_none_or(is_of_group) {
            self.end_group()?;
        }
        if !is_long(key) {
            return self.add_row(key, value);
        }
        let value = value.map(|value| table_value(key, value));
        self.group.push((table_key(key), value));
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), StoreError> {
        let mut group = std::mem::take(&mut self.group);
        group.sort_unstable();
        let mut rows = group.iter();
        rows.try_for_each(|(key, value)| self.add_row(key, value.as_deref()))
    }

    fn add_row(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        if self
            .current
            .as_ref()
            .is_some_and(|(_, bytes)| *bytes >= self.tables.table_bytes)
        {
            self.end_table()?;
        }
        let (writer, bytes) = match &mut self.current {
            Some(current) => current,
            none => none.insert((self.tables.new_table(&mut self.files)?, 0)),
        };
        *bytes += key.len() + value.map_or(0, <[u8]>::len);
        let added = match value {
            Some(value) => writer.put(key, value),
            None => writer.delete(key),
        };
        added.map_err(write_failed("writing a table"))
    }

    fn end_table(&mut self) -> Result<(), StoreError> {
        match self.current.take() {
            Some((mut writer, _)) => writer.finish().map_err(write_failed("writing a table")),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Vec<PathBuf>, StoreError> {
        self.end_group()?;
        self.end_table()?;
        Ok(self.files)
    }
}

impl Tables {
    fn new_table(&self, files: &mut Vec<PathBuf>) -> Result<SstFileWriter<'_>, StoreError> {
        let file = self.incoming.join(format!("{}.sst", files.len()));
        let writer = SstFileWriter::create(&self.options);
        writer
            .open(&file)
            .map_err(write_failed("writing a table"))?;
        files.push(file);
        Ok(writer)
    }
}

#[cfg(test)]
mod tests {
    use oxkeeper_store::contract;
    use oxkeeper_store::overlay::Overlay;
    use tempfile::TempDir;

    use super::*;
    use crate::{RocksOptions, RocksStore};

    /// A flush of rows that say `round`, in some twenty tables.
    fn flush(directory: &TempDir, round: u8) -> Flush {
        let options = RocksOptions {
            table_bytes: 100,
            ..RocksOptions::default()
        };
        let mut overlay = Overlay::new(0);
        let mut batch = oxkeeper_store::WriteBatch::default();
        (0..200u8).for_each(|row| batch.put(&[row], &[round; 10]));
        overlay.write(&batch);
        let (layers, generation) = overlay.freeze_to_flush();
        Flush {
            tables: Arc::new(Tables::open(directory.path(), &options).expect("open")),
            layers,
            generation,
        }
    }

    fn round_in(directory: &TempDir) -> u8 {
        let store = RocksStore::open(directory.path(), &RocksOptions::default()).expect("open");
        let rows = contract::rows(&store, &KeyRange::all());
        assert_eq!(rows.len(), 200);
        assert!(rows.iter().all(|(_, value)| *value == rows[0].1));
        assert!(
            !store.tables.incoming.exists(),
            "nothing unfinished is left"
        );
        rows[0].1[0]
    }

    #[test]
    fn each_step_leaves_one_of_the_checkpoints() {
        let directory = TempDir::new().expect("directory");
        flush(&directory, 1).run().expect("flush");
        assert_eq!(round_in(&directory), 1);

        let cut_short = flush(&directory, 2);
        fs::create_dir(&cut_short.tables.incoming).expect("folder");
        let mut writer = TableWriter::new(&cut_short.tables);
        writer.add(&[1], Some(&[2])).expect("add");
        drop(writer);
        drop(cut_short);
        assert_eq!(round_in(&directory), 1, "within a table");

        let tables = flush(&directory, 2).write_tables().expect("write");
        assert!(tables.len() > 10 && tables.iter().all(|table| table.exists()));
        assert_eq!(round_in(&directory), 1, "all tables written, none added");

        let files = flush(&directory, 2).add_tables().expect("add");
        drop(files);
        assert_eq!(round_in(&directory), 2, "added, and nobody told");
    }

    #[test]
    fn a_flush_that_was_overtaken_changes_nothing() {
        let directory = TempDir::new().expect("directory");
        let older = flush(&directory, 1);
        let tables = Arc::clone(&older.tables);
        *tables.flushed.lock() = 2;
        older.run().expect("nothing to do");
        assert_eq!(tables.get(&[1], &mut |_| {}), Ok(false));
    }
}
