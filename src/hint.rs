//! What to do about an error at start, where the error alone does not say it.

use std::io::ErrorKind;

use oxkeeper_node::{FolderError, NodeError};

/// Advice to print below the error.
pub(crate) fn of_node(error: &NodeError) -> Option<&'static str> {
    let NodeError::Folder(folder) = error else {
        return None;
    };
    match folder {
        FolderError::InUse(_) => {
            Some("another oxkeeper runs on it: stop that one, or give this one its own --data-dir")
        }
        FolderError::OtherShards { .. } => Some(
            "start with the number of shards that it was made for (--shards), or with a new --data-dir",
        ),
        FolderError::Io { source, .. } => of_io(source.kind()),
        FolderError::Foreign(_)
        | FolderError::Manifest { .. }
        | FolderError::OtherNode { .. }
        | FolderError::ShardMissing { .. }
        | FolderError::ShardCount(_)
        | FolderError::Random(_)
        | FolderError::Malformed { .. }
        | FolderError::UnknownVersion { .. } => None,
    }
}

fn of_io(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Some(
            "the data directory must be writable for this user: change its owner, or choose \
             another one (--data-dir)",
        ),
        ErrorKind::StorageFull => Some("the disk is full: make room, then start again"),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Some("the path of the data directory leads through a file: choose another (--data-dir)")
        }
        _ => None,
    }
}
