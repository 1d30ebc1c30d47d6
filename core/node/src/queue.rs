//! The bounded queue in front of a shard thread: many senders, one receiver.
//!
//! The receiver takes everything there is at once and works it off without the lock, so that a
//! busy shard is never woken and senders hardly ever meet it. What was taken does not count
//! toward the limits: at most twice their amount is held.
//!
//! Beside it runs a lane for what must not wait behind requests: the ends of operations, and
//! heartbeats, of which there is one for each session however many are sent.
//!
//! The receiver sleeps when nothing is there. Looking for the next item for a moment first would
//! save an idle machine 20 µs per write, and cost a busy one a whole slice of time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use oxkeeper_link::{LinkError, LinkSink, Request, SessionBeat, request_bytes};
use oxkeeper_model::{Position, SessionId};
use oxkeeper_shard::{Completion, LinkId};
use parking_lot::{Condvar, Mutex};

/// To the shard thread, in order.
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
    /// Work off what came before, then end. The last item.
    Stop,
}

pub(crate) struct OpenLink {
    pub(crate) link: LinkId,
    pub(crate) resume_after: Option<Position>,
    pub(crate) sink: Box<dyn LinkSink>,
}

/// What goes ahead of the items.
#[derive(Default)]
pub(crate) struct Urgent {
    pub(crate) completions: Vec<Completion>,
    /// The last beat of each session.
    pub(crate) beats: BTreeMap<SessionId, SessionBeat>,
}

impl Urgent {
    fn is_empty(&self) -> bool {
        self.completions.is_empty() && self.beats.is_empty()
    }
}

/// See the module.
pub(crate) struct Queue {
    requests_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    urgent: Urgent,
    requests: usize,
    bytes: usize,
    last_link: u64,
    /// Nothing comes in any more but the ends of operations.
    closed: bool,
    /// The receiver is to end at once.
    aborted: bool,
}

impl State {
    /// Moves heartbeats out of the requests; says whether there were any.
    fn take_beats(&mut self, requests: &mut Vec<Request>) -> bool {
        let before = requests.len();
        requests.retain_mut(|request| {
            let Request::Heartbeat { beats } = request else {
                return true;
            };
            let beats = std::mem::take(beats).into_iter();
            self.urgent
                .beats
                .extend(beats.map(|beat| (beat.session, beat)));
            false
        });
        requests.len() < before
    }
}

impl Queue {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self {
            requests_max,
            bytes_max,
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// All or none, in order; but heartbeats are always taken.
    pub(crate) fn send(&self, link: LinkId, requests: &mut Vec<Request>) -> Result<(), LinkError> {
        let bytes: usize = requests.iter().map(request_bytes).sum();
        let mut state = self.state.lock();
        if state.closed {
            return Err(LinkError::Closed);
        }
        if state.take_beats(requests) {
            self.wake.notify_one();
        }
        if requests.is_empty() {
            return Ok(());
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
        self.wake.notify_one();
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
        self.wake.notify_one();
        true
    }

    /// Opens a link; `make` is given its id. `None` if closed.
    pub(crate) fn open(&self, make: impl FnOnce(LinkId) -> OpenLink) -> Option<LinkId> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.last_link += 1;
        let link = LinkId(state.last_link);
        state.items.push_back(Item::Open(make(link)));
        drop(state);
        self.wake.notify_one();
        Some(link)
    }

    /// The end of an operation that ran on another thread. There are as many as were started.
    pub(crate) fn completed(&self, completion: Completion) {
        self.state.lock().urgent.completions.push(completion);
        self.wake.notify_one();
    }

    /// Ends the receiver at its next turn, without working off what is queued.
    pub(crate) fn abort(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.aborted = true;
        drop(state);
        self.wake.notify_one();
    }

    /// Closes the queue and drops what is in it; links that were being opened are told.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let items = std::mem::take(&mut state.items);
        drop(state);
        tell_closed(items);
    }

    /// Moves what is urgent into `urgent`, and all items into `inbox` if that is empty. Waits up to
    /// `timeout` (`None`: for ever) until there is something. False if the receiver is to end at once.
    pub(crate) fn take(
        &self,
        inbox: &mut VecDeque<Item>,
        urgent: &mut Urgent,
        timeout: Option<Duration>,
    ) -> bool {
        let mut state = self.state.lock();
        let nothing = |state: &mut State| {
            let no_items = state.items.is_empty() || !inbox.is_empty();
            no_items && state.urgent.is_empty() && !state.aborted
        };
        match timeout {
            Some(timeout) if !timeout.is_zero() => {
                self.wake.wait_while_for(&mut state, nothing, timeout);
            }
            Some(_) => {}
            None => self.wake.wait_while(&mut state, nothing),
        }
        std::mem::swap(&mut state.urgent, urgent);
        if inbox.is_empty() {
            std::mem::swap(&mut state.items, inbox);
            state.requests = 0;
            state.bytes = 0;
        }
        !state.aborted
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().requests
    }
}

/// Nobody else will tell those who wait for a link.
pub(crate) fn tell_closed(items: impl IntoIterator<Item = Item>) {
    for item in items {
        if let Item::Open(mut open) = item {
            open.sink.closed(LinkError::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxkeeper_link::Token;
    use oxkeeper_model::{ClientCommand, Nonce};

    fn opens(count: u64) -> Vec<Request> {
        (0..count)
            .map(|n| Request::Command {
                token: Token(n),
                command: ClientCommand::OpenSession {
                    nonce: Nonce(n),
                    timeout_ms: 1,
                },
            })
            .collect()
    }

    fn take(queue: &Queue) -> VecDeque<Item> {
        let mut inbox = VecDeque::new();
        queue.take(&mut inbox, &mut Urgent::default(), Some(Duration::ZERO));
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
        let weight = opens(1).iter().map(request_bytes).sum::<usize>();
        let queue = Queue::new(100, 2 * weight - 1);
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
    fn what_is_sent_wakes_the_receiver() {
        let queue = Queue::new(4, 1 << 20);
        let (received, next) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut inbox = VecDeque::new();
                while queue.take(&mut inbox, &mut Urgent::default(), None) {
                    inbox.drain(..).for_each(|_| received.send(()).unwrap());
                }
            });
            for _ in 0..200 {
                assert_eq!(queue.send(LinkId(1), &mut opens(1)), Ok(()));
                next.recv_timeout(Duration::from_secs(10)).unwrap();
            }
            queue.abort();
        });
    }

    #[test]
    fn a_link_that_was_being_opened_hears_of_the_end() {
        struct Told(std::sync::mpsc::Sender<LinkError>);
        impl LinkSink for Told {
            fn deliver(&mut self, _: &mut Vec<oxkeeper_link::Event>) {}
            fn closed(&mut self, reason: LinkError) {
                self.0.send(reason).unwrap();
            }
        }
        let queue = Queue::new(4, 1 << 20);
        let (sender, told) = std::sync::mpsc::channel();
        let opened = queue.open(|link| OpenLink {
            link,
            resume_after: None,
            sink: Box::new(Told(sender)),
        });
        assert!(opened.is_some());
        queue.close();
        assert_eq!(told.try_recv(), Ok(LinkError::Closed));
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
        assert!(!queue.take(&mut VecDeque::new(), &mut Urgent::default(), None));
    }
}
