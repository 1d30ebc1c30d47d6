//! The watch table: which connection watches which path, and whom a change concerns.
//!
//! One-shot watches (data, child) are consumed by firing; persistent ones stay until removed. All
//! live on the connection: a client that reconnects registers again with setWatches.
//! (ZooKeeper Programmer's Guide, "ZooKeeper Watches".)

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use oxkeeper_model::{Path, parent_of};
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::connection::ConnectionId;

/// A set of watch kinds on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    pub const NONE: Self = Self(0);
    /// One-shot: set by getData and exists.
    pub const DATA: Self = Self(1);
    /// One-shot: set by getChildren.
    pub const CHILD: Self = Self(2);
    /// Stays; data and child events of the znode itself.
    pub const PERSISTENT: Self = Self(4);
    /// Stays; data events of the znode and everything below it.
    pub const RECURSIVE: Self = Self(8);
    /// With [`Self::DATA`]: set while there was no such znode, by exists.
    pub const ABSENT: Self = Self(16);
    pub const ANY: Self = Self(31);

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// As ZooKeeper counts them: a connection is in its list of those who watch a znode, in that of
    /// those who watch the znode's children, or in both.
    pub(crate) fn count(self) -> usize {
        let data = Self::DATA.with(Self::PERSISTENT).with(Self::RECURSIVE);
        let children = Self::CHILD.with(Self::PERSISTENT);
        usize::from(self.intersects(data)) + usize::from(self.intersects(children))
    }
}

/// What happened to a znode, as far as its own watches are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeEvent {
    Created,
    Deleted,
    DataChanged,
}

/// Whom an event goes to, and which of their one-shot watches it used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fired {
    pub(crate) connection: ConnectionId,
    pub(crate) consumed: Kinds,
}

#[derive(Default)]
pub(crate) struct WatchTable {
    by_path: DashMap<Path, FxHashMap<ConnectionId, Kinds>, FxBuildHasher>,
    /// Recursive watches there are: while none, nobody looks at a change's ancestors.
    recursive: AtomicUsize,
}

impl WatchTable {
    pub(crate) fn add(&self, path: &Path, connection: ConnectionId, kinds: Kinds) {
        let mut watchers = self.by_path.entry(path.clone()).or_default();
        let have = watchers.entry(connection).or_default();
        if kinds.without(*have).intersects(Kinds::RECURSIVE) {
            self.recursive.fetch_add(1, Ordering::Relaxed);
        }
        *have = have.with(kinds);
    }

    pub(crate) fn remove(&self, path: &str, connection: ConnectionId, kinds: Kinds) {
        let emptied = {
            let Some(mut watchers) = self.by_path.get_mut(path) else {
                return;
            };
            let Some(have) = watchers.get_mut(&connection) else {
                return;
            };
            if have.intersects(Kinds::RECURSIVE) && kinds.intersects(Kinds::RECURSIVE) {
                self.recursive.fetch_sub(1, Ordering::Relaxed);
            }
            *have = have.without(kinds);
            if have.is_none() {
                watchers.remove(&connection);
            }
            watchers.is_empty()
        };
        if emptied {
            self.by_path
                .remove_if(path, |_, watchers| watchers.is_empty());
        }
    }

    /// Who hears of an event of the znode at `path`: each connection once, however many of its
    /// watches match.
    pub(crate) fn fire_node(&self, path: &str, event: NodeEvent, fired: &mut Vec<Fired>) {
        let data = Kinds::DATA.with(Kinds::ABSENT);
        let one_shot = match event {
            NodeEvent::Deleted => data.with(Kinds::CHILD),
            NodeEvent::Created | NodeEvent::DataChanged => data,
        };
        let lasting = Kinds::PERSISTENT.with(Kinds::RECURSIVE);
        self.fire(path, one_shot, lasting, fired);
        if self.recursive.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut above = parent_of(path);
        while let Some(ancestor) = above {
            self.fire(ancestor, Kinds::NONE, Kinds::RECURSIVE, fired);
            above = parent_of(ancestor);
        }
    }

    /// Who hears that the children of the znode at `path` changed.
    pub(crate) fn fire_children(&self, path: &str, fired: &mut Vec<Fired>) {
        self.fire(path, Kinds::CHILD, Kinds::PERSISTENT, fired);
    }

    /// Fires those one-shot watches on `path` that `due` picks of each connection's.
    pub(crate) fn fire_due(
        &self,
        path: &str,
        due: impl Fn(Kinds) -> Kinds,
        fired: &mut Vec<Fired>,
    ) {
        if let Some(mut watchers) = self.by_path.get_mut(path) {
            watchers.retain(|&connection, have| {
                let consumed = due(*have);
                if !consumed.is_none() {
                    fired.push(Fired {
                        connection,
                        consumed,
                    });
                    *have = have.without(consumed);
                }
                !have.is_none()
            });
        }
        self.by_path
            .remove_if(path, |_, watchers| watchers.is_empty());
    }

    fn fire(&self, path: &str, one_shot: Kinds, lasting: Kinds, fired: &mut Vec<Fired>) {
        // A connection stands once in a path's watchers, so only earlier paths can repeat it.
        let earlier_paths = fired.len();
        let emptied = {
            let Some(mut watchers) = self.by_path.get_mut(path) else {
                return;
            };
            watchers.retain(|&connection, have| {
                if have.intersects(one_shot.with(lasting)) {
                    let consumed = Kinds(have.0 & one_shot.0);
                    let mut earlier = fired[..earlier_paths].iter_mut();
                    match earlier.find(|earlier| earlier.connection == connection) {
                        Some(earlier) => earlier.consumed = earlier.consumed.with(consumed),
                        None => fired.push(Fired {
                            connection,
                            consumed,
                        }),
                    }
                    *have = have.without(one_shot);
                }
                !have.is_none()
            });
            watchers.is_empty()
        };
        if emptied {
            self.by_path
                .remove_if(path, |_, watchers| watchers.is_empty());
        }
    }

