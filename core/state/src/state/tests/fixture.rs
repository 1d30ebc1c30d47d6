//! A shard under test, and short words for what tests ask of it.

use std::sync::Arc;

use bytes::Bytes;
use oxkeeper_model::placement::ShardDescriptor;
use oxkeeper_model::{
    Acl, AclEntry, Answer, Attachment, ChangeSet, ClientCommand, CloseOutcome, Command,
    CommandOutcome, Create, Entry, Head, Identities, Identity, Lifetime, Nonce, OpError, OpResult,
    Ops, Path, Query, Record, Revision, SeedRecord, SessionGrant, SessionId, SessionWrite, ShardId,
    ShardUuid, SharedHead, Term, TreeOp, TxnOutcome, WriteOutcome, WriteRefusal, WriteSeq,
};

use oxkeeper_store::MemoryStore;

use crate::state::ends::EndLimits;
use crate::{Applied, HashKey, ShardState};

pub(super) const SECRET: [u8; 32] = [9; 32];
pub(super) const START_MS: i64 = 1_700_000_000_000;

/// A connection's side of a session.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) grant: SessionGrant,
    pub(super) attachment: Attachment,
    pub(super) seq: u64,
    pub(super) acknowledged: u64,
    pub(super) identities: Identities,
    /// Of the open, and of the last attach.
    pub(super) opened: Nonce,
    pub(super) attached: Option<Nonce>,
    /// The last write that was sent.
    pub(super) last: Option<SessionWrite>,
}

impl Client {
    /// Of a session that may not exist.
    pub(super) fn of(session: SessionId) -> Self {
        Self {
            grant: SessionGrant {
                session,
                password: [0; 16],
                attachment: Attachment(1),
                timeout_ms: 10_000,
            },
            attachment: Attachment(1),
            seq: 0,
            acknowledged: 0,
            identities: Arc::new([]),
            opened: Nonce(0),
            attached: None,
            last: None,
        }
    }

    pub(super) fn id(&self) -> SessionId {
        self.grant.session
    }

    pub(super) fn with_identity(mut self, scheme: &str, id: &str) -> Self {
        self.identities = Arc::new([Identity {
            scheme: scheme.into(),
            id: id.into(),
        }]);
        self
    }

    /// The next write; each is acknowledged by the one after it.
    pub(super) fn next(&mut self, ops: Vec<TreeOp>) -> SessionWrite {
        self.seq += 1;
        let write = self.write(self.seq, ops);
        self.last = Some(write.clone());
        write
    }

    /// An attach in the place of the attachment `replaces`.
    pub(super) fn attach(&self, replaces: Attachment, nonce: Nonce) -> ClientCommand {
        ClientCommand::Attach {
            session: self.id(),
            password: self.grant.password,
            replaces,
            nonce,
            timeout_ms: 10_000,
        }
    }

    pub(super) fn write(&self, seq: u64, ops: Vec<TreeOp>) -> SessionWrite {
        SessionWrite {
            session: self.id(),
            attachment: self.attachment,
            seq: WriteSeq(seq),
            follows: WriteSeq(seq.saturating_sub(1)),
            acknowledged: WriteSeq(self.acknowledged),
            identities: self.identities.clone(),
            ops: Ops::from_vec(ops),
        }
    }
}

pub(super) struct Shard {
    pub(super) state: ShardState<MemoryStore>,
    pub(super) disk: MemoryStore,
    pub(super) log: Vec<Entry>,
    /// The wall clock.
    pub(super) now_ms: i64,
    pub(super) elapsed_ms: u64,
    last_nonce: u64,
    /// Whether invariants are checked after each entry: it takes as long as the tree is large.
    pub(super) check_each: bool,
    /// Whether entries are encoded and decoded on their way.
    pub(super) through_the_log: bool,
}

/// With these, sessions of two records and more are buried, and swept one record at a time.
pub(super) const SMALL_ENDS: EndLimits = EndLimits {
    listed_records_max: 1,
    swept_records_max: 1,
};

pub(super) fn descriptor() -> ShardDescriptor {
    ShardDescriptor::whole("default", ShardId(0), ShardUuid([0x5a; 16]))
}

