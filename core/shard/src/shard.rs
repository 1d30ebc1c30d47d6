//! The shard and its step.

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_link::{Event, LinkError, Request, SessionBeat, Token};
use oxkeeper_log::{Cut, Disk, Wal};
use oxkeeper_model::{
    Attachment, ClientCommand, Command, NodeId, Now, Offset, Position, Refusal, Revision,
    SessionId, ShardId, Term,
};
use oxkeeper_replication::{
    Input as ReplicaInput, InvariantBroken, Output as ReplicaOutput, Replica,
};
use oxkeeper_state::{Applied, ShardState};
use oxkeeper_store::KeyValueStore;

use crate::batch::{Batch, InFlight, WaitingQuery};
use crate::checkpoint::Checkpoints;
use crate::elapsed::Elapsed;
use crate::error::ShardError;
use crate::full::Space;
use crate::io::{Input, LinkId, Output};
use crate::limits::{
    ENTRIES_IN_FLIGHT_MAX, PREPARE_AGAIN_US, QUERIES_WAITING_MAX, REAPS_PER_ENTRY_MAX,
};
use crate::links::Links;
use crate::operation::{Completion, Done};
use crate::options::ShardOptions;
use crate::reaper::Reaper;
use crate::sessions::SessionDeadlines;
use crate::stats::ShardStats;
use crate::term::TermStore;
use crate::waiting::Waiting;

/// How far a shard is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Running,
    /// `Input::Stop` was met: what is under way ends first.
    Draining,
    /// The last checkpoint is under way.
    LastCheckpoint,
    Ended,
}

/// See the crate.
pub struct Shard<D: Disk, S: KeyValueStore> {
    pub(crate) options: ShardOptions,
    pub(crate) stats: Arc<ShardStats>,
    /// The time of this step.
    pub(crate) now: Now,
    /// Invariant: not behind the last entry's.
    pub(crate) elapsed: Elapsed,
    pub(crate) replica: Replica,
    pub(crate) log: Wal<D>,
    /// What opening it dropped.
    pub(crate) log_cut: Option<Cut>,
    pub(crate) term: Arc<dyn TermStore>,
    pub(crate) state: ShardState<S>,
    /// Invariant: empty unless `serves`.
    pub(crate) links: Links,
    pub(crate) sessions: SessionDeadlines,
    pub(crate) reaper: Reaper,
    pub(crate) checkpoints: Checkpoints,
    /// The next entry.
    pub(crate) batch: Batch,
    /// In order of the entries that they wait for.
    pub(crate) queries: VecDeque<WaitingQuery>,
    /// Appended in this term and not applied. Invariant: their offsets follow one another up to
    /// the replica's last.
    pub(crate) in_flight: VecDeque<InFlight>,
    /// What the replica is to be told, in order. Empty between steps.
    pub(crate) todo: VecDeque<ReplicaInput>,
    pub(crate) space: Space,
    pub(crate) waiting: Waiting,
    /// An entry waits for its place in the log.
    pub(crate) held_back: bool,
    /// After a failure to prepare files of the log.
    pub(crate) prepare_not_before_us: u64,
    /// The term's first entry is applied and the shard has its first records.
    pub(crate) serves: bool,
    pub(crate) stage: Stage,
    pub(crate) buffers: Buffers,
}

/// Memory that is used again in every step.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) spare: Batch,
    pub(crate) asked: Vec<ReplicaOutput>,
    pub(crate) payload: Vec<u8>,
    pub(crate) applied: Vec<Applied>,
    expired: Vec<(SessionId, Attachment)>,
}

impl<D: Disk, S: KeyValueStore> Shard<D, S> {
    /// Takes one input; what it leads to is appended to `outputs`.
    pub fn step(&mut self, now: Now, input: Input, outputs: &mut Vec<Output>) {
        if self.stage == Stage::Ended {
            return;
        }
        self.now = now;
        let done = self
            .take(input, outputs)
            .and_then(|()| self.work_off(outputs))
            .and_then(|()| self.settle(outputs));
        if let Err(error) = done {
            self.fail(error, outputs);
        }
    }

