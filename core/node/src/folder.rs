//! The data folder: who owns it, what the node is and which shards it holds.
//!
//! ```text
//! LOCK           held by the process that uses the folder
//! FORMAT         see `NodeManifest`
//! shard-0/TERM   "oxkeeper-term 1\n17\n"
//! shard-0/FOUNDED "oxkeeper-shard 1\nuuid ...\n"
//! shard-0/log/   the log
//! shard-0/store/ the store
//! ```
//!
//! Files are replaced by writing another one, syncing it, and renaming: see `small_file.rs`.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oxkeeper_model::limits::SHARD_ID_MAX;
use oxkeeper_model::placement::Shards;
use oxkeeper_model::{ClusterUuid, ManifestError, NodeId, NodeManifest, ShardId, ShardUuid};
use thiserror::Error;
use tracing::warn;

use crate::small_file::{VERSION, io_error, make_own_dir, own_file, read, replace, sync_dir};

/// The one namespace of a node that serves alone.
pub(crate) const NAMESPACE: &str = "default";

/// What others than the owner may do.
const OTHERS_MODE: u32 = 0o077;

const SHARD_PREFIX: &str = "shard-";

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
    #[error("{path} cannot be used: {source}")]
    Manifest { path: String, source: ManifestError },
    #[error(
        "the data folder {path} has {found} shards and cannot be opened with {asked}; \
         the number of shards is fixed when the folder is made"
    )]
    OtherShards {
        path: String,
        found: usize,
        asked: u32,
    },
    #[error("the data folder {path} belongs to node {found} and cannot be opened by node {asked}")]
    OtherNode {
        path: String,
        found: NodeId,
        asked: NodeId,
    },
    #[error(
        "{path} is missing, although FORMAT lists it: restore it from a backup or a peer; if its data \
         is to be given up, start with a new data folder"
    )]
    ShardMissing { path: String },
    #[error("a node needs 1 to {most} shards, and not {0}", most = SHARD_ID_MAX.0 + 1)]
    ShardCount(u32),
    #[error("no randomness from the system: {0}")]
    Random(String),
}

/// A data folder that this process owns until it is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    manifest: NodeManifest,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if there is none, and refuses one that was made for another number of shards
    /// or by another node.
    pub fn open(path: &Path, node: NodeId, shards: u32) -> Result<Self, FolderError> {
        make_own_dir(path)?;
        let lock = lock(path)?;
        let format = path.join("FORMAT");
        let manifest = match read(&format)? {
            Some(text) => text.parse().map_err(|source| FolderError::Manifest {
                path: format.display().to_string(),
                source,
            })?,
            None => {
                check_unused(path)?;
                let manifest = new_manifest(node, shards)?;
                make_shard_folders(path, &manifest)?;
                replace(&format, &manifest.to_string())?;
                manifest
            }
        };
        check_manifest(path, &manifest, node, shards)?;
        // Not before it is known to be a data folder, and so nobody else's.
        close_to_others(path)?;
        Ok(Self {
            path: path.to_owned(),
            manifest,
            _lock: lock,
        })
    }

    pub fn manifest(&self) -> &NodeManifest {
        &self.manifest
    }

    /// Where a shard's files are.
    pub fn shard(&self, shard: ShardId) -> Result<PathBuf, FolderError> {
        let path = shard_folder(&self.path, shard);
        if path.is_dir() {
            return Ok(path);
        }
        Err(FolderError::ShardMissing {
            path: path.display().to_string(),
        })
    }
}

fn shard_folder(folder: &Path, shard: ShardId) -> PathBuf {
    folder.join(format!("{SHARD_PREFIX}{shard}"))
}

/// Before FORMAT lists them, so that one that is missing later was lost.
fn make_shard_folders(folder: &Path, manifest: &NodeManifest) -> Result<(), FolderError> {
    for shard in &manifest.shards {
        make_own_dir(&shard_folder(folder, shard.id))?;
    }
    sync_dir(folder)
}

/// A data folder that was made open is closed to others, if this process may do that.
fn close_to_others(folder: &Path) -> Result<(), FolderError> {
    let found = fs::metadata(folder).map_err(io_error("look at", folder))?;
    let mode = found.permissions().mode();
    let closed = Permissions::from_mode(mode & !OTHERS_MODE);
    if mode & OTHERS_MODE != 0
        && let Err(problem) = fs::set_permissions(folder, closed)
    {
        warn!(folder = %folder.display(), %problem, "others may read the data, and it cannot be closed to them");
    }
    Ok(())
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
        let entry = entry.map_err(io_error("list", folder))?;
        let name = entry.file_name();
        let known = name == "LOCK" || name == "FORMAT.new" || name == "lost+found";
        if !known && !is_empty_shard(&entry.path()) {
            return Err(FolderError::Foreign(folder.display().to_string()));
        }
    }
    Ok(())
}

