//! The load, over any store.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use oxkeeper_link::contract::{create, seed, set};
use oxkeeper_link::{Event, Link, LinkError, LinkSink, Request, Token};
use oxkeeper_model::{
    ClientCommand, CommandOutcome, Lifetime, Nonce, SessionGrant, SessionWrite, ShardId, TreeOp,
    TxnOutcome, WriteSeq,
};
use oxkeeper_node::{Node, NodeOptions};
use oxkeeper_store::{KeyValueStore, StoreError};

/// Records that are written to.
const RECORDS: u64 = 1_000;

/// Reads the arguments and prints a line per number of writes in flight.
pub(crate) fn run<S: KeyValueStore>(
    arguments: &[String],
    open_store: fn(ShardId, &Path) -> Result<S, StoreError>,
) -> Result<()> {
    let mut arguments = arguments.iter();
    let temporary = tempfile::tempdir()?;
    let folder = arguments
        .next()
        .map_or(temporary.path().to_owned(), Into::into);
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    println!(
        "   load | in flight |    ops/s |   p50 us |   p99 us | sync mean us | commands per entry | apply us per command"
    );
    for load in [LoadKind::Set, LoadKind::Create] {
        for in_flight in [1, 16, 160] {
            let folder = folder.join(format!("{load:?}-{in_flight}"));
            measure(
                open_store,
                &folder,
                load,
                in_flight,
                Duration::from_secs(seconds),
            )?;
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum LoadKind {
    Set,
    Create,
}

impl LoadKind {
    fn op(self, n: u64) -> TreeOp {
        match self {
            Self::Set => set(&format!("/x{}", n % RECORDS), &"v".repeat(100)),
            Self::Create => create(&format!("/x{}/{n:080}", n % RECORDS), Lifetime::Persistent),
        }
    }
}

struct ToChannel(Sender<Vec<Event>>);

impl LinkSink for ToChannel {
    fn deliver(&mut self, events: &mut Vec<Event>) {
        let _ = self.0.send(std::mem::take(events));
    }

    fn closed(&mut self, _: LinkError) {}
}

fn measure<S: KeyValueStore>(
    open_store: fn(ShardId, &Path) -> Result<S, StoreError>,
    folder: &Path,
    kind: LoadKind,
    in_flight: u64,
    duration: Duration,
) -> Result<()> {
    let options = NodeOptions {
        seed: seed(),
        ..NodeOptions::default()
    };
    let node = Node::start(options, folder, open_store)?;
    let mut load = Load::open(&node)?;
    for n in 0..RECORDS {
        load.queue(create(&format!("/x{n}"), Lifetime::Persistent))?;
        load.flush()?;
        load.next_answers()?;
    }
    let stats = node.stats(ShardId(0)).context("no shard")?;
    let apply_ns = stats.apply_ns.sum();
    let before = (
        stats.log_sync_ns.sum(),
        stats.log_sync_ns.count(),
        stats.entry_commands.sum(),
    );
    let mut latency = Histogram::<u64>::new(3)?;
    for _ in 0..in_flight {
        load.queue(kind.op(load.seq))?;
    }
    load.flush()?;
    let started = Instant::now();
    while started.elapsed() < duration {
        for sent in load.next_answers()? {
            latency.record(sent.elapsed().as_nanos() as u64)?;
            load.queue(kind.op(load.seq))?;
        }
        load.flush()?;
    }
    let syncs = (stats.log_sync_ns.count() - before.1) as f64;
    println!(
        "{:>7} | {in_flight:9} | {:8.0} | {:8.1} | {:8.1} | {:12.1} | {:18.1} | {:8.2}",
        format!("{kind:?}"),
        latency.len() as f64 / started.elapsed().as_secs_f64(),
        latency.value_at_quantile(0.5) as f64 / 1e3,
        latency.value_at_quantile(0.99) as f64 / 1e3,
        (stats.log_sync_ns.sum() - before.0) as f64 / 1e3 / syncs,
        (stats.entry_commands.sum() - before.2) as f64 / syncs,
        (stats.apply_ns.sum() - apply_ns) as f64 / 1e3 / latency.len() as f64,
    );
    drop(load);
    node.shutdown();
    Ok(())
}

/// One session on one link.
pub(crate) struct Load {
    link: Arc<dyn Link>,
    events: Receiver<Vec<Event>>,
    session: Option<SessionGrant>,
    seq: u64,
    sent: Vec<Request>,
}

impl Load {
    pub(crate) fn open(node: &Node) -> Result<Self> {
        let (sender, events) = channel();
        let shard = node.shard(ShardId(0)).context("no shard")?;
        let link = shard.open(None, Box::new(ToChannel(sender)))?;
        let mut load = Self {
            link,
            events,
            session: None,
            seq: 0,
            sent: Vec::new(),
        };
        load.sent.push(Request::Command {
            token: Token(0),
            command: ClientCommand::OpenSession {
                nonce: Nonce(1),
                timeout_ms: 60_000,
            },
        });
        load.flush()?;
        for event in load.events.recv()? {
            if let Event::Outcome {
                outcome: CommandOutcome::SessionGranted(result),
                ..
            } = event
            {
                load.session = Some(result?);
            }
        }
        Ok(load)
    }

    pub(crate) fn queue(&mut self, op: TreeOp) -> Result<()> {
        let grant = self.session.context("no session")?;
        self.seq += 1;
        // The token carries the time of sending.
        let token = Token(now_ns());
        let write = SessionWrite {
            session: grant.session,
            attachment: grant.attachment,
            seq: WriteSeq(self.seq),
            follows: WriteSeq(self.seq - 1),
            acknowledged: WriteSeq(self.seq.saturating_sub(512)),
            identities: Arc::from([]),
            ops: [op].into_iter().collect(),
        };
        self.sent.push(Request::Command {
            token,
            command: ClientCommand::Write(write),
        });
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        if !self.sent.is_empty() {
            self.link.send(&mut self.sent)?;
        }
        Ok(())
    }

    /// When each of the writes was sent that are answered now.
    pub(crate) fn next_answers(&mut self) -> Result<Vec<Instant>> {
        let mut answered = Vec::new();
        while answered.is_empty() {
            for event in self.events.recv()? {
                let Event::Outcome {
                    token,
                    outcome: CommandOutcome::Written(outcome),
                } = event
                else {
                    continue;
                };
                ensure!(
                    matches!(outcome.result, Ok(TxnOutcome::Applied(_))),
                    "{outcome:?}"
                );
                answered.push(epoch() + Duration::from_nanos(token.0));
            }
        }
        Ok(answered)
    }
}

fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

fn now_ns() -> u64 {
    epoch().elapsed().as_nanos() as u64
}
