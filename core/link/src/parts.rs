//! Large events in parts: how a transport between processes carries them.
//!
//! A change set of a session that owned 100,000 records, or the names of a million children, must not
//! go out as one message: it would be refused, or hold up the heartbeats behind it. [`split`] makes
//! events of the same kind that hold a part of it each; all but the last say that more follows.
//! [`Assembler`] puts them together again, so that they become visible together.
//!
//! In one process events are handed over whole.

use std::sync::Arc;

use oxkeeper_model::{
    Answer, Change, ChangeSet, ChangedValue, ChildNames, CommandOutcome, Fetched, OpResult,
    OpResults, SessionEnd, TxnOutcome, WriteOutcome,
};
use thiserror::Error;

use crate::limits::{ASSEMBLED_PARTS_MAX, PART_BYTES_TARGET, PART_ITEM_BYTES};
use crate::link::Event;

/// A message of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whole, or a part of one.
    pub event: Event,
    /// Parts of the same event follow; nothing of it may be shown yet.
    pub more: bool,
}

/// The sender does not keep the rules: the link must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PartError {
    #[error("a part of another event came before the rest of one")]
    Mixed,
    #[error("an event has more than {ASSEMBLED_PARTS_MAX} parts")]
    TooMany,
}

/// The event in parts, in order. Each is at most [`PART_BYTES_TARGET`] and one item.
pub fn split(event: Event) -> Vec<Part> {
    let mut events = match event {
        Event::Changed(set) => split_changes(&set),
        Event::Answered {
            token,
            query,
            answer,
        } => {
            let answered = |answer| Event::Answered {
                token,
                query: query.clone(),
                answer,
            };
            split_answer(answer).into_iter().map(answered).collect()
        }
        Event::Outcome {
            token,
            outcome: CommandOutcome::Written(outcome),
        } => {
            let written = |outcome| Event::Outcome {
                token,
                outcome: CommandOutcome::Written(outcome),
            };
            split_written(outcome).into_iter().map(written).collect()
        }
        whole => vec![whole],
    };
    let last = events.pop();
    let before = events.into_iter().map(|event| Part { event, more: true });
    let last = last.map(|event| Part { event, more: false });
    before.chain(last).collect()
}

/// Groups of at most the target, in order; at least one.
fn groups<T>(items: impl IntoIterator<Item = T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut groups, mut sum) = (vec![Vec::new()], 0);
    for item in items {
        let item_bytes = PART_ITEM_BYTES + bytes(&item);
        if sum > 0 && sum + item_bytes > PART_BYTES_TARGET {
            groups.push(Vec::new());
            sum = 0;
        }
        sum += item_bytes;
        if let Some(group) = groups.last_mut() {
            group.push(item);
        }
    }
    groups
}

fn split_changes(set: &Arc<ChangeSet>) -> Vec<Event> {
    if set_bytes(set) <= PART_BYTES_TARGET {
        return vec![Event::Changed(Arc::clone(set))];
    }
    let empty = ChangeSet {
        session_ended: set.session_ended,
        digest: set.digest,
        end: set.end.as_ref().map(|_| Arc::default()),
        ..ChangeSet::empty(set.revision)
    };
    let changes = groups(&set.changes, |change| change_bytes(change)).into_iter();
    let changes = changes.map(|changes| ChangeSet {
        changes: changes.into_iter().cloned().collect(),
        ..empty.clone()
    });
    let parents = groups(&set.parents, |(path, _)| path.len()).into_iter();
    let parents = parents.map(|parents| ChangeSet {
        parents: parents.into_iter().cloned().collect(),
        ..empty.clone()
    });
    let ends = set.end.iter().flat_map(|end| split_end(end));
    let ends = ends.map(|end| ChangeSet {
        end: Some(Arc::new(end)),
        ..empty.clone()
    });
    let mut sets: Vec<_> = changes.chain(parents).chain(ends).collect();
    sets.retain(|part| *part != empty);
    sets.into_iter().map(Arc::new).map(Event::Changed).collect()
}

fn change_bytes(change: &Change) -> usize {
    match &change.value {
        ChangedValue::Set(Some(value)) => change.path.len() + value.len(),
        _ => change.path.len(),
    }
}

fn set_bytes(set: &ChangeSet) -> usize {
    let ended = set.end.as_ref();
    let ended = ended.map_or(0, |end| end.records.len() + end.parents.len());
    let items = set.changes.len() + set.parents.len() + ended;
    items * PART_ITEM_BYTES + set.changes.iter().map(change_bytes).sum::<usize>()
}

fn split_end(end: &SessionEnd) -> Vec<SessionEnd> {
    let empty = SessionEnd {
        fingerprint: end.fingerprint,
        ..SessionEnd::default()
    };
    let records = groups(&end.records, |(path, _)| path.len()).into_iter();
    let records = records.map(|records| SessionEnd {
        records: records
            .into_iter()
            .map(|(p, r)| (p.clone(), r.clone()))
            .collect(),
        ..empty.clone()
    });
    let parents = groups(&end.parents, |(path, _)| path.len()).into_iter();
    let parents = parents.map(|parents| SessionEnd {
        parents: parents
            .into_iter()
            .map(|(p, r)| (p.clone(), r.clone()))
            .collect(),
        ..empty.clone()
    });
    records.chain(parents).collect()
}

