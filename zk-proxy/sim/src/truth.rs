//! What must be true: the log, replayed in order on the model of a tree.
//!
//! The log says in which order things happened; what they were is what the clients asked for, and
//! what came of it is what the model says. A command counts once, if it is the next of a session that
//! lives, from the connection that the session is attached to.

use std::collections::BTreeMap;

use crate::history::{ConnectionId, History};
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
    nonce: u128,
    last_seq: u64,
    connection: Option<ConnectionId>,
    /// The first request of the connection that is not matched with a command yet.
    next_request: usize,
}

struct Replay<'a> {
    history: &'a History,
    passwords: BTreeMap<i64, &'a [u8]>,
    connections: BTreeMap<u128, ConnectionId>,
    sessions: BTreeMap<i64, Session>,
    /// By the nonce of the handshake that opened them.
    opened: BTreeMap<u128, i64>,
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
        let by_nonce = history.connections.iter().enumerate();
        let by_nonce = by_nonce.filter_map(|(id, connection)| Some((connection.nonce?, id)));
        let mut replay = Replay {
            history,
            passwords: passwords.collect(),
            connections: by_nonce.collect(),
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
                    self.claim(*place, at, asked);
                }
            }
            Logged::Close(place) => {
                if self.admit(*place) {
                    self.claim(*place, at, |op| matches!(op, Op::CloseSession));
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

    fn open(&mut self, nonce: u128, at: Moment) {
        if self.opened.contains_key(&nonce) {
            self.truth.repeated += 1;
            return;
        }
        let session = Session {
            attachment: 1,
            nonce,
            last_seq: 0,
            connection: self.connections.get(&nonce).copied(),
            next_request: 0,
        };
        self.sessions.insert(self.next_session, session);
        self.opened.insert(nonce, self.next_session);
        self.next_session += 1;
        self.push(None, false, at);
    }

    fn attach(&mut self, id: i64, password: &[u8], replaces: u64, nonce: u128) {
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
        *session = Session {
            attachment: replaces + 1,
            nonce,
            last_seq: 0,
            connection: self.connections.get(&nonce).copied(),
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
    fn claim(&mut self, place: Place, at: Moment, is_it: impl Fn(&Op) -> bool) {
        let Some((id, index)) = self.find(place.session, is_it) else {
            let what = format!("{place:?}");
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
        let session = self.sessions.get_mut(&session)?;
        let id = session.connection?;
        let sent = &self.history.connections[id].sent;
        let found = sent[session.next_request..]
            .iter()
            .position(|sent| is_it(&sent.op))?;
        let index = session.next_request + found;
        session.next_request = index + 1;
        Some((id, index))
    }

    fn end(&mut self, session: i64, expired: bool) {
        self.sessions.remove(&session);
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
