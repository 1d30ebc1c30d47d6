//! A simulated ZooKeeper client: what it knows, what it does next, what it makes of what it hears.

mod plan;
mod watches;

use bytes::{Buf, BytesMut};
use oxkeeper_sim::Random;
use oxkeeper_wire::client::{XID_AUTH, XID_PING, XID_SET_WATCHES};
use oxkeeper_wire::{ConnectRequest, ConnectResponse};

use crate::history::{Asked, Connection, Granted, Incoming, Received, Sent};
use crate::op::Op;
use crate::reply::{Notification, Reply, is_notification};

use plan::Plan;
pub use plan::{Habits, Requests};
use watches::Registry;

/// The longest pause between two things that a client does that is not going silent.
const PAUSE_US_MAX: u64 = 1_300_000;

/// What a client wants to happen.
#[derive(Debug)]
pub enum Act {
    /// Opens a connection and sends this.
    Connect { asked: Asked, frame: BytesMut },
    /// Sends this on the open connection.
    Send(BytesMut),
    /// Drops the connection.
    Disconnect,
    /// To be woken again after so long.
    Wait(u64),
}

/// The session as the client holds it.
#[derive(Clone, Debug)]
struct Session {
    id: i64,
    password: Vec<u8>,
    timeout_ms: i32,
}

/// The open connection.
#[derive(Debug, Default)]
struct Open {
    /// Where it stands in the history.
    id: usize,
    granted: bool,
    /// Received and not yet a whole frame.
    input: BytesMut,
    /// Requests that were answered.
    answered: usize,
    next_xid: i32,
    closing: bool,
    waits_since_us: u64,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    pub number: usize,
    random: Random,
    plan: Plan,
    habits: Habits,
    session: Option<Session>,
    /// The highest zxid of any reply.
    last_zxid: i64,
    open: Option<Open>,
    watches: Registry,
    mood: Mood,
}

/// What a client is up to.
#[derive(Debug)]
enum Mood {
    Busy,
    /// Asks for nothing new, but keeps its session.
    Quiet,
    /// Says nothing any more.
    Silent,
    /// Asks for these, then keeps its session.
    Auditing(Vec<Op>),
}

impl Client {
    pub fn new(number: usize, mut random: Random, habits: Habits) -> Self {
        let plan = Plan::new(number, random.fork(), &habits);
        Self {
            number,
            random,
            plan,
            habits,
            session: None,
            last_zxid: 0,
            open: None,
            watches: Registry::default(),
            mood: Mood::Busy,
        }
    }

    /// One that asks for `ops`, after a write.
    pub fn auditor(number: usize, random: Random, habits: Habits, ops: Vec<Op>) -> Self {
        let mut auditor = Self::new(number, random, habits);
        auditor.mood = Mood::Auditing(ops);
        auditor
    }

    /// From now on it only keeps its session, or not even that.
    pub fn become_quiet(&mut self, silent: bool) {
        self.mood = if silent { Mood::Silent } else { Mood::Quiet };
    }

    pub fn has_asked_all(&self) -> bool {
        matches!(self.mood, Mood::Quiet)
    }

    pub fn connection(&self) -> Option<usize> {
        self.open.as_ref().map(|open| open.id)
    }

    /// Requests that have no answer yet, the handshake included.
    pub fn waits_for(&self, connections: &[Connection]) -> usize {
        self.open.as_ref().map_or(0, |open| {
            usize::from(!open.granted) + connections[open.id].sent.len() - open.answered
        })
    }

