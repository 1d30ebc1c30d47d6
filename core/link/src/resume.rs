//! What a client keeps so that its link may break and come back.
//!
//! The naive way is to fail whatever was unanswered when a link ends: every client then sees every
//! election, and cannot know what became of its writes. [`Resume`] keeps each request until its
//! answer has arrived. After a break it asks for a new link after the position that the client has
//! seen, and sends what is unanswered again, in the same order and under the same numbers, so that
//! the shard gives the first outcome of what it had done already.
//!
//! # Numbers
//!
//! Writes of one (session, attachment) are a *lane*: each has a number above all before it and
//! names the one before it, so that the shard refuses, unexecuted, whatever follows something that
//! it never got. A number is used once. If the shard refuses a write before its log
//! ([`Event::Refused`]), what followed it in the lane cannot be accepted any more; it gets new
//! numbers and is sent again. The shard's refusals of the old ones are swallowed.
//!
//! # Time and I/O
//!
//! None here. The owner opens links when [`Resume::wants_link`] says so, hands over the outbox with
//! [`Resume::flush`] and passes on what the link's sink hears. A break makes no request fail; the
//! owner decides when it has waited enough and calls [`Resume::give_up`].

mod beats;
mod lane;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_model::{
    Answer, Attachment, ChangeSet, ClientCommand, CommandOutcome, Position, Query, Refusal,
    SessionId, SessionWrite, WriteRefusal, WriteSeq,
};
use rustc_hash::FxHashMap;

use crate::limits::{RESUME_BYTES_MAX, RESUME_REQUESTS_MAX};
use crate::link::{Event, LinkError, Opened, Request, SessionBeat, Token};
use crate::weight::request_bytes;
use beats::Beats;
use lane::{Lane, LaneId, Place};

/// Whoever sent a request: a socket, or the client itself. Chosen by the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u64);

/// What happened on the link, in order, as its client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The first link is there, at this position.
    Started(Position),
    /// The link is back, with nothing missed.
    Resumed,
    /// The link is back, but the changes from `after` to `now` are not told: what the client keeps
    /// of the shard must be compared with the shard's state.
    Gap {
        after: Position,
        now: Position,
    },
    Changed(Arc<ChangeSet>),
    Outcome {
        owner: Owner,
        token: Token,
        outcome: CommandOutcome,
    },
    /// Not executed.
    Refused {
        owner: Owner,
        token: Token,
        refusal: Refusal,
    },
    Answered {
        owner: Owner,
        token: Token,
        query: Query,
        answer: Answer,
    },
    /// It was sent and not answered: it may have been executed, or may yet be. Its owner must
    /// close its socket: what follows in its lane may not be accepted.
    Unknown {
        owner: Owner,
        token: Token,
    },
    /// It was never sent: not executed.
    NotSent {
        owner: Owner,
        token: Token,
    },
}

/// How the link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Closed,
    /// The owner is opening one.
    Opening,
    Open,
}

#[derive(Clone, Debug)]
enum Content {
    /// Of a lane, or an open or attach.
    Command(ClientCommand),
    Query(Query),
}

#[derive(Clone, Debug)]
struct Kept {
    owner: Owner,
    /// The client's. On the link its place in `kept` is used.
    token: Token,
    content: Content,
    bytes: usize,
    /// Nobody waits for the answer any more.
    orphan: bool,
    /// An earlier link had it: it may have been executed then.
    sent_before: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Resume {
    standing: Standing,
    /// The last revision that was heard of, or where the first link started.
    position: Option<Position>,
    /// Unanswered, in order of sending; `None`: answered. Invariant: the first is not `None`.
    kept: VecDeque<Option<Kept>>,
    /// The token on the link of the first of `kept`.
    first: u64,
    /// Invariant: the sum over `kept`.
    bytes: usize,
    lanes: FxHashMap<LaneId, Lane>,
    beats: Beats,
    /// To be handed to the link, in order.
    outbox: Vec<Request>,
    /// Tokens below this were handed to a link at least once.
    sent_below: u64,
}

impl Default for Resume {
    fn default() -> Self {
        Self {
            standing: Standing::Closed,
            position: None,
            kept: VecDeque::new(),
            first: 1,
            bytes: 0,
            lanes: FxHashMap::default(),
            beats: Beats::default(),
            outbox: Vec::new(),
            sent_below: 1,
        }
    }
}

impl Resume {
    /// Whether another request would be kept. If not, the client must stop reading; there is room
    /// again when answers have come. One request of any size fits if nothing else is kept.
    pub fn has_room(&self) -> bool {
        self.kept.len() < RESUME_REQUESTS_MAX && self.bytes < RESUME_BYTES_MAX
    }

