use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_model::{
    CloseOutcome, Digest, Nonce, Ops, Revision, SessionError, TreeOp, TxnOutcome, WriteOutcome,
};
use proptest::prelude::*;

use super::*;

const SOCKET: Owner = Owner(7);
const SESSION: SessionId = SessionId(1);
const FIRST: Attachment = Attachment(1);

fn position(revision: u64) -> Position {
    Position {
        revision: Revision(revision),
        digest: Digest(revision),
    }
}

fn write(name: u64) -> SessionWrite {
    SessionWrite {
        session: SESSION,
        attachment: FIRST,
        seq: WriteSeq(0),
        follows: WriteSeq(0),
        acknowledged: WriteSeq(0),
        identities: [].into(),
        ops: [TreeOp::Get {
            path: name.to_string().as_str().into(),
        }]
        .into_iter()
        .collect::<Ops>(),
    }
}

fn name_of(write: &SessionWrite) -> u64 {
    match &write.ops[0] {
        TreeOp::Get { path } => path.parse().expect("a number"),
        other => panic!("unexpected {other:?}"),
    }
}

fn opened(revision: u64, resumed: bool) -> Opened {
    Opened {
        position: position(revision),
        resumed,
    }
}

/// Opens a first link.
fn open() -> Resume {
    let mut resume = Resume::default();
    assert_eq!(resume.wants_link(), Some(None));
    let mut happened = Vec::new();
    resume.opened(opened(5, false), &mut happened);
    assert_eq!(happened, [Happened::Started(position(5))]);
    resume
}

/// What goes to the link, as (token, number, number before).
fn flushed(resume: &mut Resume) -> Vec<(u64, u64, u64)> {
    let mut sent = Vec::new();
    let take = |requests: &mut Vec<Request>| {
        sent.append(requests);
        Ok(())
    };
    resume.flush(take).expect("not busy");
    resume.check_invariants();
    let numbers = |request: Request| match request {
        Request::Command {
            token,
            command: ClientCommand::Write(write),
        } => (token.0, write.seq.0, write.follows.0),
        Request::Command {
            token,
            command: ClientCommand::CloseSession { seq, follows, .. },
        } => (token.0, seq.0, follows.0),
        other => panic!("unexpected {other:?}"),
    };
    sent.into_iter().map(numbers).collect()
}

fn outcome(on_link: u64, seq: u64, result: Result<TxnOutcome, WriteRefusal>) -> Event {
    Event::Outcome {
        token: Token(on_link),
        outcome: CommandOutcome::Written(WriteOutcome {
            session: SESSION,
            seq: WriteSeq(seq),
            revision: Revision(9),
            result,
        }),
    }
}

fn done() -> Result<TxnOutcome, WriteRefusal> {
    Ok(TxnOutcome::Applied([].into_iter().collect()))
}

fn out_of_sequence(last: u64) -> Result<TxnOutcome, WriteRefusal> {
    Err(WriteRefusal::OutOfSequence {
        last: WriteSeq(last),
    })
}

fn heard(resume: &mut Resume, event: Event) -> Vec<Happened> {
    let mut happened = Vec::new();
    resume.heard(event, &mut happened);
    resume.check_invariants();
    happened
}

#[test]
fn what_is_unanswered_is_sent_again_under_its_numbers() {
    let mut resume = open();
    for name in 1..=3 {
        resume.write(SOCKET, Token(name), write(name));
    }
    assert_eq!(flushed(&mut resume), [(1, 1, 0), (2, 2, 1), (3, 3, 2)]);
    assert_eq!(heard(&mut resume, outcome(1, 1, done())).len(), 1);
    resume.closed();
    assert_eq!(resume.wants_link(), Some(Some(position(5))));
    assert_eq!(resume.wants_link(), None, "one at a time");
    resume.write(SOCKET, Token(4), write(4));
    let mut happened = Vec::new();
    resume.opened(opened(5, true), &mut happened);
    assert_eq!(happened, [Happened::Resumed]);
    assert_eq!(flushed(&mut resume), [(2, 2, 1), (3, 3, 2), (4, 4, 3)]);
}

