//! Reads of the applied state, between entries.

use std::ops::ControlFlow;

use oxkeeper_model::{Answer, ChildNames, Fetched, Path, Query, SessionId, name_of};

use super::{ShardState, StateError};
use crate::keys;
use crate::records::load_value;
use crate::rows::value_place;
use oxkeeper_store::{KeyRange, KeyValueStore};

impl<S: KeyValueStore> ShardState<S> {
    pub(super) fn answer(&self, query: &Query) -> Result<Answer, StateError> {
        Ok(match query {
            Query::Records { paths, with_values } => {
                let fetch = |path: &Path| self.fetch(path, *with_values);
                Answer::Records(paths.iter().map(fetch).collect::<Result<_, _>>()?)
            }
            Query::ChildNames { path } => Answer::ChildNames(self.child_names(path)?),
            Query::Ephemerals { session, prefix } => {
                Answer::Ephemerals(self.ephemerals(*session, prefix)?)
            }
            Query::DescendantCount { path } => {
                Answer::DescendantCount(self.descendant_count(path)?)
            }
            Query::Attachment { session } => {
                Answer::Attachment(self.session(*session).map(|session| session.attachment))
            }
            Query::Sessions => Answer::Sessions(self.session_list()),
            Query::Stats => Answer::Stats {
                records: self.meta.counters.records,
                ephemerals: self.meta.counters.ephemerals,
                data_bytes: self.meta.counters.data_bytes,
                sessions: self.sessions.len() as u64,
            },
            Query::Barrier => Answer::Barrier,
        })
    }

    fn fetch(&self, path: &str, with_value: bool) -> Result<Option<Fetched>, StateError> {
        let Some(head) = self.head(path)? else {
            return Ok(None);
        };
        let value = match with_value {
            true => Some(load_value(
                &self.store,
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
        let mut names = Vec::with_capacity(head.children.live as usize);
        if head.children.live > 0 {
            self.store.scan(&keys::children(path), &mut |key, _| {
                let child = keys::path_of(key).filter(|child| keys::is_child(child));
                names.extend(child.map(|child| Box::from(name_of(child))));
                ControlFlow::Continue(())
            })?;
        }
        Ok(Some(ChildNames { head, names }))
    }

    fn ephemerals(&self, session: SessionId, prefix: &str) -> Result<Vec<Path>, StateError> {
        let mut key = Vec::new();
        keys::ephemeral(&mut key, session, prefix);
        let mut paths = Vec::new();
        self.store.scan(&KeyRange::prefix(&key), &mut |key, _| {
            paths.extend(keys::ephemeral_of(key).map(|(_, path)| Path::from(path)));
            ControlFlow::Continue(())
        })?;
        Ok(paths)
    }

    /// Counts level by level: below a level without records there are none.
    fn descendant_count(&self, path: &str) -> Result<Option<u64>, StateError> {
        let Some(head) = self.head(path)? else {
            return Ok(None);
        };
        if path == "/" {
            return Ok(Some(self.meta.counters.records - 1));
        }
        let (mut count, mut level_count) = (0, u64::from(head.children.live));
        for level in 1.. {
            if level_count == 0 {
                break;
            }
            level_count = 0;
            self.store
                .scan(&keys::descendants_at(path, level), &mut |_, _| {
                    level_count += 1;
                    ControlFlow::Continue(())
                })?;
            count += level_count;
        }
        Ok(Some(count))
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
