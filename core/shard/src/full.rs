//! The shard on a full disk: clients' writes are refused, unexecuted, and everything else goes on.
//!
//! Space is reserved before an entry is proposed, so a full disk is found before anything has
//! happened. The log keeps a reserve for sessions and the shard's own commands: clients can connect
//! and read, and sessions end. It gets well by itself: a write that comes a while later tries again.

use oxkeeper_link::Event;
use oxkeeper_log::{Class, Disk, Room, Severity, WalError};
use oxkeeper_model::Refusal;
use oxkeeper_store::{KeyValueStore, StoreError, StoreErrorKind};

use crate::error::ShardError;
use crate::io::{Notice, Output};
use crate::limits::{CHECKPOINT_AGAIN_US, FULL_AGAIN_US};
use crate::operation::{Done, Operation, OperationKind};
use crate::shard::Shard;

/// What is known of the disk's space.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// Until then writes are refused without asking the disk.
    writes_not_before_us: u64,
    /// Until then the shard's own commands wait: not even the reserve has room.
    own_not_before_us: u64,
    /// Of the segment that is being started.
    class: Option<Class>,
    /// It was said that writes are refused.
    told: bool,
}

impl<D: Disk, S: KeyValueStore> Shard<D, S> {
    /// Whether clients' writes are refused at the moment.
    pub(crate) fn refuses_writes(&self) -> bool {
        self.now.monotonic_us < self.space.writes_not_before_us
            || (self.checkpoints.is_owed()
                && self.state.dirty_bytes() >= self.options.checkpoint_dirty_bytes)
    }

    /// When commands that wait for space are to be tried again.
    pub(crate) fn space_wake_us(&self) -> Option<u64> {
        (!self.batch.is_empty() && self.now.monotonic_us < self.space.own_not_before_us)
            .then_some(self.space.own_not_before_us)
    }

    /// Whether the batch, or what is left of it, can be appended now. If a segment has to be started
    /// first, it is asked again.
    pub(crate) fn has_place(&mut self, outputs: &mut Vec<Output>) -> Result<bool, ShardError> {
        while !self.batch.is_empty() {
            let class = self.batch.class();
            if class == Class::Client && self.refuses_writes() {
                self.refuse(true, outputs);
                continue;
            }
            if class == Class::Own && self.now.monotonic_us < self.space.own_not_before_us {
                return Ok(false);
            }
            match self.log.reserve(self.batch.entry_bytes(), class) {
                Ok(Room::Ready) => {
                    self.found_space(class, outputs);
                    return Ok(true);
                }
                Ok(Room::After(job)) => {
                    self.space.class = Some(class);
                    outputs.push(Output::Start(Operation::new(
                        OperationKind::StartSegment,
                        move || Done::SegmentStarted(Box::new(job.run())),
                    )));
                    self.held_back = true;
                    return Ok(false);
                }
                Ok(Room::Waits) => {
                    self.held_back = true;
                    return Ok(false);
                }
                Err(error) => self.no_space(class, error, outputs)?,
            }
        }
        Ok(false)
    }

    /// The end of a segment's start: it may have found the disk full.
    pub(crate) fn segment_started(
        &mut self,
        result: Result<(), WalError>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), ShardError> {
        let class = self.space.class.take().unwrap_or(Class::Own);
        result.or_else(|error| self.no_space(class, error, outputs))
    }

    fn no_space(
        &mut self,
        class: Class,
        error: WalError,
        outputs: &mut Vec<Output>,
    ) -> Result<(), ShardError> {
        if error.severity() != Severity::NoSpace {
            return Err(error.into());
        }
        let again_us = self.now.monotonic_us + FULL_AGAIN_US;
        self.space.writes_not_before_us = again_us;
        if !std::mem::replace(&mut self.space.told, true) {
            outputs.push(Output::Notice(Notice::DiskFull));
        }
        self.refuse(true, outputs);
        if class == Class::Own {
            self.space.own_not_before_us = again_us;
            self.refuse(false, outputs);
        }
        Ok(())
    }

    fn found_space(&mut self, class: Class, outputs: &mut Vec<Output>) {
        if class == Class::Client && std::mem::take(&mut self.space.told) {
            outputs.push(Output::Notice(Notice::SpaceAgain));
        }
    }

    /// Of clients' commands, the writes or the rest.
    fn refuse(&mut self, writes: bool, outputs: &mut Vec<Output>) {
        let refusal = Refusal::NoSpace;
        for (link, token) in self.batch.take_out(writes) {
            let event = Event::Refused { token, refusal };
            self.links.answer(link, event, outputs);
        }
        if self.batch.is_empty() {
            self.wait_for_the_last_entry();
        }
    }

    /// The entry that the last queries wait for will not come.
    fn wait_for_the_last_entry(&mut self) {
        let last = self.replica.last().offset;
        for query in self.queries.iter_mut().rev() {
            if query.after <= last {
                break;
            }
            query.after = last;
        }
    }

    /// A checkpoint without space: nothing is lost, the log has it all. It is made again.
    pub(crate) fn flush_failed(
        &mut self,
        error: StoreError,
        outputs: &mut Vec<Output>,
    ) -> Result<(), ShardError> {
        if error.kind != StoreErrorKind::NoSpace {
            return Err(error.into());
        }
        let again_us = self.now.monotonic_us + CHECKPOINT_AGAIN_US;
        self.checkpoints.postponed(again_us);
        outputs.push(Output::Notice(Notice::CheckpointPostponed(error)));
        Ok(())
    }
}
