//! A shard's TERM file: the highest term that its replica has heard of.

use std::path::{Path, PathBuf};

use oxkeeper_model::Term;
use oxkeeper_shard::{TermError, TermStore};

use crate::folder::FolderError;
use crate::small_file::{VERSION, body, malformed, read, replace};

const HEADER: &str = "oxkeeper-term";

/// A shard's TERM file.
#[derive(Debug)]
pub struct TermFile {
    path: PathBuf,
}

impl TermFile {
    pub fn new(shard_folder: &Path) -> Self {
        Self {
            path: shard_folder.join("TERM"),
        }
    }

    fn read(&self) -> Result<Term, FolderError> {
        let Some(text) = read(&self.path)? else {
            return Ok(Term(0));
        };
        let term = body(&self.path, &text, HEADER)?.trim_end().parse();
        term.map(Term).map_err(|_| malformed(&self.path, "no term"))
    }
}

impl TermStore for TermFile {
    fn load(&self) -> Result<Term, TermError> {
        self.read().map_err(|error| TermError(error.to_string()))
    }

    fn save(&self, term: Term) -> Result<(), TermError> {
        replace(&self.path, &format!("{HEADER} {VERSION}\n{term}\n"))
            .map_err(|error| TermError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_outlives_its_store() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(TermFile::new(dir.path()).load().unwrap(), Term(0));
        TermFile::new(dir.path()).save(Term(7)).unwrap();
        TermFile::new(dir.path()).save(Term(18)).unwrap();
        assert_eq!(TermFile::new(dir.path()).load().unwrap(), Term(18));
        std::fs::write(dir.path().join("TERM"), "oxkeeper-term 1\nx\n").unwrap();
        assert!(TermFile::new(dir.path()).load().is_err());
    }
}