    /// Requests that are not answered.
    pub fn unanswered(&self) -> usize {
        self.kept.iter().flatten().count()
    }

    /// The last revision that was heard of.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    pub fn is_open(&self) -> bool {
        self.standing == Standing::Open
    }

    /// A write of a session. Its `seq`, `follows` and `acknowledged` are filled in here.
    pub fn write(&mut self, owner: Owner, token: Token, write: SessionWrite) {
        let lane = (write.session, write.attachment);
        self.keep_in_lane(lane, owner, token, ClientCommand::Write(write));
    }

    /// The end of a session, after its writes.
    pub fn close_session(
        &mut self,
        owner: Owner,
        token: Token,
        session: SessionId,
        attachment: Attachment,
    ) {
        let command = ClientCommand::CloseSession {
            session,
            attachment,
            seq: WriteSeq(0),
            follows: WriteSeq(0),
        };
        self.keep_in_lane((session, attachment), owner, token, command);
    }

    /// An open or attach, which its nonce makes repeatable.
    pub fn session(&mut self, owner: Owner, token: Token, command: ClientCommand) {
        self.keep(owner, token, Content::Command(command), true);
    }

    pub fn query(&mut self, owner: Owner, token: Token, query: Query) {
        self.keep(owner, token, Content::Query(query), true);
    }

    /// The session was heard of. Sent with the next [`Self::flush_beats`].
    pub fn beat(&mut self, session: SessionId, attachment: Attachment) {
        let lane = self.lanes.get(&(session, attachment));
        self.beats.heard(SessionBeat {
            session,
            attachment,
            acknowledged: lane.map_or(WriteSeq(0), Lane::acknowledged),
        });
    }

    /// Moves the beats since the last time into the outbox.
    pub fn flush_beats(&mut self) {
        self.outbox.extend(self.beats.flush());
    }

    /// The socket is gone: nobody waits for its answers, and after a break what it sent is not sent
    /// again, unless it ends with the session's end.
    pub fn socket_closed(&mut self, owner: Owner) {
        for kept in self.kept.iter_mut().flatten() {
            kept.orphan |= kept.owner == owner;
        }
        self.lanes.retain(|_, lane| {
            lane.abandoned |= lane.owner == owner;
            !(lane.abandoned && lane.is_idle())
        });
    }

    /// Whether the client should open a link now, and after which position.
    pub fn wants_link(&mut self) -> Option<Option<Position>> {
        if self.standing != Standing::Closed {
            return None;
        }
        self.standing = Standing::Opening;
        Some(self.position)
    }

    /// No link could be opened.
    pub fn not_opened(&mut self) {
        self.standing = Standing::Closed;
    }

    /// A link is there. What is unanswered is in the outbox then, in order.
    fn opened(&mut self, opened: Opened, happened: &mut Vec<Happened>) {
        self.standing = Standing::Open;
        let now = opened.position;
        happened.push(match self.position {
            None => Happened::Started(now),
            Some(_) if opened.resumed => Happened::Resumed,
            Some(after) => Happened::Gap { after, now },
        });
        self.position = Some(now);
        self.drop_orphans();
        let sent_before = self.sent_below.saturating_sub(self.first) as usize;
        for kept in self.kept.iter_mut().take(sent_before).flatten() {
            kept.sent_before = true;
        }
        self.renumber_all();
        self.outbox.clear();
        let again = (self.first..).zip(&self.kept).filter_map(|(at, kept)| {
            let content = kept.as_ref()?.content.clone();
            Some(content.request(at))
        });
        self.outbox.extend(again);
        self.outbox.extend(self.beats.repeat());
    }

    /// The link has ended. Nothing fails by it.
    pub fn closed(&mut self) {
        self.standing = Standing::Closed;
        self.outbox.clear();
    }

    /// Hands the outbox to the link. On [`LinkError::Busy`] it stays, for a later call.
    pub fn flush(
        &mut self,
        send: impl FnOnce(&mut Vec<Request>) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        if self.outbox.is_empty() || self.standing != Standing::Open {
            return Ok(());
        }
        let sent = send(&mut self.outbox);
        match sent {
            Ok(()) => {
                self.outbox.clear();
                self.sent_below = self.next_at();
            }
            Err(LinkError::Busy) => {}
            Err(LinkError::Closed) => self.closed(),
        }
        sent
    }

