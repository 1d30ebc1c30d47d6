//! Any inputs, completions in any order or never, new terms, crashes, a disk that fills up: the
//! invariants hold after each step, links hear everything in order, what was answered is there after
//! the power failed, and what was refused is not.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_link::{Event, Request, SessionBeat, Token};
use oxkeeper_model::{
    Answer, CommandOutcome, Query, Revision, SessionGrant, TreeOp, TxnOutcome, WriteOutcome,
    WriteSeq,
};
use oxkeeper_shard::{Input, LinkId, Output, ShardOptions};
use proptest::prelude::*;
use support::{Driven, Machine, options, persistent, write};

const LONG_MS: u32 = 10_000_000;

/// What a client of one link must see.
#[derive(Default)]
struct Client {
    /// Of the last change.
    position: Option<Revision>,
    open: bool,
}

struct World {
    machine: Machine,
    driven: Driven,
    clients: BTreeMap<LinkId, Client>,
    last_link: u64,
    grant: Option<SessionGrant>,
    /// The last number that was sent under the grant, and the last whose outcome has come.
    sent: u64,
    next_name: u64,
    /// Token → path of writes that were sent and not answered.
    unanswered: BTreeMap<u64, String>,
    /// Paths whose creation was answered, and the revision.
    answered: BTreeMap<String, Revision>,
    /// Paths whose creation was refused.
    refused: BTreeSet<String>,
    crashes: u64,
}

fn shard_options() -> ShardOptions {
    ShardOptions {
        checkpoint_commands: 7,
        ..options()
    }
}

/// Large enough that segments are started often.
fn create_large(path: &str) -> TreeOp {
    let mut op = persistent(path);
    if let TreeOp::Create(create) = &mut op {
        create.value = Some(vec![b'v'; 1_500].into());
    }
    op
}

impl World {
    fn new() -> Self {
        let machine = Machine {
            reserve_bytes: 32 << 10,
            ..Machine::default()
        };
        let driven = Driven::leading(&machine, shard_options());
        Self {
            machine,
            driven,
            clients: BTreeMap::new(),
            last_link: 0,
            grant: None,
            sent: 0,
            next_name: 0,
            unanswered: BTreeMap::new(),
            answered: BTreeMap::new(),
            refused: BTreeSet::new(),
            crashes: 0,
        }
    }

    fn step(&mut self, what: u8, n: usize) {
        match what {
            0 => self.open_link(),
            1 if n.is_multiple_of(4) => self.close_link(n),
            2..=5 => self.write(n),
            6 => self.query(n),
            7..=9 => self.driven.step(Input::Turn {
                all_heard: n.is_multiple_of(2),
            }),
            10..=14 => {
                let count = self.driven.started.len();
                self.driven.run_at(n % count.max(1));
            }
            15 => self.driven.pass_ms(n as u64),
            16 if n.is_multiple_of(5) => self.new_term(),
            17 if n.is_multiple_of(5) => self.crash(n as u64),
            18 if n.is_multiple_of(3) => self.fill_or_free_the_disk(n),
            19 => self.heartbeat(),
            _ => {}
        }
        self.hear();
        assert!(!self.driven.has_ended(), "{}", self.driven.transcript);
        self.driven.transcript.clear();
    }

    fn fill_or_free_the_disk(&mut self, n: usize) {
        let used = self.machine.disk.used_bytes();
        let full = (!n.is_multiple_of(4)).then_some(used);
        self.machine.disk.set_capacity(full);
    }

    fn heartbeat(&mut self) {
        let Some(grant) = self.grant else { return };
        let beats = vec![SessionBeat {
            session: grant.session,
            attachment: grant.attachment,
            acknowledged: WriteSeq(self.sent),
        }];
        self.driven.step(Input::Heartbeat { beats });
    }

    fn open_link(&mut self) {
        self.last_link += 1;
        let link = LinkId(self.last_link);
        self.clients.insert(link, Client::default());
        self.driven.open_link(link);
    }

    fn any_link(&self, n: usize) -> Option<LinkId> {
        let open = self.clients.iter().filter(|(_, client)| client.open);
        let open: Vec<LinkId> = open.map(|(link, _)| *link).collect();
        open.get(n % open.len().max(1)).copied()
    }

    fn close_link(&mut self, n: usize) {
        if let Some(link) = self.any_link(n) {
            self.clients.remove(&link);
            self.driven.step(Input::Close { link });
            // A refusal may have been on its way.
            self.forget_session();
        }
    }

