//! See [`Replica`].

use oxkeeper_model::{NodeId, Offset, Term};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// The last entry of a log. Logs are compared by term first, then by offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogEnd {
    pub term: Term,
    pub offset: Offset,
}

/// What a node finds on its disk when it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The highest term that was made durable.
    pub term: Term,
    /// The end of the log, all of it durable.
    pub last: LogEnd,
    /// The last entry that the store has applied and kept. The log may end before it.
    pub applied: LogEnd,
}

/// What a replica is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Neither appends nor acknowledges until the coordinator gives it a part in `term`.
    /// The coordinator is answered only when the term is durable.
    Fenced {
        durable: bool,
    },
    Leader(Leader),
    /// The disk failed. For good: only a restart reads what is really there.
    Stopped,
}

/// The leader's view of its term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The first entry of the term; nothing before it is committed by counting.
    term_start: Offset,
    /// How far each member of the ensemble has the log durably, this node included.
    /// Moved by `Durable` and `FollowerAck`. Invariant: never beyond the last appended entry,
    /// never backwards within a term.
    durable: Vec<(NodeId, Offset)>,
}

impl Leader {
    /// The highest offset that more than half of the ensemble has durably.
    fn majority_durable(&self) -> Offset {
        let mut offsets: Vec<Offset> = self.durable.iter().map(|&(_, offset)| offset).collect();
        offsets.sort_unstable_by(|a, b| b.cmp(a));
        offsets[offsets.len() / 2]
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// From the coordinator: no part in any older term from now on.
    NewTerm { term: Term },
    /// The driver has done [`Output::PersistTerm`].
    TermPersisted { term: Term },
    /// From the coordinator, to the fenced member with the highest log end.
    BecomeLeader { term: Term, ensemble: Vec<NodeId> },
    /// The driver has commands for one entry.
    Propose,
    /// This node's log is durable up to here.
    Durable { offset: Offset },
    /// A follower's log is durable up to here, says a message of `term`.
    FollowerAck {
        node: NodeId,
        term: Term,
        offset: Offset,
    },
    /// The state machine has applied up to here.
    Applied { offset: Offset },
    /// A write or sync of this node's log failed: what it holds is not known any more.
    LogFailed,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The first of a term. The driver makes it.
    TermStart,
    /// The commands of the [`Input::Propose`] that is answered.
    Proposed,
}

/// What the driver must do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make the term durable, then say [`Input::TermPersisted`].
    PersistTerm { term: Term },
    /// Tell the coordinator that the replica is fenced in `term`, and where its log ends.
    Fenced { term: Term, last: LogEnd },
    /// Append an entry at this position: to the own log, and to the followers'.
    Append {
        offset: Offset,
        term: Term,
        kind: EntryKind,
    },
    /// Make the own log durable, then say [`Input::Durable`]. Followers need not wait for it.
    Sync,
    /// Apply everything up to here, in order, then say [`Input::Applied`]; outcomes may be told.
    Commit { up_to: Offset },
    /// Stop serving: the outcome of everything that is not committed is unknown.
    StepDown { term: Term },
    /// The input was refused. What else came of it stands before this.
    Refused(Refusal),
}

/// Why an input was refused. It changed nothing, but for a higher term that it showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("the term is over: this node is in term {current}")]
    StaleTerm { current: Term },
    #[error("the term was not made durable here before")]
    NotFenced,
    /// What it wrote before the restart may be known to others and lost here.
    #[error("term {term} was known here before this start: only a later one can be led")]
    TermBeforeStart { term: Term },
    #[error("not the leader")]
    NotLeader,
    #[error("the log has failed")]
    Stopped,
    #[error(transparent)]
    Ensemble(#[from] EnsembleError),
    #[error("offset {offset} is beyond {limit}, the last possible one")]
    OffsetAhead { offset: Offset, limit: Offset },
}

/// Why a list of nodes is no ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EnsembleError {
    #[error("this node, {0}, is not in the ensemble")]
    WithoutSelf(NodeId),
    #[error("node {0} is twice in the ensemble")]
    Duplicate(NodeId),
    #[error("node {0} is not in the ensemble")]
    Stranger(NodeId),
}

/// A defect of this module or of its driver.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("replica invariant broken: {0}")]
pub struct InvariantBroken(pub &'static str);

/// One node's replica of one shard.
///
/// What must be durable before what:
/// - the term, before the coordinator hears of it or anything is done in it;
/// - an entry on a majority, before it is committed;
/// - nothing, before the answer to `Applied`: the log is the truth, the store follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    node: NodeId,
    /// The highest term this node has heard of. Invariant: never goes back.
    term: Term,
    /// The highest term that was durable at the start. Invariant: no term up to it is led.
    term_at_start: Term,
    role: Role,
    /// The last entry that was given to the log. Moved when `Append` is put out.
    /// Invariant: its term is at most `term`.
    last: LogEnd,
    /// How far the own log is durable, in any role. Invariant: at most `last`.
    durable: Offset,
    /// Invariant: at most `last`; never goes back; while leading either what it was before the
    /// term or at least the term's first entry.
    committed: Offset,
    /// Moved by `Applied`. Invariant: at most `committed`.
    applied: Offset,
}

