//! A watch fires once, with the right event, before anything newer is shown; none is lost, also where
//! a link began anew and its proxy had to find out what it missed.

mod armed;
mod gap;

use std::collections::VecDeque;

use oxkeeper_sim::Violation;

use super::caller;
use crate::history::{Connection, History, Incoming, Sent};
use crate::model::Caller;
use crate::op::Op;
use crate::reply::{Notification, Reply};
use crate::truth::Truth;
use armed::Armed;
use gap::Catching;

const PROPERTY: &str = "watches fire once and before newer data";

/// The zxid of a notification that no transaction of now causes.
const NO_ZXID: i64 = -1;

/// An event that must come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    zxid: i64,
    kind: i32,
    path: String,
    /// It may come before or after others of its zxid.
    unordered: bool,
}

pub(super) fn check(history: &History, truth: &Truth) -> Result<(), Violation> {
    for (id, connection) in history.connections.iter().enumerate() {
        let mut follower = Follower::new(history, connection, truth);
        follower.follow().map_err(|what| {
            let text = format!("connection {id} of client {}: {what}", connection.client);
            Violation::new(PROPERTY, text)
        })?;
    }
    Ok(())
}

/// Follows what a connection was told, with the watches that it has at each moment.
#[derive(Clone)]
struct Follower<'a> {
    connection: &'a Connection,
    truth: &'a Truth,
    armed: Armed,
    /// Everything up to here has been shown, or was told of in `due`.
    seen: i64,
    due: VecDeque<Event>,
    /// Events of a setWatches whose reply has not come yet.
    catch_up: Vec<(i32, String)>,
    catching: Catching<'a>,
    caller: Caller,
}

impl<'a> Follower<'a> {
    fn new(history: &'a History, connection: &'a Connection, truth: &'a Truth) -> Self {
        Self {
            connection,
            truth,
            armed: Armed::default(),
            seen: 0,
            due: VecDeque::new(),
            catch_up: Vec::new(),
            catching: Catching::new(history, connection),
            // Who it is is settled before it watches anything.
            caller: caller(connection, connection.sent.len()),
        }
    }

    fn follow(&mut self) -> Result<(), String> {
        for received in &self.connection.received {
            match &received.what {
                Incoming::Reply { request, reply } => {
                    self.reply(&self.connection.sent[*request], reply)?;
                }
                Incoming::Notification(notification) => self.notification(notification)?,
                // Another checker's.
                Incoming::Nonsense(_) => {}
            }
        }
        Ok(())
    }

    fn reply(&mut self, sent: &Sent, reply: &Reply) -> Result<(), String> {
        if matches!(sent.op, Op::Auth { .. }) {
            return Ok(());
        }
        self.advance(reply.zxid);
        if let Some(event) = self.due.front() {
            return Err(format!(
                "the reply to xid {} shows zxid {:#x}, but {event:?} has not come",
                sent.xid, reply.zxid
            ));
        }
        self.catching.settle(reply.zxid)?;
        if let Op::SetWatches(lists) = &sent.op {
            let Some(state) = self.truth.state(reply.zxid) else {
                return Ok(());
            };
            let mut expected = self.armed.set_again(lists, &state.tree);
            let mut told = std::mem::take(&mut self.catch_up);
            expected.sort_unstable();
            told.sort_unstable();
            if told != expected {
                return Err(format!(
                    "setWatches at zxid {:#x} brought {told:?}, expected {expected:?}",
                    reply.zxid
                ));
            }
        } else if let Some(event) = self.catch_up.first() {
            return Err(format!(
                "{event:?} came without a zxid and without a reason"
            ));
        }
        self.armed.on_reply(sent, reply)
    }

    fn notification(&mut self, told: &Notification) -> Result<(), String> {
        if self.catching.takes(told) || self.begins_gap(told) {
            return Ok(());
        }
        if told.zxid == NO_ZXID {
            self.catch_up.push((told.kind, told.path.clone()));
            return Ok(());
        }
        self.advance(told.zxid);
        // Several gaps may lie between.
        if self.due.is_empty() && self.catching.takes(told) {
            return Ok(());
        }
        let is_it = |event: &Event| {
            (event.zxid, event.kind, event.path.as_str())
                == (told.zxid, told.kind, told.path.as_str())
        };
        let Some(first) = self.due.front() else {
            return Err(format!("{told:?} came, and nothing was to come"));
        };
        let first_zxid = first.zxid;
        let at = match first.unordered {
            true => self
                .due
                .iter()
                .position(|event| event.zxid == first_zxid && is_it(event)),
            false => is_it(first).then_some(0),
        };
        match at.and_then(|at| self.due.remove(at)) {
            Some(_) => Ok(()),
            None => Err(format!(
                "{told:?} came where {:?} is next",
                self.due.front()
            )),
        }
    }

    /// Whether this is the first that is told of what was missed in a gap.
    fn begins_gap(&mut self, told: &Notification) -> bool {
        let Some((_, to)) = self.catching.next(self.seen) else {
            return false;
        };
        let mut behind = self.clone();
        behind.advance(to);
        let taken = behind.due.is_empty() && behind.catching.takes(told);
        if taken {
            *self = behind;
        }
        taken
    }

    /// Events of everything that happened up to `zxid`.
    fn advance(&mut self, zxid: i64) {
        while self.seen < zxid {
            if let Some((from, to)) = self.catching.begins(self.seen) {
                self.catch_up_with(from, to);
                continue;
            }
            self.seen += 1;
            let Some(state) = self.truth.state(self.seen) else {
                return;
            };
            for change in &state.changes {
                for (kind, path) in self.armed.fire(change, &self.caller) {
                    self.due.push_back(Event {
                        zxid: self.seen,
                        kind,
                        path,
                        unordered: state.unordered,
                    });
                }
            }
        }
    }

    /// The proxy saw nothing of what happened between `from` and `to`.
    fn catch_up_with(&mut self, from: i64, to: i64) {
        if let (Some(before), Some(now)) = (self.truth.state(from), self.truth.state(to)) {
            let fired = self
                .armed
                .missed(from, &before.tree, &now.tree, &self.caller);
            self.catching.expect(to, fired);
        }
        self.seen = to;
    }
}
