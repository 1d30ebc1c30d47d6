//! The folder that a log lives in, as a trait, and the real one.
//!
//! The contract that the log relies on, and no more: what `sync_data` returned for is on disk;
//! names are on disk after `sync_dir`; anything else may or may not have happened
//! after a crash, in any order, down to single sectors.

use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::limits::{FILL_AT_ONCE_BYTES, FILL_BYTES};

/// Entries hold what clients store and the secrets that passwords are made of.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A folder of files.
pub trait Disk: Debug + Send + Sync + 'static {
    type File: DiskFile;

    /// Names of the files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file that nobody will write to through this handle.
    fn open_to_read(&self, name: &str) -> io::Result<Self::File>;
    /// Makes a new file of `bytes` bytes that reads as zeros, with its space reserved: writes inside it
    /// never fail for lack of space.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Self::File>;
    /// Replaces `to` if there is one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes every create, rename and remove so far durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// A number that clients cannot guess. It keeps payloads from passing for records.
    fn salt(&self) -> u64;
    /// What to call a file in messages.
    fn describe(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// An open file, usable by several threads, and also after it was renamed or removed.
#[allow(clippy::len_without_is_empty)]
pub trait DiskFile: Debug + Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    /// Reads up to `buffer.len()` bytes; 0 at the end of the file.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize>;
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable, and the length as far as it is needed to read the content.
    fn sync_data(&self) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
    /// Kept open to sync the folder.
    handle: File,
}

impl FileDisk {
    /// Makes the folder if there is none.
    pub fn new(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        if !dir.is_dir() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(FOLDER_MODE).create(&dir)?;
            if let Some(parent) = dir.parent().filter(|parent| parent.is_dir()) {
                File::open(parent)?.sync_all()?;
            }
        }
        Self::existing(dir)
    }

    /// Fails if there is no such folder.
    pub fn existing(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        let handle = File::open(&dir)?;
        if !handle.metadata()?.is_dir() {
            return Err(Error::from(ErrorKind::NotADirectory));
        }
        Ok(Self { dir, handle })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Disk for FileDisk {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.dir.join(name))
    }

    fn open_to_read(&self, name: &str) -> io::Result<File> {
        File::open(self.dir.join(name))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = options.mode(FILE_MODE).open(self.dir.join(name))?;
        reserve(&file, bytes)?;
        file.sync_all()?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn salt(&self) -> u64 {
        RandomState::new().hash_one(0u8)
    }

    fn describe(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

/// Reserves the space. Where the file system cannot, and where it costs little, the file is written with zeros.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    if !allocate(file, bytes)? || bytes <= FILL_AT_ONCE_BYTES {
        fill(file, bytes, |_| Ok(()))?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, bytes: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(true),
        Err(error) if error == rustix::io::Errno::OPNOTSUPP => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &File, _: u64) -> io::Result<bool> {
    Ok(false)
}

/// Writes zeros up to `bytes`, and calls `each` after every piece.
pub(crate) fn fill<F: DiskFile>(
    file: &F,
    bytes: u64,
    each: impl Fn(&F) -> io::Result<()>,
) -> io::Result<()> {
    let zeros = vec![0; bytes.min(FILL_BYTES as u64) as usize];
    let mut position = 0;
    while position < bytes {
        let piece = (bytes - position).min(zeros.len() as u64) as usize;
        file.write_at(position, &zeros[..piece])?;
        each(file)?;
        position += piece as u64;
    }
    Ok(())
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, buffer, position) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }
}
