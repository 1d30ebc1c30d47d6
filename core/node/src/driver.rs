//! A shard's thread: runs the replica, the log, the store and the links, turn by turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxkeeper_format as log_format;
use oxkeeper_link::Event;
use oxkeeper_log::{Disk, Wal, WalOptions};
use oxkeeper_model::{Attachment, CommandOutcome, Entry, Offset, SessionId, Term};
use oxkeeper_replication::{EntryKind, Input, Output, Replica};
use oxkeeper_state::{Applied, ShardState};
use oxkeeper_store::KeyValueStore;

use crate::batch::{Batch, InFlight, NoCommand, Origin, WaitingQuery};
use crate::checkpoint::{Checkpoints, Done};
use crate::clock::{Clock, elapsed_ns};
use crate::error::ShardError;
use crate::folder::TermStore;
use crate::links::Links;
use crate::options::NodeOptions;
use crate::queue::{Item, Queue};
use crate::reaper::Reaper;
use crate::sessions::SessionDeadlines;
use crate::stats::ShardStats;

/// A payload buffer that an unusually large entry left is given back.
const PAYLOAD_BYTES_KEPT: usize = 4 << 20;

/// Where a shard keeps its data.
pub struct ShardParts<D: Disk, S: KeyValueStore> {
    pub disk: Arc<D>,
    pub log_options: WalOptions,
    pub store: S,
    pub term: Box<dyn TermStore>,
}

/// Whether there is another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Next,
    /// Everything that was queued is done.
    Drained,
    /// To end as it is.
    Aborted,
}

/// All that a shard's thread owns.
pub(crate) struct Driver<D: Disk, S: KeyValueStore> {
    pub(crate) options: Arc<NodeOptions>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) stats: Arc<ShardStats>,
    pub(crate) clock: Clock,
    pub(crate) replica: Replica,
    pub(crate) log: Wal<D>,
    pub(crate) term: Box<dyn TermStore>,
    pub(crate) state: ShardState<S>,
    pub(crate) links: Links,
    pub(crate) sessions: SessionDeadlines,
    pub(crate) reaper: Reaper,
    pub(crate) checkpoints: Checkpoints,
    /// Taken from the queue and not looked at yet.
    pub(crate) inbox: VecDeque<Item>,
    /// The next entry.
    pub(crate) batch: Batch,
    pub(crate) queries: Vec<WaitingQuery>,
    /// Appended and not committed, in order.
    pub(crate) in_flight: VecDeque<InFlight>,
    /// `Item::Stop` was met.
    pub(crate) stopping: bool,
    pub(crate) buffers: Buffers,
}

/// Memory that is used again in every turn.
#[derive(Default)]
pub(crate) struct Buffers {
    spare: Batch,
    outputs: Vec<Output>,
    payload: Vec<u8>,
    applied: Vec<Applied>,
    expired: Vec<(SessionId, Attachment)>,
}

impl<D: Disk, S: KeyValueStore> Driver<D, S> {
    /// Turns until the end. An error leaves links open, for the caller to close.
    pub(crate) fn run(&mut self) -> Result<(), ShardError> {
        loop {
            match self.turn()? {
                Turn::Next => {}
                Turn::Drained => return self.finish(),
                Turn::Aborted => return Ok(()),
            }
        }
    }

    fn turn(&mut self) -> Result<Turn, ShardError> {
        if self.inbox.is_empty() {
            let wait = self.wait();
            if !self.queue.take(&mut self.inbox, wait) {
                return Ok(Turn::Aborted);
            }
        }
        let now_ms = self.clock.monotonic_ms();
        self.sessions.observe(now_ms);
        self.collect()?;
        // Only now has every heartbeat been heard that came in while the last entry was synced.
        if self.inbox.is_empty() && !self.stopping {
            self.collect_own(now_ms)?;
        }
        if !self.batch.is_empty() {
            self.step(Input::Propose)?;
        }
        self.answer_queries()?;
        self.links.deliver();
        self.checkpoint_if_due()?;
        let drained = self.stopping && self.inbox.is_empty();
        Ok(if drained { Turn::Drained } else { Turn::Next })
    }

    /// How long there is surely nothing to do but for what comes in.
    fn wait(&self) -> Option<Duration> {
        let reaper_ms = self.reaper.wait_ms(self.clock.monotonic_ms());
        let wait_ms = self
            .sessions
            .wait_ms()
            .map_or(reaper_ms, |ms| ms.min(reaper_ms));
        Some(Duration::from_millis(wait_ms))
    }

