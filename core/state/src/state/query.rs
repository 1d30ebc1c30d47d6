//! Reads of the applied state, between entries; and of a frozen one.

use std::cell::Cell;
use std::ops::ControlFlow;

use oxkeeper_model::{Answer, ChildNames, Fetched, Path, Query, SessionId, SharedHead, name_of};

use super::{ShardState, StateError};
use crate::keys;
use crate::records::{Found, Records, Rows, load_value};
use crate::rows::{Counters, value_place};
use oxkeeper_store::{KeyRange, KeyValueStore, RowReader};

impl<S: KeyValueStore> ShardState<S> {
    pub(super) fn answer(&self, query: &Query) -> Result<Answer, StateError> {
        let mut reads = Reads {
            rows: self.rows(),
            records: Some(&self.records),
            counters: self.meta.counters,
            room: Room::default(),
        };
        let Query::Batch { queries, bytes_max } = query else {
            return self.answer_one(&reads, query);
        };
        reads.room = Room(Cell::new(Some(*bytes_max)));
        let mut answers = Vec::with_capacity(queries.len());
        for query in queries {
            answers.push(self.answer_one(&reads, query)?);
            if reads.room.is_used_up() {
                return Ok(Answer::TooLarge);
            }
        }
        Ok(Answer::Batch(answers))
    }

    /// What is found when the room is used up is not all.
    fn answer_one(&self, reads: &Reads<'_, S>, query: &Query) -> Result<Answer, StateError> {
        Ok(match query {
            Query::Attachment { session } => {
                Answer::Attachment(self.session(*session).map(|session| session.attachment))
            }
            Query::Sessions => Answer::Sessions(self.session_list()),
            Query::Stats => reads.stats(self.sessions.len()),
            Query::Ephemerals { session, .. } if self.sessions.get(*session).is_none() => {
                Answer::Ephemerals(Vec::new())
            }
            query => reads.answer(query)?,
        })
    }

    fn session_list(&self) -> Vec<(SessionId, u32, u64)> {
        let mut sessions: Vec<_> = self
            .sessions
            .iter()
            .map(|(id, session)| (id, session.timeout_ms, session.ephemerals))
            .collect();
        sessions.sort_unstable();
        sessions
    }
}

/// Reads of the tree as of one revision.
pub(super) struct Reads<'a, S> {
    pub(super) rows: Rows<'a, S>,
    /// Heads in memory.
    pub(super) records: Option<&'a Records>,
    pub(super) counters: Counters,
    pub(super) room: Room,
}

/// What a name or a record takes in an answer beside its text and value.
const FOUND_BYTES: usize = 64;

/// Bytes that may still be found; `None`: no more.
pub(super) struct Room(Cell<Option<usize>>);

impl Default for Room {
    fn default() -> Self {
        Self(Cell::new(Some(usize::MAX)))
    }
}

impl Room {
    /// Whether so much more fits. Once something did not, nothing does.
    fn takes(&self, bytes: usize) -> bool {
        let left = self.0.get();
        self.0
            .set(left.and_then(|left| left.checked_sub(bytes + FOUND_BYTES)));
        !self.is_used_up()
    }

    fn is_used_up(&self) -> bool {
        self.0.get().is_none()
    }
}