    /// What the link's sink heard.
    pub fn heard(&mut self, event: Event, happened: &mut Vec<Happened>) {
        match event {
            Event::Opened(opened) => self.opened(opened, happened),
            Event::Changed(set) => {
                self.position = Some(set.position());
                happened.push(Happened::Changed(set));
            }
            Event::Outcome { token, outcome } => {
                if let Some((owner, token)) = self.outcome(token, &outcome) {
                    happened.push(Happened::Outcome {
                        owner,
                        token,
                        outcome,
                    });
                }
            }
            Event::Answered {
                token,
                query,
                answer,
            } => {
                if let Some((owner, token)) = self.take(token) {
                    happened.push(Happened::Answered {
                        owner,
                        token,
                        query,
                        answer,
                    });
                }
            }
            Event::Refused { token, refusal } => {
                let sent_before = self.sent_before(token);
                if let Some((owner, token)) = self.refused(token) {
                    happened.push(if sent_before {
                        Happened::Unknown { owner, token }
                    } else {
                        Happened::Refused {
                            owner,
                            token,
                            refusal,
                        }
                    });
                }
            }
        }
    }

    /// Fails everything that is unanswered, and forgets it. Whoever waits must close its sockets:
    /// what follows in their lanes could not be accepted.
    pub fn give_up(&mut self, happened: &mut Vec<Happened>) {
        let first = self.first;
        self.first += self.kept.len() as u64;
        for (at, kept) in (first..).zip(std::mem::take(&mut self.kept)) {
            let Some(Kept { owner, token, .. }) = kept.as_ref().filter(|kept| !kept.orphan) else {
                continue;
            };
            let (owner, token) = (*owner, *token);
            let waits = kept
                .as_ref()
                .and_then(|kept| self.lanes.get(&kept.content.lane()?))
                .is_some_and(|lane| lane.waits(at));
            happened.push(if at < self.sent_below && !waits {
                Happened::Unknown { owner, token }
            } else {
                Happened::NotSent { owner, token }
            });
        }
        self.outbox.clear();
        self.lanes.clear();
        self.bytes = 0;
    }

    fn keep_in_lane(&mut self, id: LaneId, owner: Owner, token: Token, mut command: ClientCommand) {
        let at = self.next_at();
        let lane = self.lanes.entry(id).or_insert_with(|| Lane::new(owner));
        lane.closes |= matches!(command, ClientCommand::CloseSession { .. });
        let place = lane.push(at);
        if let Some(place) = place {
            set_place(&mut command, place);
        }
        self.keep(owner, token, Content::Command(command), place.is_some());
    }

    fn next_at(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn keep(&mut self, owner: Owner, token: Token, content: Content, send: bool) {
        let request = content.clone().request(self.next_at());
        let bytes = request_bytes(&request);
        self.bytes += bytes;
        self.kept.push_back(Some(Kept {
            owner,
            token,
            content,
            bytes,
            orphan: false,
            sent_before: false,
        }));
        if send && self.standing == Standing::Open {
            self.outbox.push(request);
        }
    }

    fn at_mut(&mut self, at: u64) -> Option<&mut Option<Kept>> {
        let i = usize::try_from(at.checked_sub(self.first)?).ok()?;
        self.kept.get_mut(i)
    }

    /// Forgets an answered request; says who waits for the answer, if somebody does.
    fn take(&mut self, on_link: Token) -> Option<(Owner, Token)> {
        let kept = self.at_mut(on_link.0)?.take()?;
        self.bytes -= kept.bytes;
        while let Some(None) = self.kept.front() {
            self.kept.pop_front();
            self.first += 1;
        }
        (!kept.orphan).then_some((kept.owner, kept.token))
    }

    fn lane_of(&mut self, on_link: Token) -> Option<LaneId> {
        self.at_mut(on_link.0)?.as_ref()?.content.lane()
    }

    fn outcome(&mut self, on_link: Token, outcome: &CommandOutcome) -> Option<(Owner, Token)> {
        let Some(id) = self.lane_of(on_link) else {
            return self.take(on_link);
        };
        let refusal = match outcome {
            CommandOutcome::Written(written) => written.result.as_ref().err().copied(),
            CommandOutcome::SessionClosed(_, closed) => closed.result.err(),
            _ => None,
        };
        if let Some(lane) = self.lanes.get_mut(&id) {
            let out_of_sequence = matches!(refusal, Some(WriteRefusal::OutOfSequence { .. }));
            if out_of_sequence && lane.out_of_sequence(on_link.0) {
                self.renumber(id);
                return None;
            }
            lane.answered(on_link.0, refusal.is_none());
        }
        self.lane_moved_on(id);
        self.take(on_link)
    }

    fn sent_before(&mut self, on_link: Token) -> bool {
        let kept = self.at_mut(on_link.0).and_then(|kept| kept.as_ref());
        kept.is_some_and(|kept| kept.sent_before)
    }

    fn refused(&mut self, on_link: Token) -> Option<(Owner, Token)> {
        if let Some(id) = self.lane_of(on_link) {
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.refused(on_link.0);
            }
            self.lane_moved_on(id);
        }
        self.take(on_link)
    }

