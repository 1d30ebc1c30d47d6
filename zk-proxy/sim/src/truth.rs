//! What must be true: the log, replayed in order on the model of a tree.
//!
//! The log says in which order things happened; what they were is what the clients asked for, and
//! what came of it is what the model says. A command counts once, if it is the next of a session that
//! lives, from the connection that the session is attached to.

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_wire::ErrorCode;

use crate::history::{ConnectionId, History, Incoming};
use crate::logged::{Logged, LoggedEntry, Place, corresponds};
use crate::model::{Answer, Caller, Change, Moment, Step, Tree};
use crate::op::Op;
use crate::reply::Body;

/// Everything that a correct server would have done and said.
#[derive(Debug)]
pub struct Truth {
    /// By zxid, from 0.
    pub states: Vec<State>,
    /// What became of each write: (connection, index of the request).
    pub writes: BTreeMap<(ConnectionId, usize), Done>,
    /// Commands that took effect, and that no client asked for.
    pub unclaimed: Vec<(i64, String)>,
    /// Writes that were passed over: something that was sent behind them took effect.
    pub passed_over: Vec<(ConnectionId, usize)>,
    pub ends: BTreeMap<i64, End>,
    /// Commands that came again and must have had no second effect.
    pub repeated: u64,
}

/// The tree after a zxid, and what changed with it.
#[derive(Debug)]
pub struct State {
    pub tree: Tree,
    pub changes: Vec<Change>,
    /// A session's end: its changes have no order among themselves.
    pub unordered: bool,
    pub at: Moment,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub zxid: i64,
    pub answer: Answer,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub zxid: i64,
    /// By time, not by its client.
    pub expired: bool,
}

#[derive(Debug)]
struct Session {
    attachment: u64,
    /// Of the handshake that the attachment comes from.
    nonce: u64,
    last_seq: u64,
    /// The first request of the connection that is not matched with a command yet.
    next_request: usize,
}

struct Replay<'a> {
    history: &'a History,
    passwords: BTreeMap<i64, &'a [u8]>,
    connections: BTreeMap<(i64, u64), ConnectionId>,
    /// Requests that were refused before the log.
    refused: BTreeSet<(ConnectionId, usize)>,
    sessions: BTreeMap<i64, Session>,
    /// Those that were not attached since, by the nonce of the handshake that opened them.
    opened: BTreeMap<u64, i64>,
    next_session: i64,
    truth: Truth,
}

impl Truth {
    /// `first_session`: the id of the first session that the shard gives.
    pub fn replay(entries: &[LoggedEntry], history: &History, first_session: i64) -> Self {
        let granted = history.connections.iter();
        let passwords = granted.filter_map(|connection| {
            let granted = connection.granted.as_ref()?;
            (granted.session != 0).then_some((granted.session, granted.password.as_slice()))
        });
        let bound = history.connections.iter().enumerate();
        let bound = bound.filter_map(|(id, of)| Some(((of.session()?, of.attachment?), id)));
        let mut replay = Replay {
            history,
            passwords: passwords.collect(),
            connections: bound.collect(),
            refused: refused(history),
            sessions: BTreeMap::new(),
            opened: BTreeMap::new(),
            next_session: first_session,
            truth: Truth::fresh(),
        };
        for entry in entries {
            for command in &entry.commands {
                let at = Moment {
                    zxid: replay.truth.last_zxid() + 1,
                    wall_ms: entry.wall_ms,
                    elapsed_ms: entry.elapsed_ms,
                };
                replay.command(command, at);
            }
        }
        replay.truth
    }

    fn fresh() -> Self {
        let state = State {
            tree: Tree::fresh(),
            changes: Vec::new(),
            unordered: false,
            at: Moment {
                zxid: 0,
                wall_ms: 0,
                elapsed_ms: 0,
            },
        };
        Self {
            states: vec![state],
            writes: BTreeMap::new(),
            unclaimed: Vec::new(),
            passed_over: Vec::new(),
            ends: BTreeMap::new(),
            repeated: 0,
        }
    }

