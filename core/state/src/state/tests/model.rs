//! The state machine against ZooKeeper's tree as a plain map, written from the contract alone:
//! a transaction works on a copy of the whole map, and the copy is dropped if it fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use oxkeeper_model::{
    Acl, Answer, Attachment, ChangeKind, ChangeSet, ChangedValue, ClientCommand, Command,
    CommandOutcome, Create, Head, Lifetime, Nonce, OpError, OpResult, Path, Query, SessionError,
    SessionGrant, SessionId, TreeOp, TxnOutcome, WriteOutcome, WriteRefusal, WriteSeq,
};
use proptest::prelude::*;

use super::fixture::*;
use crate::FrozenState;
use oxkeeper_store::MemoryFrozen;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum List {
    Open,
    ReadOnly,
    Bob,
}

impl List {
    fn acl(self) -> Acl {
        match self {
            Self::Open => open_acl(),
            Self::ReadOnly => acl(&[(1, "world", "anyone")]),
            Self::Bob => acl(&[(31, "digest", "bob:x")]),
        }
    }

    /// Whether somebody may do what is not reading, or may read.
    fn allows(self, is_bob: bool, reading: bool) -> bool {
        match self {
            Self::Open => true,
            Self::ReadOnly => reading,
            Self::Bob => is_bob,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Create {
        path: String,
        value: Option<Vec<u8>>,
        list: List,
        lifetime: Lifetime,
        sequential: bool,
    },
    Set {
        path: String,
        value: Option<Vec<u8>>,
        version: Option<i32>,
    },
    SetAcl {
        path: String,
        list: List,
        version: Option<i32>,
    },
    Delete {
        path: String,
        version: Option<i32>,
    },
    Check {
        path: String,
        version: Option<i32>,
    },
    Get {
        path: String,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Open,
    Attach(usize),
    Close(usize),
    Expire(usize),
    Wait(u64),
    /// The wall clock is set.
    SetClock(i64),
    Reap(String),
    Write(usize, Vec<Op>),
    /// The last write is sent again.
    Resend(usize),
    /// A write that does not follow the one before.
    Gap(usize),
    Acknowledge(usize),
    /// The open, or the last attach, is sent again.
    Reopen(usize),
    /// Somebody attaches who has missed the last attach, or has the wrong password.
    AttachInVain(usize, bool),
    /// The session's end is made ready, as far as so many records.
    Prepare(usize, usize),
}

fn paths() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("/".to_owned()),
        9 => "(/[ab]){1,3}",
        1 => "/a/s-000000000[0-3]",
        2 => "/zookeeper/quota/a(/b)?/zookeeper_(limits|stats)",
    ]
}

fn values() -> impl Strategy<Value = Option<Vec<u8>>> {
    // Short ones, and ones around the length from which the store keeps them apart.
    let length = prop_oneof![4 => 0..4usize, 1 => 255..258usize];
    let value = length.prop_flat_map(|length| proptest::collection::vec(any::<u8>(), length));
    proptest::option::weighted(0.8, value)
}

fn versions() -> impl Strategy<Value = Option<i32>> {
    proptest::option::weighted(0.4, 0..2i32)
}

fn lists() -> impl Strategy<Value = List> {
    prop_oneof![8 => Just(List::Open), 1 => Just(List::ReadOnly), 1 => Just(List::Bob)]
}

fn lifetimes() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        5 => Just(Lifetime::Persistent),
        4 => Just(Lifetime::Ephemeral),
        1 => Just(Lifetime::Container),
        1 => Just(Lifetime::Ttl { ttl_ms: 50 }),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (paths(), values(), lists(), lifetimes(), proptest::bool::weighted(0.2)).prop_map(
            |(path, value, list, lifetime, sequential)| {
                let path = if sequential { "/a/s-".to_owned() } else { path };
                Op::Create { path, value, list, lifetime, sequential }
            }
        ),
        3 => (paths(), values(), versions())
            .prop_map(|(path, value, version)| Op::Set { path, value, version }),
        1 => (paths(), lists(), versions())
            .prop_map(|(path, list, version)| Op::SetAcl { path, list, version }),
        // The root is never deleted: its front end refuses.
        3 => ("(/[ab]){1,3}", versions()).prop_map(|(path, version)| Op::Delete { path, version }),
        1 => (paths(), versions()).prop_map(|(path, version)| Op::Check { path, version }),
        1 => paths().prop_map(|path| Op::Get { path }),
    ]
}