    /// When a [`Input::Turn`] is due although nothing else comes in, in monotonic microseconds.
    pub fn next_wake_us(&self) -> Option<u64> {
        if !self.serves || self.stage != Stage::Running {
            return None;
        }
        if self.has_to_tend() && self.may_append() {
            return Some(self.now.monotonic_us);
        }
        let reaper_ms = self.reaper.wait_ms(self.now.monotonic_ms());
        let sessions_ms = self.sessions.wait_ms().unwrap_or(reaper_ms);
        let own_us = self.now.monotonic_us + reaper_ms.min(sessions_ms) * 1_000;
        let others = [self.checkpoints.wake_us(), self.space_wake_us()];
        Some(others.into_iter().flatten().fold(own_us, u64::min))
    }

    /// Whether a request would be taken now. If not, one will be after an operation has completed.
    pub fn has_room(&self) -> bool {
        !self.batch.is_full() && self.queries.len() < QUERIES_WAITING_MAX && self.waiting.has_room()
    }

    /// The highest term it has heard of.
    pub fn term(&self) -> Term {
        self.replica.term()
    }

    /// The last revision that was taken.
    pub fn revision(&self) -> Revision {
        self.state.revision()
    }

    /// The last entry that was applied.
    pub fn applied(&self) -> Offset {
        self.state.applied()
    }

    /// Whether there is nothing of it, neither in the log nor in the store.
    pub fn is_new(&self) -> bool {
        self.log.last().is_none() && !self.state.is_seeded()
    }

    /// What the log had lost at its end when it was opened.
    pub fn log_cut(&self) -> Option<&Cut> {
        self.log_cut.as_ref()
    }

    /// The state machine, to look at.
    pub fn state(&self) -> &ShardState<S> {
        &self.state
    }

    pub fn id(&self) -> ShardId {
        self.options.shard.id
    }

    pub fn node(&self) -> NodeId {
        self.options.node
    }

    fn take(&mut self, input: Input, outputs: &mut Vec<Output>) -> Result<(), ShardError> {
        match input {
            Input::NewTerm { term } => self.todo.push_back(ReplicaInput::NewTerm { term }),
            Input::BecomeLeader { term, ensemble } => {
                self.todo
                    .push_back(ReplicaInput::BecomeLeader { term, ensemble });
            }
            Input::Open { link, resume_after } => self.open_link(link, resume_after, outputs),
            Input::Close { link } => self.links.close(link),
            Input::Request { link, request } => self.request(link, request, outputs)?,
            Input::Heartbeat { beats } => self.heard(&beats),
            Input::Completed(Completion(done)) => self.completed(done, outputs)?,
            Input::Turn { all_heard } => self.turn(all_heard, outputs)?,
            Input::Stop => {
                self.stage = Stage::Draining;
                // It waits for its clients, who may not come back.
                self.waiting.clear();
            }
        }
        Ok(())
    }

    fn open_link(
        &mut self,
        link: LinkId,
        resume_after: Option<Position>,
        outputs: &mut Vec<Output>,
    ) {
        if self.serves && self.stage == Stage::Running {
            let position = self.state.position();
            self.links.open(link, resume_after, position, outputs);
        } else {
            let reason = LinkError::Closed;
            outputs.push(Output::Closed { link, reason });
        }
        self.stats.links.set(self.links.len() as u64);
    }

    /// A link that was closed meanwhile may have sent it.
    fn request(
        &mut self,
        link: LinkId,
        request: Request,
        outputs: &mut Vec<Output>,
    ) -> Result<(), ShardError> {
        if !self.links.contains(link) {
            return Ok(());
        }
        match request {
            Request::Command { token, command } => {
                self.heard_command(&command);
                if let Some(command) = self.hold(link, token, command)? {
                    self.command(link, token, command, outputs);
                }
            }
            Request::Query { token, query } => {
                let last = self.replica.last().offset;
                let after = if self.batch.is_empty() {
                    last
                } else {
                    last.next()
                };
                self.queries.push_back(WaitingQuery {
                    after,
                    link,
                    token,
                    query,
                });
            }
            Request::Heartbeat { beats } => self.heard(&beats),
        }
        Ok(())
    }

