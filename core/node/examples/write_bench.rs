//! How fast a shard writes: one client thread, a closed loop with so many writes in flight, the
//! real log in a folder (default: a temporary one), the store in memory.
//!
//! `cargo run --release -p oxkeeper-node --example write_bench [folder] [seconds]`

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use oxkeeper_client::contract::{create, seed, set};
use oxkeeper_client::{Event, Link, LinkError, LinkSink, Request, Token};
use oxkeeper_model::{Lifetime, SessionGrant, SessionWrite, ShardId, TreeOp, TxnOutcome, WriteSeq};
use oxkeeper_node::{Node, NodeOptions};
use oxkeeper_store::MemoryStore;

struct ToChannel(Sender<Vec<Event>>);

impl LinkSink for ToChannel {
    fn deliver(&mut self, events: &mut Vec<Event>) {
        let _ = self.0.send(std::mem::take(events));
    }

    fn closed(&mut self, _: LinkError) {}
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let folder = arguments
        .next()
        .map_or(temporary.path().to_owned(), Into::into);
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    println!("in flight |    ops/s |   p50 us |   p99 us | sync mean us | commands per entry");
    for in_flight in [1, 16, 160] {
        let folder = folder.join(format!("in-flight-{in_flight}"));
        measure(&folder, in_flight, Duration::from_secs(seconds))?;
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

fn measure(folder: &Path, in_flight: u64, duration: Duration) -> Result<()> {
    let options = NodeOptions {
        seed: seed(),
        ..NodeOptions::default()
    };
    let node = Node::start(options, folder, |_, _| Ok(MemoryStore::new()))?;
    let (sender, events) = channel();
    let shard = node.shard(ShardId(0)).context("no shard")?;
    let (link, _) = shard.open(None, Box::new(ToChannel(sender)))?;
    let mut load = Load {
        link,
        events,
        session: None,
        seq: 0,
        sent: Vec::new(),
    };
    load.start()?;
    load.write(create("/x", Lifetime::Persistent))?;
    load.next_answers()?;
    let mut latency = Histogram::<u64>::new(3)?;
    (0..in_flight).try_for_each(|_| load.write(set("/x", &"v".repeat(100))))?;
    let started = Instant::now();
    while started.elapsed() < duration {
        for sent in load.next_answers()? {
            latency.record(sent.elapsed().as_nanos() as u64)?;
            load.queue(set("/x", &"v".repeat(100)))?;
        }
        load.flush()?;
    }
    let stats = node.stats(ShardId(0)).context("no shard")?;
    println!(
        "{in_flight:9} | {:8.0} | {:8.1} | {:8.1} | {:13.1} | {:8.1}",
        latency.len() as f64 / started.elapsed().as_secs_f64(),
        latency.value_at_quantile(0.5) as f64 / 1e3,
        latency.value_at_quantile(0.99) as f64 / 1e3,
        stats.log_sync_ns.sum() as f64 / stats.log_sync_ns.count() as f64 / 1e3,
        stats.entry_commands.sum() as f64 / stats.entry_commands.count() as f64,
    );
    node.shutdown();
    Ok(())
}

struct Load {
    link: Arc<dyn Link>,
    events: Receiver<Vec<Event>>,
    session: Option<SessionGrant>,
    seq: u64,
    sent: Vec<Request>,
}

impl Load {
    fn start(&mut self) -> Result<()> {
        self.sent.push(Request::OpenSession {
            token: Token(0),
            timeout_ms: 60_000,
        });
        self.flush()?;
        for event in self.events.recv()? {
            if let Event::SessionGranted { result, .. } = event {
                self.session = Some(result?);
            }
        }
        Ok(())
    }

    fn write(&mut self, op: TreeOp) -> Result<()> {
        self.queue(op)?;
        self.flush()
    }

    fn queue(&mut self, op: TreeOp) -> Result<()> {
        let grant = self.session.context("no session")?;
        self.seq += 1;
        // The token carries the time of sending.
        let token = Token(now_ns());
        let write = SessionWrite {
            session: grant.session,
            attachment: grant.attachment,
            seq: WriteSeq(self.seq),
            acknowledged: WriteSeq(self.seq.saturating_sub(512)),
            identities: Arc::from([]),
            ops: [op].into_iter().collect(),
        };
        self.sent.push(Request::Write { token, write });
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.sent.is_empty() {
            self.link.send(&mut self.sent)?;
        }
        Ok(())
    }

    /// When each of the writes was sent that are answered now.
    fn next_answers(&mut self) -> Result<Vec<Instant>> {
        let mut answered = Vec::new();
        while answered.is_empty() {
            for event in self.events.recv()? {
                let Event::Written { token, outcome } = event else {
                    continue;
                };
                ensure!(
                    matches!(outcome.result, Ok(TxnOutcome::Applied(_))),
                    "{outcome:?}"
                );
                answered.push(epoch() + Duration::from_nanos(token.0));
            }
        }
        if answered.len() > 1024 {
            bail!("more answers than writes");
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