pub(super) fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => Just(Action::Open),
        1 => (0..4usize).prop_map(Action::Attach),
        1 => (0..4usize).prop_map(Action::Close),
        1 => (0..4usize).prop_map(Action::Expire),
        1 => (1..60u64).prop_map(Action::Wait),
        1 => (-100..100i64).prop_map(Action::SetClock),
        2 => (0..4usize).prop_map(Action::Resend),
        1 => (0..4usize).prop_map(Action::Gap),
        1 => (0..4usize).prop_map(Action::Acknowledge),
        1 => (0..4usize).prop_map(Action::Reopen),
        1 => (0..4usize, any::<bool>()).prop_map(|(at, stale)| Action::AttachInVain(at, stale)),
        3 => (0..4usize, 1..3usize).prop_map(|(at, records)| Action::Prepare(at, records)),
        2 => paths().prop_map(Action::Reap),
        12 => (0..4usize, prop_oneof![
            3 => proptest::collection::vec(ops(), 1),
            2 => proptest::collection::vec(ops(), 0..6),
        ])
        .prop_map(|(client, ops)| Action::Write(client, ops)),
    ]
}

fn tree_op(op: &Op) -> TreeOp {
    match op.clone() {
        Op::Create {
            path,
            value,
            list,
            lifetime,
            sequential,
        } => TreeOp::Create(Create {
            path: path.into(),
            value: value.map(Bytes::from),
            acl: list.acl(),
            lifetime,
            sequential,
            malformed: false,
        }),
        Op::Set {
            path,
            value,
            version,
        } => TreeOp::SetValue {
            path: path.into(),
            value: value.map(Bytes::from),
            expected_version: version,
        },
        Op::SetAcl {
            path,
            list,
            version,
        } => set_acl(&path, list.acl(), version),
        Op::Delete { path, version } => delete_at(&path, version),
        Op::Check { path, version } => check(&path, version),
        Op::Get { path } => get(&path),
    }
}

/// Turns an action into a command. Opening and waiting happen at once.
pub(super) fn perform(
    shard: &mut Shard,
    clients: &mut Vec<Client>,
    action: &Action,
) -> Option<Command> {
    match action {
        Action::Open => {
            let client = shard.open();
            // Every other one is bob.
            clients.push(match clients.len() % 2 {
                0 => client,
                _ => client.with_identity("digest", "bob:x"),
            });
            None
        }
        Action::Wait(ms) => {
            shard.wait(*ms);
            None
        }
        Action::Reap(path) => Some(Command::Reap {
            path: path.as_str().into(),
        }),
        Action::SetClock(ms) => {
            shard.now_ms += ms;
            None
        }
        Action::Prepare(at, records) => {
            let prepared = shard.state.prepare_end(clients.get(*at)?.id(), *records);
            prepared.expect("prepared");
            shard.check();
            None
        }
        Action::Attach(at) => {
            let nonce = shard.nonce();
            let client = clients.get_mut(*at)?;
            let replaces = client.attachment;
            client.attachment = replaces.next();
            client.attached = Some(nonce);
            (client.seq, client.acknowledged) = (0, 0);
            Some(Command::Client(client.attach(replaces, nonce)))
        }
        Action::Acknowledge(at) => {
            let client = clients.get_mut(*at)?;
            client.acknowledged = client.seq;
            let sessions = vec![(client.id(), client.attachment, WriteSeq(client.seq))];
            Some(Command::Acknowledge { sessions })
        }
        Action::Reopen(at) | Action::AttachInVain(at, _) | Action::Resend(at) | Action::Gap(at) => {
            let nonce = shard.nonce();
            perform_in_vain(clients.get(*at)?, nonce, action).map(Command::Client)
        }
        Action::Close(at) => {
            let client = clients.get_mut(*at)?;
            client.seq += 1;
            Some(Command::Client(ClientCommand::CloseSession {
                session: client.id(),
                attachment: client.attachment,
                seq: WriteSeq(client.seq),
                follows: WriteSeq(client.seq - 1),
            }))
        }
        Action::Expire(at) => {
            let client = clients.get(*at)?;
            let (session, attachment) = (client.id(), client.attachment);
            Some(Command::ExpireSession {
                session,
                attachment,
            })
        }
        Action::Write(at, ops) => {
            let client = clients.get_mut(*at)?;
            Some(Command::Client(ClientCommand::Write(
                client.next(ops.iter().map(tree_op).collect()),
            )))
        }
    }
}