    /// Every watch: path, connection, kinds. For the administrator.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Path, ConnectionId, Kinds)) {
        for entry in &self.by_path {
            for (&connection, &kinds) in entry.value() {
                visit(entry.key(), connection, kinds);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: ConnectionId = ConnectionId(1);
    const YOU: ConnectionId = ConnectionId(2);

    fn node_event(table: &WatchTable, path: &str, event: NodeEvent) -> Vec<u64> {
        let mut fired = Vec::new();
        table.fire_node(path, event, &mut fired);
        ids(&fired)
    }

    fn child_event(table: &WatchTable, path: &str) -> Vec<u64> {
        let mut fired = Vec::new();
        table.fire_children(path, &mut fired);
        ids(&fired)
    }

    fn ids(fired: &[Fired]) -> Vec<u64> {
        let mut ids: Vec<_> = fired.iter().map(|fired| fired.connection.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn one_shot_watches_fire_once() {
        let table = WatchTable::default();
        table.add(&"/a".into(), ME, Kinds::DATA);
        table.add(&"/a".into(), YOU, Kinds::DATA);
        assert_eq!(node_event(&table, "/a", NodeEvent::DataChanged), [1, 2]);
        assert_eq!(node_event(&table, "/a", NodeEvent::DataChanged), [0; 0]);
        assert!(table.by_path.is_empty());
    }

    #[test]
    fn a_child_watch_hears_of_children_and_of_its_own_deletion_only() {
        let table = WatchTable::default();
        table.add(&"/a".into(), ME, Kinds::CHILD);
        assert_eq!(node_event(&table, "/a", NodeEvent::DataChanged), [0; 0]);
        assert_eq!(child_event(&table, "/a"), [1]);
        table.add(&"/a".into(), ME, Kinds::CHILD);
        assert_eq!(node_event(&table, "/a", NodeEvent::Deleted), [1]);
    }

    #[test]
    fn deletion_uses_up_data_and_child_watch_with_one_event() {
        let table = WatchTable::default();
        table.add(&"/a".into(), ME, Kinds::DATA.with(Kinds::CHILD));
        let mut fired = Vec::new();
        table.fire_node("/a", NodeEvent::Deleted, &mut fired);
        let consumed = Kinds::DATA.with(Kinds::CHILD);
        assert_eq!(
            fired,
            [Fired {
                connection: ME,
                consumed
            }]
        );
    }

    #[test]
    fn persistent_watches_stay_and_see_children_but_not_deeper() {
        let table = WatchTable::default();
        table.add(&"/a".into(), ME, Kinds::PERSISTENT);
        for _ in 0..2 {
            assert_eq!(node_event(&table, "/a", NodeEvent::DataChanged), [1]);
            assert_eq!(child_event(&table, "/a"), [1]);
            assert_eq!(node_event(&table, "/a/b", NodeEvent::Created), [0; 0]);
        }
    }

    #[test]
    fn recursive_watches_see_every_descendant_but_no_child_events() {
        let table = WatchTable::default();
        table.add(&"/".into(), ME, Kinds::RECURSIVE);
        table.add(&"/a".into(), ME, Kinds::RECURSIVE);
        assert_eq!(node_event(&table, "/a/b/c", NodeEvent::Created), [1]);
        assert_eq!(node_event(&table, "/", NodeEvent::DataChanged), [1]);
        assert_eq!(child_event(&table, "/a"), [0; 0]);
        table.remove("/", ME, Kinds::ANY);
        assert_eq!(node_event(&table, "/x", NodeEvent::Created), [0; 0]);
        assert_eq!(node_event(&table, "/a/b", NodeEvent::Created), [1]);
        table.remove("/a", ME, Kinds::ANY);
        assert_eq!(table.recursive.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_watch_counts_once_for_the_znode_and_once_for_its_children() {
        let count = |kinds: &[Kinds]| {
            kinds
                .iter()
                .fold(Kinds::NONE, |all, &one| all.with(one))
                .count()
        };
        assert_eq!(count(&[]), 0);
        for one in [Kinds::DATA, Kinds::CHILD, Kinds::RECURSIVE] {
            assert_eq!(count(&[one]), 1);
        }
        for two in [
            &[Kinds::PERSISTENT][..],
            &[Kinds::DATA, Kinds::CHILD],
            &[Kinds::CHILD, Kinds::RECURSIVE],
            &[Kinds::ANY],
        ] {
            assert_eq!(count(two), 2, "{two:?}");
        }
    }

    #[test]
    fn kinds_on_one_path_are_independent() {
        let table = WatchTable::default();
        table.add(&"/a".into(), ME, Kinds::DATA);
        table.add(&"/a".into(), ME, Kinds::PERSISTENT);
        assert_eq!(node_event(&table, "/a", NodeEvent::DataChanged), [1]);
        table.remove("/a", ME, Kinds::DATA);
        assert_eq!(node_event(&table, "/a", NodeEvent::DataChanged), [1]);
        table.remove("/a", ME, Kinds::PERSISTENT);
        assert_eq!(node_event(&table, "/a", NodeEvent::DataChanged), [0; 0]);
    }
}
