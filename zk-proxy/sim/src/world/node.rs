//! The node: what comes to the shard, and what it wants to be done.

use std::collections::{BTreeMap, VecDeque};

use oxkeeper_link::{Event as LinkEvent, Request};
use oxkeeper_model::{ClientCommand, CommandOutcome, Now, WriteRefusal};
use oxkeeper_shard::{Completion, Input, LinkId, Notice, Operation, OperationKind, Output};
use oxkeeper_sim::{Down, Violation};

use super::{Event, Told, World};

/// What the node's driver keeps.
#[derive(Default)]
pub(super) struct NodeState {
    /// Arrived while the shard had no room.
    waiting: VecDeque<(u64, Request)>,
    turn_planned: bool,
    wake_us: Option<u64>,
    /// The newest attachment of each session that the shard granted.
    attached: BTreeMap<i64, u64>,
    flushing: bool,
}

/// Steps between two looks at all rows of the state.
const STEPS_PER_CHECK: u64 = 256;

/// Time between two turns with nothing between them.
const IDLE_TURN_US: u64 = 1_000;

impl World {
    fn shard_now(&self) -> Now {
        self.sabotage.shard_now(self.now())
    }

    pub(super) fn step_node(&mut self, input: Input) {
        if !self.node.is_up() {
            return;
        }
        let is_turn = matches!(input, Input::Turn { .. });
        let mut outputs = Vec::new();
        let now = self.shard_now();
        if let Err(violation) = self.node.step(now, input, &mut outputs) {
            self.found(violation);
        }
        self.counters.count("steps of the shard");
        let steps = self.counters.get("steps of the shard");
        if steps.is_multiple_of(STEPS_PER_CHECK)
            && let Err(violation) = self.node.check_state()
        {
            self.found(violation);
        }
        self.carry_out(outputs);
        self.plan(is_turn);
    }

    /// When the shard is to be given a turn.
    fn plan(&mut self, was_turn: bool) {
        let incarnation = self.node.incarnation();
        let Some(shard) = self.node.shard() else {
            return;
        };
        let wake_us = shard.next_wake_us();
        if !was_turn && !self.node_state.turn_planned {
            self.node_state.turn_planned = true;
            let wait_us = self.random.below(300);
            self.schedule.after(wait_us, Event::Turn { incarnation });
        }
        // A turn that could not do what was due is not repeated at once.
        let soonest_us = self.schedule.now_us() + u64::from(was_turn) * IDLE_TURN_US;
        if let Some(wake_us) = wake_us.map(|wake_us| wake_us.max(soonest_us))
            && self
                .node_state
                .wake_us
                .is_none_or(|planned| wake_us < planned)
        {
            self.node_state.wake_us = Some(wake_us);
            self.schedule.at(wake_us, Event::Wake { incarnation });
        }
    }

    pub(super) fn turn(&mut self, incarnation: u64) {
        if incarnation == self.node.incarnation() {
            self.node_state.turn_planned = false;
            let all_heard = self.node_state.waiting.is_empty();
            self.step_node(Input::Turn { all_heard });
            self.give_waiting();
        }
    }

    pub(super) fn wake(&mut self, incarnation: u64) {
        // Another one may be planned instead of this.
        let is_planned = self.node_state.wake_us == Some(self.schedule.now_us());
        if incarnation == self.node.incarnation() && is_planned {
            self.node_state.wake_us = None;
            let all_heard = self.node_state.waiting.is_empty();
            self.step_node(Input::Turn { all_heard });
        }
    }

    pub(super) fn requests_to_shard(&mut self, link: u64, mut requests: Vec<Request>) {
        if !self.links.contains_key(&link) {
            return;
        }
        for request in &requests {
            self.note_contacts(link, request);
            self.note_repeat(request);
        }
        self.sabotage.on_requests(&mut requests);
        for request in requests {
            match request {
                // They have a lane of their own, which is never full.
                Request::Heartbeat { .. } => self.give(link, request),
                _ => self.node_state.waiting.push_back((link, request)),
            }
        }
        self.give_waiting();
    }

    fn give_waiting(&mut self) {
        while self.node.shard().is_some_and(|shard| shard.has_room())
            && let Some((link, request)) = self.node_state.waiting.pop_front()
        {
            self.give(link, request);
        }
    }