    /// Something in the lane was answered: what waits may go, and a lane that ended is forgotten.
    fn lane_moved_on(&mut self, id: LaneId) {
        self.renumber(id);
        if self
            .lanes
            .get(&id)
            .is_some_and(|lane| (lane.closes || lane.abandoned) && lane.is_idle())
        {
            self.lanes.remove(&id);
        }
    }

    /// Gives numbers to what waits in a lane, and puts it into the outbox.
    fn renumber(&mut self, id: LaneId) {
        let Self {
            lanes,
            kept,
            first,
            outbox,
            ..
        } = self;
        let Some(lane) = lanes.get_mut(&id) else {
            return;
        };
        lane.renumber(|at, place| {
            let kept = kept.get_mut((at - *first) as usize);
            if let Some(kept) = kept.and_then(Option::as_mut)
                && let Content::Command(command) = &mut kept.content
            {
                set_place(command, place);
                // Nobody has seen this number.
                kept.sent_before = false;
                let (token, command) = (Token(at), command.clone());
                outbox.push(Request::Command { token, command });
            }
        });
    }

    fn renumber_all(&mut self) {
        let mut ids: Vec<LaneId> = self.lanes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.link_ended();
            }
            self.renumber(id);
        }
    }

    /// Forgets what nobody waits for, but for what ends a session.
    fn drop_orphans(&mut self) {
        for at in self.first..self.next_at() {
            let Some(Some(kept)) = self.at_mut(at) else {
                continue;
            };
            if !kept.orphan {
                continue;
            }
            if let Some(id) = kept.content.lane()
                && let Some(lane) = self.lanes.get_mut(&id)
            {
                if lane.closes {
                    continue;
                }
                lane.forget(at);
                if lane.is_idle() {
                    self.lanes.remove(&id);
                }
            }
            self.take(Token(at));
        }
    }

    /// What the fields' comments promise, for tests and simulators.
    pub fn check_invariants(&self) {
        let kept = || self.kept.iter().flatten();
        assert!(self.kept.front().is_none_or(Option::is_some));
        assert_eq!(self.bytes, kept().map(|kept| kept.bytes).sum::<usize>());
        self.lanes.values().for_each(Lane::check);
        let in_lanes: usize = self.lanes.values().map(Lane::len).sum();
        let with_lane = kept().filter(|kept| kept.content.lane().is_some()).count();
        assert_eq!(in_lanes, with_lane);
    }
}

impl Content {
    fn lane(&self) -> Option<LaneId> {
        match self {
            Self::Command(ClientCommand::Write(write)) => Some((write.session, write.attachment)),
            Self::Command(ClientCommand::CloseSession {
                session,
                attachment,
                ..
            }) => Some((*session, *attachment)),
            Self::Command(_) | Self::Query(_) => None,
        }
    }

    fn request(self, at: u64) -> Request {
        let token = Token(at);
        match self {
            Self::Command(command) => Request::Command { token, command },
            Self::Query(query) => Request::Query { token, query },
        }
    }
}

fn set_place(command: &mut ClientCommand, place: Place) {
    match command {
        ClientCommand::Write(write) => {
            write.seq = place.seq;
            write.follows = place.follows;
            write.acknowledged = place.acknowledged;
        }
        ClientCommand::CloseSession { seq, follows, .. } => {
            *seq = place.seq;
            *follows = place.follows;
        }
        ClientCommand::OpenSession { .. } | ClientCommand::Attach { .. } => {}
    }
}