/// What changes nothing, if the session lives.
fn perform_in_vain(client: &Client, nonce: Nonce, action: &Action) -> Option<ClientCommand> {
    Some(match action {
        Action::Reopen(_) => match client.attached {
            Some(nonce) => client.attach(Attachment(client.attachment.0 - 1), nonce),
            None => ClientCommand::OpenSession {
                nonce: client.opened,
                timeout_ms: 10_000,
            },
        },
        Action::AttachInVain(_, stale) => {
            let mut client = client.clone();
            let mut replaces = client.attachment;
            match stale {
                true => replaces.0 -= 1,
                false => client.grant.password[0] ^= 1,
            }
            client.attach(replaces, nonce)
        }
        Action::Resend(_) => ClientCommand::Write(client.last.clone()?),
        _ => {
            let mut write = client.write(client.seq + 2, vec![create("/gap")]);
            write.follows = WriteSeq(client.seq + 1);
            ClientCommand::Write(write)
        }
    })
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    value: Option<Vec<u8>>,
    list: List,
    lifetime: Lifetime,
    owner: Option<SessionId>,
    czxid: u64,
    mzxid: u64,
    pzxid: u64,
    ctime: i64,
    mtime: i64,
    /// The elapsed time of the last write.
    written_ms: u64,
    version: i32,
    aversion: i32,
    creates: u64,
}

#[derive(Clone, Debug)]
struct Model {
    nodes: BTreeMap<String, Node>,
    zxid: u64,
    now_ms: i64,
    elapsed_ms: u64,
}

fn parent(path: &str) -> String {
    let slash = path.rfind('/').expect("a path");
    if slash == 0 {
        "/".to_owned()
    } else {
        path[..slash].to_owned()
    }
}

impl Model {
    fn new() -> Self {
        let node = Node {
            value: Some(Vec::new()),
            list: List::Open,
            lifetime: Lifetime::Persistent,
            owner: None,
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime: 0,
            mtime: 0,
            written_ms: 0,
            version: 0,
            aversion: 0,
            creates: 0,
        };
        let nodes = ["/", "/zookeeper"].map(|path| (path.to_owned(), node.clone()));
        Self {
            nodes: nodes.into(),
            zxid: 0,
            now_ms: START_MS,
            elapsed_ms: 0,
        }
    }

    fn children(&self, path: &str) -> usize {
        self.nodes
            .keys()
            .filter(|each| *each != "/" && parent(each) == path)
            .count()
    }

    fn node(&mut self, path: &str, is_bob: bool, reading: bool) -> Result<&mut Node, OpError> {
        let node = self.nodes.get_mut(path).ok_or(OpError::NoNode)?;
        if node.list.allows(is_bob, reading) {
            Ok(node)
        } else {
            Err(OpError::NoAuth)
        }
    }

    /// The node as the operation left it, for those that answer one.
    fn operate(&mut self, op: &Op, session: SessionId, is_bob: bool) -> Result<Answered, OpError> {
        let (zxid, now_ms) = (self.zxid, self.now_ms);
        match op {
            Op::Create { .. } => self.create(op, session, is_bob),
            Op::Set {
                path,
                value,
                version,
            } => {
                let elapsed_ms = self.elapsed_ms;
                let node = self.node(path, is_bob, false)?;
                expect(node.version, *version)?;
                let before = bytes(&node.value);
                node.value.clone_from(value);
                node.version += 1;
                (node.mzxid, node.mtime, node.written_ms) = (zxid, now_ms, elapsed_ms);
                let answered = (path.clone(), node.clone());
                self.count(path, 0, bytes(value) - before);
                Ok(Some(answered))
            }
            Op::SetAcl {
                path,
                list,
                version,
            } => {
                let node = self.node(path, is_bob, false)?;
                expect(node.aversion, *version)?;
                node.list = *list;
                node.aversion += 1;
                Ok(Some((path.clone(), node.clone())))
            }
            Op::Delete { path, version } => {
                self.node(&parent(path), is_bob, false)?;
                let node = self.nodes.get(path).ok_or(OpError::NoNode)?;
                expect(node.version, *version)?;
                if self.children(path) > 0 {
                    return Err(OpError::NotEmpty);
                }
                self.remove(path);
                Ok(None)
            }
            Op::Check { path, version } => {
                let node = self.node(path, is_bob, true)?;
                expect(node.version, *version)?;
                Ok(None)
            }
            Op::Get { path } => {
                let node = self.node(path, is_bob, true)?.clone();
                Ok(Some((path.clone(), node)))
            }
        }
    }