impl<S: RowReader> Reads<'_, S> {
    /// Of a query that needs no session.
    pub(super) fn answer(&self, query: &Query) -> Result<Answer, StateError> {
        Ok(match query {
            Query::Records { paths, with_values } => {
                let more = |_: &&Path| !self.room.is_used_up();
                let fetch = |path: &Path| self.fetch(path, *with_values);
                let found = paths.iter().take_while(more).map(fetch);
                Answer::Records(found.collect::<Result<_, _>>()?)
            }
            Query::ChildNames { path } => Answer::ChildNames(self.child_names(path)?),
            Query::Ephemerals { session, prefix } => {
                Answer::Ephemerals(self.ephemerals(*session, prefix)?)
            }
            Query::DescendantCount { path } => {
                Answer::DescendantCount(self.descendant_count(path)?)
            }
            Query::Barrier => Answer::Barrier,
            // A batch in a batch, for one.
            Query::Attachment { .. } | Query::Sessions | Query::Stats | Query::Batch { .. } => {
                Answer::Failed
            }
        })
    }

    pub(super) fn stats(&self, sessions: usize) -> Answer {
        Answer::Stats {
            records: self.counters.records,
            ephemerals: self.counters.ephemerals,
            data_bytes: self.counters.data_bytes,
            sessions: sessions as u64,
        }
    }

    fn head(&self, path: &str) -> Result<Option<SharedHead>, StateError> {
        let cached = self.records.and_then(|records| records.cached(path));
        if let Some(head) = cached {
            return Ok(Some(head.clone()));
        }
        match self.rows.load(path, &mut Vec::new())? {
            Found::Record(head) => Ok(Some(head.into())),
            Found::Dead(_) | Found::Nothing => Ok(None),
        }
    }

    fn fetch(&self, path: &str, with_value: bool) -> Result<Option<Fetched>, StateError> {
        let Some(head) = self.head(path)? else {
            self.room.takes(0);
            return Ok(None);
        };
        let value_bytes = head.value_bytes.filter(|_| with_value).unwrap_or(0);
        if !self.room.takes(value_bytes as usize) {
            return Ok(None);
        }
        let value = match with_value {
            true => Some(load_value(
                self.rows.store,
                path,
                &head,
                value_place(&head),
                &mut Vec::new(),
            )?),
            false => None,
        };
        Ok(Some(Fetched { head, value }))
    }

    fn child_names(&self, path: &str) -> Result<Option<ChildNames>, StateError> {
        let Some(head) = self.head(path)? else {
            return Ok(None);
        };
        let mut names = Vec::new();
        if head.children.live > 0 {
            self.scan(&keys::children(path), |child| {
                names.push(Box::from(name_of(child)));
                self.room.takes(name_of(child).len())
            })?;
        }
        Ok(Some(ChildNames { head, names }))
    }

    fn ephemerals(&self, session: SessionId, prefix: &str) -> Result<Vec<Path>, StateError> {
        let mut key = Vec::new();
        keys::ephemeral(&mut key, session, prefix);
        let mut paths = Vec::new();
        self.rows
            .store
            .scan(&KeyRange::prefix(&key), &mut |key, _| {
                paths.extend(keys::ephemeral_of(key).map(|(_, path)| Path::from(path)));
                match self.room.takes(key.len()) {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
        Ok(paths)
    }

    /// Counts level by level: below a level without records there are none.
    fn descendant_count(&self, path: &str) -> Result<Option<u64>, StateError> {
        let Some(head) = self.head(path)? else {
            return Ok(None);
        };
        if path == "/" {
            return Ok(Some(self.counters.records - 1));
        }
        let (mut count, mut level_count) = (0, u64::from(head.children.live));
        for level in 1.. {
            if level_count == 0 {
                break;
            }
            level_count = 0;
            self.scan(&keys::descendants_at(path, level), |_| {
                level_count += 1;
                true
            })?;
            count += level_count;
        }
        Ok(Some(count))
    }

    /// Visits the paths of the records in a range of heads, until `visit` says no.
    pub(super) fn scan(
        &self,
        range: &KeyRange,
        mut visit: impl FnMut(&str) -> bool,
    ) -> Result<(), StateError> {
        let (mut result, mut path) = (Ok(()), String::new());
        self.rows.store.scan(range, &mut |key, row| {
            let Some(path) = keys::path_of(key, &mut path) else {
                return ControlFlow::Continue(());
            };
            let goes_on = match self.rows.is_dead(path, row) {
                Ok(is_dead) => is_dead || visit(path),
                Err(error) => {
                    result = Err(error);
                    false
                }
            };
            match goes_on {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        result
    }
}
