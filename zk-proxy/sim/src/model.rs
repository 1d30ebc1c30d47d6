//! ZooKeeper's tree as a plain map, written from the contract of its protocol alone.
//!
//! Every write works on a copy of the whole tree, which is dropped if the write fails; so all states
//! that ever were can be kept, and a read can be judged by the state that its zxid names.

mod access;
mod paths;
mod reads;
#[cfg(test)]
mod tests;
mod writes;

use std::collections::BTreeMap;
use std::rc::Rc;

use oxkeeper_wire::Stat;

pub use access::{Acl, BOB, Caller, Permission};
pub use paths::{name_of, parent_of};

/// What a request is answered: the code of the header, and the record behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub err: i32,
    pub body: crate::reply::Body,
}

/// When a write happens.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub zxid: i64,
    pub wall_ms: i64,
    pub elapsed_ms: u64,
}

/// When a znode goes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Persistent,
    Ephemeral { owner: i64 },
    Container,
    Ttl { ttl_ms: i64 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Znode {
    pub data: Option<Vec<u8>>,
    pub acl: Acl,
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime_ms: i64,
    pub mtime_ms: i64,
    pub version: i32,
    pub aversion: i32,
    /// Children created so far: the next sequential suffix.
    pub creates: i64,
    pub life: Life,
    /// Of the last write of the data, in time that never goes back.
    pub modified_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Deleted,
    DataSet,
}

/// What watches hear of, with the lists that say who may hear it.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    pub path: Rc<str>,
    pub acl: Acl,
    pub parent_acl: Acl,
}

/// All znodes at one moment.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: BTreeMap<Rc<str>, Rc<Znode>>,
}

/// A tree after a write, and what the write changed, in order.
#[derive(Clone, Debug)]
pub struct Step {
    pub tree: Tree,
    pub changes: Vec<Change>,
}

impl Tree {
    /// What a new server has: none of these znodes counts as created.
    pub fn fresh() -> Self {
        let node = |acl, aversion| Znode {
            data: Some(Vec::new()),
            acl,
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime_ms: 0,
            mtime_ms: 0,
            version: 0,
            aversion,
            creates: 0,
            life: Life::Persistent,
            modified_ms: 0,
        };
        let mut nodes = BTreeMap::new();
        for path in ["/", "/zookeeper", "/zookeeper/quota"] {
            nodes.insert(Rc::from(path), Rc::new(node(access::anyone(31), 0)));
        }
        let config = node(access::anyone(1), -1);
        nodes.insert(Rc::from("/zookeeper/config"), Rc::new(config));
        Self { nodes }
    }

    pub fn get(&self, path: &str) -> Option<&Znode> {
        self.nodes.get(path).map(|node| &**node)
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(|path| &**path)
    }

    /// Paths below `path`, at any depth.
    fn below(&self, path: &str) -> impl Iterator<Item = &str> {
        let prefix = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        let first: Rc<str> = Rc::from(prefix.as_str());
        self.nodes
            .range(first..)
            .map(|(path, _)| &**path)
            .skip_while(|path| *path == "/")
            .take_while(move |path| path.starts_with(&prefix))
    }

    fn children<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        self.below(path)
            .filter(move |below| parent_of(below) == path)
    }

    /// Sorted.
    pub fn child_names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .children(path)
            .map(|child| name_of(child).to_owned())
            .collect();
        names.sort_unstable();
        names
    }

    pub fn stat(&self, path: &str) -> Option<Stat> {
        let node = self.get(path)?;
        let children = self.children(path).count() as i32;
        Some(Stat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime_ms: node.ctime_ms,
            mtime_ms: node.mtime_ms,
            version: node.version,
            cversion: (2 * node.creates) as i32 - children,
            aversion: node.aversion,
            ephemeral_owner: match node.life {
                Life::Ephemeral { owner } => owner,
                _ => 0,
            },
            data_length: node.data.as_ref().map_or(0, Vec::len) as i32,
            num_children: children,
            pzxid: node.pzxid,
        })
    }

    /// Ephemeral znodes of a session.
    pub fn ephemerals(&self, session: i64) -> impl Iterator<Item = &str> {
        let owned = Life::Ephemeral { owner: session };
        self.nodes
            .iter()
            .filter(move |(_, node)| node.life == owned)
            .map(|(path, _)| &**path)
    }

    fn edit(&mut self, path: &str) -> Option<&mut Znode> {
        self.nodes.get_mut(path).map(Rc::make_mut)
    }
}