    fn create(&mut self, op: &Op, session: SessionId, is_bob: bool) -> Result<Answered, OpError> {
        let Op::Create {
            path,
            value,
            list,
            lifetime,
            sequential,
        } = op
        else {
            return Ok(None);
        };
        let (zxid, now_ms) = (self.zxid, self.now_ms);
        let above = parent(path);
        let parent = self.node(&above, is_bob, false)?;
        let (creates, parent_lifetime) = (parent.creates, parent.lifetime);
        let suffix = if *sequential {
            format!("{creates:010}")
        } else {
            String::new()
        };
        let path = format!("{path}{suffix}");
        if self.nodes.contains_key(&path) {
            return Err(OpError::NodeExists);
        }
        if parent_lifetime == Lifetime::Ephemeral {
            return Err(OpError::NoChildrenForEphemerals);
        }
        let node = Node {
            value: value.clone(),
            list: *list,
            lifetime: *lifetime,
            owner: (*lifetime == Lifetime::Ephemeral).then_some(session),
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: now_ms,
            mtime: now_ms,
            written_ms: self.elapsed_ms,
            version: 0,
            aversion: 0,
            creates: 0,
        };
        self.nodes.insert(path.clone(), node.clone());
        let parent = self.nodes.get_mut(&above).expect("looked at above");
        (parent.creates, parent.pzxid) = (creates + 1, zxid);
        if let Some(counted) = quota_of(&path, "zookeeper_stats") {
            self.recount(&path, &counted);
        }
        self.count(&path, 1, bytes(&node.value));
        Ok(Some((path, node)))
    }

    /// Statistics of a quota that are just made.
    fn recount(&mut self, stats: &str, counted: &str) {
        let below = format!("{counted}/");
        let is_below = |path: &&String| **path == counted || path.starts_with(&below);
        let paths: Vec<&String> = self.nodes.keys().filter(is_below).collect();
        let size: i64 = paths
            .iter()
            .map(|path| bytes(&self.nodes[*path].value))
            .sum();
        let text = format!("count={},bytes={size}", paths.len());
        if let Some(stats) = self.nodes.get_mut(stats) {
            stats.value = Some(text.into_bytes());
        }
    }

    /// Moves the statistics of the nearest path that has limits.
    fn count(&mut self, path: &str, records: i64, size: i64) {
        let mut above = path.to_owned();
        while !self
            .nodes
            .contains_key(&format!("/zookeeper/quota{above}/zookeeper_limits"))
        {
            above = match above.rfind('/') {
                None | Some(0) => return,
                Some(slash) => above[..slash].to_owned(),
            };
        }
        let stats = self
            .nodes
            .get_mut(&format!("/zookeeper/quota{above}/zookeeper_stats"));
        let Some(Some(text)) = stats.map(|stats| &mut stats.value) else {
            return;
        };
        // Other texts that the tests write are none.
        let numbers: Vec<i64> = match std::str::from_utf8(text) {
            Ok("") => vec![-1, -1],
            Ok(text) => text
                .split([',', '='])
                .filter_map(|part| part.parse().ok())
                .collect(),
            Err(_) => return,
        };
        if let [count, total] = numbers[..]
            && (text.is_empty() || text.starts_with(b"count="))
        {
            *text = format!("count={},bytes={}", count + records, total + size).into_bytes();
        }
    }

    fn remove(&mut self, path: &str) {
        let removed = self.nodes.remove(path);
        self.count(path, -1, -removed.map_or(0, |node| bytes(&node.value)));
        let zxid = self.zxid;
        if let Some(parent) = self.nodes.get_mut(&parent(path)) {
            parent.pzxid = zxid;
        }
    }

    fn end_session(&mut self, session: SessionId) {
        self.zxid += 1;
        let owned: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.owner == Some(session))
            .map(|(path, _)| path.clone())
            .collect();
        owned.iter().for_each(|path| self.remove(path));
    }

    fn reap(&mut self, path: &str) -> bool {
        let Some(node) = self.nodes.get(path) else {
            return false;
        };
        let due = match node.lifetime {
            Lifetime::Container => node.creates > 0,
            Lifetime::Ttl { ttl_ms } => self.elapsed_ms - node.written_ms > ttl_ms,
            _ => false,
        };
        let reaped = due && self.children(path) == 0;
        if reaped {
            self.zxid += 1;
            self.remove(path);
        }
        reaped
    }
}

