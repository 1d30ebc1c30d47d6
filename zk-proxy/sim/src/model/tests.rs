//! Answers that the contract of the protocol gives as examples.

use oxkeeper_wire::OpCode;

use super::*;
use crate::op::{Ace, Create, Op};
use crate::reply::{Body, Item};

const OPEN: [Ace; 1] = [Ace {
    permissions: 31,
    scheme: "world",
    id: "anyone",
}];

struct Server {
    tree: Tree,
    zxid: i64,
    caller: Caller,
}

impl Server {
    fn new() -> Self {
        Self {
            tree: Tree::fresh(),
            zxid: 0,
            caller: Caller {
                session: 7,
                digests: Vec::new(),
            },
        }
    }

    fn write(&mut self, op: &Op) -> Answer {
        self.zxid += 1;
        let at = Moment {
            zxid: self.zxid,
            wall_ms: 1_000 + self.zxid,
            elapsed_ms: 100 * self.zxid as u64,
        };
        let (answer, step) = self.tree.write(op, &self.caller, at).expect("a write");
        if let Some(step) = step {
            self.tree = step.tree;
        }
        answer
    }

    fn code(&mut self, op: &Op) -> i32 {
        self.write(op).err
    }
}

fn create(path: &str, flags: i32) -> Op {
    Op::Create(Create {
        op: OpCode::CREATE,
        path: path.to_owned(),
        data: Some(b"x".to_vec()),
        acl: OPEN.to_vec(),
        flags,
        ttl_ms: None,
    })
}

fn delete(path: &str) -> Op {
    Op::Delete {
        path: path.to_owned(),
        version: -1,
    }
}

fn set(path: &str, version: i32) -> Op {
    Op::SetData {
        path: path.to_owned(),
        data: None,
        version,
    }
}

#[test]
fn a_new_tree_has_the_counters_of_a_new_server() {
    let tree = Tree::fresh();
    let stat = |path| tree.stat(path).expect("it is there");
    assert_eq!((stat("/").cversion, stat("/").num_children), (-1, 1));
    let zookeeper = stat("/zookeeper");
    assert_eq!((zookeeper.cversion, zookeeper.num_children), (-2, 2));
    assert_eq!(stat("/zookeeper/config").aversion, -1);
}

#[test]
fn odd_paths_get_the_codes_of_the_contract() {
    let mut server = Server::new();
    assert_eq!(server.code(&create("/a", 0)), 0);
    for (path, code) in [
        ("", -8),
        ("foo", -8),
        ("foo/bar", -101),
        ("/", -110),
        ("/a/", -8),
        ("//x", -8),
        ("/none/x", -101),
        ("/a", -110),
    ] {
        assert_eq!(server.code(&create(path, 0)), code, "{path:?}");
    }
    assert_eq!(
        server.write(&create("/a/", 2)).body,
        Body::Path("/a/0000000000".to_owned())
    );
    assert_eq!(server.code(&delete("/zookeeper/quota")), -8);
    assert_eq!(server.code(&delete("/a/")), -101);
    assert_eq!(server.code(&set("/a/", -1)), -8);
}

#[test]
fn cversion_counts_creates_twice_less_the_living() {
    let mut server = Server::new();
    server.write(&create("/p", 0));
    server.write(&create("/p/a", 0));
    server.write(&create("/p/s-", 2));
    assert_eq!(server.tree.stat("/p").expect("p").cversion, 2);
    server.write(&delete("/p/a"));
    let stat = server.tree.stat("/p").expect("p");
    assert_eq!((stat.cversion, stat.num_children, stat.pzxid), (3, 1, 4));
    server.write(&set("/p/s-0000000001", -1));
    assert_eq!(server.tree.stat("/p").expect("p"), stat);
}

#[test]
fn a_failed_multi_changes_nothing_and_names_the_one_that_failed() {
    let mut server = Server::new();
    let ops = vec![create("/m", 0), set("/m", 0), set("/m", 7), create("/n", 0)];
    let answer = server.write(&Op::Multi(ops));
    let codes = [0, 0, -103, -2].map(Item::Error);
    assert_eq!(
        (answer.err, answer.body),
        (0, Body::Results(codes.to_vec()))
    );
    assert_eq!(server.tree.get("/m"), None);
    let answer = server.write(&Op::Multi(Vec::new()));
    assert_eq!((answer.err, answer.body), (0, Body::Results(Vec::new())));
}

#[test]
fn a_sessions_end_takes_its_ephemerals_at_one_zxid() {
    let mut server = Server::new();
    server.write(&create("/p", 0));
    server.write(&create("/p/e", 1));
    assert_eq!(server.code(&create("/p/e/x", 0)), -108);
    server.write(&create("/p/f-", 3));
    let Step { tree, changes } = server.tree.end_session(7, 9);
    assert_eq!(changes.len(), 2);
    let stat = tree.stat("/p").expect("p");
    assert_eq!((stat.cversion, stat.num_children, stat.pzxid), (4, 0, 9));
}

#[test]
fn lists_decide_who_may_and_hide_digests() {
    let mut server = Server::new();
    let own = |permissions, scheme, id| Ace {
        permissions,
        scheme,
        id,
    };
    let mut guarded = create("/g", 0);
    if let Op::Create(create) = &mut guarded {
        create.acl = vec![own(31, "auth", ""), own(1, "world", "anyone")];
    }
    assert_eq!(server.code(&guarded), -114, "nothing was proved");
    server.caller.authenticate("bob:secret");
    assert_eq!(server.code(&guarded), 0);
    let read = Op::GetAcl {
        path: "/g".to_owned(),
    };
    let ids = |tree: &Tree, caller: &Caller| match tree.read(&read, caller).expect("a read").body {
        Body::Acl(entries, _) => entries[0].2.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        ids(&server.tree, &server.caller),
        access::CREDENTIALS[0].1,
        "the administrator"
    );
    assert_eq!(ids(&server.tree, &Caller::default()), "bob:x");
    server.caller.digests.clear();
    assert_eq!(server.code(&set("/g", -1)), -102);
    assert_eq!(server.code(&create("/g/x", 0)), -102);
    assert_eq!(server.code(&delete("/g")), 0, "the parent decides");
}

#[test]
fn containers_and_ttls_go_when_their_time_has_come() {
    let mut server = Server::new();
    let made = |op, path: &str, flags, ttl_ms| {
        Op::Create(Create {
            op,
            path: path.to_owned(),
            data: None,
            acl: OPEN.to_vec(),
            flags,
            ttl_ms,
        })
    };
    server.write(&made(OpCode::CREATE_CONTAINER, "/c", 4, None));
    server.write(&made(OpCode::CREATE_TTL, "/t", 5, Some(500)));
    assert_eq!(server.code(&made(OpCode::CREATE_TTL, "/u", 5, Some(0))), -8);
    assert_eq!(server.code(&made(OpCode::CREATE_TTL, "/u", 0, Some(1))), -8);
    let at = |elapsed_ms| Moment {
        zxid: 50,
        wall_ms: 0,
        elapsed_ms,
    };
    assert!(server.tree.reap("/c", at(9_000)).is_none(), "never used");
    assert!(server.tree.reap("/t", at(700)).is_none());
    assert!(server.tree.reap("/t", at(701)).is_some());
    server.write(&create("/c/x", 0));
    assert!(server.tree.reap("/c", at(9_000)).is_none());
    server.write(&delete("/c/x"));
    assert!(server.tree.reap("/c", at(0)).is_some());
}