pub(super) fn open_state(disk: &MemoryStore, limits: EndLimits) -> ShardState<MemoryStore> {
    let opened = ShardState::open(&descriptor(), disk.clone(), HashKey(7));
    let mut state = opened.expect("the store opens");
    state.end_limits = limits;
    state
}

impl Shard {
    pub(super) fn with_small_ends() -> Self {
        let mut shard = Self::new();
        shard.state.end_limits = SMALL_ENDS;
        shard
    }

    pub(super) fn new() -> Self {
        let mut shard = Self::empty();
        shard.apply(vec![genesis()]);
        shard
    }

    /// Without a genesis.
    pub(super) fn empty() -> Self {
        let disk = MemoryStore::new();
        let state = open_state(&disk, EndLimits::default());
        Self {
            state,
            disk,
            log: Vec::new(),
            now_ms: START_MS,
            elapsed_ms: 0,
            last_nonce: 0,
            check_each: true,
            through_the_log: false,
        }
    }

    pub(super) fn found(&mut self, seed: Vec<(&str, Record)>) {
        let record = |(path, record): (&str, Record)| SeedRecord {
            path: path.into(),
            record,
        };
        self.apply(vec![Command::Genesis {
            secret: SECRET,
            seed: seed.into_iter().map(record).collect(),
        }]);
    }

    /// Applies one entry; invariants hold after it.
    pub(super) fn apply(&mut self, commands: Vec<Command>) -> Vec<Applied> {
        let entry = Entry {
            term: Term(1),
            wall_ms: self.now_ms,
            elapsed_ms: self.elapsed_ms,
            commands,
        };
        if self.through_the_log {
            let mut bytes = Vec::new();
            oxkeeper_format::encode(&entry, &mut bytes);
            let decoded = oxkeeper_format::decode(&bytes.into()).expect("decoded");
            assert_eq!(decoded, entry);
        }
        let mut out = Vec::new();
        let offset = self.state.applied().next();
        self.state.apply(offset, &entry, &mut out).expect("apply");
        assert_eq!(out.len(), entry.commands.len(), "one answer per command");
        self.log.push(entry);
        if self.check_each {
            self.check();
        }
        out
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.now_ms += ms as i64;
        self.elapsed_ms += ms;
    }

    pub(super) fn nonce(&mut self) -> Nonce {
        self.last_nonce += 1;
        Nonce(self.last_nonce)
    }

    pub(super) fn check(&self) {
        if let Err(error) = self.state.check_invariants() {
            panic!("{error}");
        }
    }

    pub(super) fn apply_one(&mut self, command: Command) -> Applied {
        self.apply(vec![command]).remove(0)
    }

    pub(super) fn open(&mut self) -> Client {
        let nonce = self.nonce();
        let applied = self.apply_one(Command::Client(ClientCommand::OpenSession {
            nonce,
            timeout_ms: 10_000,
        }));
        let CommandOutcome::SessionGranted(Ok(grant)) = applied.outcome else {
            panic!("no session: {applied:?}");
        };
        Client {
            grant,
            attachment: grant.attachment,
            opened: nonce,
            ..Client::of(grant.session)
        }
    }

    pub(super) fn attach(&mut self, client: &mut Client) {
        let nonce = self.nonce();
        let attach = client.attach(client.attachment, nonce);
        let applied = self.apply_one(Command::Client(attach));
        let CommandOutcome::SessionGranted(Ok(grant)) = applied.outcome else {
            panic!("not attached: {applied:?}");
        };
        client.attachment = grant.attachment;
        client.attached = Some(nonce);
        (client.seq, client.acknowledged) = (0, 0);
    }

    pub(super) fn send(&mut self, write: SessionWrite) -> (WriteOutcome, Option<Arc<ChangeSet>>) {
        let applied = self.apply_one(Command::Client(ClientCommand::Write(write)));
        let CommandOutcome::Written(outcome) = applied.outcome else {
            panic!("not a write: {applied:?}");
        };
        (outcome, applied.change)
    }

