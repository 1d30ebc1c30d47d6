//! The watches that a client believes to have, which it sets again after a reconnect.

use std::collections::BTreeSet;

use crate::op::{Op, WatchLists};
use crate::reply::{Notification, Reply};

#[derive(Debug, Default)]
pub(super) struct Registry {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

impl Registry {
    pub(super) fn on_reply(&mut self, op: &Op, reply: &Reply) {
        let found = reply.err == 0;
        match op {
            Op::GetData { path, watch: true } if found => {
                self.data.insert(path.clone());
            }
            Op::Exists { path, watch: true } if found => {
                self.data.insert(path.clone());
            }
            Op::Exists { path, watch: true }
                if reply.err == oxkeeper_wire::ErrorCode::NO_NODE.0 =>
            {
                self.exist.insert(path.clone());
            }
            Op::GetChildren { path, watch: true } | Op::GetChildren2 { path, watch: true }
                if found =>
            {
                self.child.insert(path.clone());
            }
            Op::AddWatch { path, mode: 0 } if found => {
                self.persistent.insert(path.clone());
            }
            Op::AddWatch { path, .. } if found => {
                self.recursive.insert(path.clone());
            }
            Op::RemoveWatches { path, kind } if found => self.remove(path, *kind),
            _ => {}
        }
    }

    fn remove(&mut self, path: &str, kind: i32) {
        let any = kind == 3;
        if any || kind == 1 {
            self.child.remove(path);
        }
        if any || kind == 2 {
            self.data.remove(path);
            self.exist.remove(path);
        }
        if any || kind == 4 {
            self.persistent.remove(path);
        }
        if any || kind == 5 {
            self.recursive.remove(path);
        }
    }

    pub(super) fn on_event(&mut self, event: &Notification) {
        let path = event.path.as_str();
        let deleted = event.kind == 2;
        if event.kind != 4 {
            self.data.remove(path);
            self.exist.remove(path);
        }
        if event.kind == 4 || deleted {
            self.child.remove(path);
        }
    }

    pub(super) fn lists(&self, relative_zxid: i64) -> WatchLists {
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect();
        WatchLists {
            relative_zxid,
            data: list(&self.data),
            exist: list(&self.exist),
            child: list(&self.child),
            persistent: list(&self.persistent),
            recursive: list(&self.recursive),
        }
    }
}
