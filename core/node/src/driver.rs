//! A shard's thread: gives the shard its inputs, turn by turn, and does what it asks for.
//!
//! What blocks is done in line, but for the flush of the store: with one replica on few cores,
//! threads of their own for the log or the delivery made batches smaller and gained nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxkeeper_link::LinkError;
use oxkeeper_log::Disk;
use oxkeeper_model::{NodeId, ShardId};
use oxkeeper_shard::{
    Input, Notice, Now, Operation, OperationKind, Output, Shard, ShardError, ShardStats,
};
use oxkeeper_store::KeyValueStore;
use tracing::{error, info, warn};

use crate::clock::{Clock, elapsed_ns};
use crate::queue::{Item, Queue, Urgent, tell_closed};
use crate::sinks::Sinks;
use crate::workers::Workers;

/// Whether there is another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Next,
    /// To end as it is.
    Aborted,
}

/// All that a shard's thread owns.
pub(crate) struct Driver<D: Disk, S: KeyValueStore> {
    pub(crate) shard: Shard<D, S>,
    queue: Arc<Queue>,
    stats: Arc<ShardStats>,
    clock: Clock,
    /// Read once in a turn and after what blocks.
    now: Now,
    workers: Workers,
    sinks: Sinks,
    /// Taken from the queue and not given to the shard yet.
    inbox: VecDeque<Item>,
    urgent: Urgent,
    outputs: Vec<Output>,
    /// What the outputs of this step led to, in order.
    next: VecDeque<Input>,
    leads: bool,
    ended: Option<Result<(), ShardError>>,
}

impl<D: Disk, S: KeyValueStore> Driver<D, S> {
    pub(crate) fn new(
        shard: Shard<D, S>,
        queue: Arc<Queue>,
        stats: Arc<ShardStats>,
        clock: Clock,
        workers: Workers,
    ) -> Self {
        Self {
            shard,
            queue,
            stats,
            now: clock.now(),
            clock,
            workers,
            sinks: Sinks::default(),
            inbox: VecDeque::new(),
            urgent: Urgent::default(),
            outputs: Vec::new(),
            next: VecDeque::new(),
            leads: false,
            ended: None,
        }
    }

    /// Stands in for the coordinator while the ensemble is this node alone: fences it in a new
    /// term, then makes it leader. What the log holds beyond the store is applied on the way.
    pub(crate) fn lead(&mut self) -> Result<(), ShardError> {
        let started = Instant::now();
        let term = self.shard.term().next();
        self.step(Input::NewTerm { term });
        self.stats
            .replay_ms
            .set(started.elapsed().as_millis() as u64);
        match self.ended.take() {
            Some(Err(error)) => Err(error),
            _ if self.leads => Ok(()),
            _ => Err(ShardError::SteppedDown(term)),
        }
    }

    /// Turns until the end. Links may be left open, for the caller to close.
    pub(crate) fn run(&mut self) -> Result<(), ShardError> {
        loop {
            if let Some(result) = self.ended.take() {
                return result;
            }
            if self.turn() == Turn::Aborted {
                return Ok(());
            }
        }
    }

    fn turn(&mut self) -> Turn {
        let wait = self.wait();
        if !self.queue.take(&mut self.inbox, &mut self.urgent, wait) {
            return Turn::Aborted;
        }
        self.now = self.clock.now();
        self.take_urgent();
        while self.shard.has_room()
            && let Some(item) = self.inbox.pop_front()
        {
            self.take(item);
        }
        let all_heard = self.inbox.is_empty();
        self.step(Input::Turn { all_heard });
        self.sinks.deliver();
        Turn::Next
    }

    /// How long there is surely nothing to do but for what comes in.
    fn wait(&self) -> Option<Duration> {
        if !self.inbox.is_empty() && self.shard.has_room() {
            return Some(Duration::ZERO);
        }
        let wake_us = self.shard.next_wake_us()?;
        let now_us = self.clock.now().monotonic_us;
        Some(Duration::from_micros(wake_us.saturating_sub(now_us)))
    }