    pub(super) fn txn(&mut self, client: &mut Client, ops: Vec<TreeOp>) -> (TxnOutcome, ChangeSet) {
        let (outcome, change) = self.send(client.next(ops));
        client.acknowledged = client.seq;
        let change = change.expect("a transaction takes a revision");
        assert_eq!(change.revision, outcome.revision);
        (outcome.result.expect("not refused"), (*change).clone())
    }

    /// Runs a transaction that must succeed.
    pub(super) fn multi(&mut self, client: &mut Client, ops: Vec<TreeOp>) -> Vec<OpResult> {
        match self.txn(client, ops) {
            (TxnOutcome::Applied(results), _) => results.into_vec(),
            (failed, _) => panic!("{failed:?}"),
        }
    }

    /// Runs one operation that must succeed.
    pub(super) fn ok(&mut self, client: &mut Client, op: TreeOp) -> OpResult {
        self.multi(client, vec![op]).remove(0)
    }

    /// Runs one operation that must succeed; its change set.
    pub(super) fn change(&mut self, client: &mut Client, op: TreeOp) -> ChangeSet {
        let (outcome, change) = self.txn(client, vec![op]);
        assert!(matches!(outcome, TxnOutcome::Applied(_)), "{outcome:?}");
        change
    }

    /// Runs one operation that must fail, with a revision and without effect.
    pub(super) fn err(&mut self, client: &mut Client, op: TreeOp) -> OpError {
        let before = (self.tree(), self.state.revision());
        let (outcome, change) = self.txn(client, vec![op]);
        assert_eq!(self.tree(), before.0, "a failed operation changes nothing");
        assert_eq!(
            self.state.revision(),
            before.1.next(),
            "it takes a revision"
        );
        assert!(change.changes.is_empty() && change.parents.is_empty());
        match outcome {
            TxnOutcome::Failed { index: 0, error } => error,
            outcome => panic!("{outcome:?}"),
        }
    }

    pub(super) fn close(&mut self, client: &mut Client) -> (CloseOutcome, Option<Arc<ChangeSet>>) {
        client.seq += 1;
        let applied = self.apply_one(Command::Client(ClientCommand::CloseSession {
            session: client.id(),
            attachment: client.attachment,
            seq: WriteSeq(client.seq),
            follows: WriteSeq(client.seq - 1),
        }));
        let CommandOutcome::SessionClosed(session, outcome) = applied.outcome else {
            panic!("not a close: {applied:?}");
        };
        assert_eq!(session, client.id());
        (outcome, applied.change)
    }

    pub(super) fn expire(&mut self, client: &Client) -> Option<Arc<ChangeSet>> {
        let (session, attachment) = (client.id(), client.attachment);
        let applied = self.apply_one(Command::ExpireSession {
            session,
            attachment,
        });
        let ended = applied.change.is_some();
        assert_eq!(
            applied.outcome,
            CommandOutcome::SessionExpired(session, ended)
        );
        applied.change
    }

    pub(super) fn reap(&mut self, path: &str) -> bool {
        let applied = self.apply_one(Command::Reap { path: path.into() });
        let deleted = applied.change.is_some();
        assert_eq!(applied.outcome, CommandOutcome::Reaped(deleted));
        deleted
    }

    pub(super) fn find(&self, path: &str) -> Option<SharedHead> {
        let query = Query::Records {
            paths: vec![path.into()],
            with_values: false,
        };
        match self.state.query(&query).expect("query") {
            Answer::Records(mut records) => records.remove(0).map(|fetched| fetched.head),
            answer => panic!("{answer:?}"),
        }
    }

    pub(super) fn head(&self, path: &str) -> SharedHead {
        self.find(path)
            .unwrap_or_else(|| panic!("no record at {path}"))
    }

    pub(super) fn value(&self, path: &str) -> Option<Bytes> {
        let query = Query::Records {
            paths: vec![path.into()],
            with_values: true,
        };
        match self.state.query(&query).expect("query") {
            Answer::Records(mut records) => records
                .remove(0)
                .and_then(|fetched| fetched.value)
                .expect("a record"),
            answer => panic!("{answer:?}"),
        }
    }

