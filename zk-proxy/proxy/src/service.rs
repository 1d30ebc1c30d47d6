//! A proxy that runs: its front end, with the clock that drives it and the proxy's own queries.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use oxkeeper_link::{Event, LinkError, LinkSink, Request, Shard};
use oxkeeper_model::{Answer, Now, Query};
use oxkeeper_session::{Consumer, FrontEnd, OWN_TOKEN};
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
    pub(crate) fn start(mut options: ProxyOptions, shard: &dyn Shard) -> Result<Self, LinkError> {
        options.session.nonce_seed = RandomState::new().build_hasher().finish();
        let service = Self {
            front_end: Arc::new(FrontEnd::new(options.session.clone())),
            options,
            clock: Clock::start(),
            trace_mask: AtomicI64::new(TRACE_MASK),
            queries: Arc::default(),
        };
        let (opened, is_open) = sync_channel(1);
        let sink = Box::new(Sink {
            consumer: Consumer::new(Arc::clone(&service.front_end)),
            clock: service.clock,
            queries: Arc::clone(&service.queries),
            opened: Some(opened),
        });
        service.front_end.open_link(|| shard.open(None, sink))?;
        is_open.recv().map_err(|_| LinkError::Closed)?;
        Ok(service)
    }

    /// A query of the proxy's own.
    pub(crate) async fn query(&self, query: Query) -> Result<Answer, LinkError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.queries.0.lock();
            self.front_end.send(&mut vec![Request::Query {
                token: OWN_TOKEN,
                query,
            }])?;
            waiting.push_back(sender);
        }
        receiver.await.map_err(|_| LinkError::Closed)
    }
}

/// Who waits for the answers to the proxy's own queries, in the order they were sent.
#[derive(Default)]
struct OwnQueries(Mutex<VecDeque<oneshot::Sender<Answer>>>);

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
        for answer in self.consumer.own_answers() {
            if let Some(waiting) = self.queries.0.lock().pop_front() {
                // Whoever asked may have gone.
                let _ = waiting.send(answer);
            }
        }
    }

    fn closed(&mut self, reason: LinkError) {
        self.opened = None;
        self.consumer.closed(reason);
        self.queries.0.lock().clear();
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
