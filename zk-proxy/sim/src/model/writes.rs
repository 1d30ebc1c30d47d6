//! What a write does, and what it is answered.

use std::rc::Rc;

use oxkeeper_wire::{ErrorCode, OpCode};

use super::{
    Answer, Caller, Change, ChangeKind, Life, Moment, Permission, Step, Tree, Znode, parent_of,
    paths,
};
use crate::op::{Create, Op};
use crate::reply::{Body, Item};

/// The largest TTL there is.
const TTL_MS_MAX: i64 = (1 << 40) - 1;

/// Znodes that cannot be deleted.
const PROTECTED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"];

/// How a create makes its znode.
struct Mode {
    life: Life,
    sequential: bool,
}

impl Tree {
    /// The answer, and the tree after it unless the write failed. `None` if `op` is no write of the tree.
    pub fn write(&self, op: &Op, caller: &Caller, at: Moment) -> Option<(Answer, Option<Step>)> {
        if let Op::Multi(ops) = op {
            return Some(self.multi(ops, caller, at));
        }
        let mut step = self.begin();
        let done = step.operate(op, caller, at)?;
        Some(match done {
            Ok(item) => {
                let body = body(op, item);
                (Answer { err: 0, body }, Some(step))
            }
            Err(code) => {
                let (err, body) = (code.0, Body::Nothing);
                (Answer { err, body }, None)
            }
        })
    }

    /// All of `ops` or none.
    fn multi(&self, ops: &[Op], caller: &Caller, at: Moment) -> (Answer, Option<Step>) {
        let mut step = self.begin();
        let mut items = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let done = step.operate(op, caller, at);
            match done.unwrap_or(Err(ErrorCode::MARSHALLING_ERROR)) {
                Ok(item) => items.push(item),
                Err(code) => {
                    let error = |at: usize| match at.cmp(&index) {
                        std::cmp::Ordering::Less => Item::Error(0),
                        std::cmp::Ordering::Equal => Item::Error(code.0),
                        std::cmp::Ordering::Greater => {
                            Item::Error(ErrorCode::RUNTIME_INCONSISTENCY.0)
                        }
                    };
                    let body = Body::Results((0..ops.len()).map(error).collect());
                    return (Answer { err: 0, body }, None);
                }
            }
        }
        let body = Body::Results(items);
        (Answer { err: 0, body }, Some(step))
    }

    /// A session's end: all its ephemerals go at one zxid, and their parents show it.
    pub fn end_session(&self, session: i64, zxid: i64) -> Step {
        let mut step = self.begin();
        let owned: Vec<String> = self.ephemerals(session).map(str::to_owned).collect();
        for path in owned {
            step.remove(&path, zxid);
        }
        step
    }

    /// A container or TTL znode whose time has come; `None` if it has not.
    pub fn reap(&self, path: &str, at: Moment) -> Option<Step> {
        let node = self.get(path)?;
        let due = match node.life {
            Life::Persistent | Life::Ephemeral { .. } => false,
            Life::Container => node.creates > 0,
            Life::Ttl { ttl_ms } => at.elapsed_ms.saturating_sub(node.modified_ms) as i64 > ttl_ms,
        };
        if !due || self.children(path).next().is_some() {
            return None;
        }
        let mut step = self.begin();
        step.remove(path, at.zxid);
        Some(step)
    }

    fn begin(&self) -> Step {
        Step {
            tree: self.clone(),
            changes: Vec::new(),
        }
    }
}

/// What stands behind the header of the reply to a write that is no multi.
fn body(op: &Op, item: Item) -> Body {
    match (op, item) {
        (_, Item::Created(path, Some(stat))) => Body::PathStat(path, stat),
        (_, Item::Created(path, None)) => Body::Path(path),
        (_, Item::Set(stat)) => Body::Stat(stat),
        _ => Body::Nothing,
    }
}

type Done = Result<Item, ErrorCode>;

impl Step {
    fn operate(&mut self, op: &Op, caller: &Caller, at: Moment) -> Option<Done> {
        Some(match op {
            Op::Create(create) => self.create(create, caller, at),
            Op::Delete { path, version } => self.delete(path, *version, caller, at),
            Op::SetData {
                path,
                data,
                version,
            } => self.set_data(path, data.as_deref(), *version, caller, at),
            Op::SetAcl { .. } => self.set_acl(op, caller),
            Op::Check { path, version } => self
                .permitted(path, caller, Permission::Read)
                .and_then(|node| expect(node.version, *version))
                .map(|()| Item::Done),
            _ => return None,
        })
    }

