//! One thread of the generator: a poll loop over its connections.
//!
//! All that one wake-up brings is read, checked and answered with new requests before anything is written, and each
//! connection is written once: that keeps the generator's own cost per operation far below the server's.

mod fanout;
mod frames;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::connection::{Connection, Lost, Phase};
use crate::options::{PerfOptions, Workload};
use crate::pace::Pace;
use crate::script::Script;
use crate::tally::{Kind, Tally};
use crate::timer::Timer;
use fanout::Fanout;

/// Bytes read at once; shared by all connections of the thread.
const READ_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
const TIMER: Token = Token(usize::MAX);

/// Connections of one thread that may be in the handshake at once; more overflow the server's accept queue.
const OPENING_MAX: usize = 64;
const OPENING_TIMEOUT_NS: u64 = 10_000_000_000;
const RETRY_NS: u64 = 50_000_000;

/// How often idle sessions, lost connections and the progress numbers are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(20);

/// The poll is not woken more often than this for operations of an open loop.
const WAKE_MIN: Duration = Duration::from_micros(20);

/// How long connecting and draining may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
const DRAIN_LIMIT: Duration = Duration::from_secs(15);
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// What the progress line shows; written by workers, read by the main thread.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) finished: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) mismatches: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) longest_gap_ns: AtomicU64,
}

/// When operations count, in nanoseconds since the run's origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) warmup_ns: u64,
    pub(crate) start_ns: u64,
    /// `u64::MAX` when a count ends the run.
    pub(crate) end_ns: u64,
}

enum Role {
    Script(Box<Script>),
    Setter,
    Watcher,
    /// Opens and closes sessions; when its present one was due.
    Session {
        due_ns: u64,
        closed: bool,
    },
}

struct Member {
    index: usize,
    connection: Connection,
    role: Role,
}

pub(crate) struct Worker {
    options: Arc<PerfOptions>,
    origin: Instant,
    poll: Poll,
    timer: Timer,
    progress: Arc<Progress>,
    members: Vec<Member>,
    fanout: Option<Fanout>,
    tally: Tally,
    window: Window,
    pace: Option<Pace>,
    /// Operations that may still be sent, when a count ends the run.
    budget: u64,
    issuing: bool,
    /// Sessions are being closed, so connections may end.
    leaving: bool,
    in_flight: usize,
    /// A connection was lost and no reply has come since.
    interrupted: bool,
    opening: usize,
    /// Since when replies have been awaited without one coming; meaningless while nothing is in flight.
    quiet_since_ns: u64,
    now_ns: u64,
    last_housekeeping_ns: u64,
    /// Taken out while a step uses them.
    buffers: Option<Box<Buffers>>,
}

struct Buffers {
    events: Events,
    input: Box<[u8]>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            events: Events::with_capacity(EVENTS_MAX),
            input: vec![0; READ_BYTES].into(),
        }
    }
}

/// What a worker hands back.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// How many znodes each connection has created.
    pub(crate) created: Vec<(usize, u64)>,
}

impl Worker {
    /// `connections` are the indices, over all workers, that this one drives.
    pub(crate) fn new(
        options: Arc<PerfOptions>,
        origin: Instant,
        progress: Arc<Progress>,
        connections: impl Iterator<Item = usize>,
        run: u64,
        versions: &[i32],
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let role = |index| match options.workload {
            Workload::Watch if index == 0 => Role::Setter,
            Workload::Watch => Role::Watcher,
            Workload::Session => Role::Session {
                due_ns: 0,
                closed: false,
            },
            _ => Role::Script(Box::new(Script::new(&options, index, run, versions))),
        };
        let members = connections
            .map(|index| Member {
                index,
                connection: Connection::default(),
                role: role(index),
            })
            .collect();
        let fanout = (options.workload == Workload::Watch).then(|| Fanout::new(&options, versions));
        let window = Window {
            warmup_ns: u64::MAX,
            start_ns: u64::MAX,
            end_ns: u64::MAX,
        };
        Ok(Self {
            options,
            origin,
            poll,
            timer,
            progress,
            members,
            fanout,
            tally: Tally::new(),
            window,
            pace: None,
            budget: u64::MAX,
            issuing: false,
            leaving: false,
            in_flight: 0,
            interrupted: false,
            opening: 0,
            quiet_since_ns: 0,
            now_ns: 0,
            last_housekeeping_ns: 0,
            buffers: None,
        })
    }

    /// Opens all connections, and arms all watches.
    pub(crate) fn connect(&mut self) -> io::Result<bool> {
        if self.options.workload == Workload::Session {
            return Ok(true);
        }
        self.run_while(CONNECT_LIMIT, |worker| {
            let down = worker
                .members
                .iter()
                .any(|member| member.connection.phase() != Phase::Up);
            down || worker
                .fanout
                .as_ref()
                .is_some_and(|fanout| !fanout.is_armed())
        })
    }

