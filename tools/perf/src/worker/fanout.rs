//! The watch workload: one setter, all others watch the same znodes, as many as the depth says.
//!
//! A round of a znode: the setter sets; every watcher gets one event and, with one-shot watches, reads again with
//! the watch set; when all are armed and the setter has its reply, the znode's next round may begin. Rounds of
//! different znodes do not wait for each other.

use std::borrow::Cow;
use std::collections::HashMap;

use oxkeeper_wire::client::Reply;
use oxkeeper_wire::{EVENT_STATE_CONNECTED, EVENT_ZXID_NONE, EventType, Request, SetDataRequest};

use super::{Role, Worker};
use crate::connection::Phase;
use crate::content::{is_value, put_value, slot_path};
use crate::options::PerfOptions;
use crate::script::Expect;
use crate::tally::Kind;

/// A round that takes longer has lost an event.
const ROUND_LIMIT_NS: u64 = 10_000_000_000;

/// addWatch's mode for one znode without its descendants.
const MODE_PERSISTENT: i32 = 0;

pub(super) struct Fanout {
    watched: Vec<Watched>,
    by_path: HashMap<String, usize>,
    /// A watch or an event is lost: the rounds end.
    pub(super) broken: bool,
}

/// One znode and its round.
struct Watched {
    slot: u64,
    path: String,
    value_bytes: usize,
    watchers: usize,
    persistent: bool,
    /// The znode's version once the last set sent is applied.
    version: i32,
    set_in_flight: bool,
    armed: usize,
    /// Events of this round that have not come yet.
    awaited: usize,
    due_ns: u64,
    sent_ns: u64,
    /// The round of the last event, by connection. Invariant: never ahead of `round`.
    seen: Vec<u64>,
    round: u64,
    /// Of the round's events; all must agree, and agree with the set's reply.
    event_zxid: Option<i64>,
}

impl Fanout {
    pub(super) fn new(options: &PerfOptions, versions: &[i32]) -> Self {
        let watched: Vec<_> = (0..options.depth)
            .map(|slot| {
                let version = versions.get(slot).copied().unwrap_or_default();
                Watched::new(options, slot as u64, version)
            })
            .collect();
        let paths = watched.iter().map(|watched| watched.path.clone());
        Self {
            by_path: paths.zip(0..).collect(),
            watched,
            broken: false,
        }
    }

    pub(super) fn is_armed(&self) -> bool {
        self.watched.iter().all(Watched::is_armed)
    }

    /// Events still to come.
    pub(super) fn awaited(&self) -> usize {
        match self.broken {
            true => 0,
            false => self.watched.iter().map(|watched| watched.awaited).sum(),
        }
    }

    /// The znode of an event, the event being as it should.
    fn check_event(&mut self, watcher: usize, reply: &Reply<'_>) -> Result<usize, String> {
        let event = reply.event().map_err(|fault| format!("event: {fault}"))?;
        let expected = (EventType::NodeDataChanged as i32, EVENT_STATE_CONNECTED);
        let path = event.path.as_deref().unwrap_or_default();
        match self.by_path.get(path) {
            Some(&at) if (event.kind, event.state) == expected => {
                self.watched[at].check_event(watcher, reply.zxid)?;
                Ok(at)
            }
            _ => Err(format!("unexpected {event:?}")),
        }
    }

    fn check_reply(&mut self, expect: Expect, reply: &Reply<'_>) -> Result<(), String> {
        match expect {
            Expect::Arm { watched } => self.watched[watched].check_armed(reply),
            Expect::ArmPersistent { watched } => {
                self.watched[watched].check_armed_persistently(reply)
            }
            Expect::Fire { watched } => self.watched[watched].check_fired(reply),
            other => Err(format!("{other:?} does not belong to the watch workload")),
        }
    }
}

impl Watched {
    fn new(options: &PerfOptions, slot: u64, version: i32) -> Self {
        Self {
            slot,
            path: slot_path(&options.root, slot),
            value_bytes: options.value_bytes,
            watchers: options.connections - 1,
            persistent: options.persistent_watch,
            version,
            set_in_flight: false,
            armed: 0,
            awaited: 0,
            due_ns: 0,
            sent_ns: 0,
            seen: vec![0; options.connections],
            round: 0,
            event_zxid: None,
        }
    }

    fn is_armed(&self) -> bool {
        self.armed == self.watchers
    }

    fn is_ready(&self) -> bool {
        self.is_armed() && self.awaited == 0 && !self.set_in_flight
    }

    fn begin(&mut self, due_ns: u64, now_ns: u64) {
        self.version += 1;
        self.round += 1;
        self.set_in_flight = true;
        self.awaited = self.watchers;
        self.armed = if self.persistent { self.watchers } else { 0 };
        self.due_ns = due_ns;
        self.sent_ns = now_ns;
        self.event_zxid = None;
    }

    fn check_event(&mut self, watcher: usize, zxid: i64) -> Result<(), String> {
        if self.seen[watcher] == self.round {
            return Err(format!(
                "watcher {watcher} got a second event in round {}",
                self.round
            ));
        }
        self.seen[watcher] = self.round;
        self.awaited -= 1;
        match self.event_zxid.replace(zxid) {
            Some(other) if other != zxid => Err(format!("event zxids {other:#x} and {zxid:#x}")),
            _ => Ok(()),
        }
    }

