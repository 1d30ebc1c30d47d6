//! How a shard comes up: log and store are opened and compared. What the log holds beyond the store
//! is applied when a term begins.

use std::collections::VecDeque;

use oxkeeper_format as log_format;
use oxkeeper_log::{Disk, Wal};
use oxkeeper_model::{Now, Offset};
use oxkeeper_replication::{LogEnd, Recovered, Replica};
use oxkeeper_state::{HashKey, ShardState};
use oxkeeper_store::KeyValueStore;

use crate::batch::Batch;
use crate::checkpoint::Checkpoints;
use crate::elapsed::{Elapsed, Times};
use crate::error::ShardError;
use crate::full::Space;
use crate::links::Links;
use crate::options::{ShardOptions, ShardParts};
use crate::reaper::Reaper;
use crate::sessions::SessionDeadlines;
use crate::shard::{Buffers, Shard, Stage};
use crate::waiting::Waiting;

impl<D: Disk, S: KeyValueStore> Shard<D, S> {
    /// Reads what is there and repairs the end of the log. Blocks. The shard does nothing before
    /// it is given a term.
    pub fn open(
        options: ShardOptions,
        parts: ShardParts<D, S>,
        now: Now,
    ) -> Result<Self, ShardError> {
        let term = parts.term.load()?;
        let hash_key = HashKey(options.hash_key);
        let state = ShardState::open(&options.shard, parts.store, hash_key)?;
        let (log, log_cut) = Wal::open(parts.disk, parts.log_options)?;
        let last = check_log(&log, state.applied())?;
        let elapsed = Elapsed::new(last_times(&log, last.offset, &state)?, now);
        let recovered = Recovered {
            term,
            last,
            applied: LogEnd {
                term: state.term(),
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
            stats: parts.stats,
            now,
            elapsed,
            log,
            log_cut,
            term: parts.term,
            links: Links::new(state.position(), options.history_bytes_max),
            options,
            state,
            batch: Batch::default(),
            queries: VecDeque::new(),
            in_flight: VecDeque::new(),
            todo: VecDeque::new(),
            space: Space::default(),
            waiting: Waiting::default(),
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

/// Times of the last entry; it may not be applied yet.
fn last_times<D: Disk, S: KeyValueStore>(
    log: &Wal<D>,
    last: Offset,
    state: &ShardState<S>,
) -> Result<Times, ShardError> {
    if last <= state.applied() {
        return Ok(Times {
            wall_ms: state.wall_ms(),
            elapsed_ms: state.elapsed_ms(),
        });
    }
    let record = log
        .reader(last)?
        .next()?
        .ok_or(ShardError::EntryMissing(last))?;
    let entry = log_format::decode(&record.payload).map_err(|error| ShardError::Entry {
        offset: last,
        error,
    })?;
    Ok(Times {
        wall_ms: entry.wall_ms,
        elapsed_ms: entry.elapsed_ms,
    })
}