fn bytes(value: &Option<Vec<u8>>) -> i64 {
    value.as_ref().map_or(0, Vec::len) as i64
}

/// The path whose quota has a record of this name at `path`.
fn quota_of(path: &str, name: &str) -> Option<String> {
    let limited = path.strip_prefix("/zookeeper/quota")?.strip_suffix(name)?;
    limited
        .strip_suffix('/')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
}

fn expect(version: i32, expected: Option<i32>) -> Result<(), OpError> {
    if expected.is_none_or(|expected| expected == version) {
        Ok(())
    } else {
        Err(OpError::BadVersion)
    }
}

/// All fields of a head that ZooKeeper shows, except the number of children.
fn same(head: &Head, node: &Node) -> bool {
    head.created_revision.0 == node.czxid
        && head.modified_revision.0 == node.mzxid
        && head.children.last_change.0 == node.pzxid
        && head.children.created_ever == node.creates
        && (head.created_at_ms, head.modified_at_ms) == (node.ctime, node.mtime)
        && (head.modifications_count, head.acl_version) == (node.version, node.aversion)
        && head.session == node.owner
        && head.lifetime == node.lifetime
        && head.acl == node.list.acl()
        && head.value_bytes == node.value.as_ref().map(|value| value.len() as u32)
}

/// A path and its node as an operation left it, for those that answer one.
type Answered = Option<(String, Node)>;

fn same_outcome(outcome: &TxnOutcome, expected: &Result<Vec<Answered>, (usize, OpError)>) -> bool {
    match (outcome, expected) {
        (TxnOutcome::Failed { index, error }, Err(expected)) => {
            (*index as usize, *error) == *expected
        }
        (TxnOutcome::Applied(results), Ok(nodes)) => {
            results.len() == nodes.len()
                && results
                    .iter()
                    .zip(nodes)
                    .all(|(result, node)| match (result, node) {
                        (OpResult::Deleted | OpResult::Checked, None) => true,
                        (OpResult::Created { path, head }, Some((expected, node))) => {
                            **path == **expected && same(head, node)
                        }
                        (
                            OpResult::ValueSet { head } | OpResult::AclSet { head },
                            Some((_, node)),
                        ) => same(head, node),
                        (OpResult::Got { head, value }, Some((_, node))) => {
                            same(head, node) && value.as_deref() == node.value.as_deref()
                        }
                        _ => false,
                    })
        }
        _ => false,
    }
}

/// What a proxy knows that follows the changes alone.
type View = BTreeMap<String, Head>;

fn follow(view: &mut View, change: &ChangeSet) {
    for change in &change.changes {
        match change.kind {
            ChangeKind::Deleted => view.remove(&*change.path),
            _ => view.insert(change.path.to_string(), Head::clone(&change.head)),
        };
        let told = match &change.value {
            ChangedValue::Set(value) => value.as_ref().map(|value| value.len() as u32),
            _ => change.head.value_bytes,
        };
        assert_eq!(told, change.head.value_bytes);
    }
    for (path, head) in &change.parents {
        view.insert(path.to_string(), Head::clone(head));
    }
    let Some(end) = &change.end else { return };
    for (path, record) in &end.records {
        let head = view.remove(&**path).expect("a record that ends");
        assert_eq!(
            (&head.acl, head.session),
            (&record.acl, change.session_ended)
        );
        assert_eq!(head.value_bytes.unwrap_or(0), record.value_bytes);
    }
    for (path, parent) in &end.parents {
        let head = view.get_mut(&**path).expect("its parent");
        assert_eq!(head.acl, parent.acl);
        parent.follow(head, change.revision);
    }
}

struct World {
    shard: Shard,
    clients: Vec<Client>,
    ended: Vec<SessionId>,
    model: Model,
    view: View,
    /// What each client's last write was answered.
    answers: Vec<Option<WriteOutcome>>,
    /// Frozen states, with all records of then.
    frozen: Vec<(FrozenState<MemoryFrozen>, View)>,
}

impl World {
    fn new(shard: Shard) -> Self {
        let view = shard.state.all_heads().expect("heads");
        Self {
            shard,
            clients: Vec::new(),
            ended: Vec::new(),
            model: Model::new(),
            view,
            answers: vec![None; 64],
            frozen: Vec::new(),
        }
    }