#[test]
fn what_followed_a_refused_write_is_sent_again_with_new_numbers() {
    let mut resume = open();
    for name in 1..=4 {
        resume.write(SOCKET, Token(name), write(name));
    }
    flushed(&mut resume);
    let refusal = Refusal::NoSpace;
    let refused = |on_link| Event::Refused {
        token: Token(on_link),
        refusal,
    };
    let told = |token| Happened::Refused {
        owner: SOCKET,
        token: Token(token),
        refusal,
    };
    assert_eq!(heard(&mut resume, refused(2)), [told(2)]);
    assert_eq!(flushed(&mut resume), [], "3 and 4 are still on their way");
    resume.write(SOCKET, Token(5), write(5));
    assert_eq!(flushed(&mut resume), [], "it must come after them");
    assert_eq!(heard(&mut resume, outcome(1, 1, done())).len(), 1);
    assert_eq!(
        heard(&mut resume, outcome(3, 3, out_of_sequence(1))),
        [],
        "as expected"
    );
    assert_eq!(heard(&mut resume, refused(4)), [told(4)]);
    assert_eq!(flushed(&mut resume), [(3, 5, 1), (5, 6, 5)]);
    assert_eq!(heard(&mut resume, outcome(3, 5, done())).len(), 1);
    assert_eq!(heard(&mut resume, outcome(5, 6, done())).len(), 1);
    assert_eq!(resume.unanswered(), 0);
}

#[test]
fn a_break_in_the_middle_of_a_refusal_renumbers_what_followed() {
    let mut resume = open();
    for name in 1..=3 {
        resume.write(SOCKET, Token(name), write(name));
    }
    flushed(&mut resume);
    let refusal = Refusal::NoSpace;
    heard(
        &mut resume,
        Event::Refused {
            token: Token(2),
            refusal,
        },
    );
    resume.closed();
    resume.opened(opened(6, false), &mut Vec::new());
    assert_eq!(flushed(&mut resume), [(1, 1, 0), (3, 4, 1)]);
}

#[test]
fn a_refusal_of_what_an_earlier_link_had_says_nothing_of_what_became_of_it() {
    let mut resume = open();
    resume.write(SOCKET, Token(1), write(1));
    flushed(&mut resume);
    resume.closed();
    resume.write(SOCKET, Token(2), write(2));
    resume.opened(opened(5, true), &mut Vec::new());
    assert_eq!(flushed(&mut resume), [(1, 1, 0), (2, 2, 1)]);
    let refusal = Refusal::NoSpace;
    let refused = |token| Event::Refused {
        token: Token(token),
        refusal,
    };
    let (owner, token) = (SOCKET, Token(1));
    let unknown = Happened::Unknown { owner, token };
    assert_eq!(heard(&mut resume, refused(1)), [unknown]);
    let token = Token(2);
    let told = Happened::Refused {
        owner,
        token,
        refusal,
    };
    assert_eq!(heard(&mut resume, refused(2)), [told]);
}

#[test]
fn a_gap_is_told_with_both_its_ends() {
    let mut resume = open();
    let set = Arc::new(ChangeSet {
        digest: Digest(6),
        ..ChangeSet::empty(Revision(6))
    });
    heard(&mut resume, Event::Changed(set));
    resume.closed();
    assert_eq!(resume.wants_link(), Some(Some(position(6))));
    let mut happened = Vec::new();
    resume.opened(opened(90, false), &mut happened);
    let (after, now) = (position(6), position(90));
    assert_eq!(happened, [Happened::Gap { after, now }]);
    assert_eq!(resume.position(), Some(now));
}

#[test]
fn requests_of_closed_sockets_are_dropped_but_not_the_end_of_a_session() {
    let mut resume = open();
    let other = Owner(8);
    resume.write(SOCKET, Token(1), write(1));
    resume.query(SOCKET, Token(2), Query::Barrier);
    let moved = SessionWrite {
        session: SessionId(2),
        ..write(3)
    };
    resume.write(other, Token(3), moved);
    resume.close_session(other, Token(4), SessionId(2), FIRST);
    let mut sent = 0;
    let count = |requests: &mut Vec<Request>| {
        sent = requests.drain(..).count();
        Ok(())
    };
    resume.flush(count).expect("open");
    assert_eq!(sent, 4);
    resume.socket_closed(SOCKET);
    resume.socket_closed(other);
    assert_eq!(
        heard(&mut resume, outcome(1, 1, done())),
        [],
        "nobody waits for it"
    );
    resume.closed();
    resume.opened(opened(5, true), &mut Vec::new());
    assert_eq!(
        flushed(&mut resume),
        [(3, 1, 0), (4, 2, 1)],
        "the query and its socket are gone"
    );
    let closed = CommandOutcome::SessionClosed(
        SessionId(2),
        CloseOutcome {
            revision: Revision(7),
            result: Ok(()),
        },
    );
    heard(&mut resume, outcome(3, 1, done()));
    heard(
        &mut resume,
        Event::Outcome {
            token: Token(4),
            outcome: closed,
        },
    );
    assert_eq!((resume.unanswered(), resume.lanes.len()), (0, 0));
}