    /// Since when nothing more was answered.
    pub fn waits_since_us(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.waits_since_us)
    }

    // ---- what it does

    /// Its next acts. `connections`: the history, where it writes down what it sends.
    pub fn act(&mut self, now_us: u64, connections: &mut [Connection]) -> Vec<Act> {
        let Some(open) = &self.open else {
            if matches!(self.mood, Mood::Silent) {
                return Vec::new();
            }
            return vec![self.connect(), Act::Wait(self.pause())];
        };
        let connection = &mut connections[open.id];
        let waits = !open.granted || open.answered < connection.sent.len();
        if waits && now_us - open.waits_since_us > self.habits.patience_us {
            return vec![Act::Disconnect, Act::Wait(self.pause())];
        }
        if !open.granted || open.closing {
            return vec![Act::Wait(self.pause())];
        }
        match &mut self.mood {
            Mood::Busy => self.act_connected(now_us, connection),
            Mood::Silent => vec![Act::Wait(PAUSE_US_MAX)],
            Mood::Quiet => {
                let ping = self.send(now_us, connection, vec![Op::Ping]);
                vec![ping, Act::Wait(PAUSE_US_MAX)]
            }
            Mood::Auditing(ops) => {
                let mut ops = std::mem::take(ops);
                ops.insert(0, self.plan.last_write());
                self.mood = Mood::Quiet;
                vec![self.send(now_us, connection, ops), Act::Wait(PAUSE_US_MAX)]
            }
        }
    }

    fn act_connected(&mut self, now_us: u64, connection: &mut Connection) -> Vec<Act> {
        let habits = &self.habits;
        let weights = [100, 20, habits.silences, habits.disconnects, habits.closes];
        match self.random.weighted(&weights) {
            0 => {
                let burst = self.random.between(1, self.habits.burst_max);
                let ops = (0..burst).map(|_| self.plan.next()).collect();
                vec![self.send(now_us, connection, ops), Act::Wait(self.pause())]
            }
            1 => vec![
                self.send(now_us, connection, vec![Op::Ping]),
                Act::Wait(self.pause()),
            ],
            2 => vec![Act::Wait(self.random.between(1_000_000, 12_000_000))],
            3 => vec![Act::Disconnect, Act::Wait(self.pause())],
            _ => {
                let mut ops = vec![Op::CloseSession];
                if self.random.percent(20) {
                    ops.insert(0, self.plan.next());
                }
                let close = self.send(now_us, connection, ops);
                if let Some(open) = &mut self.open {
                    open.closing = true;
                }
                vec![close, Act::Wait(self.pause())]
            }
        }
    }

    fn pause(&mut self) -> u64 {
        self.random
            .between(1_000, self.habits.pause_us_max.min(PAUSE_US_MAX))
    }

    fn connect(&mut self) -> Act {
        let mut asked = Asked {
            timeout_ms: self.habits.timeout_ms,
            last_zxid_seen: self.last_zxid,
            ..Asked::default()
        };
        if let Some(session) = &self.session {
            asked.session = session.id;
            asked.password.clone_from(&session.password);
            if self.random.percent(self.habits.wrong_passwords) {
                asked.password[0] ^= 1;
            }
        }
        let request = ConnectRequest {
            last_zxid_seen: asked.last_zxid_seen,
            timeout_ms: asked.timeout_ms,
            session_id: asked.session,
            password: Some(asked.password.clone().into()),
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        let mut frame = BytesMut::new();
        request.encode(&mut frame);
        Act::Connect { asked, frame }
    }

    fn send(&mut self, now_us: u64, connection: &mut Connection, ops: Vec<Op>) -> Act {
        let mut frames = BytesMut::new();
        if let Some(open) = &mut self.open {
            if open.answered == connection.sent.len() {
                open.waits_since_us = now_us;
            }
            for op in ops {
                let xid = match op {
                    Op::Ping => XID_PING,
                    Op::Auth { .. } => XID_AUTH,
                    Op::SetWatches(_) => XID_SET_WATCHES,
                    _ => {
                        open.next_xid += 1;
                        open.next_xid
                    }
                };
                op.encode(xid, &mut frames);
                let at_us = now_us;
                connection.sent.push(Sent { at_us, xid, op });
            }
        }
        Act::Send(frames)
    }

    // ---- what it is told

    pub fn on_connected(&mut self, id: usize, now_us: u64) {
        self.open = Some(Open {
            id,
            waits_since_us: now_us,
            ..Open::default()
        });
    }

    pub fn on_closed(&mut self) {
        self.open = None;
    }

    /// Bytes from the server. What it does at once in answer.
    pub fn on_bytes(
        &mut self,
        now_us: u64,
        bytes: &[u8],
        connections: &mut [Connection],
    ) -> Vec<Act> {
        let mut acts = Vec::new();
        let Some(open) = &mut self.open else {
            return acts;
        };
        open.input.extend_from_slice(bytes);
        let connection = &mut connections[open.id];
        while let Some(frame) = self.next_frame() {
            if self.open.as_ref().is_some_and(|open| !open.granted) {
                acts.extend(self.on_granted(now_us, &frame, connection));
            } else {
                let what = self.on_frame(now_us, &frame, connection);
                let at_us = now_us;
                connection.received.push(Received { at_us, what });
            }
        }
        acts
    }

    fn next_frame(&mut self) -> Option<BytesMut> {
        let input = &mut self.open.as_mut()?.input;
        let length = u32::from_be_bytes(input.get(..4)?.try_into().ok()?) as usize;
        if input.len() < 4 + length {
            return None;
        }
        input.advance(4);
        Some(input.split_to(length))
    }

    fn on_granted(&mut self, now_us: u64, frame: &[u8], connection: &mut Connection) -> Vec<Act> {
        let Ok(response) = ConnectResponse::decode(frame) else {
            let what = Incoming::Nonsense("the handshake is not answered by one".to_owned());
            let at_us = now_us;
            connection.received.push(Received { at_us, what });
            return vec![Act::Disconnect];
        };
        connection.granted = Some(Granted {
            at_us: now_us,
            session: response.session_id,
            password: response.password.to_vec(),
            timeout_ms: response.timeout_ms,
        });
        let right = self.session.as_ref().map(|session| &session.password);
        let was_right = right.is_none_or(|password| *password == connection.asked.password);
        if response.session_id == 0 {
            if was_right {
                self.session = None;
                self.watches = Registry::default();
            }
            return vec![Act::Disconnect];
        }
        self.session = Some(Session {
            id: response.session_id,
            password: response.password.to_vec(),
            timeout_ms: response.timeout_ms,
        });
        if let Some(open) = &mut self.open {
            open.granted = true;
        }
        let credentials = self.habits.credentials.iter();
        let mut ops: Vec<Op> = credentials
            .map(|&credentials| Op::Auth { credentials })
            .collect();
        let lists = self.watches.lists(self.last_zxid);
        if !lists.is_empty() {
            ops.push(Op::SetWatches(lists));
        }
        if ops.is_empty() {
            return Vec::new();
        }
        vec![self.send(now_us, connection, ops)]
    }

    fn on_frame(&mut self, now_us: u64, frame: &[u8], connection: &Connection) -> Incoming {
        match is_notification(frame) {
            Ok(true) => match Notification::decode(frame) {
                Ok(notification) => {
                    self.watches.on_event(&notification);
                    Incoming::Notification(notification)
                }
                Err(error) => Incoming::Nonsense(error.to_string()),
            },
            Ok(false) => self.on_reply(now_us, frame, connection),
            Err(error) => Incoming::Nonsense(error.to_string()),
        }
    }

    fn on_reply(&mut self, now_us: u64, frame: &[u8], connection: &Connection) -> Incoming {
        let Some(open) = &mut self.open else {
            return Incoming::Nonsense("nobody is there".to_owned());
        };
        let request = open.answered;
        let Some(sent) = connection.sent.get(request) else {
            return Incoming::Nonsense("a reply to nothing that was sent".to_owned());
        };
        let reply = match Reply::decode(&sent.op, frame) {
            Ok(reply) if reply.xid == sent.xid => reply,
            Ok(reply) => {
                return Incoming::Nonsense(format!(
                    "a reply with xid {} where {} is next",
                    reply.xid, sent.xid
                ));
            }
            Err(error) => return Incoming::Nonsense(error.to_string()),
        };
        open.answered += 1;
        open.waits_since_us = now_us;
        self.last_zxid = self.last_zxid.max(reply.zxid);
        self.watches.on_reply(&sent.op, &reply);
        self.plan.on_reply(&sent.op, &reply);
        if sent.op == Op::CloseSession {
            self.session = None;
            self.watches = Registry::default();
        }
        Incoming::Reply { request, reply }
    }

    /// Its session's timeout, as granted.
    pub fn timeout_ms(&self) -> Option<i32> {
        self.session.as_ref().map(|session| session.timeout_ms)
    }
}