    fn give(&mut self, link: u64, request: Request) {
        self.count_request(&request);
        let link = LinkId(link);
        self.step_node(match request {
            Request::Heartbeat { beats } => Input::Heartbeat { beats },
            request => Input::Request { link, request },
        });
    }

    /// What the shard hears of a session keeps it alive, if the link is one that it knows.
    fn note_contacts(&mut self, link: u64, request: &Request) {
        if !self.links.get(&link).is_some_and(|state| state.open) {
            return;
        }
        let now_us = self.schedule.now_us();
        let current = |session: i64, attachment: u64| {
            self.node_state.attached.get(&session) == Some(&attachment)
        };
        match request {
            Request::Command { command, .. } => {
                let (session, attachment) = match command {
                    ClientCommand::Write(write) => (write.session.0, write.attachment.0),
                    ClientCommand::CloseSession {
                        session,
                        attachment,
                        ..
                    } => (session.0, attachment.0),
                    _ => return,
                };
                if current(session, attachment) {
                    self.contacts.heard(session, now_us);
                }
            }
            Request::Heartbeat { beats } => {
                for beat in beats {
                    if current(beat.session.0, beat.attachment.0) {
                        self.contacts.heard(beat.session.0, now_us);
                    }
                }
            }
            Request::Query { .. } => {}
        }
    }

    fn note_repeat(&mut self, request: &Request) {
        if let Request::Command {
            command: ClientCommand::Write(write),
            ..
        } = request
        {
            let number = (write.session.0, write.attachment.0, write.seq.0);
            if !self.written.insert(number) {
                self.counters.count("re-sent writes");
            }
        }
    }

    fn count_request(&mut self, request: &Request) {
        self.counters.count(match request {
            Request::Command { .. } => "commands",
            Request::Query { .. } => "queries",
            Request::Heartbeat { .. } => "heartbeats",
        });
    }

    // ---- what the shard wants

    fn carry_out(&mut self, outputs: Vec<Output>) {
        let mut events: BTreeMap<u64, Vec<LinkEvent>> = BTreeMap::new();
        for output in outputs {
            match output {
                Output::Event { link, event } => {
                    self.note_event(link.0, &event);
                    events.entry(link.0).or_default().push(event);
                }
                Output::Closed { link, .. } => {
                    if let Some(events) = events.remove(&link.0) {
                        self.send_to_front(link.0, Told::Events(events));
                    }
                    self.send_to_front(link.0, Told::Closed);
                }
                Output::Start(operation) => self.start_operation(operation),
                Output::Leads { term } => {
                    self.say(format_args!("the shard leads term {term}"));
                    self.contacts.led(self.schedule.now_us());
                }
                Output::Ended(result) => {
                    let end = result.err().map(|error| error.to_string());
                    self.shard_ended(end);
                }
                Output::Fenced { .. } => {}
                Output::Notice(notice) => self.noticed(&notice),
                Output::SteppedDown { term } => {
                    self.say(format_args!("the shard does not lead term {term} any more"));
                }
                Output::CoordinationRefused(refusal) => {
                    let what = format!("a new term was refused: {refusal}");
                    self.found(Violation::new("a node comes up again", what));
                }
            }
        }
        for (link, events) in events {
            self.send_to_front(link, Told::Events(events));
        }
    }

