//! A link whose events go into a channel, with the requests that the cases need.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use oxkeeper_model::{
    Answer, ClientCommand, CloseOutcome, CommandOutcome, Create, Lifetime, Nonce, Ops, Position,
    Query, SessionGrant, SessionWrite, TreeOp, WriteOutcome, WriteSeq,
};

use crate::{Event, Link, LinkError, LinkSink, Opened, Request, Shard, Token, contract::open_acl};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

enum Heard {
    Event(Event),
    Closed(LinkError),
}

struct ChannelSink(Sender<Heard>);

impl LinkSink for ChannelSink {
    fn deliver(&mut self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            // The client may be gone already.
            let _ = self.0.send(Heard::Event(event));
        }
    }

    fn closed(&mut self, reason: LinkError) {
        let _ = self.0.send(Heard::Closed(reason));
    }
}

/// One link, used by one thread. Panics when an answer does not come or the order is broken.
pub struct TestClient {
    link: Arc<dyn Link>,
    pub opened: Opened,
    /// The last revision that was delivered, and the digest after it.
    pub position: Position,
    /// Everything that was taken so far.
    pub seen: Vec<Event>,
    heard: Receiver<Heard>,
    last_token: u64,
}

impl TestClient {
    pub fn open(shard: &Arc<dyn Shard>, resume_after: Option<Position>) -> Self {
        Self::try_open(shard, resume_after).expect("the shard serves")
    }

    pub fn try_open(
        shard: &Arc<dyn Shard>,
        resume_after: Option<Position>,
    ) -> Result<Self, LinkError> {
        let (sender, heard) = channel();
        let link = shard.open(resume_after, Box::new(ChannelSink(sender)))?;
        let opened = match heard.recv_timeout(PATIENCE) {
            Ok(Heard::Event(Event::Opened(opened))) => opened,
            Ok(Heard::Event(other)) => panic!("{other:?} came before the opening"),
            Ok(Heard::Closed(reason)) => return Err(reason),
            Err(error) => panic!("the link was not opened: {error}"),
        };
        let position = opened.position;
        Ok(Self {
            link,
            opened,
            position,
            seen: Vec::new(),
            heard,
            last_token: 0,
        })
    }