    fn write(&mut self, n: usize) {
        let Some(link) = self.any_link(n) else { return };
        let Some(grant) = self.grant else {
            if self.driven.started.is_empty() {
                self.grant = self.driven.try_session(link, LONG_MS);
            }
            return;
        };
        self.sent += 1;
        self.next_name += 1;
        let path = format!("/{}", self.next_name);
        let request = write(&grant, self.next_name, self.sent, create_large(&path));
        self.unanswered.insert(self.next_name, path);
        self.driven.request(link, request);
    }

    fn query(&mut self, n: usize) {
        if let Some(link) = self.any_link(n) {
            let token = Token(0);
            let query = Query::Barrier;
            self.driven.request(link, Request::Query { token, query });
        }
    }

    /// The session's numbers go on from what the log holds, which nobody here knows: a new session.
    fn forget_session(&mut self) {
        self.grant = None;
        self.sent = 0;
        self.unanswered.clear();
    }

    fn new_term(&mut self) {
        self.driven.lead();
        self.forget_session();
        self.hear();
        assert!(self.clients.values().all(|client| !client.open));
    }

    fn crash(&mut self, seed: u64) {
        self.crashes += 1;
        self.machine.crash(seed);
        self.machine.disk.set_capacity(None);
        self.driven = Driven::leading(&self.machine, shard_options());
        self.clients.clear();
        self.forget_session();
        self.check();
    }

    fn hear(&mut self) {
        for output in std::mem::take(&mut self.driven.outputs) {
            match output {
                Output::Closed { link, .. } => {
                    self.clients.remove(&link);
                }
                Output::Event { link, event } => self.event(link, event),
                Output::Ended(result) => panic!("ended: {result:?}"),
                _ => {}
            }
        }
    }

    fn event(&mut self, link: LinkId, event: Event) {
        let client = self.clients.get_mut(&link).expect("an open link");
        let opening = matches!(event, Event::Opened(_));
        assert!(client.open != opening, "it is opened once, and first");
        match event {
            Event::Opened(opened) => {
                client.open = true;
                client.position = Some(opened.position.revision);
            }
            Event::Changed(set) => {
                assert_eq!(Some(set.revision), client.position.map(Revision::next));
                client.position = Some(set.revision);
            }
            Event::Refused { token, .. } => {
                // What follows a refused write is sure to be refused: the session is given up.
                if let Some(path) = self.unanswered.remove(&token.0) {
                    assert!(self.refused.insert(path), "refused once");
                    self.forget_session();
                }
            }
            Event::Outcome {
                token,
                outcome:
                    CommandOutcome::Written(WriteOutcome {
                        revision, result, ..
                    }),
            } => {
                assert!(Some(revision) <= client.position, "its change comes first");
                let Some(path) = self.unanswered.remove(&token.0) else {
                    // Of a session that was given up.
                    return;
                };
                assert!(matches!(result, Ok(TxnOutcome::Applied(_))), "{result:?}");
                assert_eq!(self.answered.insert(path, revision), None, "answered once");
            }
            _ => {}
        }
    }

    /// All that was answered is there, as it was.
    fn check(&mut self) {
        let paths = self.answered.keys().map(|path| path.as_str().into());
        let query = Query::Records {
            paths: paths.collect(),
            with_values: false,
        };
        let answer = self.driven.shard.state().query(&query);
        let Ok(Answer::Records(records)) = answer else {
            panic!("no records: {answer:?}");
        };
        for ((path, revision), record) in self.answered.iter().zip(records) {
            let record = record.unwrap_or_else(|| panic!("{path} is lost"));
            assert_eq!(record.head.created_revision, *revision, "{path}");
        }
        let query = Query::Records {
            paths: self
                .refused
                .iter()
                .map(|path| path.as_str().into())
                .collect(),
            with_values: false,
        };
        let answer = self.driven.shard.state().query(&query);
        let Ok(Answer::Records(records)) = answer else {
            panic!("no records: {answer:?}");
        };
        assert!(
            records.iter().all(Option::is_none),
            "a refused one is there"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn what_was_answered_is_kept_and_told_in_order_whatever_happens(
        steps in proptest::collection::vec((0u8..20, 0usize..1_000), 1..400)
    ) {
        let mut world = World::new();
        for (what, n) in steps {
            world.step(what, n);
        }
        world.crash(1);
    }
}
