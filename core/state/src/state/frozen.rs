//! A state as of one revision, for another thread.

use oxkeeper_model::{Answer, Path, Position, Query, SessionId};

use super::StateError;
use super::load::{self, scan_rows};
use super::query::{Reads, Room};
use crate::acls::AclTable;
use crate::graves::Graves;
use crate::hash::HashKey;
use crate::keys;
use crate::records::rows_of;
use crate::rows::{self, Kept, Meta, RowError, SessionRow};
use oxkeeper_store::{KeyRange, RowReader};

/// What [`super::ShardState::freeze`] hands out: cheap to make, and what is below it is kept until
/// it is dropped.
#[derive(Debug)]
pub struct FrozenRows<R> {
    pub(super) rows: R,
    pub(super) position: Position,
}

impl<R: RowReader> FrozenRows<R> {
    /// What the state was as of.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Every row, as the store has it.
    pub fn rows(&self) -> &R {
        &self.rows
    }

    /// Reads what is needed to understand the rows: the access lists. Takes its time; to be called on
    /// the thread that wants to read.
    pub fn open(self) -> Result<FrozenState<R>, StateError> {
        Ok(FrozenState {
            meta: load::stored_meta(&self.rows)?.unwrap_or_default(),
            acls: load::acls(&self.rows, HashKey::default())?,
            graves: load::graves(&self.rows)?,
            rows: self.rows,
            position: self.position,
        })
    }
}

/// A state that changes no more.
#[derive(Debug)]
pub struct FrozenState<R> {
    rows: R,
    position: Position,
    meta: Meta,
    acls: AclTable,
    graves: Graves,
}

impl<R: RowReader> FrozenState<R> {
    pub fn position(&self) -> Position {
        self.position
    }

    /// Answers a read as of [`Self::position`].
    pub fn query(&self, query: &Query) -> Result<Answer, StateError> {
        let reads = Reads {
            rows: rows_of(&self.rows, &self.acls, &self.graves),
            records: None,
            counters: self.meta.counters,
            room: Room::default(),
        };
        Ok(match query {
            Query::Attachment { session } => {
                Answer::Attachment(self.session(*session)?.map(|session| session.attachment))
            }
            Query::Sessions => Answer::Sessions(self.sessions()?),
            Query::Stats => reads.stats(self.sessions()?.len()),
            Query::Ephemerals { session, .. } if self.graves.holds(*session) => {
                Answer::Ephemerals(Vec::new())
            }
            query => reads.answer(query)?,
        })
    }

    /// Visits the paths of all records after `after`, in the order of their keys, until `visit` says no.
    pub fn scan(
        &self,
        after: Option<&Path>,
        visit: impl FnMut(&str) -> bool,
    ) -> Result<(), StateError> {
        let mut range = KeyRange::prefix(&[keys::HEAD]);
        if let Some(after) = after {
            let mut key = Vec::new();
            keys::head(&mut key, after);
            range = range.after(&key);
        }
        let reads = Reads {
            rows: rows_of(&self.rows, &self.acls, &self.graves),
            records: None,
            counters: self.meta.counters,
            room: Room::default(),
        };
        reads.scan(&range, visit)
    }

    fn session(&self, session: SessionId) -> Result<Option<SessionRow<Vec<Kept>>>, StateError> {
        let mut key = Vec::new();
        keys::session(&mut key, session);
        let mut found = None;
        self.rows
            .get(&key, &mut |row| found = Some(rows::decode_session(row)))?;
        Ok(found.transpose()?)
    }

    fn sessions(&self) -> Result<Vec<(SessionId, u32, u64)>, StateError> {
        let mut sessions = Vec::new();
        scan_rows(&self.rows, &[keys::SESSION], |key, row| {
            let id = keys::session_of(key).ok_or(RowError::Malformed("session"))?;
            let session = rows::decode_session(row)?;
            sessions.push((id, session.timeout_ms, session.ephemerals));
            Ok(())
        })?;
        Ok(sessions)
    }
}
