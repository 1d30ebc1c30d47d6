//! How a shard comes up: log and store are opened and compared, a term is started, the log is
//! replayed, and a new shard gets its first records.

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_format as log_format;
use oxkeeper_log::{Disk, Wal};
use oxkeeper_model::{Command, Offset, ShardId, Term};
use oxkeeper_replication::{Input, LogEnd, Recovered, Replica};
use oxkeeper_state::ShardState;
use oxkeeper_store::KeyValueStore;
use tracing::info;

use crate::batch::Batch;
use crate::checkpoint::Checkpoints;
use crate::clock::Clock;
use crate::driver::{Buffers, Driver, ShardParts};
use crate::error::ShardError;
use crate::links::Links;
use crate::options::NodeOptions;
use crate::queue::Queue;
use crate::reaper::Reaper;
use crate::sessions::SessionDeadlines;
use crate::stats::ShardStats;

/// A shard that serves when this returns.
pub(crate) fn open<D: Disk, S: KeyValueStore>(
    shard: ShardId,
    options: Arc<NodeOptions>,
    queue: Arc<Queue>,
    stats: Arc<ShardStats>,
    parts: ShardParts<D, S>,
) -> Result<Driver<D, S>, ShardError> {
    let term = parts.term.load()?;
    let state = ShardState::open(shard, parts.store)?;
    let log = Wal::open(parts.disk, parts.log_options)?;
    let last = check_log(&log, state.applied())?;
    let log_ms = last_log_ms(&log, last.offset)?.max(state.log_time_ms());
    let clock = Clock::new(log_ms);
    let recovered = Recovered {
        term,
        last,
        applied: state.applied(),
    };
    let now_ms = clock.monotonic_ms();
    let mut driver = Driver {
        replica: Replica::new(options.node, recovered),
        sessions: SessionDeadlines::new(options.session_tick_ms),
        reaper: Reaper::new(options.reap_interval_ms, now_ms),
        checkpoints: Checkpoints::start(
            shard,
            options.checkpoint_dirty_bytes,
            options.checkpoint_commands,
            Arc::clone(&queue),
        )
        .map_err(ShardError::Thread)?,
        options,
        queue,
        stats,
        clock,
        log,
        term: parts.term,
        state,
        links: Links::default(),
        inbox: VecDeque::new(),
        batch: Batch::default(),
        queries: Vec::new(),
        in_flight: VecDeque::new(),
        stopping: false,
        buffers: Buffers::default(),
    };
    driver.lead(term.max(last.term).next())?;
    driver.seed()?;
    driver.grant_all_sessions(now_ms);
    info!(
        %shard,
        term = %driver.replica.term(),
        applied = %driver.replica.applied(),
        revision = %driver.state.revision(),
        replayed_entries = driver.stats.replayed_entries.get(),
        replay_ms = driver.stats.replay_ms.get(),
        sessions = driver.sessions.len(),
        "shard serves"
    );
    Ok(driver)
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

impl<D: Disk, S: KeyValueStore> Driver<D, S> {
    /// Stands in for the coordinator while the ensemble is this node alone: fences it in a new
    /// term, then makes it leader. What the log holds beyond the store is applied on the way.
    fn lead(&mut self, term: Term) -> Result<(), ShardError> {
        self.step(Input::NewTerm { term })?;
        let ensemble = vec![self.options.node];
        self.step(Input::BecomeLeader { term, ensemble })
    }

    /// A new shard's secret and first records.
    fn seed(&mut self) -> Result<(), ShardError> {
        if self.state.is_seeded() {
            return Ok(());
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| ShardError::Random(error.to_string()))?;
        self.batch.push_own(Command::Genesis {
            secret,
            seed: self.options.seed.clone(),
        });
        self.step(Input::Propose)
    }

    /// Nobody knows what was heard of the sessions in the term before.
    fn grant_all_sessions(&mut self, now_ms: u64) {
        self.sessions.observe(now_ms);
        for session in self.state.sessions() {
            self.sessions
                .grant(session.id, session.attachment, session.timeout_ms);
        }
        self.stats.sessions.set(self.sessions.len() as u64);
    }
}