    fn create(&mut self, create: &Create, caller: &Caller, at: Moment) -> Done {
        let Mode { life, sequential } = mode(create, caller)?;
        if !create.path.contains('/') || create.path.contains('\0') {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let acl = caller.normalise(&create.acl);
        let acl = acl.ok_or(ErrorCode::INVALID_ACL)?;
        let above = parent_of(&create.path).to_owned();
        let parent = self.tree.get(&above).ok_or(ErrorCode::NO_NODE)?;
        let (parent_acl, parent_life) = (parent.acl.clone(), parent.life);
        if !caller.may(&parent_acl, Permission::Create) {
            return Err(ErrorCode::NO_AUTH);
        }
        let path = match sequential {
            true => format!("{}{:010}", create.path, parent.creates),
            false => create.path.clone(),
        };
        if !paths::is_valid(&path) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        if self.tree.get(&path).is_some() {
            return Err(ErrorCode::NODE_EXISTS);
        }
        if matches!(parent_life, Life::Ephemeral { .. }) {
            return Err(ErrorCode::NO_CHILDREN_FOR_EPHEMERALS);
        }
        let node = Znode {
            data: create.data.clone(),
            acl: acl.clone(),
            czxid: at.zxid,
            mzxid: at.zxid,
            pzxid: at.zxid,
            ctime_ms: at.wall_ms,
            mtime_ms: at.wall_ms,
            version: 0,
            aversion: 0,
            creates: 0,
            life,
            modified_ms: at.elapsed_ms,
        };
        let key: Rc<str> = Rc::from(path.as_str());
        self.tree.nodes.insert(key.clone(), Rc::new(node));
        if let Some(parent) = self.tree.edit(&above) {
            parent.creates += 1;
            parent.pzxid = at.zxid;
        }
        self.changes.push(Change {
            kind: ChangeKind::Created,
            path: key,
            acl,
            parent_acl,
        });
        let stat = (create.op != OpCode::CREATE).then(|| self.tree.stat(&path).unwrap_or_default());
        Ok(Item::Created(path, stat))
    }

    fn delete(&mut self, path: &str, version: i32, caller: &Caller, at: Moment) -> Done {
        if !path.contains('/') || path.contains('\0') || PROTECTED.contains(&path) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let parent = self.tree.get(parent_of(path));
        let parent = parent.ok_or(ErrorCode::NO_NODE)?;
        if !caller.may(&parent.acl, Permission::Delete) {
            return Err(ErrorCode::NO_AUTH);
        }
        let node = self.tree.get(path).ok_or(ErrorCode::NO_NODE)?;
        expect(node.version, version)?;
        if self.tree.children(path).next().is_some() {
            return Err(ErrorCode::NOT_EMPTY);
        }
        self.remove(path, at.zxid);
        Ok(Item::Done)
    }

    fn remove(&mut self, path: &str, zxid: i64) {
        let Some((path, node)) = self.tree.nodes.remove_entry(path) else {
            return;
        };
        let mut parent_acl = node.acl.clone();
        if let Some(parent) = self.tree.edit(parent_of(&path)) {
            parent.pzxid = zxid;
            parent_acl = parent.acl.clone();
        }
        self.changes.push(Change {
            kind: ChangeKind::Deleted,
            path,
            acl: node.acl.clone(),
            parent_acl,
        });
    }

    fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        caller: &Caller,
        at: Moment,
    ) -> Done {
        let node = self.permitted(path, caller, Permission::Write)?;
        expect(node.version, version)?;
        node.data = data.map(<[u8]>::to_vec);
        node.version += 1;
        (node.mzxid, node.mtime_ms, node.modified_ms) = (at.zxid, at.wall_ms, at.elapsed_ms);
        let acl = node.acl.clone();
        let (key, _) = self.tree.nodes.get_key_value(path).ok_or(NO_NODE)?;
        self.changes.push(Change {
            kind: ChangeKind::DataSet,
            path: key.clone(),
            parent_acl: acl.clone(),
            acl,
        });
        Ok(Item::Set(self.tree.stat(path).unwrap_or_default()))
    }

    fn set_acl(&mut self, op: &Op, caller: &Caller) -> Done {
        let Op::SetAcl { path, acl, version } = op else {
            return Err(ErrorCode::MARSHALLING_ERROR);
        };
        if !paths::is_valid(path) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let acl = caller.normalise(acl).ok_or(ErrorCode::INVALID_ACL)?;
        let node = self.permitted(path, caller, Permission::Admin)?;
        expect(node.aversion, *version)?;
        node.acl = acl;
        node.aversion += 1;
        Ok(Item::Set(self.tree.stat(path).unwrap_or_default()))
    }

    fn permitted(
        &mut self,
        path: &str,
        caller: &Caller,
        permission: Permission,
    ) -> Result<&mut Znode, ErrorCode> {
        if !paths::is_valid(path) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let node = self.tree.edit(path).ok_or(NO_NODE)?;
        if caller.may(&node.acl, permission) {
            Ok(node)
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }
}

const NO_NODE: ErrorCode = ErrorCode::NO_NODE;

fn expect(version: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == version {
        Ok(())
    } else {
        Err(ErrorCode::BAD_VERSION)
    }
}

/// The operation decides about container and TTL, the flags about the rest.
fn mode(create: &Create, caller: &Caller) -> Result<Mode, ErrorCode> {
    let bad = Err(ErrorCode::BAD_ARGUMENTS);
    let (ephemeral, sequential, ttl) = match create.flags {
        0 | 4 => (false, false, false),
        1 => (true, false, false),
        2 => (false, true, false),
        3 => (true, true, false),
        5 => (false, false, true),
        6 => (false, true, true),
        _ => return bad,
    };
    let owner = caller.session;
    let life = match (create.op, create.ttl_ms) {
        (OpCode::CREATE_TTL, Some(ttl_ms)) if ttl && (1..=TTL_MS_MAX).contains(&ttl_ms) => {
            Life::Ttl { ttl_ms }
        }
        (OpCode::CREATE_TTL, _) => return bad,
        _ if ttl => return bad,
        (OpCode::CREATE_CONTAINER, _) => Life::Container,
        _ if ephemeral => Life::Ephemeral { owner },
        _ => Life::Persistent,
    };
    Ok(Mode { life, sequential })
}