impl Replica {
    /// A replica that does nothing until it is given a term. What was applied was committed. A log
    /// that ends before it is answered for by the store, which has everything up to there.
    pub fn new(node: NodeId, recovered: Recovered) -> Self {
        let Recovered {
            term,
            last,
            applied,
        } = recovered;
        let last = if last.offset < applied.offset {
            applied
        } else {
            last
        };
        let term = term.max(last.term);
        Self {
            node,
            term,
            term_at_start: term,
            role: Role::Fenced { durable: false },
            last,
            durable: last.offset,
            committed: applied.offset,
            applied: applied.offset,
        }
    }

    pub fn term(&self) -> Term {
        self.term
    }

    pub fn role(&self) -> &Role {
        &self.role
    }

    pub fn last(&self) -> LogEnd {
        self.last
    }

    pub fn committed(&self) -> Offset {
        self.committed
    }

    pub fn applied(&self) -> Offset {
        self.applied
    }

    /// Whether entries of this term are committed, so that the state is current and may be served.
    pub fn is_established(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if self.applied >= leader.term_start)
    }

    /// Takes one input; what it leads to is appended to `outputs`, a refusal last.
    pub fn step(&mut self, input: Input, outputs: &mut Vec<Output>) {
        if let Err(refusal) = self.take(input, outputs) {
            outputs.push(Output::Refused(refusal));
        }
    }

    fn take(&mut self, input: Input, outputs: &mut Vec<Output>) -> Result<(), Refusal> {
        if self.role == Role::Stopped {
            return Err(Refusal::Stopped);
        }
        match input {
            Input::NewTerm { term } => self.on_new_term(term, outputs),
            Input::TermPersisted { term } => self.on_term_persisted(term, outputs),
            Input::BecomeLeader { term, ensemble } => {
                self.on_become_leader(term, &ensemble, outputs)
            }
            Input::Propose => self.on_propose(outputs),
            Input::Durable { offset } => self.on_durable(offset, outputs),
            Input::FollowerAck { node, term, offset } => {
                self.on_follower_ack(node, term, offset, outputs)
            }
            Input::Applied { offset } => self.on_applied(offset),
            Input::LogFailed => {
                self.step_down(outputs);
                self.role = Role::Stopped;
                Ok(())
            }
        }
    }

    /// The same term may come again: the coordinator repeats a request whose answer was lost.
    /// But not while leading in it: the coordinator never fences a term that has a leader.
    fn on_new_term(&mut self, term: Term, outputs: &mut Vec<Output>) -> Result<(), Refusal> {
        let leading = matches!(self.role, Role::Leader(_));
        if term < self.term || (term == self.term && leading) {
            return Err(Refusal::StaleTerm { current: self.term });
        }
        if term == self.term && self.role == (Role::Fenced { durable: true }) {
            outputs.push(Output::Fenced {
                term,
                last: self.last,
            });
            return Ok(());
        }
        self.enter_term(term, outputs);
        Ok(())
    }

    fn on_term_persisted(&mut self, term: Term, outputs: &mut Vec<Output>) -> Result<(), Refusal> {
        if term == self.term && self.role == (Role::Fenced { durable: false }) {
            self.role = Role::Fenced { durable: true };
            outputs.push(Output::Fenced {
                term,
                last: self.last,
            });
        }
        Ok(())
    }

    fn on_become_leader(
        &mut self,
        term: Term,
        ensemble: &[NodeId],
        outputs: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        if term < self.term {
            return Err(Refusal::StaleTerm { current: self.term });
        }
        // A node that has led in this term before a restart may have sent entries that its own
        // log lost; others at the same offsets in the same term could not be told from them.
        if term <= self.term_at_start {
            return Err(Refusal::TermBeforeStart { term });
        }
        if term > self.term {
            self.enter_term(term, outputs);
            return Err(Refusal::NotFenced);
        }
        if self.role != (Role::Fenced { durable: true }) {
            return Err(Refusal::NotFenced);
        }
        check_ensemble(self.node, ensemble)?;
        let durable = |&node| {
            (
                node,
                if node == self.node {
                    self.durable
                } else {
                    Offset(0)
                },
            )
        };
        self.role = Role::Leader(Leader {
            term_start: self.last.offset.next(),
            durable: ensemble.iter().map(durable).collect(),
        });
        self.append(EntryKind::TermStart, outputs);
        Ok(())
    }

    fn on_propose(&mut self, outputs: &mut Vec<Output>) -> Result<(), Refusal> {
        if !matches!(self.role, Role::Leader(_)) {
            return Err(Refusal::NotLeader);
        }
        self.append(EntryKind::Proposed, outputs);
        Ok(())
    }

    fn on_durable(&mut self, offset: Offset, outputs: &mut Vec<Output>) -> Result<(), Refusal> {
        self.check_not_beyond(offset, self.last.offset)?;
        self.durable = self.durable.max(offset);
        let (node, durable) = (self.node, self.durable);
        if let Role::Leader(leader) = &mut self.role {
            raise(&mut leader.durable, node, durable)?;
            self.advance_commit(outputs);
        }
        Ok(())
    }

    fn on_follower_ack(
        &mut self,
        node: NodeId,
        term: Term,
        offset: Offset,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        if term > self.term {
            self.enter_term(term, outputs);
            return Err(Refusal::NotLeader);
        }
        if term < self.term {
            return Err(Refusal::StaleTerm { current: self.term });
        }
        let last = self.last.offset;
        let Role::Leader(leader) = &mut self.role else {
            return Err(Refusal::NotLeader);
        };
        if offset > last {
            return Err(Refusal::OffsetAhead {
                offset,
                limit: last,
            });
        }
        if node == self.node {
            // Only `Durable` speaks for the own log.
            return Ok(());
        }
        raise(&mut leader.durable, node, offset)?;
        self.advance_commit(outputs);
        Ok(())
    }

    fn on_applied(&mut self, offset: Offset) -> Result<(), Refusal> {
        self.check_not_beyond(offset, self.committed)?;
        self.applied = self.applied.max(offset);
        Ok(())
    }

    fn append(&mut self, kind: EntryKind, outputs: &mut Vec<Output>) {
        self.last = LogEnd {
            term: self.term,
            offset: self.last.offset.next(),
        };
        outputs.push(Output::Append {
            offset: self.last.offset,
            term: self.term,
            kind,
        });
        outputs.push(Output::Sync);
    }

    fn advance_commit(&mut self, outputs: &mut Vec<Output>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let majority = leader.majority_durable();
        // An entry of an older term on a majority can still be replaced by a node with a longer
        // log of a term between; under an entry of the own term it can not.
        if majority >= leader.term_start && majority > self.committed {
            self.committed = majority;
            outputs.push(Output::Commit { up_to: majority });
        }
    }

    fn enter_term(&mut self, term: Term, outputs: &mut Vec<Output>) {
        self.step_down(outputs);
        self.term = term;
        self.role = Role::Fenced { durable: false };
        outputs.push(Output::PersistTerm { term });
    }

    fn step_down(&mut self, outputs: &mut Vec<Output>) {
        if matches!(self.role, Role::Leader(_)) {
            outputs.push(Output::StepDown { term: self.term });
        }
    }

    fn check_not_beyond(&self, offset: Offset, limit: Offset) -> Result<(), Refusal> {
        if offset > limit {
            Err(Refusal::OffsetAhead { offset, limit })
        } else {
            Ok(())
        }
    }

    /// Everything that the fields' comments promise. Drivers call it in tests after every step.
    pub fn check_invariants(&self) -> Result<(), InvariantBroken> {
        let check = |holds: bool, what| {
            if holds {
                Ok(())
            } else {
                Err(InvariantBroken(what))
            }
        };
        check(self.applied <= self.committed, "applied beyond committed")?;
        check(
            self.committed <= self.last.offset,
            "committed beyond the log",
        )?;
        check(self.durable <= self.last.offset, "durable beyond the log")?;
        check(
            self.last.term <= self.term,
            "an entry of a term that was not entered",
        )?;
        let Role::Leader(leader) = &self.role else {
            return Ok(());
        };
        check(
            self.last.term == self.term,
            "leading without an entry of the term",
        )?;
        check(
            self.term > self.term_at_start,
            "leading in a term from before the start",
        )?;
        check(
            leader.term_start <= self.last.offset,
            "term start beyond the log",
        )?;
        check(
            leader
                .durable
                .iter()
                .all(|&(_, offset)| offset <= self.last.offset),
            "a member's log beyond the leader's",
        )?;
        check(
            leader.durable.contains(&(self.node, self.durable)),
            "own durable offset counted otherwise than known",
        )?;
        check(
            self.committed < leader.term_start || self.committed <= leader.majority_durable(),
            "committed without a majority",
        )
    }
}

fn check_ensemble(own: NodeId, ensemble: &[NodeId]) -> Result<(), EnsembleError> {
    if !ensemble.contains(&own) {
        return Err(EnsembleError::WithoutSelf(own));
    }
    match ensemble
        .iter()
        .enumerate()
        .find(|(at, node)| ensemble[..*at].contains(node))
    {
        Some((_, &node)) => Err(EnsembleError::Duplicate(node)),
        None => Ok(()),
    }
}

fn raise(
    durable: &mut [(NodeId, Offset)],
    node: NodeId,
    offset: Offset,
) -> Result<(), EnsembleError> {
    let (_, known) = durable
        .iter_mut()
        .find(|(member, _)| *member == node)
        .ok_or(EnsembleError::Stranger(node))?;
    *known = (*known).max(offset);
    Ok(())
}
