//! The end of a large session, made ready while the session still lives.

use oxkeeper_model::{
    Acl, ChangeKind, ChangeSet, EndedParent, EndedRecord, Head, Path, SessionEnd, SessionId,
    parent_of,
};
use xxhash_rust::xxh3::xxh3_64;

/// What a session's end will take away: gathered in portions, and kept up to date by every change
/// since. In memory only; without one, all of it is gathered when the end is applied, with the
/// same result.
#[derive(Clone, Debug)]
pub(crate) struct Preparation {
    session: SessionId,
    end: SessionEnd,
    /// Lengths of all paths and values.
    data_bytes: u64,
    pub(crate) progress: Progress,
}

/// How far the session's rows have been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Nothing,
    UpTo(Path),
    All,
}

impl Preparation {
    pub(crate) fn new(session: SessionId) -> Self {
        Self {
            session,
            end: SessionEnd::default(),
            data_bytes: 0,
            progress: Progress::Nothing,
        }
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.progress == Progress::All
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.end.records.contains_key(path)
    }

    /// The access list of a record that will lose children.
    pub(crate) fn parent_acl(&self, path: &str) -> Option<Acl> {
        self.end.parents.get(path).map(|parent| parent.acl.clone())
    }

    /// Takes in a record of the session that is not in yet.
    pub(crate) fn add(&mut self, path: &Path, head: &Head, parent_acl: &Acl) {
        let Some(parent_path) = parent_of(path) else {
            return;
        };
        let value_bytes = head.value_bytes.unwrap_or(0);
        self.end.fingerprint = self.end.fingerprint.wrapping_add(xxh3_64(path.as_bytes()));
        self.data_bytes += path.len() as u64 + u64::from(value_bytes);
        if !self.end.parents.contains_key(parent_path) {
            let parent = EndedParent {
                acl: parent_acl.clone(),
                gone: 0,
                value_bytes: 0,
            };
            self.end.parents.insert(parent_path.into(), parent);
        }
        if let Some(parent) = self.end.parents.get_mut(parent_path) {
            parent.gone += 1;
            parent.value_bytes += u64::from(value_bytes);
        }
        let acl = head.acl.clone();
        let record = EndedRecord { acl, value_bytes };
        self.end.records.insert(path.clone(), record);
    }

    /// Follows a change of the tree. Records that were not looked at yet are found later.
    pub(crate) fn follow(&mut self, set: &ChangeSet) {
        for change in &set.changes {
            let (path, head) = (&change.path, &*change.head);
            let is_own = head.session == Some(self.session);
            match (change.kind, &change.parent_acl) {
                (ChangeKind::Created, Some(parent_acl)) if is_own => {
                    self.remove(path);
                    self.add(path, head, parent_acl);
                }
                (ChangeKind::Deleted, _) if is_own => self.remove(path),
                (_, _) if is_own => self.update(path, head),
                (ChangeKind::AclSet, _) => {
                    if let Some(parent) = self.end.parents.get_mut(&**path) {
                        parent.acl = head.acl.clone();
                    }
                }
                _ => {}
            }
        }
    }

    fn update(&mut self, path: &Path, head: &Head) {
        let parent = parent_of(path).and_then(|path| self.end.parents.get(path));
        if let Some(acl) = parent.map(|parent| parent.acl.clone())
            && self.has(path)
        {
            self.remove(path);
            self.add(path, head, &acl);
        }
    }

    fn remove(&mut self, path: &str) {
        let Some(record) = self.end.records.remove(path) else {
            return;
        };
        let value_bytes = u64::from(record.value_bytes);
        self.end.fingerprint = self.end.fingerprint.wrapping_sub(xxh3_64(path.as_bytes()));
        self.data_bytes -= path.len() as u64 + value_bytes;
        let Some(parent_path) = parent_of(path) else {
            return;
        };
        if let Some(parent) = self.end.parents.get_mut(parent_path) {
            parent.gone -= 1;
            parent.value_bytes -= value_bytes;
            if parent.gone == 0 {
                self.end.parents.remove(parent_path);
            }
        }
    }

    /// What the end takes away, and the lengths of all its paths and values.
    pub(crate) fn finish(self) -> (SessionEnd, u64) {
        (self.end, self.data_bytes)
    }
}