#[test]
fn busy_loses_nothing_and_closed_is_not_unknown() {
    let mut resume = open();
    resume.write(SOCKET, Token(1), write(1));
    let sent = resume.flush(|_| Err(LinkError::Busy));
    assert_eq!(sent, Err(LinkError::Busy));
    assert_eq!(flushed(&mut resume), [(1, 1, 0)], "it is still there");
    resume.write(SOCKET, Token(2), write(2));
    let sent = resume.flush(|_| Err(LinkError::Closed));
    assert_eq!((sent, resume.is_open()), (Err(LinkError::Closed), false));
    let mut happened = Vec::new();
    resume.give_up(&mut happened);
    let owner = SOCKET;
    let (sent, not_sent) = (Token(1), Token(2));
    assert_eq!(
        happened,
        [
            Happened::Unknown { owner, token: sent },
            Happened::NotSent {
                owner,
                token: not_sent
            }
        ]
    );
    resume.check_invariants();
}

#[test]
fn heartbeats_carry_what_has_arrived_and_are_repeated_on_a_new_link() {
    let mut resume = open();
    resume.write(SOCKET, Token(1), write(1));
    flushed(&mut resume);
    heard(&mut resume, outcome(1, 1, done()));
    resume.beat(SESSION, FIRST);
    resume.flush_beats();
    let beats = vec![SessionBeat {
        session: SESSION,
        attachment: FIRST,
        acknowledged: WriteSeq(1),
    }];
    let heartbeat = Request::Heartbeat { beats };
    assert_eq!(resume.outbox, std::slice::from_ref(&heartbeat));
    resume.closed();
    resume.opened(opened(5, true), &mut Vec::new());
    assert_eq!(resume.outbox, [heartbeat]);
}

#[test]
fn the_limits_stop_the_client_before_more_is_kept() {
    let mut resume = open();
    let large = SessionWrite {
        ops: [TreeOp::SetValue {
            path: "/x".into(),
            value: Some(vec![0; RESUME_BYTES_MAX].into()),
            expected_version: None,
        }]
        .into_iter()
        .collect(),
        ..write(1)
    };
    assert!(resume.has_room(), "one of any size fits");
    resume.write(SOCKET, Token(1), large);
    assert!(!resume.has_room());
    flushed(&mut resume);
    heard(&mut resume, outcome(1, 1, done()));
    assert!(resume.has_room());
    for at in 0..RESUME_REQUESTS_MAX {
        assert!(resume.has_room(), "{at}");
        resume.query(SOCKET, Token(2), Query::Barrier);
    }
    assert!(!resume.has_room());
}

#[test]
fn opens_are_sent_again_as_they_were() {
    let mut resume = open();
    let command = ClientCommand::OpenSession {
        nonce: Nonce(77),
        timeout_ms: 4_000,
    };
    resume.session(SOCKET, Token(1), command.clone());
    let again = Request::Command {
        token: Token(1),
        command,
    };
    assert_eq!(resume.outbox, std::slice::from_ref(&again));
    resume.closed();
    resume.opened(opened(5, true), &mut Vec::new());
    assert_eq!(resume.outbox, [again]);
    let outcome = CommandOutcome::SessionGranted(Err(SessionError::Expired));
    let event = Event::Outcome {
        token: Token(1),
        outcome: outcome.clone(),
    };
    let told = Happened::Outcome {
        owner: SOCKET,
        token: Token(1),
        outcome,
    };
    assert_eq!(heard(&mut resume, event), [told]);
}

/// The shard's rule for writes, as plain as it can be.
#[derive(Default)]
struct Plain {
    last: BTreeMap<Attachment, WriteSeq>,
    executed: Vec<(Attachment, u64)>,
    numbers: BTreeMap<(Attachment, WriteSeq), u64>,
}

impl Plain {
    fn take(&mut self, request: Request, refuse: bool) -> Event {
        let Request::Command {
            token,
            command: ClientCommand::Write(write),
        } = request
        else {
            panic!("only writes are sent");
        };
        let (lane, name) = (write.attachment, name_of(&write));
        let named = *self.numbers.entry((lane, write.seq)).or_insert(name);
        assert_eq!(named, name, "a number was used for two writes");
        if refuse {
            let refusal = Refusal::NoSpace;
            return Event::Refused { token, refusal };
        }
        let last = self.last.entry(lane).or_default();
        let result = if self.executed.contains(&(lane, name)) && write.seq <= *last {
            done()
        } else if write.follows == *last && write.seq > *last {
            *last = write.seq;
            self.executed.push((lane, name));
            done()
        } else {
            out_of_sequence(last.0)
        };
        outcome(token.0, write.seq.0, result)
    }
}