    fn freeze(&mut self) {
        let frozen = self.shard.state.freeze().expect("frozen");
        assert_eq!(frozen.position(), self.shard.state.position());
        let frozen = frozen.open().expect("opened");
        self.frozen.push((frozen, self.view.clone()));
    }

    /// What was frozen is as it was.
    fn compare_frozen(&self) {
        for (frozen, view) in &self.frozen {
            let mut paths = Vec::new();
            let scanned = frozen.scan(None, |path| {
                paths.push(Path::from(path));
                true
            });
            scanned.expect("scanned");
            assert_eq!(paths.len(), view.len());
            let query = Query::Records {
                paths: paths.clone(),
                with_values: true,
            };
            let Ok(Answer::Records(found)) = frozen.query(&query) else {
                panic!("not answered");
            };
            for (path, found) in paths.iter().zip(found) {
                let found = found.expect("a record");
                assert_eq!(*found.head, view[&**path]);
                let bytes = found.value.flatten().map(|value| value.len() as u32);
                assert_eq!(bytes, found.head.value_bytes);
                let path = path.clone();
                let names = match frozen.query(&Query::ChildNames { path }) {
                    Ok(Answer::ChildNames(Some(children))) => children.names,
                    other => panic!("{other:?}"),
                };
                assert_eq!(names.len(), found.head.children.live as usize);
            }
        }
    }

    fn step(&mut self, action: &Action) {
        let opened = self.clients.len();
        let command = perform(&mut self.shard, &mut self.clients, action);
        self.model.now_ms = self.shard.now_ms;
        self.model.elapsed_ms = self.shard.elapsed_ms;
        self.model.zxid += (self.clients.len() - opened) as u64;
        if let Some(command) = command {
            let applied = self.shard.apply_one(command);
            if let Some(change) = &applied.change {
                follow(&mut self.view, change);
            }
            self.expect(action, &applied.outcome, applied.change.as_ref());
        }
        self.compare();
    }

    fn expect(
        &mut self,
        action: &Action,
        outcome: &oxkeeper_model::CommandOutcome,
        change: Option<&Arc<ChangeSet>>,
    ) {
        use oxkeeper_model::CommandOutcome::{
            Reaped, SessionClosed, SessionExpired, SessionGranted, Written,
        };
        match (action, outcome) {
            (Action::Write(at, ops), Written(written)) => {
                let client = &self.clients[*at];
                let (session, is_bob) = (client.id(), at % 2 == 1);
                self.answers[*at] = Some(written.clone());
                if self.ended.contains(&session) {
                    assert!(written.result.is_err() && change.is_none());
                    return;
                }
                self.model.zxid += 1;
                let mut copy = self.model.clone();
                let expected: Result<Vec<_>, _> = ops
                    .iter()
                    .enumerate()
                    .map(|(at, op)| {
                        copy.operate(op, session, is_bob)
                            .map_err(|error| (at, error))
                    })
                    .collect();
                if expected.is_ok() {
                    self.model = copy;
                }
                let found = written.result.as_ref().expect("not refused");
                assert!(
                    same_outcome(found, &expected),
                    "{found:?}\nexpected {expected:?}"
                );
            }
            (Action::Resend(at), Written(again)) => self.expect_again(*at, again, change),
            (Action::Gap(at), Written(written)) => {
                let client = &self.clients[*at];
                let last = WriteSeq(client.seq);
                let expected = match self.ended.contains(&client.id()) {
                    true => WriteRefusal::SessionExpired,
                    false => WriteRefusal::OutOfSequence { last },
                };
                assert_eq!((refusal(written), change), (expected, None));
            }
            (Action::Acknowledge(_), CommandOutcome::None) => assert_eq!(change, None),
            (Action::Reopen(at), SessionGranted(granted)) => {
                self.expect_same_grant(*at, granted, change);
            }
            (Action::AttachInVain(at, stale), SessionGranted(granted)) => {
                let expected = match (self.ended.contains(&self.clients[*at].id()), stale) {
                    (true, _) => SessionError::Expired,
                    (false, true) => SessionError::Moved,
                    (false, false) => SessionError::WrongPassword,
                };
                assert_eq!((granted, change), (&Err(expected), None));
            }
            (Action::Close(at), SessionClosed(session, closed)) => {
                assert_eq!(
                    closed.result,
                    Ok(()),
                    "also if the session has ended before"
                );
                assert_eq!(change.is_some(), self.end(*at));
                assert_eq!(*session, self.clients[*at].id());
            }
            (Action::Expire(at), SessionExpired(_, ended)) => assert_eq!(*ended, self.end(*at)),
            (Action::Reap(path), Reaped(reaped)) => assert_eq!(*reaped, self.model.reap(path)),
            (Action::Attach(at), SessionGranted(granted)) => {
                assert_eq!(
                    granted.is_err(),
                    self.ended.contains(&self.clients[*at].id())
                );
            }
            unexpected => panic!("{unexpected:?}"),
        }
    }

