//! What a read is answered at one state of the tree.

use oxkeeper_wire::ErrorCode;

use super::{Answer, Caller, Permission, Tree, Znode};
use crate::op::Op;
use crate::reply::{Body, Item};

impl Tree {
    /// The answer to a read that is not about watches; `None` for other requests.
    pub fn read(&self, op: &Op, caller: &Caller) -> Option<Answer> {
        let body = match op {
            Op::Exists { path, .. } => self
                .readable(path, caller)
                .map(|_| Body::Stat(self.stat(path).unwrap_or_default())),
            Op::GetData { path, .. } => self
                .readable(path, caller)
                .map(|node| Body::Data(node.data.clone(), self.stat(path).unwrap_or_default())),
            Op::GetChildren { path, .. } => self
                .readable(path, caller)
                .map(|_| Body::Names(self.child_names(path))),
            Op::GetChildren2 { path, .. } => self.readable(path, caller).map(|_| {
                Body::NamesStat(self.child_names(path), self.stat(path).unwrap_or_default())
            }),
            Op::GetAcl { path } => self.acl(path, caller),
            Op::Sync { path } => Ok(Body::Path(path.clone())),
            Op::GetEphemerals { prefix } => Ok(Body::Names(self.own(prefix, caller))),
            Op::GetAllChildrenNumber { path } => self
                .readable(path, caller)
                .map(|_| Body::Number(self.below(path).count() as i32)),
            Op::MultiRead(ops) => Ok(Body::Results(
                ops.iter().map(|op| self.item(op, caller)).collect(),
            )),
            Op::Ping | Op::Auth { .. } => Ok(Body::Nothing),
            _ => return None,
        };
        Some(match body {
            Ok(body) => Answer { err: 0, body },
            Err(code) => Answer {
                err: code.0,
                body: Body::Nothing,
            },
        })
    }

    fn readable(&self, path: &str, caller: &Caller) -> Result<&Znode, ErrorCode> {
        let node = self.get(path).ok_or(ErrorCode::NO_NODE)?;
        if caller.may(&node.acl, Permission::Read) {
            Ok(node)
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }

    fn acl(&self, path: &str, caller: &Caller) -> Result<Body, ErrorCode> {
        let node = self.get(path).ok_or(ErrorCode::NO_NODE)?;
        let may = |permission| caller.may(&node.acl, permission);
        if !may(Permission::Read) && !may(Permission::Admin) {
            return Err(ErrorCode::NO_AUTH);
        }
        let stat = self.stat(path).unwrap_or_default();
        Ok(Body::Acl(caller.shown(&node.acl), stat))
    }

    fn own(&self, prefix: &str, caller: &Caller) -> Vec<String> {
        let owned = self.ephemerals(caller.session);
        let all = matches!(prefix, "" | "/");
        let mut owned: Vec<String> = owned
            .filter(|path| all || path.starts_with(prefix))
            .map(str::to_owned)
            .collect();
        owned.sort_unstable();
        owned
    }

    fn item(&self, op: &Op, caller: &Caller) -> Item {
        match self.read(op, caller) {
            Some(Answer { err: 0, body }) => match body {
                Body::Data(data, stat) => Item::Data(data, stat),
                Body::Names(names) => Item::Names(names),
                _ => Item::Done,
            },
            Some(Answer { err, .. }) => Item::Error(err),
            None => Item::Error(ErrorCode::MARSHALLING_ERROR.0),
        }
    }
}
