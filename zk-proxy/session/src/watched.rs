//! A connection's own list of what it watches, kept in step with the watch table.

use oxkeeper_model::Path;
use rustc_hash::FxHashMap;

use crate::connection::ConnectionId;
use crate::watch::{Kinds, WatchTable};

/// Invariant: holds exactly this connection's entries of the watch table.
#[derive(Default)]
pub(crate) struct Watched {
    kinds: FxHashMap<Path, Kinds>,
}

impl Watched {
    pub(crate) fn kinds(&self, path: &str) -> Kinds {
        self.kinds.get(path).copied().unwrap_or_default()
    }

    pub(crate) fn add(
        &mut self,
        table: &WatchTable,
        connection: ConnectionId,
        path: &str,
        kinds: Kinds,
    ) {
        let have = self.kinds(path);
        if kinds.without(have).is_none() {
            return;
        }
        let path = Path::from(path);
        table.add(&path, connection, kinds);
        self.kinds.insert(path, have.with(kinds));
    }

    pub(crate) fn remove(
        &mut self,
        table: &WatchTable,
        connection: ConnectionId,
        path: &str,
        kinds: Kinds,
    ) {
        table.remove(path, connection, kinds);
        self.forget(path, kinds);
    }

    /// The table has let go of these by itself: they fired.
    pub(crate) fn forget(&mut self, path: &str, kinds: Kinds) {
        let Some(have) = self.kinds.get_mut(path) else {
            return;
        };
        *have = have.without(kinds);
        if have.is_none() {
            self.kinds.remove(path);
        }
    }

    /// At the end of the connection.
    pub(crate) fn clear(&mut self, table: &WatchTable, connection: ConnectionId) {
        for path in std::mem::take(&mut self.kinds).into_keys() {
            table.remove(&path, connection, Kinds::ANY);
        }
    }

    /// As ZooKeeper counts them.
    pub(crate) fn count(&self) -> usize {
        self.kinds.values().map(|kinds| kinds.count()).sum()
    }
}
