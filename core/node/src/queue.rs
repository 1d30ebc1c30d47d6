//! The bounded queue in front of a shard thread: many senders, one receiver.
//!
//! The receiver takes everything there is at once and works it off without the lock, so that a
//! busy shard is never woken and senders hardly ever meet it. What was taken does not count
//! toward the limits: at most twice their amount is held.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use oxkeeper_link::{LinkError, LinkSink, Opened, Request};
use oxkeeper_model::{ClientCommand, Revision, TreeOp};
use parking_lot::{Condvar, Mutex};

use crate::links::LinkId;

/// How long the receiver looks for the next item before it sleeps, if the last one came so soon. A
/// client that waits for each of its writes sends the next one within this time, and waking a
/// thread costs a good part of what the write does.
const POLL: Duration = Duration::from_micros(100);

/// What a request weighs apart from its paths and values.
const REQUEST_BYTES: usize = 256;

/// To the shard thread.
pub(crate) enum Item {
    Request {
        link: LinkId,
        request: Request,
    },
    Open(OpenLink),
    /// The sending end is gone.
    Close {
        link: LinkId,
    },
    /// A checkpoint was made durable.
    Flushed,
    /// Work off what came before, then end. The last item.
    Stop,
}

pub(crate) struct OpenLink {
    pub(crate) resume_after: Option<Revision>,
    pub(crate) sink: Box<dyn LinkSink>,
    pub(crate) reply: std::sync::mpsc::SyncSender<(LinkId, Opened)>,
}

/// See the module.
pub(crate) struct Queue {
    requests_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    wake: Condvar,
    /// Something is there for the receiver, or was until a moment ago.
    filled: AtomicBool,
    /// The last item came within [`POLL`] of the receiver's looking for it.
    comes_soon: AtomicBool,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    requests: usize,
    bytes: usize,
    /// Nothing comes in any more.
    closed: bool,
    /// The receiver is to end at once.
    aborted: bool,
}

impl Queue {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self {
            requests_max,
            bytes_max,
            state: Mutex::default(),
            wake: Condvar::new(),
            filled: AtomicBool::new(false),
            comes_soon: AtomicBool::new(false),
        }
    }

    fn wake(&self) {
        self.filled.store(true, Relaxed);
        self.wake.notify_one();
    }

    /// All or none, in order.
    pub(crate) fn send(&self, link: LinkId, requests: &mut Vec<Request>) -> Result<(), LinkError> {
        let bytes: usize = requests.iter().map(request_bytes).sum();
        let mut state = self.state.lock();
        if state.closed {
            return Err(LinkError::Closed);
        }
        // One request of any size fits an empty queue; its size was limited where it came in.
        let full = state.requests + requests.len() > self.requests_max
            || (state.bytes > 0 && state.bytes + bytes > self.bytes_max);
        if full {
            return Err(LinkError::Busy);
        }
        state.requests += requests.len();
        state.bytes += bytes;
        state.items.extend(
            requests
                .drain(..)
                .map(|request| Item::Request { link, request }),
        );
        drop(state);
        self.wake();
        Ok(())
    }

    /// Not limited: every caller has at most one of these under way. False if closed.
    pub(crate) fn control(&self, item: Item) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        state.closed = matches!(item, Item::Stop);
        state.items.push_back(item);
        drop(state);
        self.wake();
        true
    }

    /// Ends the receiver at its next turn, without working off what is queued.
    pub(crate) fn abort(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.aborted = true;
        drop(state);
        self.wake();
    }

    /// Closes the queue and drops what is in it.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let items = std::mem::take(&mut state.items);
        drop(state);
        drop(items);
    }

    /// Moves everything into `inbox`, which must be empty; waits up to `timeout` for it
    /// (`None`: for ever). False if the receiver is to end at once.
    pub(crate) fn take(&self, inbox: &mut VecDeque<Item>, timeout: Option<Duration>) -> bool {
        debug_assert!(inbox.is_empty(), "would lose the order");
        let may_wait = timeout.is_none_or(|timeout| !timeout.is_zero());
        if may_wait && !self.filled.load(Relaxed) {
            self.poll();
        }
        let mut state = self.state.lock();
        if may_wait && state.items.is_empty() && !state.aborted {
            let since = Instant::now();
            match timeout {
                Some(timeout) => {
                    self.wake.wait_for(&mut state, timeout);
                }
                None => self.wake.wait(&mut state),
            }
            self.comes_soon.store(since.elapsed() < POLL, Relaxed);
        }
        self.filled.store(false, Relaxed);
        std::mem::swap(&mut state.items, inbox);
        state.requests = 0;
        state.bytes = 0;
        !state.aborted
    }

    /// Looks for an item for a while, and lets others run meanwhile.
    fn poll(&self) {
        let since = Instant::now();
        while self.comes_soon.load(Relaxed) && !self.filled.load(Relaxed) {
            if since.elapsed() >= POLL {
                self.comes_soon.store(false, Relaxed);
            }
            std::thread::yield_now();
        }
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().requests
    }
}