    /// Into the next entry, unless it is refused: then it is not executed and takes no number.
    fn command(
        &mut self,
        link: LinkId,
        token: Token,
        command: ClientCommand,
        outputs: &mut Vec<Output>,
    ) {
        let is_write = matches!(command, ClientCommand::Write(_));
        let refusal = if is_write && self.refuses_writes() {
            Refusal::NoSpace
        } else if self.batch.take(link, token, command) {
            return;
        } else {
            Refusal::TooLarge
        };
        self.links
            .answer(link, Event::Refused { token, refusal }, outputs);
    }

    fn heard(&mut self, beats: &[SessionBeat]) {
        self.sessions.observe(self.now.monotonic_ms());
        for beat in beats {
            self.sessions.touch(beat.session, beat.attachment);
            self.heard_acknowledged(beat.session, beat.attachment, beat.acknowledged);
        }
    }

    /// A session that sends a command is alive, before the command is applied. Not by an attach:
    /// whoever sends it has yet to show that the session is its own.
    fn heard_command(&mut self, command: &ClientCommand) {
        let (session, attachment) = match command {
            ClientCommand::Write(write) => (write.session, write.attachment),
            ClientCommand::CloseSession {
                session,
                attachment,
                ..
            } => (*session, *attachment),
            ClientCommand::OpenSession { .. } | ClientCommand::Attach { .. } => return,
        };
        self.sessions.touch(session, attachment);
    }

    fn completed(&mut self, done: Done, outputs: &mut Vec<Output>) -> Result<(), ShardError> {
        match done {
            Done::TermPersisted(term, result) => {
                result?;
                self.stats.term.set(term.0);
                self.todo.push_back(ReplicaInput::TermPersisted { term });
            }
            Done::LogSynced(done) => {
                let offset = self.log.finish_sync(done)?;
                self.todo.push_back(ReplicaInput::Durable { offset });
                self.start_sync(outputs);
            }
            Done::SegmentStarted(done) => {
                let started = self.log.finish_segment(*done);
                self.segment_started(started, outputs)?;
                let offset = self.log.durable();
                self.todo.push_back(ReplicaInput::Durable { offset });
            }
            Done::LogPrepared(done) => {
                if self.log.finish_prepare(done).is_err() {
                    self.prepare_not_before_us = self.now.monotonic_us + PREPARE_AGAIN_US;
                }
            }
            Done::Flushed(Err(error)) => self.flush_failed(error, outputs)?,
            Done::Flushed(Ok(offset)) => {
                self.checkpoints.flushed();
                self.state.checkpoint_ended();
                self.start_trim(offset, outputs);
            }
            Done::LogTrimmed(done) => {
                self.log.finish_trim(done)?;
                self.checkpoints.ended();
            }
        }
        Ok(())
    }

    fn turn(&mut self, all_heard: bool, outputs: &mut Vec<Output>) -> Result<(), ShardError> {
        self.sessions.observe(self.now.monotonic_ms());
        if self.serves && self.stage == Stage::Running && self.may_append() {
            self.collect_own(all_heard)?;
        }
        if !self.batch.is_empty() && self.may_append() && self.has_place(outputs)? {
            self.todo.push_back(ReplicaInput::Propose);
        }
        Ok(())
    }

    /// The leader's own commands: sessions and records whose time has come, and what waits.
    fn collect_own(&mut self, all_heard: bool) -> Result<(), ShardError> {
        if all_heard {
            self.sessions
                .expire_due(self.batch.room(), &mut self.buffers.expired);
            self.waiting.end(self.buffers.expired.drain(..));
        }
        self.tend()?;
        self.reap()
    }

    fn reap(&mut self) -> Result<(), ShardError> {
        let now_ms = self.now.monotonic_ms();
        if self.reaper.is_due(now_ms) {
            let elapsed_ms = self.elapsed.times(self.now).elapsed_ms;
            let limit = self.options.reap_records_max;
            let candidates = self.state.reap_candidates(elapsed_ms, limit)?;
            self.reaper.found(now_ms, candidates);
        }
        for _ in 0..REAPS_PER_ENTRY_MAX {
            if self.batch.is_full() {
                break;
            }
            let Some(path) = self.reaper.next() else {
                break;
            };
            self.batch.push_own(Command::Reap { path });
        }
        Ok(())
    }

    fn may_append(&self) -> bool {
        self.in_flight.len() < ENTRIES_IN_FLIGHT_MAX
            && !self.checkpoints.is_behind(self.state.dirty_bytes())
    }

