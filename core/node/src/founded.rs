//! A shard's FOUNDED file: the shard has had its first records, so that an empty log and store beside
//! it are not a new shard but a lost one.

use std::path::{Path, PathBuf};

use oxkeeper_model::ShardUuid;

use crate::folder::FolderError;
use crate::small_file::{VERSION, read, replace};

const HEADER: &str = "oxkeeper-shard";

/// See the module.
#[derive(Debug)]
pub struct FoundedFile {
    path: PathBuf,
    uuid: ShardUuid,
}

impl FoundedFile {
    pub fn new(shard_folder: &Path, uuid: ShardUuid) -> Self {
        Self {
            path: shard_folder.join("FOUNDED"),
            uuid,
        }
    }

    pub(crate) fn is_there(&self) -> Result<bool, FolderError> {
        Ok(read(&self.path)?.is_some())
    }

    pub(crate) fn write(&self) -> Result<(), FolderError> {
        let text = format!("{HEADER} {VERSION}\nuuid {}\n", self.uuid);
        replace(&self.path, &text)
    }
}
