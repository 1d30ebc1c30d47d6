//! What the replica asks for, done: terms, entries, syncs, commits.

use oxkeeper_format as log_format;
use oxkeeper_link::Event;
use oxkeeper_log::Disk;
use oxkeeper_model::{Answer, Command, CommandOutcome, Entry, Offset, Term};
use oxkeeper_replication::{EntryKind, Input as ReplicaInput, Output as ReplicaOutput, Refusal};
use oxkeeper_state::{Applied, StateError};
use oxkeeper_store::KeyValueStore;

use crate::batch::{Batch, InFlight, Origin, WaitingQuery};
use crate::error::ShardError;
use crate::io::{Notice, Output};
use crate::operation::{Done, Operation, OperationKind};
use crate::shard::Shard;

/// A payload buffer that an unusually large entry left is given back.
const PAYLOAD_BYTES_KEPT: usize = 4 << 20;

impl<D: Disk, S: KeyValueStore> Shard<D, S> {
    /// Tells the replica what it is to be told, and does what it asks for, until nothing is left.
    pub(crate) fn work_off(&mut self, outputs: &mut Vec<Output>) -> Result<(), ShardError> {
        while let Some(input) = self.todo.pop_front() {
            let coordination = matches!(
                input,
                ReplicaInput::NewTerm { .. } | ReplicaInput::BecomeLeader { .. }
            );
            let mut asked = std::mem::take(&mut self.buffers.asked);
            self.replica.step(input, &mut asked);
            for output in asked.drain(..) {
                match output {
                    ReplicaOutput::Refused(refusal) => refused(refusal, coordination, outputs)?,
                    output => self.carry_out(output, outputs)?,
                }
            }
            self.buffers.asked = asked;
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        output: ReplicaOutput,
        outputs: &mut Vec<Output>,
    ) -> Result<(), ShardError> {
        match output {
            ReplicaOutput::PersistTerm { term } => {
                let store = self.term.clone();
                outputs.push(Output::Start(Operation::new(
                    OperationKind::PersistTerm,
                    move || Done::TermPersisted(term, store.save(term)),
                )));
            }
            ReplicaOutput::Fenced { term, last } => outputs.push(Output::Fenced { term, last }),
            ReplicaOutput::Append { offset, term, kind } => self.append(offset, term, kind)?,
            ReplicaOutput::Sync => self.start_sync(outputs),
            ReplicaOutput::Commit { up_to } => self.apply_up_to(up_to, outputs)?,
            ReplicaOutput::StepDown { term } => self.step_down(term, outputs),
            // Told by the caller, who knows what was refused.
            ReplicaOutput::Refused(_) => {}
        }
        Ok(())
    }

    /// What was not committed has an unknown outcome, and so has everything that waits.
    fn step_down(&mut self, term: Term, outputs: &mut Vec<Output>) {
        self.serves = false;
        self.links.close_all(outputs);
        self.batch.clear();
        self.queries.clear();
        self.in_flight.clear();
        self.waiting.clear();
        outputs.push(Output::SteppedDown { term });
    }

    fn append(&mut self, offset: Offset, term: Term, kind: EntryKind) -> Result<(), ShardError> {
        let mut batch = Batch::default();
        match kind {
            EntryKind::TermStart => batch.push_own(Command::TermStart),
            EntryKind::Proposed => {
                let spare = std::mem::take(&mut self.buffers.spare);
                batch = self.batch.close(spare);
            }
        }
        let class = batch.class();
        let times = self.elapsed.times(self.now);
        let entry = Entry {
            term,
            wall_ms: times.wall_ms,
            elapsed_ms: times.elapsed_ms,
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
        self.log.append(offset, term, payload, class)?;
        self.in_flight.push_back(InFlight {
            offset,
            entry,
            origins: batch.origins,
        });
        Ok(())
    }

    /// At most one at a time: the next one is for all that was appended during this one.
    pub(crate) fn start_sync(&mut self, outputs: &mut Vec<Output>) {
        if let Some(job) = self.log.start_sync() {
            outputs.push(Output::Start(Operation::new(
                OperationKind::SyncLog,
                move || Done::LogSynced(job.run()),
            )));
        }
    }

    /// Makes the files ahead that the log will want. It can do without.
    pub(crate) fn prepare_log(&mut self, outputs: &mut Vec<Output>) {
        if self.now.monotonic_us < self.prepare_not_before_us {
            return;
        }
        if let Some(job) = self.log.start_prepare() {
            outputs.push(Output::Start(Operation::new(
                OperationKind::PrepareLog,
                move || Done::LogPrepared(job.run()),
            )));
        }
    }

    pub(crate) fn start_checkpoint(&mut self, outputs: &mut Vec<Output>) -> Result<(), ShardError> {
        let checkpoint = self.state.start_checkpoint()?;
        self.checkpoints.begun();
        outputs.push(Output::Start(Operation::new(
            OperationKind::Flush,
            move || Done::Flushed(checkpoint.wait()),
        )));
        Ok(())
    }

    /// `flushed`: what the store has now, whatever happens.
    pub(crate) fn start_trim(&mut self, flushed: Offset, outputs: &mut Vec<Output>) {
        match self.log.start_trim(flushed.next()) {
            Some(job) => outputs.push(Output::Start(Operation::new(
                OperationKind::TrimLog,
                move || Done::LogTrimmed(job.run()),
            ))),
            // Nothing to give up, or not now: the next checkpoint comes.
            None => self.checkpoints.ended(),
        }
    }

    /// Applies what is committed: entries in flight, or, after a restart, entries of the log.
    fn apply_up_to(&mut self, up_to: Offset, outputs: &mut Vec<Output>) -> Result<(), ShardError> {
        let first_in_flight = self
            .in_flight
            .front()
            .map_or(up_to.next(), |entry| entry.offset);
        let next = self.state.applied().next();
        if next < first_in_flight {
            self.replay(next, first_in_flight, outputs)?;
        }
        while self
            .in_flight
            .front()
            .is_some_and(|entry| entry.offset <= up_to)
            && let Some(mut entry) = self.in_flight.pop_front()
        {
            self.apply(entry.offset, &entry.entry, &mut entry.origins, outputs)?;
            self.buffers.spare = entry.into_spare();
        }
        let offset = self.state.applied();
        self.todo.push_back(ReplicaInput::Applied { offset });
        Ok(())
    }

    /// Applies the log's entries from `from` up to, without, `to`.
    fn replay(
        &mut self,
        from: Offset,
        to: Offset,
        outputs: &mut Vec<Output>,
    ) -> Result<(), ShardError> {
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
            self.apply(offset, &entry, &mut Vec::new(), outputs)?;
            self.stats.replayed_entries.add(1);
            next = next.next();
        }
        Ok(())
    }

    /// Applies one committed entry and tells the links of it; `origins` may be empty.
    fn apply(
        &mut self,
        offset: Offset,
        entry: &Entry,
        origins: &mut Vec<Origin>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), ShardError> {
        let mut applied = std::mem::take(&mut self.buffers.applied);
        self.state.apply(offset, entry, &mut applied)?;
        let mut origins = origins.drain(..).chain(std::iter::repeat(Origin::Own));
        for (result, origin) in applied.drain(..).zip(&mut origins) {
            self.tell(result, origin, outputs)?;
        }
        self.buffers.applied = applied;
        let commands = entry.commands.len();
        self.checkpoints.applied(commands);
        self.waiting.applied();
        self.stats.applied_commands.add(commands as u64);
        self.stats.applied_offset.set(offset.0);
        self.stats.revision.set(self.state.revision().0);
        self.stats.sessions.set(self.sessions.len() as u64);
        Ok(())
    }

    /// A command's change to all links, then its outcome to its sender.
    fn tell(
        &mut self,
        result: Applied,
        origin: Origin,
        outputs: &mut Vec<Output>,
    ) -> Result<(), ShardError> {
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
            self.links.changed(self.now.monotonic_us, change, outputs)?;
        }
        if let Origin::Link { link, token } = origin {
            let outcome = result.outcome;
            self.links
                .answer(link, Event::Outcome { token, outcome }, outputs);
        }
        Ok(())
    }

    /// Each query sees everything that was sent before it, and perhaps more, of which its link has
    /// then heard.
    pub(crate) fn answer_queries(&mut self, outputs: &mut Vec<Output>) -> Result<(), ShardError> {
        let applied = self.state.applied();
        while self
            .queries
            .front()
            .is_some_and(|query| query.after <= applied)
            && let Some(WaitingQuery {
                link, token, query, ..
            }) = self.queries.pop_front()
        {
            self.stats.queries.add(1);
            let answer = match self.state.query(&query) {
                // A bad block fails what reads it, and nothing else.
                Err(StateError::Store(error)) => {
                    outputs.push(Output::Notice(Notice::ReadFailed(error)));
                    Answer::Failed
                }
                answer => answer?,
            };
            let event = Event::Answered {
                token,
                query,
                answer,
            };
            self.links.answer(link, event, outputs);
        }
        Ok(())
    }
}

/// A coordinator is told; a refusal of what the shard itself has said is a defect.
fn refused(
    refusal: Refusal,
    coordination: bool,
    outputs: &mut Vec<Output>,
) -> Result<(), ShardError> {
    if !coordination {
        return Err(refusal.into());
    }
    outputs.push(Output::CoordinationRefused(refusal));
    Ok(())
}