/// A link that breaks, a shard that refuses, and the client in front of both.
#[derive(Default)]
struct World {
    resume: Resume,
    shard: Plain,
    to_shard: VecDeque<Request>,
    to_client: VecDeque<Event>,
    sent: u64,
    answers: BTreeMap<u64, bool>,
    closed: BTreeSet<Owner>,
}

impl World {
    fn step(&mut self, what: u8, n: u64) {
        match what {
            0..=3 if self.resume.has_room() => {
                let lane = 1 + n % 3;
                if self.closed.contains(&Owner(lane)) {
                    return;
                }
                self.sent += 1;
                let write = SessionWrite {
                    attachment: Attachment(lane),
                    ..write(self.sent)
                };
                self.resume.write(Owner(lane), Token(self.sent), write);
            }
            4 | 5 => self.flush(n.is_multiple_of(5)),
            6 | 7 => {
                for _ in 0..n % 6 {
                    self.shard_takes(n.is_multiple_of(4));
                }
            }
            8 => {
                for _ in 0..n % 6 {
                    self.client_hears();
                }
            }
            9 if n.is_multiple_of(3) => {
                self.resume.closed();
                self.to_shard.clear();
                self.to_client.clear();
            }
            _ => self.reopen(),
        }
        self.resume.check_invariants();
    }

    fn flush(&mut self, busy: bool) {
        let to_shard = &mut self.to_shard;
        let _ = self.resume.flush(|requests| {
            if busy {
                return Err(LinkError::Busy);
            }
            to_shard.extend(requests.drain(..));
            Ok(())
        });
    }

    fn shard_takes(&mut self, refuse: bool) {
        if let Some(request) = self.to_shard.pop_front() {
            let event = self.shard.take(request, refuse);
            self.to_client.push_back(event);
        }
    }

    fn client_hears(&mut self) {
        let Some(event) = self.to_client.pop_front() else {
            return;
        };
        let mut happened = Vec::new();
        self.resume.heard(event, &mut happened);
        for what in happened {
            let (token, executed) = match what {
                Happened::Outcome { token, outcome, .. } => match outcome {
                    CommandOutcome::Written(written) => {
                        assert_eq!(written.result, done());
                        (token, true)
                    }
                    other => panic!("unexpected {other:?}"),
                },
                Happened::Refused { token, .. } => (token, false),
                Happened::Unknown { owner, .. } => {
                    self.resume.socket_closed(owner);
                    self.closed.insert(owner);
                    continue;
                }
                other => panic!("unexpected {other:?}"),
            };
            assert_eq!(self.answers.insert(token.0, executed), None, "twice");
        }
    }

    fn reopen(&mut self) {
        if self.resume.wants_link().is_some() {
            self.resume.opened(opened(5, true), &mut Vec::new());
        }
    }

    fn settle(&mut self) {
        while self.resume.unanswered() > 0 {
            self.reopen();
            self.flush(false);
            while !self.to_shard.is_empty() {
                self.shard_takes(false);
            }
            while !self.to_client.is_empty() {
                self.client_hears();
            }
        }
    }
}

proptest! {
    #[test]
    fn every_write_is_done_once_in_order_or_refused_whatever_breaks(
        steps in proptest::collection::vec((0u8..11, 0u64..1_000), 1..300)
    ) {
        let mut world = World::default();
        for (what, n) in steps {
            world.step(what, n);
        }
        world.settle();
        if world.closed.is_empty() {
            prop_assert_eq!(world.answers.len() as u64, world.sent);
        }
        let executed: BTreeSet<u64> = world.shard.executed.iter().map(|&(_, name)| name).collect();
        prop_assert_eq!(executed.len(), world.shard.executed.len(), "executed twice");
        for (name, was) in world.answers {
            prop_assert_eq!(was, executed.contains(&name));
        }
        for lane in 1..=3 {
            let of_lane = world.shard.executed.iter().filter(|(of, _)| *of == Attachment(lane));
            prop_assert!(of_lane.map(|&(_, name)| name).is_sorted(), "out of order");
        }
    }
}