    fn take_urgent(&mut self) {
        let mut urgent = std::mem::take(&mut self.urgent);
        for completion in urgent.completions.drain(..) {
            self.step(Input::Completed(completion));
        }
        if !urgent.beats.is_empty() {
            let beats = std::mem::take(&mut urgent.beats).into_values().collect();
            self.step(Input::Heartbeat { beats });
        }
        self.urgent = urgent;
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Request { link, request } => self.step(Input::Request { link, request }),
            Item::Open(open) => {
                self.sinks.open(open.link, open.sink);
                self.step(Input::Open {
                    link: open.link,
                    resume_after: open.resume_after,
                });
            }
            Item::Close { link } => {
                self.sinks.drop_silently(link);
                self.step(Input::Close { link });
            }
            Item::Stop => self.step(Input::Stop),
        }
    }

    /// One step of the shard, and whatever it asks for.
    fn step(&mut self, input: Input) {
        self.shard.step(self.now, input, &mut self.outputs);
        loop {
            let mut outputs = std::mem::take(&mut self.outputs);
            for output in outputs.drain(..) {
                self.carry_out(output);
            }
            self.outputs = outputs;
            let Some(input) = self.next.pop_front() else {
                return;
            };
            self.next_step(input);
        }
    }

    fn next_step(&mut self, input: Input) {
        self.now = self.clock.now();
        let applies =
            matches!(&input, Input::Completed(done) if done.kind() == OperationKind::SyncLog);
        let started = Instant::now();
        self.shard.step(self.now, input, &mut self.outputs);
        if applies {
            self.stats.apply_ns.record(elapsed_ns(started));
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Event { link, event } => self.sinks.event(link, event),
            Output::Start(operation) => self.start(operation),
            Output::Closed { link, reason } => {
                // What it was told before comes first.
                self.sinks.deliver();
                self.sinks.close(link, reason);
            }
            Output::Fenced { term, .. } => {
                let ensemble: Vec<NodeId> = vec![self.shard.node()];
                self.next.push_back(Input::BecomeLeader { term, ensemble });
            }
            Output::Leads { .. } => self.leads = true,
            Output::SteppedDown { term } => {
                self.ended = Some(Err(ShardError::SteppedDown(term)));
            }
            Output::CoordinationRefused(refusal) => {
                error!(%refusal, "the shard refused its only coordinator");
            }
            Output::Notice(notice) => tell(self.shard.id(), &notice),
            Output::Ended(result) => self.ended = Some(result),
        }
    }

    fn start(&mut self, operation: Operation) {
        let started = Instant::now();
        let times = match operation.kind() {
            OperationKind::Flush => return self.workers.flush(operation),
            OperationKind::PrepareLog => return self.workers.prepare_log(operation),
            OperationKind::SyncLog => Some(&self.stats.log_sync_ns),
            OperationKind::TrimLog => Some(&self.stats.log_trim_ns),
            OperationKind::StartSegment | OperationKind::PersistTerm => None,
        };
        self.next.push_back(Input::Completed(operation.run()));
        if let Some(times) = times {
            times.record(elapsed_ns(started));
        }
    }

    /// Tells all links that the shard has stopped.
    pub(crate) fn close_links(&mut self) {
        tell_closed(self.inbox.drain(..));
        self.sinks.close_all(LinkError::Closed);
    }
}

/// What the administrator must know.
fn tell(shard: ShardId, notice: &Notice) {
    match notice {
        Notice::DiskFull => warn!(
            %shard,
            "the disk is full: writes are refused until there is space, reads go on"
        ),
        Notice::SpaceAgain => info!(%shard, "there is space on the disk again: writes go on"),
        Notice::CheckpointPostponed(error) => {
            warn!(%shard, %error, "no space for a checkpoint: it is made again later");
        }
        Notice::ReadFailed(error) => {
            error!(%shard, %error, "a read failed: restore the data from a backup or a peer");
        }
    }
}
