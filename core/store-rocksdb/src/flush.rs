//! A flush: frozen layers become tables, and those become part of the database, all at once.
//!
//! First all tables are written and synced outside the database, then RocksDB takes them with one
//! durable record of its manifest. Whatever fails or crashes before that record leaves the last
//! checkpoint, whatever comes after it has the new one. What a flush leaves outside the database
//! when it fails, or at the latest the next open, is removed.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use oxkeeper_store::overlay::{Direction, Layers, NoRows, merge};
use oxkeeper_store::{KeyRange, StoreError};
use rocksdb::SstFileWriter;

use crate::error::{io_failed, write_failed};
use crate::tables::{Tables, clear};

/// Rows of a table, before compression. A checkpoint of usual size is one table.
const TABLE_BYTES: usize = 64 << 20;

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
        let files = self.write_tables();
        let result = files.and_then(|files| tables.ingest(files));
        if result.is_err() {
            // It is in the way of nothing; the next flush tries again.
            let _ = clear(&tables.incoming);
        }
        result?;
        *flushed = self.generation;
        Ok(())
    }

    /// Writes the newest rows of all layers, deletions too, and syncs them.
    fn write_tables(&self) -> Result<Vec<PathBuf>, StoreError> {
        let incoming = &self.tables.incoming;
        fs::create_dir_all(incoming).map_err(io_failed("writing a table"))?;
        let mut writer = TableWriter::new(&self.tables);
        let layers = self.layers.iter().map(Arc::as_ref);
        let range = KeyRange::all();
        merge(
            layers,
            &mut NoRows,
            &range,
            Direction::Forward,
            &mut |key, value| {
                writer.add(key, value)?;
                Ok(ControlFlow::Continue(()))
            },
        )?;
        writer.finish()
    }
}

/// Rows into as many tables as it takes.
struct TableWriter<'a> {
    tables: &'a Tables,
    /// The one that is being written, and its bytes so far.
    current: Option<(SstFileWriter<'a>, usize)>,
    files: Vec<PathBuf>,
}

impl<'a> TableWriter<'a> {
    fn new(tables: &'a Tables) -> Self {
        Self {
            tables,
            current: None,
            files: Vec::new(),
        }
    }

    fn add(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        if self
            .current
            .as_ref()
            .is_some_and(|(_, bytes)| *bytes >= TABLE_BYTES)
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
