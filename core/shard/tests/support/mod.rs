#![allow(dead_code)]

//! A shard driven by hand, on a machine in memory that can lose its power.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oxkeeper_link::contract::{create, seed};
use oxkeeper_link::{Event, Request, Token};
use oxkeeper_log::{MemoryDisk, WalOptions};
use oxkeeper_model::placement::ShardDescriptor;
use oxkeeper_model::{
    Attachment, ClientCommand, CommandOutcome, Lifetime, NodeId, Nonce, SessionGrant, SessionWrite,
    ShardId, ShardUuid, Term, TreeOp, WriteSeq,
};
use oxkeeper_shard::{
    Input, LinkId, MemoryTerm, Now, Operation, OperationKind, Output, Shard, ShardError,
    ShardOptions, ShardParts, ShardStats,
};
use oxkeeper_store::MemoryStore;

pub(crate) const ME: NodeId = NodeId(1);
pub(crate) const LINK: LinkId = LinkId(1);

/// What survives a shard.
#[derive(Clone, Default)]
pub(crate) struct Machine {
    pub(crate) disk: MemoryDisk,
    pub(crate) store: MemoryStore,
    pub(crate) term: MemoryTerm,
    pub(crate) reserve_bytes: u64,
}

pub(crate) fn options() -> ShardOptions {
    ShardOptions {
        shard: ShardDescriptor::whole("default", ShardId(0), ShardUuid::default()),
        node: ME,
        genesis_secret: [7; 32],
        hash_key: 7,
        seed: seed(),
        session_tick_ms: 1_000,
        reap_interval_ms: 60_000,
        reap_records_max: 1_000,
        history_bytes_max: 1 << 20,
        checkpoint_dirty_bytes: 1 << 20,
        checkpoint_commands: 1_000,
    }
}

impl Machine {
    pub(crate) fn open(
        &self,
        options: ShardOptions,
        now: Now,
    ) -> Result<Shard<MemoryDisk, MemoryStore>, ShardError> {
        let parts = ShardParts {
            disk: Arc::new(self.disk.clone()),
            log_options: WalOptions {
                segment_bytes: 8 << 10,
                // Files made ahead of need would stand between the lines of the transcripts.
                prepare_segments: 0,
                reserve_bytes: self.reserve_bytes,
                ..WalOptions::default()
            },
            store: self.store.clone(),
            term: Arc::new(self.term.clone()),
            stats: Arc::new(ShardStats::default()),
        };
        Shard::open(options, parts, now)
    }

    /// Power loss.
    pub(crate) fn crash(&self, seed: u64) {
        self.disk.crash(seed);
        self.store.crash();
    }
}

/// A shard, the operations that it has started, and what it has said.
pub(crate) struct Driven {
    pub(crate) shard: Shard<MemoryDisk, MemoryStore>,
    pub(crate) now: Now,
    pub(crate) started: VecDeque<Operation>,
    /// Not looked at yet.
    pub(crate) outputs: Vec<Output>,
    /// Inputs and outputs as text.
    pub(crate) transcript: String,
}

impl Driven {
    pub(crate) fn open(machine: &Machine, options: ShardOptions) -> Self {
        let now = Now {
            monotonic_us: 1_000_000,
            wall_ms: 1_700_000_000_000,
        };
        Self {
            shard: machine.open(options, now).expect("it opens"),
            now,
            started: VecDeque::new(),
            outputs: Vec::new(),
            transcript: String::new(),
        }
    }

    /// One that leads, with nothing under way.
    pub(crate) fn leading(machine: &Machine, options: ShardOptions) -> Self {
        let mut driven = Self::open(machine, options);
        driven.lead();
        driven.outputs.clear();
        driven.transcript.clear();
        driven
    }

    pub(crate) fn lead(&mut self) {
        let term = self.shard.term().next();
        self.step(Input::NewTerm { term });
        self.run_all();
        self.step(Input::BecomeLeader {
            term,
            ensemble: vec![ME],
        });
        self.run_all();
    }

    pub(crate) fn step(&mut self, input: Input) {
        let _ = writeln!(self.transcript, "> {}", input_text(&input));
        let mut outputs = Vec::new();
        self.shard.step(self.now, input, &mut outputs);
        for output in outputs {
            let _ = writeln!(self.transcript, "{}", output_text(&output));
            match output {
                Output::Start(operation) => self.started.push_back(operation),
                output => self.outputs.push(output),
            }
        }
        self.shard.check_invariants().expect("after every step");
    }

    pub(crate) fn turn(&mut self) {
        self.step(Input::Turn { all_heard: true });
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.now.monotonic_us += ms * 1_000;
        self.now.wall_ms += ms as i64;
    }

    /// Runs the operation at this place of the queue.
    pub(crate) fn run_at(&mut self, at: usize) {
        if let Some(operation) = self.started.remove(at) {
            let completion = operation.run();
            self.step(Input::Completed(completion));
        }
    }

    pub(crate) fn run(&mut self, kind: OperationKind) {
        let at = self.started.iter().position(|op| op.kind() == kind);
        self.run_at(at.unwrap_or_else(|| panic!("no {kind:?} was started")));
    }

    pub(crate) fn run_all(&mut self) {
        while !self.started.is_empty() {
            self.run_at(0);
        }
    }

    pub(crate) fn open_link(&mut self, link: LinkId) {
        self.step(Input::Open {
            link,
            resume_after: None,
        });
    }

    pub(crate) fn request(&mut self, link: LinkId, request: Request) {
        self.step(Input::Request { link, request });
    }