fn split_answer(answer: Answer) -> Vec<Answer> {
    match answer {
        Answer::Records(records) => {
            let bytes = |record: &Option<Fetched>| match record {
                Some(Fetched {
                    value: Some(Some(value)),
                    ..
                }) => value.len(),
                _ => 0,
            };
            groups(records, bytes)
                .into_iter()
                .map(Answer::Records)
                .collect()
        }
        Answer::ChildNames(Some(ChildNames { head, names })) => {
            let part = |names| {
                let head = head.clone();
                Answer::ChildNames(Some(ChildNames { head, names }))
            };
            groups(names, |name| name.len())
                .into_iter()
                .map(part)
                .collect()
        }
        Answer::Ephemerals(paths) => {
            let parts = groups(paths, |path| path.len());
            parts.into_iter().map(Answer::Ephemerals).collect()
        }
        Answer::Sessions(sessions) => groups(sessions, |_| 0)
            .into_iter()
            .map(Answer::Sessions)
            .collect(),
        whole => vec![whole],
    }
}

fn split_written(outcome: WriteOutcome) -> Vec<WriteOutcome> {
    let Ok(TxnOutcome::Applied(results)) = outcome.result else {
        return vec![outcome];
    };
    let bytes = |result: &OpResult| match result {
        OpResult::Got {
            value: Some(value), ..
        } => value.len(),
        OpResult::Created { path, .. } => path.len(),
        _ => 0,
    };
    let (session, seq, revision) = (outcome.session, outcome.seq, outcome.revision);
    let part = |results: Vec<OpResult>| WriteOutcome {
        session,
        seq,
        revision,
        result: Ok(TxnOutcome::Applied(OpResults::from_vec(results))),
    };
    groups(results, bytes).into_iter().map(part).collect()
}

/// Puts the parts of an event together.
#[derive(Debug, Default)]
pub struct Assembler {
    begun: Option<(Event, usize)>,
}

impl Assembler {
    /// An event, when its last part has come.
    pub fn take(&mut self, part: Part) -> Result<Option<Event>, PartError> {
        let Part { event, more } = part;
        let (event, parts) = match self.begun.take() {
            None => (event, 1),
            Some((begun, parts)) => (join(begun, event)?, parts + 1),
        };
        if !more {
            return Ok(Some(event));
        }
        if parts >= ASSEMBLED_PARTS_MAX {
            return Err(PartError::TooMany);
        }
        self.begun = Some((event, parts));
        Ok(None)
    }
}

fn join(mut begun: Event, next: Event) -> Result<Event, PartError> {
    match (&mut begun, next) {
        (Event::Changed(set), Event::Changed(next)) if set.position() == next.position() => {
            join_changes(Arc::make_mut(set), &next);
        }
        (
            Event::Answered { token, answer, .. },
            Event::Answered {
                token: next_token,
                answer: next,
                ..
            },
        ) if *token == next_token => join_answers(answer, next)?,
        (
            Event::Outcome {
                token,
                outcome: CommandOutcome::Written(outcome),
            },
            Event::Outcome {
                token: next_token,
                outcome: CommandOutcome::Written(next),
            },
        ) if *token == next_token => match (&mut outcome.result, next.result) {
            (Ok(TxnOutcome::Applied(results)), Ok(TxnOutcome::Applied(next))) => {
                results.extend(next);
            }
            _ => return Err(PartError::Mixed),
        },
        _ => return Err(PartError::Mixed),
    }
    Ok(begun)
}

fn join_changes(set: &mut ChangeSet, next: &ChangeSet) {
    set.changes.extend(next.changes.iter().cloned());
    set.parents.extend(next.parents.iter().cloned());
    if let (Some(end), Some(next)) = (&mut set.end, &next.end) {
        let end = Arc::make_mut(end);
        let records = next.records.iter().map(|(p, r)| (p.clone(), r.clone()));
        let parents = next.parents.iter().map(|(p, r)| (p.clone(), r.clone()));
        end.records.extend(records);
        end.parents.extend(parents);
        end.fingerprint = next.fingerprint;
    }
}

fn join_answers(answer: &mut Answer, next: Answer) -> Result<(), PartError> {
    match (answer, next) {
        (Answer::Records(all), Answer::Records(next)) => all.extend(next),
        (Answer::ChildNames(Some(all)), Answer::ChildNames(Some(next))) => {
            all.names.extend(next.names);
        }
        (Answer::Ephemerals(all), Answer::Ephemerals(next)) => all.extend(next),
        (Answer::Sessions(all), Answer::Sessions(next)) => all.extend(next),
        _ => return Err(PartError::Mixed),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