    fn note_event(&mut self, link: u64, event: &LinkEvent) {
        let now_us = self.schedule.now_us();
        match event {
            LinkEvent::Opened(_) => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.open = true;
                }
            }
            LinkEvent::Changed(set) => {
                if let Some(session) = set.session_ended {
                    self.contacts.ended(session.0, now_us);
                }
            }
            LinkEvent::Outcome {
                outcome: CommandOutcome::SessionGranted(Ok(grant)),
                ..
            } => {
                let (session, attachment) = (grant.session.0, grant.attachment.0);
                self.node_state.attached.insert(session, attachment);
                self.contacts.heard(session, now_us);
            }
            // What follows a write that had no space is out of sequence, and sent again.
            LinkEvent::Outcome {
                outcome: CommandOutcome::Written(written),
                ..
            } if self.history.full_us.is_empty() => {
                if let Err(refusal @ WriteRefusal::OutOfSequence { .. }) = written.result {
                    let what = format!("write {} of {}: {refusal}", written.seq, written.session);
                    self.found(Violation::new("writes come in sequence", what));
                }
            }
            _ => {}
        }
    }

    fn noticed(&mut self, notice: &Notice) {
        self.say(format_args!("the shard says: {notice:?}"));
        self.counters.count(match notice {
            Notice::DiskFull => "full disks",
            Notice::SpaceAgain => "space again",
            Notice::CheckpointPostponed(_) => "postponed checkpoints",
            Notice::ReadFailed(_) => "failed reads",
        });
    }

    fn start_operation(&mut self, operation: Operation) {
        self.node_state.flushing |= operation.kind() == OperationKind::Flush;
        let incarnation = self.node.incarnation();
        let at_us = self.operation_us(operation.kind());
        let run = Event::Run {
            incarnation,
            operation,
        };
        self.schedule.at(at_us, run);
    }

    pub(super) fn run_operation(&mut self, incarnation: u64, operation: Operation) {
        // What a process had begun dies with it.
        if incarnation != self.node.incarnation() || !self.node.is_up() {
            return;
        }
        self.counters.count(match operation.kind() {
            OperationKind::SyncLog => "syncs",
            OperationKind::TrimLog => "trims",
            OperationKind::Flush => "checkpoints",
            OperationKind::StartSegment => "segments",
            OperationKind::PrepareLog => "prepared segments",
            OperationKind::PersistTerm => "terms",
        });
        if operation.kind() == OperationKind::Flush {
            self.node_state.flushing = false;
        }
        let completion = operation.run();
        let wait_us = self.random.below(1_000);
        self.schedule.after(
            wait_us,
            Event::Completed {
                incarnation,
                completion,
            },
        );
    }

    pub(super) fn completed(&mut self, incarnation: u64, completion: Completion) {
        if incarnation == self.node.incarnation() {
            self.step_node(Input::Completed(completion));
            self.give_waiting();
        }
    }

    // ---- up and down

    pub(super) fn start_node(&mut self) {
        if self.node.is_up() {
            return;
        }
        let amid = self.begin_recovery();
        self.sabotage.restarted(self.schedule.now_us());
        let now = self.shard_now();
        let mut outputs = Vec::new();
        match self.node.start(now, &mut outputs) {
            Ok(()) => {
                self.say(format_args!("the node is up"));
                let cut = self.node.shard().and_then(|shard| shard.log_cut());
                if let Some(cut) = cut.map(ToString::to_string) {
                    self.say(format_args!("the log says: {cut}"));
                    self.counters.count("cut tails");
                    if self.disk.flipped {
                        return self.damage_was_told("damage told of");
                    }
                }
                self.disk.flipped = false;
                let disk = self.node.disk().clone();
                if let Err(what) = self.node.chronicle().absorb(&disk) {
                    self.found(Violation::new("the log can be read", what));
                }
                self.carry_out(outputs);
                self.plan(false);
            }
            Err(error) if self.disk.flipped => {
                self.say(format_args!("the node does not start: {error}"));
                self.damage_was_told("damage refused");
            }
            Err(error) if amid => {
                self.say(format_args!("the power fails in recovery: {error}"));
                self.counters.count("crashes in recovery");
                self.go_down(Down::PowerLoss);
            }
            Err(error) => {
                let what = error.to_string();
                self.found(Violation::new("a node comes up again", what));
            }
        }
    }

    fn shard_ended(&mut self, error: Option<String>) {
        let how = self.disk.ends_with(error.as_deref());
        self.say(format_args!("the shard has ended: {error:?}"));
        match (how, error) {
            (Some(how), _) => self.go_down(how),
            (None, None) => self.go_down(Down::Kill),
            (None, Some(error)) => {
                self.found(Violation::new("a shard does not end by itself", error));
            }
        }
    }

    /// The process ends; it comes again later.
    pub(super) fn go_down(&mut self, how: Down) {
        self.say(format_args!("the node goes down: {how:?}"));
        if self.node_state.flushing {
            self.counters.count("crashes amid a checkpoint");
        }
        let seed = self.random.next_u64();
        self.node.go_down(how, seed);
        self.disk.went_down();
        self.node_state = NodeState {
            attached: std::mem::take(&mut self.node_state.attached),
            ..NodeState::default()
        };
        let links: Vec<u64> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.break_link(link));
        let wait_us = self.random.between(1_000, self.swarm.down_us);
        self.schedule.after(wait_us, Event::Start);
    }
}