    /// Works off the inbox until it is empty or the entry is full.
    fn collect(&mut self) -> Result<(), ShardError> {
        while !self.batch.is_full()
            && let Some(item) = self.inbox.pop_front()
        {
            match item {
                Item::Request { link, request } => match self.batch.take(link, request) {
                    None => self.touch_sender(),
                    Some(NoCommand::Query(query)) => self.queries.push(query),
                    Some(NoCommand::Heartbeat(sessions)) => {
                        sessions
                            .into_iter()
                            .for_each(|session| self.sessions.touch(session));
                    }
                },
                Item::Open(open) => {
                    let revision = self.state.revision();
                    let opened = self.links.open(open.resume_after, revision, open.sink);
                    // Whoever gave up waiting drops the link, which closes it.
                    let _ = open.reply.send(opened);
                    self.stats.links.set(self.links.len() as u64);
                }
                Item::Close { link } => {
                    self.links.close(link);
                    self.stats.links.set(self.links.len() as u64);
                }
                Item::Flushed => {
                    if let Some(done) = self.checkpoints.poll()? {
                        self.trim(&done)?;
                    }
                }
                Item::Stop => self.stopping = true,
            }
        }
        Ok(())
    }

    /// A session that sends a command is alive, before the command is applied.
    fn touch_sender(&mut self) {
        if let Some(Origin::Link {
            session: Some(session),
            ..
        }) = self.batch.origins.last()
        {
            self.sessions.touch(*session);
        }
    }

    /// The leader's own commands: sessions and records whose time has come.
    fn collect_own(&mut self, now_ms: u64) -> Result<(), ShardError> {
        self.sessions
            .expire_due(self.batch.room(), &mut self.buffers.expired);
        for (session, attachment) in self.buffers.expired.drain(..) {
            self.batch.expire(session, attachment);
        }
        if self.reaper.is_due(now_ms) {
            let log_ms = self.clock.next_log_ms();
            let candidates = self
                .state
                .reap_candidates(log_ms, self.options.reap_records_max)?;
            self.reaper.found(now_ms, candidates);
        }
        let room = self.batch.room();
        self.reaper
            .take(room)
            .for_each(|path| self.batch.reap(path));
        Ok(())
    }

    /// One step of the replica, and whatever it asks for.
    pub(crate) fn step(&mut self, input: Input) -> Result<(), ShardError> {
        let mut outputs = std::mem::take(&mut self.buffers.outputs);
        self.replica.step(input, &mut outputs)?;
        for output in outputs.drain(..) {
            self.carry_out(output)?;
        }
        self.buffers.outputs = outputs;
        debug_assert_eq!(self.replica.check_invariants(), Ok(()));
        Ok(())
    }

    fn carry_out(&mut self, output: Output) -> Result<(), ShardError> {
        match output {
            Output::PersistTerm { term } => {
                self.term.save(term)?;
                self.stats.term.set(term.0);
                self.step(Input::TermPersisted { term })
            }
            // The local stand-in for the coordinator sees it from the state.
            Output::Fenced { .. } => Ok(()),
            Output::Append { offset, term, kind } => self.append(offset, term, kind),
            Output::Sync => {
                let offset = self.sync()?;
                self.step(Input::Durable { offset })
            }
            Output::Commit { up_to } => self.apply_up_to(up_to),
            Output::StepDown { term } => Err(ShardError::SteppedDown(term)),
        }
    }

    fn append(&mut self, offset: Offset, term: Term, kind: EntryKind) -> Result<(), ShardError> {
        let mut batch = Batch::default();
        match kind {
            EntryKind::TermStart => batch.push_own(oxkeeper_model::Command::TermStart),
            EntryKind::Proposed => {
                let spare = std::mem::take(&mut self.buffers.spare);
                batch = self.batch.close(spare);
            }
        }
        let entry = Entry {
            term,
            at_ms: self.clock.next_log_ms(),
            commands: batch.commands,
        };
        let payload = &mut self.buffers.payload;
        payload.clear();
        payload.shrink_to(PAYLOAD_BYTES_KEPT);
        log_format::encode(&entry, payload);
        self.stats
            .entry_commands
            .record(entry.commands.len() as u64);
        self.stats.log_bytes.add(payload.len() as u64);
        let appended = self.log.append(offset, term, payload);
        self.in_flight.push_back(InFlight {
            offset,
            entry,
            origins: batch.origins,
        });
        self.or_log_failed(appended)
    }

    fn sync(&mut self) -> Result<Offset, ShardError> {
        let started = Instant::now();
        let synced = self.log.sync();
        self.stats.log_sync_ns.record(elapsed_ns(started));
        self.or_log_failed(synced)
    }

    /// Tells the replica of a failure, so that nothing can be committed any more.
    fn or_log_failed<T>(
        &mut self,
        result: Result<T, oxkeeper_log::WalError>,
    ) -> Result<T, ShardError> {
        if result.is_err() {
            // It steps down, which is what the error does here anyway.
            let _ = self.replica.step(Input::LogFailed, &mut Vec::new());
        }
        Ok(result?)
    }