/// About how much memory, and how much of a log entry, a request takes.
pub(crate) fn request_bytes(request: &Request) -> usize {
    match request {
        Request::Command {
            command: ClientCommand::Write(write),
            ..
        } => REQUEST_BYTES + write.ops.iter().map(op_bytes).sum::<usize>(),
        Request::Heartbeat { sessions } => REQUEST_BYTES + 8 * sessions.len(),
        Request::Query { .. } | Request::Command { .. } => REQUEST_BYTES,
    }
}

fn op_bytes(op: &TreeOp) -> usize {
    let acl_bytes = |acl: &[oxkeeper_model::AclEntry]| {
        acl.iter()
            .map(|entry| 16 + entry.scheme.len() + entry.id.len())
            .sum::<usize>()
    };
    let value_bytes = |value: &Option<bytes::Bytes>| value.as_ref().map_or(0, bytes::Bytes::len);
    let content = match op {
        TreeOp::Create(create) => {
            create.path.len() + value_bytes(&create.value) + acl_bytes(&create.acl)
        }
        TreeOp::SetValue { path, value, .. } => path.len() + value_bytes(value),
        TreeOp::SetAcl { path, acl, .. } => path.len() + acl_bytes(acl),
        TreeOp::Delete { path, .. } | TreeOp::Check { path, .. } | TreeOp::Get { path } => {
            path.len()
        }
        TreeOp::Refused { .. } => 0,
    };
    64 + content
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxkeeper_link::Token;

    fn opens(count: u64) -> Vec<Request> {
        (0..count)
            .map(|n| Request::Command {
                token: Token(n),
                command: ClientCommand::OpenSession { timeout_ms: 1 },
            })
            .collect()
    }

    fn take(queue: &Queue) -> VecDeque<Item> {
        let mut inbox = VecDeque::new();
        queue.take(&mut inbox, Some(Duration::ZERO));
        inbox
    }

    #[test]
    fn a_full_queue_takes_all_of_a_vector_or_nothing() {
        let queue = Queue::new(4, 1 << 20);
        assert_eq!(queue.send(LinkId(1), &mut opens(3)), Ok(()));
        let mut two = opens(2);
        assert_eq!(queue.send(LinkId(1), &mut two), Err(LinkError::Busy));
        assert_eq!((two.len(), queue.len()), (2, 3));
        assert_eq!(take(&queue).len(), 3);
        assert_eq!(queue.send(LinkId(1), &mut two), Ok(()));
        assert_eq!(two.len(), 0);
    }

    #[test]
    fn bytes_are_limited_too_but_one_large_request_passes() {
        let queue = Queue::new(100, 2 * REQUEST_BYTES - 1);
        assert_eq!(
            queue.send(LinkId(1), &mut opens(2)),
            Ok(()),
            "into the empty queue"
        );
        assert_eq!(queue.send(LinkId(1), &mut opens(1)), Err(LinkError::Busy));
        take(&queue);
        assert_eq!(queue.send(LinkId(1), &mut opens(1)), Ok(()));
    }

    #[test]
    fn what_comes_soon_is_polled_for_and_what_comes_late_wakes_the_receiver() {
        let queue = Queue::new(4, 1 << 20);
        let (received, next) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut inbox = VecDeque::new();
                while queue.take(&mut inbox, None) {
                    inbox.drain(..).for_each(|_| received.send(()).unwrap());
                }
            });
            for round in 0..200 {
                // Alternately at once, within the time of polling, and after it.
                std::thread::sleep([0, 50, 500].map(Duration::from_micros)[round % 3]);
                assert_eq!(queue.send(LinkId(1), &mut opens(1)), Ok(()));
                next.recv_timeout(Duration::from_secs(10)).unwrap();
            }
            queue.abort();
        });
    }

    #[test]
    fn stop_is_the_last_item_and_abort_needs_none() {
        let queue = Queue::new(4, 1 << 20);
        assert_eq!(queue.send(LinkId(1), &mut opens(1)), Ok(()));
        assert!(queue.control(Item::Stop));
        assert!(!queue.control(Item::Close { link: LinkId(1) }));
        assert_eq!(queue.send(LinkId(1), &mut opens(1)), Err(LinkError::Closed));
        let inbox = take(&queue);
        assert!(matches!(inbox.back(), Some(Item::Stop)));
        assert_eq!(inbox.len(), 2);
        queue.abort();
        assert!(!queue.take(&mut VecDeque::new(), None));
    }
}
