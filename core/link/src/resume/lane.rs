//! The writes of one session under one attachment, in order.

use std::collections::VecDeque;

use oxkeeper_model::{Attachment, SessionId, WriteSeq};

use super::Owner;

pub(super) type LaneId = (SessionId, Attachment);

/// How an unanswered write stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Under its number, which can be accepted.
    Sent,
    /// Sent, and sure to be refused: something before it in the lane was.
    Doomed,
    /// To get a number and to be sent when nothing is doomed any more.
    Waiting,
}

#[derive(Clone, Copy, Debug)]
struct Numbered {
    /// Its token on the link.
    at: u64,
    seq: WriteSeq,
    standing: Standing,
}

/// A number and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seq: WriteSeq,
    pub(super) follows: WriteSeq,
    pub(super) acknowledged: WriteSeq,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) owner: Owner,
    /// It ends with the session's end.
    pub(super) closes: bool,
    /// Its socket is gone.
    pub(super) abandoned: bool,
    /// The highest number that was used.
    last: WriteSeq,
    /// The last one whose outcome has arrived. Invariant: below all that are unanswered and sent.
    answered: WriteSeq,
    /// In order. Invariant: sent ones, then doomed ones and waiting ones.
    unanswered: VecDeque<Numbered>,
}

impl Lane {
    pub(super) fn new(owner: Owner) -> Self {
        Self {
            owner,
            closes: false,
            abandoned: false,
            last: WriteSeq(0),
            answered: WriteSeq(0),
            unanswered: VecDeque::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.unanswered.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.unanswered.len()
    }

    pub(super) fn acknowledged(&self) -> WriteSeq {
        self.answered
    }

    /// A write that comes after all others; `None` if it has to wait for its number.
    pub(super) fn push(&mut self, at: u64) -> Option<Place> {
        let waits = self
            .unanswered
            .back()
            .is_some_and(|last| last.standing != Standing::Sent);
        if waits {
            self.unanswered.push_back(Numbered {
                at,
                seq: WriteSeq(0),
                standing: Standing::Waiting,
            });
            return None;
        }
        let (place, numbered) = self.number(self.tail(), at);
        self.unanswered.push_back(numbered);
        Some(place)
    }

    /// The last number that can have been accepted.
    fn tail(&self) -> WriteSeq {
        let sent = |numbered: &&Numbered| numbered.standing == Standing::Sent;
        let last = self.unanswered.iter().rev().find(sent);
        last.map_or(self.answered, |numbered| numbered.seq)
    }

    fn number(&mut self, follows: WriteSeq, at: u64) -> (Place, Numbered) {
        self.last = self.last.next();
        let place = Place {
            seq: self.last,
            follows,
            acknowledged: self.answered,
        };
        let numbered = Numbered {
            at,
            seq: self.last,
            standing: Standing::Sent,
        };
        (place, numbered)
    }

    fn find(&self, at: u64) -> Option<usize> {
        self.unanswered.iter().position(|write| write.at == at)
    }

    /// Its outcome has arrived. `accepted`: the shard has taken the number.
    pub(super) fn answered(&mut self, at: u64, accepted: bool) {
        let write = self.find(at).and_then(|i| self.unanswered.remove(i));
        if let Some(write) = write.filter(|_| accepted) {
            self.answered = self.answered.max(write.seq);
        }
    }

    /// It was refused before the log: what was sent after it cannot be accepted.
    pub(super) fn refused(&mut self, at: u64) {
        let Some(i) = self.find(at) else { return };
        self.unanswered.remove(i);
        for write in self.unanswered.range_mut(i..) {
            if write.standing == Standing::Sent {
                write.standing = Standing::Doomed;
            }
        }
    }

    /// It came back as out of sequence. Whether that was to be expected: it waits then.
    pub(super) fn out_of_sequence(&mut self, at: u64) -> bool {
        let write = self.find(at).and_then(|i| self.unanswered.get_mut(i));
        match write {
            Some(write) if write.standing == Standing::Doomed => {
                write.standing = Standing::Waiting;
                true
            }
            _ => false,
        }
    }

    /// The link has ended: no refusal comes any more.
    pub(super) fn link_ended(&mut self) {
        for write in &mut self.unanswered {
            if write.standing == Standing::Doomed {
                write.standing = Standing::Waiting;
            }
        }
    }

    /// Gives numbers to those that wait, if none is doomed any more.
    pub(super) fn renumber(&mut self, mut renumbered: impl FnMut(u64, Place)) {
        let is = |standing| move |write: &Numbered| write.standing == standing;
        if self.unanswered.iter().any(is(Standing::Doomed)) {
            return;
        }
        let Some(first) = self.unanswered.iter().position(is(Standing::Waiting)) else {
            return;
        };
        let mut follows = self.tail();
        for i in first..self.unanswered.len() {
            let at = self.unanswered[i].at;
            let (place, numbered) = self.number(follows, at);
            self.unanswered[i] = numbered;
            follows = place.seq;
            renumbered(at, place);
        }
    }

    /// Whether it waits: nothing that was sent under this token can have been accepted.
    pub(super) fn waits(&self, at: u64) -> bool {
        let waits = |i: usize| self.unanswered[i].standing != Standing::Sent;
        self.find(at).is_some_and(waits)
    }

    pub(super) fn forget(&mut self, at: u64) {
        if let Some(i) = self.find(at) {
            self.unanswered.remove(i);
        }
    }

    pub(super) fn check(&self) {
        let sent_first = |write: &Numbered| write.standing != Standing::Sent;
        assert!(self.unanswered.iter().map(sent_first).is_sorted());
        let sent = self.unanswered.iter().filter(|write| !sent_first(write));
        let seqs: Vec<_> = sent.map(|write| write.seq).collect();
        assert!(seqs.is_sorted() && seqs.first().is_none_or(|first| *first > self.answered));
        assert!(self.unanswered.iter().map(|write| write.at).is_sorted());
    }
}
