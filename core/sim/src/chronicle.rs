//! What a shard's log has held, from its first entry: also what it has given up since.

use std::sync::Arc;

use oxkeeper_log::{MemoryDisk, Wal, WalOptions};
use oxkeeper_model::{Entry, Offset};
use parking_lot::Mutex;

/// The entries of a log in order of their offsets, from 1. Clones share them.
#[derive(Clone, Debug)]
pub struct Chronicle {
    entries: Arc<Mutex<Vec<Entry>>>,
    options: WalOptions,
}

impl Chronicle {
    pub fn new(options: WalOptions) -> Self {
        Self {
            entries: Arc::default(),
            options,
        }
    }

    /// Reads what the log on `disk` holds now: it is the truth from its first entry to its end. An
    /// error says why it cannot be read.
    pub fn absorb(&self, disk: &MemoryDisk) -> Result<(), String> {
        let wal = Wal::open(Arc::new(disk.copy()), self.options.clone());
        let (wal, _cut) = wal.map_err(|error| error.to_string())?;
        let Some(first) = wal.first() else {
            return Ok(());
        };
        let mut entries = self.entries.lock();
        let before = first.0 as usize - 1;
        if before > entries.len() {
            return Err(format!(
                "the log begins at {first}, and only {} entries were seen before",
                entries.len()
            ));
        }
        entries.truncate(before);
        let reader = wal.reader(Offset(first.0));
        let mut reader = reader.map_err(|error| error.to_string())?;
        while let Some(record) = reader.next().map_err(|error| error.to_string())? {
            let entry = oxkeeper_format::decode(&record.payload);
            entries.push(entry.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().clone()
    }
}