    pub fn last_zxid(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    pub fn state(&self, zxid: i64) -> Option<&State> {
        self.states.get(usize::try_from(zxid).ok()?)
    }

    /// The newest state.
    pub fn tree(&self) -> &Tree {
        &self.states[self.states.len() - 1].tree
    }
}

fn refused(history: &History) -> BTreeSet<(ConnectionId, usize)> {
    let mut refused = BTreeSet::new();
    for (id, connection) in history.connections.iter().enumerate() {
        for received in &connection.received {
            if let Incoming::Reply { request, reply } = &received.what
                && reply.err == ErrorCode::THROTTLED_OP.0
            {
                refused.insert((id, *request));
            }
        }
    }
    refused
}

impl Replay<'_> {
    fn command(&mut self, command: &Logged, at: Moment) {
        match command {
            Logged::Open { nonce } => self.open(*nonce, at),
            Logged::Attach {
                session,
                password,
                replaces,
                nonce,
            } => self.attach(*session, password, *replaces, *nonce),
            Logged::Write { place, ops } => {
                let asked = |op: &Op| !matches!(op, Op::CloseSession) && corresponds(op, ops);
                if self.admit(*place) {
                    self.claim(*place, at, command, asked);
                }
            }
            Logged::Close(place) => {
                if self.admit(*place) {
                    self.claim(*place, at, command, |op| matches!(op, Op::CloseSession));
                    self.end(place.session, false);
                }
            }
            Logged::Expire {
                session,
                attachment,
            } => {
                let current = self.sessions.get(session);
                if current.is_some_and(|current| current.attachment == *attachment) {
                    let step = self.truth.tree().end_session(*session, at.zxid);
                    self.push(Some(step), true, at);
                    self.end(*session, true);
                }
            }
            Logged::Reap { path } => {
                if let Some(step) = self.truth.tree().reap(path, at) {
                    self.push(Some(step), false, at);
                }
            }
            Logged::Other => {}
        }
    }

    fn open(&mut self, nonce: u64, at: Moment) {
        if self.opened.contains_key(&nonce) {
            self.truth.repeated += 1;
            return;
        }
        let session = Session {
            attachment: 1,
            nonce,
            last_seq: 0,
            next_request: 0,
        };
        self.sessions.insert(self.next_session, session);
        self.opened.insert(nonce, self.next_session);
        self.next_session += 1;
        self.push(None, false, at);
    }

    fn attach(&mut self, id: i64, password: &[u8], replaces: u64, nonce: u64) {
        let right = self
            .passwords
            .get(&id)
            .is_none_or(|known| *known == password);
        let Some(session) = self.sessions.get_mut(&id).filter(|_| right) else {
            return;
        };
        if session.attachment != replaces {
            self.truth.repeated += u64::from(session.nonce == nonce);
            return;
        }
        // From here on its opening would not be known again.
        self.opened.remove(&session.nonce);
        *session = Session {
            attachment: replaces + 1,
            nonce,
            last_seq: 0,
            next_request: 0,
        };
    }

    /// Whether a command of a session takes effect: then it is the last one now.
    fn admit(&mut self, place: Place) -> bool {
        let Some(session) = self.sessions.get_mut(&place.session) else {
            return false;
        };
        if session.attachment != place.attachment {
            return false;
        }
        let next = place.follows == session.last_seq && place.seq > session.last_seq;
        if next {
            session.last_seq = place.seq;
        } else {
            self.truth.repeated += 1;
        }
        next
    }

    /// Finds the request that a command comes from, and does what it asks for.
    fn claim(&mut self, place: Place, at: Moment, command: &Logged, is_it: impl Fn(&Op) -> bool) {
        let Some((id, index)) = self.find(place.session, is_it) else {
            let what = format!("{command:?}");
            self.truth.unclaimed.push((at.zxid, what));
            return self.push(None, false, at);
        };
        let connection = &self.history.connections[id];
        let mut caller = Caller {
            session: place.session,
            ..Caller::default()
        };
        for credentials in connection.credentials(index) {
            caller.authenticate(credentials);
        }
        let op = &connection.sent[index].op;
        let (answer, step, unordered) = match self.truth.tree().write(op, &caller, at) {
            Some((answer, step)) => (answer, step, false),
            None => {
                let answer = Answer {
                    err: 0,
                    body: Body::Nothing,
                };
                let step = self.truth.tree().end_session(place.session, at.zxid);
                (answer, Some(step), true)
            }
        };
        self.push(step, unordered, at);
        let zxid = at.zxid;
        self.truth.writes.insert((id, index), Done { zxid, answer });
    }

    fn find(&mut self, session: i64, is_it: impl Fn(&Op) -> bool) -> Option<(ConnectionId, usize)> {
        let id = session;
        let session = self.sessions.get_mut(&id)?;
        let id = *self.connections.get(&(id, session.attachment))?;
        let sent = &self.history.connections[id].sent;
        let index = (session.next_request..sent.len())
            .find(|&index| is_it(&sent[index].op) && !self.refused.contains(&(id, index)))?;
        let passed = (session.next_request..index)
            .filter(|&passed| sent[passed].op.is_write() && !self.refused.contains(&(id, passed)));
        self.truth
            .passed_over
            .extend(passed.map(|passed| (id, passed)));
        session.next_request = index + 1;
        Some((id, index))
    }

    fn end(&mut self, session: i64, expired: bool) {
        if let Some(ended) = self.sessions.remove(&session) {
            self.opened.remove(&ended.nonce);
        }
        let zxid = self.truth.last_zxid();
        self.truth.ends.insert(session, End { zxid, expired });
    }

    fn push(&mut self, step: Option<Step>, unordered: bool, at: Moment) {
        let step = step.unwrap_or_else(|| Step {
            tree: self.truth.tree().clone(),
            changes: Vec::new(),
        });
        self.truth.states.push(State {
            tree: step.tree,
            changes: step.changes,
            unordered,
            at,
        });
    }
}