fn is_empty_shard(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let is_shard = name.is_some_and(|name| name.starts_with(SHARD_PREFIX));
    is_shard && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn new_manifest(node: NodeId, shards: u32) -> Result<NodeManifest, FolderError> {
    let uuids = (0..shards).map(|_| random().map(ShardUuid));
    let uuids = uuids.collect::<Result<Vec<_>, _>>()?;
    let shards = Shards::found(NAMESPACE, ShardId(0), &uuids)
        .map_err(|_| FolderError::ShardCount(shards))?;
    Ok(NodeManifest {
        cluster: ClusterUuid(random()?),
        node,
        shards: shards.iter().cloned().collect(),
    })
}

fn random() -> Result<[u8; 16], FolderError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| FolderError::Random(error.to_string()))?;
    Ok(bytes)
}

fn check_manifest(
    folder: &Path,
    manifest: &NodeManifest,
    node: NodeId,
    shards: u32,
) -> Result<(), FolderError> {
    let path = folder.display().to_string();
    if manifest.node != node {
        return Err(FolderError::OtherNode {
            path,
            found: manifest.node,
            asked: node,
        });
    }
    let found = manifest.shards.len();
    if u32::try_from(found) != Ok(shards) {
        return Err(FolderError::OtherShards {
            path,
            found,
            asked: shards,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, shards: u32) -> String {
        DataFolder::open(path, NodeId(1), shards)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), NodeId(1), 1).unwrap();
        assert!(refusal(dir.path(), 1).contains("in use by another process"));
        drop(folder);
        DataFolder::open(dir.path(), NodeId(1), 1).unwrap();
    }

    #[test]
    fn the_number_of_shards_and_the_version_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataFolder::open(dir.path(), NodeId(1), 2).unwrap());
        assert!(refusal(dir.path(), 3).contains("has 2 shards and cannot be opened with 3"));
        let other_node = DataFolder::open(dir.path(), NodeId(2), 2).expect_err("refused");
        assert!(
            other_node.to_string().contains("belongs to node 1"),
            "{other_node}"
        );
        for (format, expected) in [
            (
                "oxkeeper-data 1\nshards 2\n",
                "version 1, which only early builds",
            ),
            (
                "oxkeeper-data 3\n",
                "run the version that wrote it, or a later one",
            ),
            ("", "does not begin with its name"),
        ] {
            fs::write(dir.path().join("FORMAT"), format).unwrap();
            let refusal = refusal(dir.path(), 2);
            assert!(refusal.contains(expected), "{refusal}");
        }
    }

    #[test]
    fn a_new_folder_has_ids_of_its_own_which_stay() {
        let manifest = |dir: &tempfile::TempDir| {
            let folder = DataFolder::open(dir.path(), NodeId(1), 2).unwrap();
            folder.manifest().clone()
        };
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = manifest(&dir);
        assert_eq!(made, manifest(&dir));
        assert_ne!(made.shards[0].uuid, made.shards[1].uuid);
        assert_ne!(made.cluster, manifest(&other).cluster);
        assert!(refusal(&dir.path().join("none"), 0).contains("and not 0"));
    }

    #[test]
    fn only_the_owner_may_look_inside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        // Found open, as versions before made it.
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let folder = DataFolder::open(&path, NodeId(1), 1).unwrap();
        let shard = folder.shard(ShardId(0)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&shard)), (0o700, 0o700));
        for file in ["LOCK", "FORMAT"] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
    }

    #[test]
    fn a_shard_that_is_missing_is_refused_and_a_first_start_that_was_cut_short_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), NodeId(1), 2).unwrap();
        let lost = folder.shard(ShardId(1)).unwrap();
        fs::remove_dir(&lost).unwrap();
        let refusal = folder.shard(ShardId(1)).expect_err("refused").to_string();
        assert!(refusal.contains("shard-1 is missing"), "{refusal}");
        drop(folder);
        fs::remove_file(dir.path().join("FORMAT")).unwrap();
        let again = DataFolder::open(dir.path(), NodeId(1), 2).unwrap();
        assert!(again.shard(ShardId(1)).is_ok());
        drop(again);
        fs::remove_file(dir.path().join("FORMAT")).unwrap();
        fs::write(lost.join("TERM"), "").unwrap();
        let refused = DataFolder::open(dir.path(), NodeId(1), 2);
        assert!(refused.is_err(), "it holds something");
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(refusal(dir.path(), 1).contains("not a data folder"));
        let left = fs::metadata(dir.path()).unwrap().permissions().mode();
        assert_eq!(left & 0o777, 0o755);
    }
}