    pub(super) fn names(&self, path: &str) -> Vec<String> {
        match self
            .state
            .query(&Query::ChildNames { path: path.into() })
            .expect("query")
        {
            Answer::ChildNames(Some(children)) => {
                assert_eq!(children.names.len(), children.head.children.live as usize);
                children.names.into_iter().map(String::from).collect()
            }
            answer => panic!("{answer:?}"),
        }
    }

    /// Every row of a record or an index.
    pub(super) fn tree(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let is_tree = |key: &[u8]| matches!(key[0], 1 | 2 | 4 | 5);
        self.disk
            .rows()
            .into_iter()
            .filter(|(key, _)| is_tree(key))
            .collect()
    }
}

pub(super) fn refusal(outcome: &WriteOutcome) -> WriteRefusal {
    outcome.result.clone().expect_err("refused")
}

pub(super) fn genesis() -> Command {
    let record = |path: &str, live: u32| SeedRecord {
        path: path.into(),
        record: seed(live),
    };
    Command::Genesis {
        secret: SECRET,
        seed: vec![record("/", 1), record("/zookeeper", 0)],
    }
}

pub(super) fn seed(live: u32) -> Record {
    let mut head = Head {
        value_bytes: Some(0),
        ..Head::new(Revision(0), 0, open_acl())
    };
    head.children.live = live;
    Record {
        head,
        value: Some(Bytes::new()),
    }
}

pub(super) fn acl(entries: &[(i32, &str, &str)]) -> Acl {
    entries
        .iter()
        .map(|&(permissions, scheme, id)| AclEntry {
            permissions,
            scheme: scheme.into(),
            id: id.into(),
        })
        .collect()
}

pub(super) fn open_acl() -> Acl {
    acl(&[(31, "world", "anyone")])
}

pub(super) fn create(path: &str) -> TreeOp {
    create_with(path, Lifetime::Persistent, open_acl())
}

pub(super) fn ephemeral(path: &str) -> TreeOp {
    create_with(path, Lifetime::Ephemeral, open_acl())
}

pub(super) fn create_with(path: &str, lifetime: Lifetime, acl: Acl) -> TreeOp {
    TreeOp::Create(Create {
        path: path.into(),
        value: Some(Bytes::from_static(b"v")),
        acl,
        lifetime,
        sequential: false,
        malformed: false,
    })
}

pub(super) fn sequential(path: &str) -> TreeOp {
    with(create(path), |create| create.sequential = true)
}

pub(super) fn malformed(op: TreeOp) -> TreeOp {
    with(op, |create| create.malformed = true)
}

fn with(mut op: TreeOp, change: impl FnOnce(&mut Create)) -> TreeOp {
    if let TreeOp::Create(create) = &mut op {
        change(create);
    }
    op
}

pub(super) fn set(path: &str, value: &str) -> TreeOp {
    set_at(path, value, None)
}

pub(super) fn set_at(path: &str, value: &str, expected_version: Option<i32>) -> TreeOp {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    TreeOp::SetValue {
        path: path.into(),
        value,
        expected_version,
    }
}

pub(super) fn set_acl(path: &str, acl: Acl, expected_version: Option<i32>) -> TreeOp {
    TreeOp::SetAcl {
        path: path.into(),
        acl,
        expected_version,
    }
}

pub(super) fn delete(path: &str) -> TreeOp {
    delete_at(path, None)
}

pub(super) fn delete_at(path: &str, expected_version: Option<i32>) -> TreeOp {
    TreeOp::Delete {
        path: path.into(),
        expected_version,
    }
}

pub(super) fn check(path: &str, expected_version: Option<i32>) -> TreeOp {
    TreeOp::Check {
        path: path.into(),
        expected_version,
    }
}

pub(super) fn get(path: &str) -> TreeOp {
    TreeOp::Get { path: path.into() }
}

pub(super) fn created_path(result: &OpResult) -> Path {
    match result {
        OpResult::Created { path, .. } => path.clone(),
        result => panic!("{result:?}"),
    }
}
