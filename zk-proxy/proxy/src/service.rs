//! A proxy that runs: its front end, with the clock that drives it and the proxy's own queries.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use oxkeeper_link::{Event, LinkError, LinkSink, Shard};
use oxkeeper_model::{Answer, Now, Query};
use oxkeeper_session::{Consumer, FrontEnd};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::options::ProxyOptions;

/// ZooKeeper's, until another is set.
const TRACE_MASK: i64 = 306;

pub(crate) struct Service {
    pub(crate) options: ProxyOptions,
    pub(crate) front_end: Arc<FrontEnd>,
    pub(crate) clock: Clock,
    /// ZooKeeper's trace mask: kept for who sets it, without a meaning here.
    pub(crate) trace_mask: AtomicI64,
    shard: Arc<dyn Shard>,
    queries: Arc<OwnQueries>,
}

impl Deref for Service {
    type Target = FrontEnd;

    fn deref(&self) -> &FrontEnd {
        &self.front_end
    }
}

impl Service {
    /// Opens the link to the shard, and waits until it is there.
    pub(crate) fn start(
        mut options: ProxyOptions,
        shard: Arc<dyn Shard>,
    ) -> Result<Self, LinkError> {
        options.session.nonce_seed = RandomState::new().build_hasher().finish();
        let service = Self {
            front_end: Arc::new(FrontEnd::new(options.session.clone())),
            options,
            clock: Clock::start(),
            trace_mask: AtomicI64::new(TRACE_MASK),
            shard,
            queries: Arc::default(),
        };
        let (opened, is_open) = sync_channel(1);
        service.open_link(Some(opened))?;
        is_open.recv().map_err(|_| LinkError::Closed)?;
        Ok(service)
    }

    /// Opens the link if there is none.
    fn open_link(&self, opened: Option<SyncSender<()>>) -> Result<(), LinkError> {
        let Some(resume_after) = self.front_end.wants_link() else {
            return Ok(());
        };
        let sink = Box::new(Sink {
            consumer: Consumer::new(Arc::clone(&self.front_end)),
            clock: self.clock,
            queries: Arc::clone(&self.queries),
            opened,
        });
        self.front_end
            .open_link(|| self.shard.open(resume_after, sink))
    }

    /// What is to be done several times per tick, whatever clients do.
    pub(crate) fn tick(&self) {
        self.front_end.send_heartbeat();
        // The shard may not be there yet; the next tick tries again.
        let _ = self.open_link(None);
        if self.front_end.check_link(self.clock.now()) {
            self.queries.0.lock().clear();
        }
    }

    /// A query of the proxy's own.
    pub(crate) async fn query(&self, query: Query) -> Result<Answer, LinkError> {
        let (sender, receiver) = oneshot::channel();
        {
            // An answer finds who waits for it, however soon it comes.
            let mut waiting = self.queries.0.lock();
            let token = self.front_end.query(query).0;
            if !self.front_end.is_serving() {
                return Err(LinkError::Closed);
            }
            waiting.insert(token, sender);
        }
        receiver.await.map_err(|_| LinkError::Closed)
    }
}

/// Who waits for the answers to the proxy's own queries, by their tokens.
#[derive(Default)]
struct OwnQueries(Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>);

/// Where the shard delivers.
struct Sink {
    consumer: Consumer,
    clock: Clock,
    queries: Arc<OwnQueries>,
    /// Told once, by the first event.
    opened: Option<SyncSender<()>>,
}

impl LinkSink for Sink {
    fn deliver(&mut self, events: &mut Vec<Event>) {
        self.consumer.deliver(events, self.clock.now());
        if let Some(opened) = self.opened.take() {
            // Whoever opened it may have given up.
            let _ = opened.send(());
        }
        for (token, answer) in self.consumer.own_answers() {
            if let Some(waiting) = self.queries.0.lock().remove(&token.0) {
                // Whoever asked may have gone.
                let _ = waiting.send(answer);
            }
        }
    }

    fn closed(&mut self, reason: LinkError) {
        self.opened = None;
        self.consumer.closed(reason);
    }
}

/// The only place of the proxy that reads clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            monotonic_us: self.monotonic_us(),
            wall_ms: wall.unwrap_or_default().as_millis() as i64,
        }
    }

    /// Since the start.
    pub(crate) fn monotonic_us(self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}