    /// Applies what is committed: entries in flight, or, after a restart, entries of the log.
    fn apply_up_to(&mut self, up_to: Offset) -> Result<(), ShardError> {
        let first_in_flight = self
            .in_flight
            .front()
            .map_or(up_to.next(), |entry| entry.offset);
        let next = self.replica.applied().next();
        if next < first_in_flight {
            self.replay(next, first_in_flight)?;
        }
        while self
            .in_flight
            .front()
            .is_some_and(|entry| entry.offset <= up_to)
            && let Some(mut entry) = self.in_flight.pop_front()
        {
            self.apply(entry.offset, &entry.entry, &mut entry.origins)?;
            self.buffers.spare = entry.into_spare();
        }
        Ok(())
    }

    /// Applies the log's entries from `from` up to, without, `to`.
    fn replay(&mut self, from: Offset, to: Offset) -> Result<(), ShardError> {
        let started = Instant::now();
        let mut reader = self.log.reader(from)?;
        let mut next = from;
        while next < to {
            let record = reader.next()?.ok_or(ShardError::EntryMissing(next))?;
            let offset = record.offset;
            if offset != next {
                return Err(ShardError::EntryMissing(next));
            }
            let entry = log_format::decode(&record.payload)
                .map_err(|error| ShardError::Entry { offset, error })?;
            self.apply(offset, &entry, &mut Vec::new())?;
            self.stats.replayed_entries.add(1);
            next = next.next();
        }
        self.stats
            .replay_ms
            .set(started.elapsed().as_millis() as u64);
        Ok(())
    }

    /// Applies one committed entry and tells the links of it; `origins` may be empty.
    fn apply(
        &mut self,
        offset: Offset,
        entry: &Entry,
        origins: &mut Vec<Origin>,
    ) -> Result<(), ShardError> {
        let started = Instant::now();
        let mut applied = std::mem::take(&mut self.buffers.applied);
        self.state.apply(offset, entry, &mut applied)?;
        let mut origins = origins.drain(..).chain(std::iter::repeat(Origin::Own));
        for (result, origin) in applied.drain(..).zip(&mut origins) {
            self.tell(result, origin);
        }
        self.buffers.applied = applied;
        let commands = entry.commands.len();
        self.checkpoints.applied(commands);
        self.stats.apply_ns.record(elapsed_ns(started));
        self.stats.applied_commands.add(commands as u64);
        self.stats.applied_offset.set(offset.0);
        self.stats.revision.set(self.state.revision().0);
        self.stats.sessions.set(self.sessions.len() as u64);
        self.step(Input::Applied { offset })
    }

    /// A command's change to all links, then its outcome to its sender.
    fn tell(&mut self, result: Applied, origin: Origin) {
        match &result.outcome {
            CommandOutcome::SessionGranted(Ok(grant)) => {
                self.sessions
                    .grant(grant.session, grant.attachment, grant.timeout_ms);
            }
            CommandOutcome::SessionExpired(_, true) => self.stats.sessions_expired.add(1),
            CommandOutcome::Reaped(true) => self.stats.records_reaped.add(1),
            _ => {}
        }
        if let Some(change) = result.change {
            if let Some(session) = change.session_ended {
                self.sessions.end(session);
            }
            self.links.changed(change);
        }
        if let Origin::Link { link, token, .. } = origin {
            let outcome = result.outcome;
            self.links.answer(link, Event::Outcome { token, outcome });
        }
    }

    /// After the entry: each query sees everything that was sent before it, and perhaps more,
    /// of which its link has then heard.
    fn answer_queries(&mut self) -> Result<(), ShardError> {
        self.stats.queries.add(self.queries.len() as u64);
        for WaitingQuery { link, token, query } in self.queries.drain(..) {
            let answer = self.state.query(&query)?;
            self.links.answer(
                link,
                Event::Answered {
                    token,
                    query,
                    answer,
                },
            );
        }
        Ok(())
    }

    fn trim(&mut self, done: &Done) -> Result<(), ShardError> {
        self.stats.checkpoint_ns.record(done.ns);
        let started = Instant::now();
        self.log.trim_below(done.offset.next())?;
        self.stats.log_trim_ns.record(elapsed_ns(started));
        Ok(())
    }

    fn checkpoint_if_due(&mut self) -> Result<(), ShardError> {
        if self.checkpoints.is_behind(self.state.dirty_bytes()) {
            let done = self.checkpoints.block()?;
            self.trim(&done)?;
        }
        if self.checkpoints.is_due(self.state.dirty_bytes()) {
            let checkpoint = self.state.start_checkpoint()?;
            self.checkpoints.begin(checkpoint)?;
        }
        Ok(())
    }

    /// The orderly end: everything goes into the store, so that the next start replays nothing.
    fn finish(&mut self) -> Result<(), ShardError> {
        self.checkpoints.wait();
        if let Some(done) = self.checkpoints.poll()? {
            self.stats.checkpoint_ns.record(done.ns);
        }
        let offset = self.state.start_checkpoint()?.wait()?;
        Ok(self.log.trim_below(offset.next())?)
    }

    /// Tells all links that the shard has stopped.
    pub(crate) fn close_links(&mut self) {
        self.links.close_all();
    }
}