    /// A session that is open when this returns.
    pub(crate) fn session(&mut self, link: LinkId, timeout_ms: u32) -> SessionGrant {
        let granted = self.try_session(link, timeout_ms);
        granted.expect("a session is granted")
    }

    /// `None` if it was refused.
    pub(crate) fn try_session(&mut self, link: LinkId, timeout_ms: u32) -> Option<SessionGrant> {
        let before = self.outputs.len();
        self.request(link, open_session(0, timeout_ms));
        self.turn();
        self.run_all();
        let grant = |output: &Output| match output {
            Output::Event {
                event:
                    Event::Outcome {
                        outcome: CommandOutcome::SessionGranted(Ok(grant)),
                        ..
                    },
                ..
            } => Some(*grant),
            _ => None,
        };
        self.outputs[before..].iter().rev().find_map(grant)
    }

    /// What was said since the last time.
    pub(crate) fn said(&mut self) -> String {
        std::mem::take(&mut self.transcript)
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.outputs.last(), Some(Output::Ended(_)))
    }
}

/// Of sessions and attaches, each another.
pub(crate) static NONCES: AtomicU64 = AtomicU64::new(1);

pub(crate) fn attach(grant: &SessionGrant, token: u64, replaces: Attachment) -> Request {
    Request::Command {
        token: Token(token),
        command: ClientCommand::Attach {
            session: grant.session,
            password: grant.password,
            replaces,
            nonce: Nonce(NONCES.fetch_add(1, Relaxed)),
            timeout_ms: grant.timeout_ms,
        },
    }
}

pub(crate) fn open_session(token: u64, timeout_ms: u32) -> Request {
    Request::Command {
        token: Token(token),
        command: ClientCommand::OpenSession {
            nonce: Nonce(NONCES.fetch_add(1, Relaxed)),
            timeout_ms,
        },
    }
}

pub(crate) fn write(grant: &SessionGrant, token: u64, seq: u64, op: TreeOp) -> Request {
    Request::Command {
        token: Token(token),
        command: ClientCommand::Write(SessionWrite {
            session: grant.session,
            attachment: grant.attachment,
            seq: WriteSeq(seq),
            follows: WriteSeq(seq - 1),
            acknowledged: WriteSeq(seq.saturating_sub(64)),
            identities: [].into(),
            ops: [op].into_iter().collect(),
        }),
    }
}

pub(crate) fn close(grant: &SessionGrant, token: u64, seq: u64) -> Request {
    Request::Command {
        token: Token(token),
        command: ClientCommand::CloseSession {
            session: grant.session,
            attachment: grant.attachment,
            seq: WriteSeq(seq),
            follows: WriteSeq(seq - 1),
        },
    }
}

pub(crate) fn persistent(path: &str) -> TreeOp {
    create(path, Lifetime::Persistent)
}

fn input_text(input: &Input) -> String {
    match input {
        Input::NewTerm { term } => format!("new term {term}"),
        Input::BecomeLeader { term, .. } => format!("lead term {term}"),
        Input::Open { link, .. } => format!("open link {}", link.0),
        Input::Close { link } => format!("close link {}", link.0),
        Input::Request { link, request } => match request {
            Request::Command { token, .. } => format!("link {}: command {}", link.0, token.0),
            Request::Query { token, .. } => format!("link {}: query {}", link.0, token.0),
            Request::Heartbeat { .. } => format!("link {}: heartbeat", link.0),
        },
        Input::Heartbeat { .. } => "heartbeat".to_owned(),
        Input::Completed(completion) => format!("done {:?}", completion.kind()),
        Input::Turn { .. } => "turn".to_owned(),
        Input::Stop => "stop".to_owned(),
    }
}

fn output_text(output: &Output) -> String {
    match output {
        Output::Event { link, event } => format!("  link {}: {}", link.0, event_text(event)),
        Output::Closed { link, reason } => format!("  link {}: {reason:?}", link.0),
        Output::Start(operation) => format!("  start {:?}", operation.kind()),
        Output::Fenced { term, last } => {
            format!("  fenced in {term} at {}/{}", last.term, last.offset)
        }
        Output::Leads { term } => format!("  leads {term}"),
        Output::SteppedDown { term } => format!("  stepped down from {term}"),
        Output::CoordinationRefused(refusal) => format!("  refused: {refusal}"),
        Output::Notice(notice) => format!("  notice: {notice:?}"),
        Output::Ended(Ok(())) => "  ended".to_owned(),
        Output::Ended(Err(error)) => format!("  ended: {error}"),
    }
}

fn event_text(event: &Event) -> String {
    match event {
        Event::Opened(opened) if opened.resumed => "resumed".to_owned(),
        Event::Opened(_) => "opened".to_owned(),
        Event::Changed(set) => match set.session_ended {
            Some(_) => format!("revision {} ends a session", set.revision),
            None => format!("revision {}", set.revision),
        },
        Event::Outcome { token, outcome } => match outcome {
            CommandOutcome::Written(written) => match &written.result {
                Ok(_) => format!("outcome {}", token.0),
                Err(refusal) => format!("outcome {}: {refusal}", token.0),
            },
            CommandOutcome::SessionGranted(Err(error)) => format!("outcome {}: {error}", token.0),
            _ => format!("outcome {}", token.0),
        },
        Event::Refused { token, refusal } => format!("refused {}: {refusal}", token.0),
        Event::Answered { token, .. } => format!("answer {}", token.0),
    }
}

/// A term that nobody has led.
pub(crate) fn term(term: u64) -> Term {
    Term(term)
}
