//! Files of a line or two, with their name and version in the first. Like everything in a data folder
//! they are for their owner only: the log holds the secret of the sessions' passwords.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::folder::FolderError;

/// Of TERM.
pub(crate) const VERSION: u32 = 1;

pub(crate) fn read(path: &Path) -> Result<Option<String>, FolderError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

pub(crate) fn replace(path: &Path, text: &str) -> Result<(), FolderError> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = own_file().create(true).truncate(true).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(io_error("write", path))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Options of a file that only its owner may read.
pub(crate) fn own_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Makes a folder that only its owner may look into, and those above it.
pub(crate) fn make_own_dir(path: &Path) -> Result<(), FolderError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io_error("create", path))
}

pub(crate) fn sync_dir(path: &Path) -> Result<(), FolderError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("sync", path))
}

pub(crate) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> FolderError + use<> {
    let path = path.display().to_string();
    move |source| FolderError::Io {
        action,
        path,
        source,
    }
}

pub(crate) fn malformed(path: &Path, reason: &'static str) -> FolderError {
    FolderError::Malformed {
        path: path.display().to_string(),
        reason,
    }
}

/// The text after the line `header version`.
pub(crate) fn body<'a>(file: &Path, text: &'a str, header: &str) -> Result<&'a str, FolderError> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let version = first
        .strip_prefix(header)
        .and_then(|version| version.trim_start().parse().ok())
        .ok_or_else(|| malformed(file, "it does not begin with its name and version"))?;
    if version == VERSION {
        return Ok(rest);
    }
    Err(FolderError::UnknownVersion {
        path: file.display().to_string(),
        version,
    })
}
