//! How a shard comes up: log and store are opened and compared. What the log holds beyond the store
//! is applied when a term begins.

use std::collections::VecDeque;

use oxkeeper_format as log_format;
use oxkeeper_log::{Disk, Wal};
use oxkeeper_model::{Offset, Term};
use oxkeeper_replication::{LogEnd, Recovered, Replica};
use oxkeeper_state::ShardState;
use oxkeeper_store::KeyValueStore;

use crate::batch::Batch;
use crate::checkpoint::Checkpoints;
use crate::error::ShardError;
use crate::links::Links;
use crate::options::{ShardOptions, ShardParts};
use crate::reaper::Reaper;
use crate::sessions::SessionDeadlines;
use crate::shard::{Buffers, Shard, Stage};
use crate::time::Now;

impl<D: Disk, S: KeyValueStore> Shard<D, S> {
    /// Reads what is there and repairs the end of the log. Blocks. The shard does nothing before
    /// it is given a term.
    pub fn open(
        options: ShardOptions,
        parts: ShardParts<D, S>,
        now: Now,
    ) -> Result<Self, ShardError> {
        let term = parts.term.load()?;
        let state = ShardState::open(options.shard, parts.store)?;
        let (log, log_cut) = Wal::open(parts.disk, parts.log_options)?;
        let last = check_log(&log, state.applied())?;
        let log_ms = last_log_ms(&log, last.offset)?.max(state.log_time_ms());
        let recovered = Recovered {
            term,
            last,
            applied: LogEnd {
                term: Term(0),
                offset: state.applied(),
            },
        };
        Ok(Self {
            replica: Replica::new(options.node, recovered),
            sessions: SessionDeadlines::new(options.session_tick_ms),
            reaper: Reaper::new(options.reap_interval_ms, now.monotonic_ms()),
            checkpoints: Checkpoints::new(
                options.checkpoint_dirty_bytes,
                options.checkpoint_commands,
            ),
            options,
            stats: parts.stats,
            now,
            log_ms,
            log,
            log_cut,
            term: parts.term,
            state,
            links: Links::default(),
            batch: Batch::default(),
            queries: VecDeque::new(),
            in_flight: VecDeque::new(),
            todo: VecDeque::new(),
            held_back: false,
            prepare_not_before_us: 0,
            serves: false,
            stage: Stage::Running,
            buffers: Buffers::default(),
        })
    }
}

/// The end of the log, if the log and the store fit together.
fn check_log<D: Disk>(log: &Wal<D>, applied: Offset) -> Result<LogEnd, ShardError> {
    let (first, end) = match (log.first(), log.last()) {
        (Some(first), Some((offset, term))) => (first, LogEnd { term, offset }),
        _ => (Offset(1), LogEnd::default()),
    };
    if first > applied.next() {
        return Err(ShardError::LogGap { first, applied });
    }
    if end.offset < applied {
        return Err(ShardError::LogShort {
            last: end.offset,
            applied,
        });
    }
    Ok(end)
}

/// Log time of the last entry; it may not be applied yet.
fn last_log_ms<D: Disk>(log: &Wal<D>, last: Offset) -> Result<i64, ShardError> {
    if last == Offset(0) {
        return Ok(0);
    }
    let record = log
        .reader(last)?
        .next()?
        .ok_or(ShardError::EntryMissing(last))?;
    let entry = log_format::decode(&record.payload).map_err(|error| ShardError::Entry {
        offset: last,
        error,
    })?;
    Ok(entry.at_ms)
}