    /// What follows from the state of things, whatever the input was.
    fn settle(&mut self, outputs: &mut Vec<Output>) -> Result<(), ShardError> {
        self.found_and_serve(outputs);
        self.release_after_apply()?;
        let held_back = std::mem::take(&mut self.held_back);
        let close_entry = held_back || self.batch.is_full() || self.stage == Stage::Draining;
        let may = !self.batch.is_empty() && self.serves && self.may_append();
        if close_entry && may && self.has_place(outputs)? {
            self.todo.push_back(ReplicaInput::Propose);
        }
        self.work_off(outputs)?;
        self.answer_queries(outputs)?;
        let now_us = self.now.monotonic_us;
        if self.checkpoints.is_due(self.state.dirty_bytes(), now_us) && self.stage == Stage::Running
        {
            self.start_checkpoint(outputs)?;
        }
        self.prepare_log(outputs);
        self.drain(outputs)
    }

    /// A new shard gets its secret and first records; one that has them serves from now on.
    fn found_and_serve(&mut self, outputs: &mut Vec<Output>) {
        if self.serves || !self.replica.is_established() || !self.in_flight.is_empty() {
            return;
        }
        if self.state.is_seeded() {
            self.serves = true;
            self.grant_all_sessions();
            let term = self.replica.term();
            outputs.push(Output::Leads { term });
        } else {
            self.batch.push_own(Command::Genesis {
                secret: self.options.genesis_secret,
                seed: self.options.seed.clone(),
            });
            self.todo.push_back(ReplicaInput::Propose);
        }
    }

    /// Nobody knows what was heard of the sessions in the term before.
    fn grant_all_sessions(&mut self) {
        self.sessions.observe(self.now.monotonic_ms());
        for session in self.state.sessions() {
            self.sessions
                .grant(session.id, session.attachment, session.timeout_ms);
        }
        self.stats.sessions.set(self.sessions.len() as u64);
    }

    /// The orderly end, when everything before it is done: all goes into the store, so that the
    /// next start replays nothing.
    fn drain(&mut self, outputs: &mut Vec<Output>) -> Result<(), ShardError> {
        let busy = !self.in_flight.is_empty()
            || !self.queries.is_empty()
            || (self.serves && !self.batch.is_empty())
            || self.checkpoints.is_under_way();
        match self.stage {
            Stage::Draining if !busy => {
                self.stage = Stage::LastCheckpoint;
                self.start_checkpoint(outputs)
            }
            // Without space for it, the log has it all.
            Stage::LastCheckpoint if !busy => {
                self.end(Ok(()), outputs);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn fail(&mut self, error: ShardError, outputs: &mut Vec<Output>) {
        // Nothing can be committed any more, whatever comes in.
        let mut asked = std::mem::take(&mut self.buffers.asked);
        asked.clear();
        self.replica.step(ReplicaInput::LogFailed, &mut asked);
        self.end(Err(error), outputs);
    }

    fn end(&mut self, result: Result<(), ShardError>, outputs: &mut Vec<Output>) {
        self.stage = Stage::Ended;
        self.serves = false;
        self.links.close_all(outputs);
        outputs.push(Output::Ended(result));
    }

    /// Everything that the fields' comments promise. Sorts and allocates: for tests and simulators.
    pub fn check_invariants(&self) -> Result<(), InvariantBroken> {
        let check = |holds: bool, what| {
            if holds {
                Ok(())
            } else {
                Err(InvariantBroken(what))
            }
        };
        self.replica.check_invariants()?;
        check(self.todo.is_empty(), "the replica was not told everything")?;
        check(
            self.serves || self.links.len() == 0,
            "links to a shard that does not serve",
        )?;
        check(
            self.state.applied() == self.replica.applied() || self.stage == Stage::Ended,
            "the replica knows of another applied entry than the state",
        )?;
        let offsets = self.in_flight.iter().map(|entry| entry.offset);
        let from_last = (0..).map_while(|back| self.replica.last().offset.0.checked_sub(back));
        check(
            offsets.rev().zip(from_last).all(|(a, b)| a.0 == b),
            "entries in flight have a gap",
        )?;
        let queries = self.queries.iter().map(|query| query.after);
        check(queries.is_sorted(), "queries out of order")
    }
}
