//! The data folder: who owns it, which format it has, and each shard's term.
//!
//! ```text
//! LOCK           held by the process that uses the folder
//! FORMAT         "oxkeeper-data 1\nshards 4\n"
//! shard-0/TERM   "oxkeeper-term 1\n17\n"
//! shard-0/log/   the log
//! shard-0/store/ the store
//! ```
//!
//! Files are replaced by writing another one, syncing it, and renaming: see `small_file.rs`.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use oxkeeper_model::ShardId;
use thiserror::Error;

use crate::small_file::{
    body, io_error, make_own_dir, malformed, own_file, read, replace, sync_dir,
};

const DATA_HEADER: &str = "oxkeeper-data";
/// Of FORMAT and TERM.
pub(crate) const VERSION: u32 = 1;

/// Why a data folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("the data folder {0} is in use by another process")]
    InUse(String),
    #[error(
        "{0} holds files but no FORMAT file: it is not a data folder of this program; \
         choose another folder, or an empty one"
    )]
    Foreign(String),
    #[error("{path} is not readable: {reason}")]
    Malformed { path: String, reason: &'static str },
    #[error("{path} has format version {version}; this program knows version {VERSION}")]
    UnknownVersion { path: String, version: u32 },
    #[error(
        "the data folder {path} has {found} shards and cannot be opened with {asked}; \
         the number of shards is fixed when the folder is made"
    )]
    OtherShards {
        path: String,
        found: u32,
        asked: u32,
    },
}

/// A data folder that this process owns until it is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if there is none, and refuses one that was made for another number of shards.
    pub fn open(path: &Path, shards: u32) -> Result<Self, FolderError> {
        make_own_dir(path)?;
        let lock = lock(path)?;
        let format = path.join("FORMAT");
        match read(&format)? {
            Some(text) => check_format(path, &format, &text, shards)?,
            None => {
                check_unused(path)?;
                let text = format!("{DATA_HEADER} {VERSION}\nshards {shards}\n");
                replace(&format, &text)?;
            }
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where a shard's files are; made if missing.
    pub fn shard(&self, shard: ShardId) -> Result<PathBuf, FolderError> {
        let path = self.path.join(format!("shard-{shard}"));
        if !path.is_dir() {
            make_own_dir(&path)?;
            sync_dir(&self.path)?;
        }
        Ok(path)
    }
}

fn lock(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join("LOCK");
    let file = own_file()
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FolderError::InUse(folder.display().to_string())),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
    }
}

/// A folder without a FORMAT must be empty, but for what a first start leaves that was cut short.
fn check_unused(folder: &Path) -> Result<(), FolderError> {
    let entries = fs::read_dir(folder).map_err(io_error("list", folder))?;
    for entry in entries {
        let name = entry.map_err(io_error("list", folder))?.file_name();
        let known = name == "LOCK" || name == "FORMAT.new" || name == "lost+found";
        if !known {
            return Err(FolderError::Foreign(folder.display().to_string()));
        }
    }
    Ok(())
}

fn check_format(folder: &Path, file: &Path, text: &str, asked: u32) -> Result<(), FolderError> {
    let found = body(file, text, DATA_HEADER)?
        .strip_prefix("shards ")
        .and_then(|count| count.trim_end().parse().ok())
        .ok_or_else(|| malformed(file, "no number of shards"))?;
    if found == asked {
        return Ok(());
    }
    Err(FolderError::OtherShards {
        path: folder.display().to_string(),
        found,
        asked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, shards: u32) -> String {
        DataFolder::open(path, shards)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), 1).unwrap();
        assert!(refusal(dir.path(), 1).contains("in use by another process"));
        drop(folder);
        DataFolder::open(dir.path(), 1).unwrap();
    }

    #[test]
    fn the_number_of_shards_and_the_version_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataFolder::open(dir.path(), 2).unwrap());
        assert!(refusal(dir.path(), 3).contains("has 2 shards and cannot be opened with 3"));
        fs::write(dir.path().join("FORMAT"), "oxkeeper-data 2\nelse\n").unwrap();
        assert!(refusal(dir.path(), 2).contains("format version 2; this program knows version 1"));
        fs::write(dir.path().join("FORMAT"), "").unwrap();
        assert!(refusal(dir.path(), 2).contains("is not readable"));
    }

    #[test]
    fn only_the_owner_may_look_inside() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let folder = DataFolder::open(&path, 1).unwrap();
        let shard = folder.shard(ShardId(0)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&shard)), (0o700, 0o700));
        for file in ["LOCK", "FORMAT"] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        assert!(refusal(dir.path(), 1).contains("not a data folder"));
    }
}