    /// Loads the servers until the window or the budget ends, then waits for what is in flight.
    pub(crate) fn load(&mut self, window: Window, budget: u64) -> io::Result<()> {
        self.window = window;
        self.budget = budget;
        self.pace = self
            .options
            .rate
            .map(|rate| Pace::new(window.warmup_ns, rate, self.pace_connections()));
        self.issuing = true;
        self.now_ns = self.now();
        self.pump_all()?;
        while self.issuing {
            self.step()?;
            let broken = self.fanout.as_ref().is_some_and(|fanout| fanout.broken);
            self.issuing = self.now_ns < self.window.end_ns && self.budget > 0 && !broken;
        }
        self.count_unsent();
        self.run_while(DRAIN_LIMIT, |worker| {
            let awaited = worker.fanout.as_ref().map_or(0, Fanout::awaited);
            worker.in_flight + awaited > 0 || worker.sessions_open()
        })?;
        if self.in_flight > 0 || self.interrupted {
            self.note_reply();
        }
        self.tally.unanswered += self.in_flight as u64;
        Ok(())
    }

    /// Closes the sessions, so that none lingers on the server.
    pub(crate) fn finish(mut self) -> io::Result<Outcome> {
        self.leaving = true;
        for at in 0..self.members.len() {
            self.say_goodbye(at);
        }
        self.run_while(GOODBYE_LIMIT, |worker| worker.in_flight > 0)?;
        let created = self.members.iter().filter_map(|member| match &member.role {
            Role::Script(script) => Some((member.index, script.created)),
            _ => None,
        });
        Ok(Outcome {
            created: created.collect(),
            tally: self.tally,
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The setter alone sends operations of the watch workload.
    fn pace_connections(&self) -> usize {
        if self.fanout.is_some() {
            1
        } else {
            self.options.connections
        }
    }

    fn run_while(
        &mut self,
        limit: Duration,
        unfinished: impl Fn(&Self) -> bool,
    ) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        while unfinished(self) {
            if Instant::now() > deadline {
                return Ok(false);
            }
            self.step()?;
        }
        Ok(true)
    }

    /// One wake-up.
    fn step(&mut self) -> io::Result<()> {
        let mut buffers = self.buffers.take().unwrap_or_default();
        let result = self.step_with(&mut buffers.events, &mut buffers.input);
        self.buffers = Some(buffers);
        result
    }

    fn step_with(&mut self, events: &mut Events, scratch: &mut [u8]) -> io::Result<()> {
        self.arm_timer()?;
        match self.poll.poll(events, Some(HOUSEKEEPING)) {
            Err(fault) if fault.kind() != io::ErrorKind::Interrupted => return Err(fault),
            _ => {}
        }
        self.now_ns = self.now();
        for event in events.iter().filter(|event| event.token() != TIMER) {
            let at = event.token().0;
            let result = self.on_ready(at, event.is_readable(), event.is_read_closed(), scratch);
            self.settle(at, result);
        }
        if self.pace.is_some() || self.fanout.is_some() {
            self.pump_all()?;
        }
        if self.now_ns.saturating_sub(self.last_housekeeping_ns) > HOUSEKEEPING.as_nanos() as u64 {
            self.housekeep()?;
        }
        Ok(())
    }

    fn on_ready(
        &mut self,
        at: usize,
        readable: bool,
        closed: bool,
        scratch: &mut [u8],
    ) -> Result<(), Lost> {
        if readable || closed {
            self.receive(at, closed, scratch)?;
            self.pump(at);
        }
        if matches!(self.members[at].connection.phase(), Phase::Opening { .. }) {
            self.members[at].connection.set_nodelay();
        }
        self.members[at].connection.flush()
    }

    fn pump_all(&mut self) -> io::Result<()> {
        for at in 0..self.members.len() {
            self.pump(at);
            let result = self.members[at].connection.flush();
            self.settle(at, result);
        }
        Ok(())
    }

    fn settle(&mut self, at: usize, result: Result<(), Lost>) {
        if let Err(lost) = result {
            self.lose(at, &lost);
        }
    }

    /// Sends what the workload wants sent now.
    fn pump(&mut self, at: usize) {
        if self.fanout.is_some() {
            return self.pump_fanout(at);
        }
        if matches!(self.members[at].role, Role::Session { .. }) {
            return self.pump_session(at);
        }
        while self.issuing
            && self.budget > 0
            && self.members[at].connection.pending.len() < self.options.depth
        {
            let Some(due_ns) = self.next_due_ns(at) else {
                return;
            };
            let member = &mut self.members[at];
            let Role::Script(script) = &mut member.role else {
                return;
            };
            if member.connection.phase() != Phase::Up {
                return;
            }
            if script.send_next(&mut member.connection, due_ns, self.now_ns) {
                self.count_sent(at, due_ns);
            }
            self.note_in_flight();
        }
    }

    /// When the next operation of a connection is due, if it is by now.
    fn next_due_ns(&self, at: usize) -> Option<u64> {
        let member = &self.members[at];
        match &self.pace {
            None => Some(self.now_ns),
            Some(pace) => {
                let index = if self.fanout.is_some() {
                    0
                } else {
                    member.index
                };
                let due_ns = pace.due_on_ns(index, member.connection.sent);
                (due_ns <= self.now_ns).then_some(due_ns)
            }
        }
    }

    fn count_sent(&mut self, at: usize, due_ns: u64) {
        self.members[at].connection.sent += 1;
        if due_ns >= self.window.start_ns {
            self.budget -= 1;
        }
    }

    fn note_in_flight(&mut self) {
        if self.in_flight == 0 && !self.interrupted {
            self.quiet_since_ns = self.now_ns;
        }
        self.in_flight += 1;
    }

    /// Whether an operation that was due then is measured.
    fn is_measured(&self, due_ns: u64) -> bool {
        (self.window.start_ns..self.window.end_ns).contains(&due_ns)
    }

    /// At the end of an open loop: what was due and could not be sent has waited until now, at least.
    fn count_unsent(&mut self) {
        let Some(pace) = self
            .pace
            .filter(|_| self.fanout.is_none() && self.window.end_ns != u64::MAX)
        else {
            return;
        };
        let kind = match self.options.workload {
            Workload::Set => Kind::Set,
            Workload::Create => Kind::Create,
            Workload::Multi => Kind::Multi,
            Workload::Session => Kind::Session,
            _ => Kind::Get,
        };
        for member in &self.members {
            let due = pace.due_count(member.index, self.window.end_ns.saturating_sub(1));
            for nth in member.connection.sent..due {
                let due_ns = pace.due_on_ns(member.index, nth);
                if due_ns >= self.window.start_ns {
                    self.tally.wait(kind, due_ns, self.now_ns);
                    self.tally.unanswered += 1;
                }
            }
        }
    }

    fn arm_timer(&self) -> io::Result<()> {
        let Some(pace) = self.pace.filter(|_| self.issuing) else {
            return Ok(());
        };
        let waiting = self
            .members
            .iter()
            .filter(|member| member.connection.pending.len() < self.options.depth);
        let due_ns = waiting
            .map(|member| pace.due_on_ns(member.index, member.connection.sent))
            .min();
        let Some(due_ns) = due_ns else {
            return Ok(());
        };
        let after = Duration::from_nanos(due_ns.saturating_sub(self.now()));
        self.timer.arm(after.max(WAKE_MIN))
    }

    fn housekeep(&mut self) -> io::Result<()> {
        self.last_housekeeping_ns = self.now_ns;
        for at in 0..self.members.len() {
            let result = self.look_after(at);
            self.settle(at, result);
        }
        self.check_fanout_stall();
        let progress = &self.progress;
        progress
            .finished
            .store(self.tally.finished, Ordering::Relaxed);
        progress
            .errors
            .store(self.tally.error_count(), Ordering::Relaxed);
        progress
            .mismatches
            .store(self.tally.mismatches, Ordering::Relaxed);
        progress
            .in_flight
            .store(self.in_flight as u64, Ordering::Relaxed);
        progress
            .longest_gap_ns
            .store(self.tally.longest_gap_ns, Ordering::Relaxed);
        Ok(())
    }

    /// Opens what is down, gives up what never opens, keeps what is idle alive.
    fn look_after(&mut self, at: usize) -> Result<(), Lost> {
        let now_ns = self.now_ns;
        match self.members[at].connection.phase() {
            Phase::Down { .. } if self.leaving => Ok(()),
            Phase::Down { retry_ns } if retry_ns <= now_ns && self.opening < OPENING_MAX => {
                if matches!(self.members[at].role, Role::Session { .. }) {
                    self.pump_session(at);
                    return Ok(());
                }
                self.open(at)
            }
            Phase::Opening { since_ns } if now_ns.saturating_sub(since_ns) > OPENING_TIMEOUT_NS => {
                Err(Lost::Malformed("no answer to the handshake".to_owned()))
            }
            _ => {
                self.members[at].connection.ping_if_idle(now_ns);
                self.members[at].connection.flush()
            }
        }
    }

    fn open(&mut self, at: usize) -> Result<(), Lost> {
        let member = &mut self.members[at];
        let servers = &self.options.servers;
        let server = servers[(member.index + member.connection.attempts) % servers.len()];
        let (registry, timeout_ms) = (self.poll.registry(), self.options.session_timeout_ms);
        member
            .connection
            .open(registry, Token(at), server, timeout_ms, self.now_ns)?;
        self.opening += 1;
        Ok(())
    }
}