    pub fn token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }

    /// One that no other test client has used.
    pub fn nonce(&self) -> Nonce {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Nonce(LAST.fetch_add(1, Relaxed) + 1)
    }

    pub fn send(&self, mut requests: Vec<Request>) {
        self.try_send(&mut requests)
            .expect("the shard takes requests");
        assert!(requests.is_empty(), "a sent vector is left empty");
    }

    pub fn try_send(&self, requests: &mut Vec<Request>) -> Result<(), LinkError> {
        self.link.send(requests)
    }

    /// The next event, or `None` when the link has ended.
    pub fn next_event(&mut self) -> Option<Event> {
        match self.heard.recv_timeout(PATIENCE) {
            Ok(Heard::Event(event)) => {
                self.check(&event);
                self.seen.push(event.clone());
                Some(event)
            }
            Ok(Heard::Closed(reason)) => {
                assert_eq!(reason, LinkError::Closed);
                None
            }
            Err(RecvTimeoutError::Timeout) => panic!("no event in {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the sink was dropped without an end"),
        }
    }

    /// What the link promises of every event.
    fn check(&mut self, event: &Event) {
        match event {
            Event::Changed(set) => {
                assert_eq!(
                    set.revision,
                    self.position.revision.next(),
                    "revisions come without gaps"
                );
                self.position = set.position();
            }
            Event::Outcome {
                outcome:
                    CommandOutcome::Written(WriteOutcome { revision, .. })
                    | CommandOutcome::SessionClosed(_, CloseOutcome { revision, .. }),
                ..
            } => {
                assert!(
                    *revision <= self.position.revision,
                    "changes come before their outcome"
                );
            }
            Event::Opened(opened) => panic!("opened twice: {opened:?}"),
            Event::Outcome { .. } | Event::Refused { .. } | Event::Answered { .. } => {}
        }
    }

    /// Takes events up to the first that matches.
    pub fn until(&mut self, matches: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.next_event().expect("the link goes on");
            if matches(&event) {
                return event;
            }
        }
    }

    /// Takes events up to the answer to `token`.
    pub fn answer(&mut self, token: Token) -> Event {
        self.until(|event| token_of(event) == Some(token))
    }

    /// Takes events until the link ends.
    pub fn until_closed(&mut self) {
        while self.next_event().is_some() {}
    }

    pub fn open_session(&mut self, timeout_ms: u32) -> SessionGrant {
        let (token, nonce) = (self.token(), self.nonce());
        self.send(vec![Request::Command {
            token,
            command: ClientCommand::OpenSession { nonce, timeout_ms },
        }]);
        self.granted(token).expect("a new session is granted")
    }

    pub fn attach(
        &mut self,
        grant: &SessionGrant,
    ) -> Result<SessionGrant, oxkeeper_model::SessionError> {
        let (token, nonce) = (self.token(), self.nonce());
        let SessionGrant {
            session,
            password,
            attachment: replaces,
            timeout_ms,
        } = *grant;
        self.send(vec![Request::Command {
            token,
            command: ClientCommand::Attach {
                session,
                password,
                replaces,
                nonce,
                timeout_ms,
            },
        }]);
        self.granted(token)
    }

    fn granted(&mut self, token: Token) -> Result<SessionGrant, oxkeeper_model::SessionError> {
        match self.answer(token) {
            Event::Outcome {
                outcome: CommandOutcome::SessionGranted(result),
                ..
            } => result,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub fn write_request(
        &mut self,
        grant: &SessionGrant,
        seq: u64,
        ops: impl IntoIterator<Item = TreeOp>,
    ) -> (Token, Request) {
        let token = self.token();
        let write = SessionWrite {
            session: grant.session,
            attachment: grant.attachment,
            seq: WriteSeq(seq),
            follows: WriteSeq(seq.saturating_sub(1)),
            acknowledged: WriteSeq(seq.saturating_sub(64)),
            identities: [].into(),
            ops: ops.into_iter().collect::<Ops>(),
        };
        (
            token,
            Request::Command {
                token,
                command: ClientCommand::Write(write),
            },
        )
    }

    pub fn write(&mut self, grant: &SessionGrant, seq: u64, op: TreeOp) -> WriteOutcome {
        let (token, request) = self.write_request(grant, seq, [op]);
        self.send(vec![request]);
        self.written(token)
    }

    pub fn written(&mut self, token: Token) -> WriteOutcome {
        match self.answer(token) {
            Event::Outcome {
                outcome: CommandOutcome::Written(outcome),
                ..
            } => outcome,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub fn query(&mut self, query: Query) -> Answer {
        let token = self.token();
        self.send(vec![Request::Query { token, query }]);
        match self.answer(token) {
            Event::Answered { answer, .. } => answer,
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Whether there is a record at `path`.
    pub fn exists(&mut self, path: &str) -> bool {
        match self.query(Query::Records {
            paths: vec![path.into()],
            with_values: false,
        }) {
            Answer::Records(records) => records[0].is_some(),
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// The token of an answer.
pub(crate) fn token_of(event: &Event) -> Option<Token> {
    match event {
        Event::Opened(_) | Event::Changed(_) => None,
        Event::Outcome { token, .. }
        | Event::Refused { token, .. }
        | Event::Answered { token, .. } => Some(*token),
    }
}

/// A create that is open to all, with the path as its value.
pub fn create(path: &str, lifetime: Lifetime) -> TreeOp {
    TreeOp::Create(Create {
        path: path.into(),
        value: Some(path.to_owned().into()),
        acl: open_acl(),
        lifetime,
        sequential: false,
        malformed: false,
    })
}

/// A write of a value, whatever the version.
pub fn set(path: &str, value: &str) -> TreeOp {
    TreeOp::SetValue {
        path: path.into(),
        value: Some(value.to_owned().into()),
        expected_version: None,
    }
}