    /// An open or attach that is sent again.
    fn expect_same_grant(
        &mut self,
        at: usize,
        granted: &Result<SessionGrant, SessionError>,
        change: Option<&Arc<ChangeSet>>,
    ) {
        let client = &self.clients[at];
        if !self.ended.contains(&client.id()) {
            assert_eq!(change, None);
            let granted = granted.expect("the same again");
            assert_eq!(granted.session, client.id());
            assert_eq!(granted.attachment, client.attachment);
        } else if client.attached.is_some() {
            assert_eq!((granted, change), (&Err(SessionError::Expired), None));
        } else {
            // What was opened has ended: this is a session of its own, whom nobody keeps.
            assert!(granted.is_ok() && change.is_some());
            self.model.zxid += 1;
            self.clients[at].opened = self.shard.nonce();
        }
    }

    /// A write that is sent again has no second effect.
    fn expect_again(&self, at: usize, again: &WriteOutcome, change: Option<&Arc<ChangeSet>>) {
        assert_eq!(change, None);
        let client = &self.clients[at];
        let write = client.last.as_ref().expect("a write");
        let first = self.answers[at].as_ref().expect("its answer");
        let refused = if self.ended.contains(&client.id()) {
            WriteRefusal::SessionExpired
        } else if write.attachment != client.attachment {
            WriteRefusal::SessionMoved
        } else if write.seq.0 <= client.acknowledged {
            let last = WriteSeq(client.seq);
            WriteRefusal::OutOfSequence { last }
        } else {
            assert_eq!(again, first);
            return;
        };
        assert_eq!(refusal(again), refused);
    }

    fn end(&mut self, at: usize) -> bool {
        let session = self.clients[at].id();
        let lives = !self.ended.contains(&session);
        if lives {
            self.ended.push(session);
            self.model.end_session(session);
        }
        lives
    }

    fn compare(&self) {
        let heads = self.shard.state.all_heads().expect("heads");
        assert_eq!(self.view, heads, "the changes tell everything");
        assert_eq!(self.shard.state.revision().0, self.model.zxid);
        let paths: Vec<&String> = heads.keys().collect();
        assert_eq!(paths, self.model.nodes.keys().collect::<Vec<_>>());
        for (path, head) in &heads {
            let node = &self.model.nodes[path];
            assert!(same(head, node), "{path}: {head:?}\nexpected {node:?}");
            assert_eq!(
                head.children.live as usize,
                self.model.children(path),
                "{path}"
            );
            assert_eq!(self.shard.value(path).as_deref(), node.value.as_deref());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_state_machine_behaves_as_zookeepers_tree(
        actions in proptest::collection::vec(actions(), 1..60),
        small_ends: bool,
        freeze_every in 5..30usize,
    ) {
        let mut world = World::new(match small_ends {
            true => Shard::with_small_ends(),
            false => Shard::new(),
        });
        world.step(&Action::Open);
        world.step(&Action::Open);
        let quota_roots = ["/zookeeper/quota", "/zookeeper/quota/a", "/zookeeper/quota/a/b"];
        for path in quota_roots {
            world.step(&Action::Write(0, vec![Op::Create {
                path: path.to_owned(),
                value: None,
                list: List::Open,
                lifetime: Lifetime::Persistent,
                sequential: false,
            }]));
        }
        for (at, action) in actions.iter().enumerate() {
            world.step(action);
            if at % freeze_every == 0 {
                world.freeze();
            }
        }
        world.compare_frozen();
        let records = world.model.nodes.len() as u64;
        let stats = world.shard.state.query(&Query::Stats);
        let counted = matches!(stats, Ok(Answer::Stats { records: found, .. }) if found == records);
        prop_assert!(counted, "{:?}", stats);
    }
}
