//! The last part of a run: nothing is disturbed any more, and what was promised must hold.

use super::{BUSY_US, Event, OVER_US, QUIET_US, World};
use crate::client::{Client, Habits};
use crate::op::Op;

/// What takes longer while nothing is disturbed is not answered.
const ANSWERED_WITHIN_US: u64 = 1_000_000;

impl World {
    /// Clients ask for nothing new. Every other one falls silent, and its session must end.
    pub(super) fn become_quiet(&mut self) {
        self.say(format_args!("clients become quiet"));
        self.contacts.calm_us = (BUSY_US, OVER_US);
        for client in &mut self.clients {
            let silent = client.number % 2 == 1;
            client.become_quiet(silent);
        }
    }

    /// A client that comes last reads everything that there must be.
    pub(super) fn audit(&mut self) {
        self.say(format_args!("the audit begins"));
        self.note_waiting();
        let truth = self.truth();
        let paths = truth.tree().paths().map(str::to_owned);
        let mut ops = vec![Op::Sync {
            path: "/".to_owned(),
        }];
        for path in paths {
            ops.push(Op::GetData {
                path: path.clone(),
                watch: false,
            });
            ops.push(Op::GetAcl { path: path.clone() });
            ops.push(Op::GetChildren2 { path, watch: false });
        }
        let number = self.clients.len();
        let random = self.random.fork();
        self.clients
            .push(Client::auditor(number, random, Habits::auditor(), ops));
        self.auditor = Some(number);
        self.schedule.after(1, Event::Client(number));
    }

    /// Who has waited for an answer since long before.
    fn note_waiting(&mut self) {
        debug_assert!(self.now_us() >= QUIET_US);
        let patience_us = ANSWERED_WITHIN_US;
        for client in &self.clients {
            let waits = client.waits_for(&self.history.connections);
            if waits > 0 && client.waits_since_us() + patience_us < self.schedule.now_us() {
                self.ending.waiting.push((client.number, waits));
            }
        }
    }

    /// Whether the auditor got all that it asked for.
    pub(super) fn end(&mut self) {
        let auditor = self.auditor.map(|number| &self.clients[number]);
        self.ending.writes = auditor.is_some_and(|auditor| {
            auditor.has_asked_all() && auditor.waits_for(&self.history.connections) == 0
        });
        self.is_over = true;
    }
}
