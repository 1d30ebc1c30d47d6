//! A map as shard, behind a link. It remembers every value that a path ever had.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oxkeeper_link::{Event, Link, LinkError, Request, Token};
use oxkeeper_model::{
    Acl, Answer, Attachment, Change, ChangeKind, ChangeSet, ChangedValue, ChildNames,
    ClientCommand, CloseOutcome, CommandOutcome, Create, Fetched, Head, OpError, OpResult,
    OpResults, Path, Query, Revision, SessionGrant, SessionId, SessionWrite, SharedHead, TreeOp,
    TxnOutcome, WriteOutcome, name_of, parent_of,
};

use super::Rng;

type Record = (SharedHead, Option<Bytes>);

#[derive(Default)]
struct Sent {
    requests: Mutex<VecDeque<Request>>,
    busy: AtomicBool,
}

impl Link for Sent {
    fn send(&self, requests: &mut Vec<Request>) -> Result<(), LinkError> {
        if self.busy.load(Relaxed) {
            return Err(LinkError::Busy);
        }
        self.requests.lock().unwrap().extend(requests.drain(..));
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct MapShard {
    sent: Arc<Sent>,
    /// Queries wait for a while, but keep their order.
    queries: VecDeque<(Token, Query)>,
    records: BTreeMap<Path, Record>,
    /// What a path held from a revision on; `None`: nothing.
    pub(crate) history: BTreeMap<Path, Vec<(u64, Option<Option<Bytes>>)>>,
    revision: Revision,
    sessions: i64,
    /// Bytes of the largest write that came.
    pub(crate) queries_answered: usize,
    pub(crate) writes: usize,
}

impl MapShard {
    pub(crate) fn link(&self) -> Arc<dyn Link> {
        Arc::clone(&self.sent) as Arc<dyn Link>
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// What a broken link carried is lost.
    pub(crate) fn forget_sent(&mut self) {
        self.sent.requests.lock().unwrap().clear();
        self.queries.clear();
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.sent.busy.store(busy, Relaxed);
    }

    /// The session that was opened last is not there any more.
    pub(crate) fn end_last_session(&mut self) {
        self.sessions -= 1;
    }

    /// Somebody else changes something.
    pub(crate) fn change_unheard(&mut self, op: TreeOp) {
        self.revision = self.revision.next();
        let mut changes = Vec::new();
        self.op(op, &mut changes).expect("it can be done");
        self.revision = Revision(self.revision.0 - 1);
        self.change(changes, &mut Vec::new());
    }

    /// Works off some of what was sent. Queries may be answered after what was sent behind them.
    pub(crate) fn step(&mut self, rng: &mut Rng) -> Vec<Event> {
        let mut events = Vec::new();
        let count = rng.below(20) + 1;
        for _ in 0..count {
            let request = self.sent.requests.lock().unwrap().pop_front();
            match request {
                Some(Request::Command { token, command }) => {
                    self.command(token, command, &mut events);
                }
                Some(Request::Query { token, query }) => self.queries.push_back((token, query)),
                Some(Request::Heartbeat { .. }) => {}
                None => break,
            }
        }
        if events.is_empty() || rng.one_in(3) {
            let answered = rng.below(4) as usize + 1;
            for (token, query) in self.queries.drain(..answered.min(self.queries.len())) {
                self.queries_answered += 1;
                let answer = answer(&self.records, self.sessions, &query);
                events.push(Event::Answered {
                    token,
                    query,
                    answer,
                });
            }
        }
        events
    }

    /// What `path` held at a revision.
    pub(crate) fn at(&self, path: &str, revision: u64) -> Option<&Option<Bytes>> {
        let states = self.history.get(path)?;
        let later = states.partition_point(|(from, _)| *from <= revision);
        states[..later].last()?.1.as_ref()
    }

    /// The children that `path` had at a revision, sorted.
    pub(crate) fn children_at(&self, path: &str, revision: u64) -> Vec<String> {
        let paths = self.history.keys();
        let children = paths.filter(|child| child.parent() == Some(path));
        children
            .filter(|child| self.at(child, revision).is_some())
            .map(|child| child.name().to_owned())
            .collect()
    }

    fn command(&mut self, token: Token, command: ClientCommand, events: &mut Vec<Event>) {
        let outcome = match command {
            ClientCommand::OpenSession { timeout_ms, .. } => {
                self.sessions += 1;
                self.change(Vec::new(), events);
                CommandOutcome::SessionGranted(Ok(SessionGrant {
                    session: SessionId(self.sessions),
                    password: [0; 16],
                    attachment: Attachment(1),
                    timeout_ms,
                }))
            }
            ClientCommand::Write(write) => CommandOutcome::Written(self.write(write, events)),
            ClientCommand::CloseSession { session, .. } => {
                self.change(Vec::new(), events);
                let outcome = CloseOutcome {
                    revision: self.revision,
                    result: Ok(()),
                };
                CommandOutcome::SessionClosed(session, outcome)
            }
            ClientCommand::Attach { .. } => panic!("nobody attaches"),
        };
        events.push(Event::Outcome { token, outcome });
    }

    fn write(&mut self, write: SessionWrite, events: &mut Vec<Event>) -> WriteOutcome {
        self.writes += 1;
        let before = self.records.clone();
        self.revision = self.revision.next();
        let (mut results, mut changes) = (OpResults::new(), Vec::new());
        let mut failed = None;
        for (index, op) in write.ops.into_iter().enumerate() {
            match self.op(op, &mut changes) {
                Ok(result) => results.push(result),
                Err(error) => {
                    failed = Some((index as u32, error));
                    break;
                }
            }
        }
        let outcome = match failed {
            None => TxnOutcome::Applied(results),
            Some((index, error)) => {
                self.records = before;
                changes.clear();
                TxnOutcome::Failed { index, error }
            }
        };
        self.revision = Revision(self.revision.0 - 1);
        self.change(changes, events);
        WriteOutcome {
            session: write.session,
            seq: write.seq,
            revision: self.revision,
            result: Ok(outcome),
        }
    }

    fn op(&mut self, op: TreeOp, changes: &mut Vec<Change>) -> Result<OpResult, OpError> {
        match op {
            TreeOp::Create(Create {
                path, value, acl, ..
            }) => {
                if self.records.contains_key(&path) {
                    return Err(OpError::NodeExists);
                }
                let head = self.head(acl, self.revision, &value, 0);
                let parent_acl = Some(open());
                let kind = ChangeKind::Created;
                self.put(changes, &path, kind, &head, value, parent_acl);
                Ok(OpResult::Created { path, head })
            }
            TreeOp::SetValue {
                path,
                value,
                expected_version,
            } => {
                let (old, _) = self.records.get(&path).ok_or(OpError::NoNode)?;
                let version = old.modifications_count;
                if expected_version.is_some_and(|expected| expected != version) {
                    return Err(OpError::BadVersion);
                }
                let (acl, created) = (old.acl.clone(), old.created_revision);
                let head = self.head(acl, created, &value, version + 1);
                self.put(changes, &path, ChangeKind::ValueSet, &head, value, None);
                Ok(OpResult::ValueSet { head })
            }
            TreeOp::Delete { path, .. } => {
                let (head, _) = self.records.remove(&path).ok_or(OpError::NoNode)?;
                changes.push(Change {
                    path,
                    kind: ChangeKind::Deleted,
                    head,
                    parent_acl: Some(open()),
                    value: ChangedValue::Unchanged,
                });
                Ok(OpResult::Deleted)
            }
            TreeOp::Refused { code } => Err(OpError::FrontEnd(code)),
            other => panic!("{other:?} is not asked for"),
        }
    }

    fn head(&self, acl: Acl, created: Revision, value: &Option<Bytes>, version: i32) -> SharedHead {
        let mut head = Head::new(created, 0, acl);
        head.modified_revision = self.revision;
        head.modifications_count = version;
        head.value_bytes = value.as_ref().map(|value| value.len() as u32);
        head.into()
    }

    fn put(
        &mut self,
        changes: &mut Vec<Change>,
        path: &Path,
        kind: ChangeKind,
        head: &SharedHead,
        value: Option<Bytes>,
        parent_acl: Option<Acl>,
    ) {
        changes.push(Change {
            path: path.clone(),
            kind,
            head: head.clone(),
            parent_acl,
            value: ChangedValue::Set(value.clone()),
        });
        self.records.insert(path.clone(), (head.clone(), value));
    }

    fn change(&mut self, changes: Vec<Change>, events: &mut Vec<Event>) {
        self.revision = self.revision.next();
        for change in &changes {
            let value = match &change.value {
                ChangedValue::Set(value) => Some(value.clone()),
                ChangedValue::Unchanged => None,
            };
            let states = self.history.entry(change.path.clone()).or_default();
            states.push((self.revision.0, value));
        }
        events.push(Event::Changed(Arc::new(ChangeSet {
            changes: changes.into(),
            ..ChangeSet::empty(self.revision)
        })));
    }
}

pub(crate) fn open() -> Acl {
    oxkeeper_session::tree_seed()[0].record.head.acl.clone()
}

fn root() -> SharedHead {
    oxkeeper_session::tree_seed()[0].record.head.clone().into()
}

fn answer(records: &BTreeMap<Path, Record>, sessions: i64, query: &Query) -> Answer {
    let head_of = |path: &str| match path {
        "/" => {
            let mut head = (*root()).clone();
            let created = records.values().map(|(head, _)| head.created_revision);
            head.children.last_change = created.max().unwrap_or_default();
            Some(SharedHead::from(head))
        }
        path => records.get(path).map(|(head, _)| head.clone()),
    };
    match query {
        Query::Records { paths, with_values } => {
            let fetch = |path: &Path| {
                let value = records.get(path).and_then(|(_, value)| value.clone());
                let head = head_of(path)?;
                let value = with_values.then_some(value);
                Some(Fetched { head, value })
            };
            Answer::Records(paths.iter().map(fetch).collect())
        }
        Query::ChildNames { path } => Answer::ChildNames(head_of(path).map(|head| {
            let children = records
                .keys()
                .filter(|child| parent_of(child) == Some(path.as_str()));
            ChildNames {
                head,
                names: children.map(|child| name_of(child).into()).collect(),
            }
        })),
        Query::Barrier => Answer::Barrier,
        Query::Sessions => Answer::Sessions(
            (1..=sessions)
                .map(|id| (SessionId(id), 10_000, 0))
                .collect(),
        ),
        Query::Batch { queries, .. } => Answer::Batch(
            queries
                .iter()
                .map(|query| answer(records, sessions, query))
                .collect(),
        ),
        other => panic!("{other:?} is not asked for"),
    }
}
