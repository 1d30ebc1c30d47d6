//! The watches that a connection has at one moment, and what makes them fire.

use std::collections::BTreeSet;

use crate::history::Sent;
use crate::model::{Acl, Caller, Change, ChangeKind, Permission, Tree, parent_of};
use crate::op::{Op, WatchLists};
use crate::reply::Reply;
use oxkeeper_wire::{ErrorCode, EventType};

const CREATED: i32 = EventType::NodeCreated as i32;
const DELETED: i32 = EventType::NodeDeleted as i32;
const DATA_CHANGED: i32 = EventType::NodeDataChanged as i32;
const CHILDREN_CHANGED: i32 = EventType::NodeChildrenChanged as i32;

#[derive(Clone, Debug, Default)]
pub(super) struct Armed {
    data: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

impl Armed {
    /// The events of one change, in order: the znode's own, then its parent's.
    pub(super) fn fire(&mut self, change: &Change, caller: &Caller) -> Vec<(i32, String)> {
        let path = &*change.path;
        let kind = match change.kind {
            ChangeKind::Created => CREATED,
            ChangeKind::Deleted => DELETED,
            ChangeKind::DataSet => DATA_CHANGED,
        };
        let mut events = Vec::new();
        let mut tell = |kind, path: &str, acl: &Acl| {
            if caller.may(acl, Permission::Read) {
                events.push((kind, path.to_owned()));
            }
        };
        let data = self.data.remove(path);
        let child = kind == DELETED && self.child.remove(path);
        if data || child || self.persistent.contains(path) || self.is_below_recursive(path) {
            tell(kind, path, &change.acl);
        }
        if kind != DATA_CHANGED {
            let parent = parent_of(path);
            if self.child.remove(parent) || self.persistent.contains(parent) {
                tell(CHILDREN_CHANGED, parent, &change.parent_acl);
            }
        }
        events
    }

    fn is_below_recursive(&self, path: &str) -> bool {
        let mut at = path;
        loop {
            if self.recursive.contains(at) {
                return true;
            }
            if at == "/" {
                return false;
            }
            at = parent_of(at);
        }
    }

    /// What a reply says of watches; an error if it is not what must be said.
    pub(super) fn on_reply(&mut self, sent: &Sent, reply: &Reply) -> Result<(), String> {
        let found = reply.err == 0;
        match &sent.op {
            Op::GetData { path, watch: true } if found => {
                self.data.insert(path.clone());
            }
            Op::Exists { path, watch: true } if found || reply.err == ErrorCode::NO_NODE.0 => {
                self.data.insert(path.clone());
            }
            Op::GetChildren { path, watch: true } | Op::GetChildren2 { path, watch: true }
                if found =>
            {
                self.child.insert(path.clone());
            }
            Op::AddWatch { path, mode } => {
                let set = match mode {
                    0 => &mut self.persistent,
                    _ => &mut self.recursive,
                };
                set.insert(path.clone());
                return expect(sent, reply, 0);
            }
            Op::RemoveWatches { path, kind } => {
                let code = match self.remove(path, *kind) {
                    true => 0,
                    false => ErrorCode::NO_WATCHER.0,
                };
                return expect(sent, reply, code);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether there was one.
    fn remove(&mut self, path: &str, kind: i32) -> bool {
        let any = kind == 3;
        let mut found = false;
        for (of_kind, set) in [
            (1, &mut self.child),
            (2, &mut self.data),
            (4, &mut self.persistent),
            (5, &mut self.recursive),
        ] {
            found |= (any || kind == of_kind) && set.remove(path);
        }
        found
    }

    /// The events that setWatches brings at once; the other watches are armed.
    pub(super) fn set_again(&mut self, lists: &WatchLists, tree: &Tree) -> Vec<(i32, String)> {
        let mut events = Vec::new();
        let mut event_or_watch =
            |set: &mut BTreeSet<String>, path: &str, event: Option<i32>| match event {
                Some(kind) => events.push((kind, path.to_owned())),
                None => {
                    set.insert(path.to_owned());
                }
            };
        let since = lists.relative_zxid;
        for path in &lists.data {
            let event = match tree.get(path) {
                None => Some(DELETED),
                Some(node) => (node.mzxid > since).then_some(DATA_CHANGED),
            };
            event_or_watch(&mut self.data, path, event);
        }
        for path in &lists.exist {
            let event = tree.get(path).map(|_| CREATED);
            event_or_watch(&mut self.data, path, event);
        }
        for path in &lists.child {
            let event = match tree.get(path) {
                None => Some(DELETED),
                Some(node) => (node.pzxid > since).then_some(CHILDREN_CHANGED),
            };
            event_or_watch(&mut self.child, path, event);
        }
        self.persistent.extend(lists.persistent.iter().cloned());
        self.recursive.extend(lists.recursive.iter().cloned());
        events
    }

    /// One-shot watches that fire when `now` is met after nothing was seen since `before`, which was at
    /// zxid `from`: by path, the kinds of event of which one must come.
    pub(super) fn missed(
        &mut self,
        from: i64,
        before: &Tree,
        now: &Tree,
        caller: &Caller,
    ) -> Vec<(String, Vec<i32>)> {
        let mut events: Vec<(String, Vec<i32>)> = Vec::new();
        let mut fire = |path: &str, kinds: Vec<i32>| {
            let readable = now
                .get(path)
                .is_none_or(|node| caller.may(&node.acl, Permission::Read));
            let event = (path.to_owned(), kinds);
            // Of a znode that is gone everybody hears once.
            if readable && !events.contains(&event) {
                events.push(event);
            }
            false
        };
        self.data
            .retain(|path| match (before.get(path), now.get(path)) {
                (None, None) => true,
                (None, Some(_)) => fire(path, vec![CREATED]),
                (Some(_), None) => fire(path, vec![DELETED]),
                (Some(_), Some(node)) if node.czxid > from => {
                    fire(path, vec![DELETED, CREATED, DATA_CHANGED])
                }
                (Some(_), Some(node)) if node.mzxid > from => fire(path, vec![DATA_CHANGED]),
                (Some(_), Some(_)) => true,
            });
        self.child.retain(|path| match now.get(path) {
            None => fire(path, vec![DELETED]),
            Some(node) if node.czxid > from => fire(path, vec![DELETED, CHILDREN_CHANGED]),
            Some(node) if node.pzxid > from => fire(path, vec![CHILDREN_CHANGED]),
            Some(_) => true,
        });
        events
    }
}

fn expect(sent: &Sent, reply: &Reply, code: i32) -> Result<(), String> {
    if reply.err == code {
        return Ok(());
    }
    Err(format!(
        "xid {}, {:?}: told {}, expected {code}",
        sent.xid, sent.op, reply.err
    ))
}