    /// A watch is set again after the event, so the read shows what the event told of.
    fn check_armed(&mut self, reply: &Reply<'_>) -> Result<(), String> {
        self.armed += 1;
        let (data, stat) = reply
            .data_and_stat()
            .map_err(|fault| format!("getData reply: {fault}"))?;
        if stat.version != self.version
            || !is_value(data.unwrap_or_default(), self.slot, stat.version)
        {
            return Err(format!(
                "version {} after the event, not {}",
                stat.version, self.version
            ));
        }
        Ok(())
    }

    fn check_armed_persistently(&mut self, reply: &Reply<'_>) -> Result<(), String> {
        self.armed += 1;
        reply
            .int()
            .map(drop)
            .map_err(|fault| format!("addWatch reply: {fault}"))
    }

    fn check_fired(&mut self, reply: &Reply<'_>) -> Result<(), String> {
        self.set_in_flight = false;
        let stat = reply
            .stat()
            .map_err(|fault| format!("setData reply: {fault}"))?;
        if stat.version != self.version || stat.data_length as usize != self.value_bytes {
            return Err(format!(
                "version {} after the set, not {}",
                stat.version, self.version
            ));
        }
        match self.event_zxid {
            Some(zxid) if zxid != EVENT_ZXID_NONE && zxid != stat.mzxid => {
                Err(format!("event zxid {zxid:#x}, mzxid {:#x}", stat.mzxid))
            }
            _ => Ok(()),
        }
    }
}

impl Worker {
    /// Arms the watches of one connection.
    pub(super) fn arm_all(&mut self, at: usize) {
        (0..self.options.depth).for_each(|watched| self.arm(at, watched));
    }

    fn arm(&mut self, at: usize, watched: usize) {
        let Some(fanout) = &self.fanout else {
            return;
        };
        let znode = &fanout.watched[watched];
        let path = Some(Cow::Borrowed(&*znode.path));
        let (request, expect) = if znode.persistent {
            let mode = MODE_PERSISTENT;
            let request = Request::AddWatch { path, mode };
            (request, Expect::ArmPersistent { watched })
        } else {
            let request = Request::GetData { path, watch: true };
            (request, Expect::Arm { watched })
        };
        self.members[at]
            .connection
            .send(&request, expect, self.now_ns, self.now_ns);
        self.note_in_flight();
    }

    /// Begins the rounds that may begin.
    pub(super) fn pump_fanout(&mut self, at: usize) {
        if matches!(self.members[at].role, Role::Setter) {
            (0..self.options.depth).for_each(|watched| self.fire(at, watched));
        }
    }

    fn fire(&mut self, at: usize, watched: usize) {
        let due_ns = self.next_due_ns(at);
        let issuing = self.issuing && self.budget > 0;
        let member = &mut self.members[at];
        let (Some(fanout), Some(due_ns)) = (&mut self.fanout, due_ns) else {
            return;
        };
        let may_begin = issuing && !fanout.broken && fanout.watched[watched].is_ready();
        if !may_begin || member.connection.phase() != Phase::Up {
            return;
        }
        let znode = &mut fanout.watched[watched];
        znode.begin(due_ns, self.now_ns);
        let mut value = Vec::with_capacity(znode.value_bytes);
        put_value(&mut value, znode.slot, znode.version, znode.value_bytes);
        let path = Some(Cow::Borrowed(&*znode.path));
        let request = Request::SetData(SetDataRequest {
            path,
            data: Some(&value),
            version: -1,
        });
        let expect = Expect::Fire { watched };
        member
            .connection
            .send(&request, expect, due_ns, self.now_ns);
        self.note_in_flight();
        self.count_sent(at, due_ns);
    }

    pub(super) fn on_event(&mut self, at: usize, reply: &Reply<'_>) {
        let index = self.members[at].index;
        let Some(fanout) = &mut self.fanout else {
            return self
                .tally
                .mismatch(|| "an event that nobody asked for".to_owned());
        };
        let watched = match fanout.check_event(index, reply) {
            Ok(watched) => watched,
            Err(text) => return self.tally.mismatch(|| text),
        };
        let znode = &fanout.watched[watched];
        let (due_ns, persistent) = (znode.due_ns, znode.persistent);
        if self.is_measured(due_ns) {
            self.tally.finish(Kind::Event, due_ns, self.now_ns);
        }
        self.note_reply();
        if !persistent {
            self.arm(at, watched);
        }
    }

    pub(super) fn on_fanout_reply(
        &mut self,
        expect: Expect,
        reply: &Reply<'_>,
    ) -> Result<(), String> {
        match &mut self.fanout {
            Some(fanout) => fanout.check_reply(expect, reply),
            None => Err(format!("{expect:?} without watchers")),
        }
    }

    pub(super) fn break_fanout(&mut self) {
        if let Some(fanout) = &mut self.fanout {
            fanout.broken = true;
        }
    }

    /// Ends the rounds when events fail to come.
    pub(super) fn check_fanout_stall(&mut self) {
        let now_ns = self.now_ns;
        let Some(fanout) = self.fanout.as_mut().filter(|fanout| !fanout.broken) else {
            return;
        };
        let late = |watched: &&Watched| {
            watched.awaited > 0 && now_ns.saturating_sub(watched.sent_ns) > ROUND_LIMIT_NS
        };
        if let Some(watched) = fanout.watched.iter().find(late) {
            let (awaited, round) = (watched.awaited, watched.round);
            fanout.broken = true;
            self.tally
                .mismatch(|| format!("{awaited} events of round {round} never came"));
        }
    }
}
