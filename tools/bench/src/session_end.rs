//! The end of a session that owns very many znodes: how long all others wait meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use oxkeeper_compat_tests::proto::op;
use oxkeeper_compat_tests::session::{Session, create_request};

use crate::Bench;
use crate::progress;
use crate::report::{Aim, Pick, Row, Unit, grouped};
use crate::server::{Server, Side};

/// Owned by the session that ends.
const RECORDS: [usize; 2] = [100_000, 500_000];
const PARENTS: usize = 100;
const CREATES_PER_MULTI: usize = 500;
const EPHEMERAL: i32 = 1;
/// A session that lives long enough to make them all.
const TIMEOUT_MS: i32 = 40_000;
/// What others may wait at most with the smaller number.
const WAIT_MS_MAX: f64 = 250.0;
/// Others are watched for so long after the close was answered: rows may still be worked off.
const AFTERMATH: Duration = Duration::from_secs(2);

pub(super) fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for records in RECORDS {
        let case = format!("end of a session with {} znodes", grouped(records as f64));
        let row = |measure, aims: &[Aim]| {
            let mut row = Row::plain(case.clone(), measure, Unit::Milliseconds, aims);
            row.pick = Pick::Largest;
            row
        };
        let aims: &[Aim] = match records {
            100_000 => &[Aim::AtMost(WAIT_MS_MAX)],
            _ => &[],
        };
        let mut wait = row("longest wait of others", aims);
        let mut close = row("until it is answered", &[]);
        for side in Side::BOTH {
            let server = Server::start(side, &bench.programs, &bench.folder)?;
            let (waited, closed) = measure(server.addr(), records)
                .with_context(|| format!("{case} on {}", server.name()))?;
            progress(&format!(
                "{case}: {} answers the close after {closed:?}, others wait {waited:?} at most",
                server.name()
            ));
            wait.figures.put(side, waited.as_secs_f64() * 1e3);
            close.figures.put(side, closed.as_secs_f64() * 1e3);
        }
        rows.extend([wait, close]);
    }
    Ok(rows)
}

/// The longest wait of others around the end, and how long the end took.
fn measure(addr: SocketAddr, records: usize) -> Result<(Duration, Duration)> {
    let mut own = Session::open_with_timeout(addr, TIMEOUT_MS)?;
    own.make("/end")?;
    own.make("/others")?;
    for parent in 0..PARENTS {
        own.make(&format!("/end/{parent}"))?;
    }
    let all: Vec<usize> = (0..records).collect();
    for some in all.chunks(CREATES_PER_MULTI) {
        let create = |n: &usize| {
            let path = format!("/end/{}/{n}", n % PARENTS);
            create_request(op::CREATE, &path, b"", EPHEMERAL)
        };
        own.multi(some.iter().map(create).collect())?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = Other::start(addr, &stop, |session| {
        Ok(session.set("/others", b"x", -1).map(drop)?)
    })?;
    let reader = Other::start(addr, &stop, |session| {
        Ok(session.get("/others", false).map(drop)?)
    })?;
    let begun = Instant::now();
    own.close()?;
    let closed = begun.elapsed();
    std::thread::sleep(AFTERMATH);
    stop.store(true, Ordering::Relaxed);
    let waited = writer.longest()?.max(reader.longest()?);
    let mut session = Session::open(addr)?;
    for parent in 0..PARENTS {
        let stat = session.stat(&format!("/end/{parent}"))?;
        ensure!(stat.num_children == 0, "/end/{parent} has children left");
    }
    session.close()?;
    Ok((waited, closed))
}

/// Another client, one request after the other.
struct Other(JoinHandle<Result<Duration>>);

impl Other {
    fn start(
        addr: SocketAddr,
        stop: &Arc<AtomicBool>,
        request: impl Fn(&mut Session) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let mut session = Session::open(addr)?;
        let stop = Arc::clone(stop);
        Ok(Self(spawn(move || {
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let sent = Instant::now();
                request(&mut session)?;
                longest = longest.max(sent.elapsed());
            }
            session.close()?;
            Ok(longest)
        })))
    }

    fn longest(self) -> Result<Duration> {
        self.0
            .join()
            .map_err(|_| anyhow::anyhow!("a client panicked"))?
    }
}
