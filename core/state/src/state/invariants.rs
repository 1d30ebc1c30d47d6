//! The invariants of a shard's rows, as code that tests and the simulator call between entries.

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_model::{Acl, Head, SessionId, parent_of};
use rustc_hash::FxHashMap;

use super::{ShardState, StateError, scan_rows};
use crate::keys;
use crate::records::load_value;
use crate::rows::{Counters, RowError, ValuePlace, decode_head, value_place};
use oxkeeper_store::KeyValueStore;

/// What all heads together say.
#[derive(Default)]
struct Census {
    counters: Counters,
    live_children: FxHashMap<String, u32>,
    ephemerals: BTreeSet<(SessionId, String)>,
    reaped: BTreeSet<String>,
    acls: BTreeMap<usize, u64>,
    value_rows: u64,
}

impl Census {
    fn count(&mut self, path: &str, head: &Head) {
        self.counters.records += 1;
        self.counters.data_bytes += path.len() as u64 + u64::from(head.value_bytes.unwrap_or(0));
        self.value_rows += u64::from(value_place(head) == ValuePlace::OwnRow);
        if let Some(parent) = parent_of(path) {
            *self.live_children.entry(parent.to_owned()).or_default() += 1;
        }
        if let Some(session) = head.session {
            self.counters.ephemerals += 1;
            self.ephemerals.insert((session, path.to_owned()));
        }
        if head.lifetime.ages() {
            self.reaped.insert(path.to_owned());
        }
        *self.acls.entry(address(&head.acl)).or_default() += 1;
    }
}

/// Interned lists are the same exactly if they lie at the same place.
fn address(acl: &Acl) -> usize {
    acl.as_ptr() as usize
}

impl<S: KeyValueStore> ShardState<S> {
    /// Reads every row and says which invariant does not hold. Slow; for tests.
    pub fn check_invariants(&self) -> Result<(), String> {
        let heads = self.all_heads().map_err(|error| error.to_string())?;
        let mut census = Census::default();
        for (path, head) in &heads {
            census.count(path, head);
        }
        for (path, head) in &heads {
            self.check_record(path, head, &census)?;
        }
        if let Some(orphan) = census
            .live_children
            .keys()
            .find(|path| !heads.contains_key(*path))
        {
            return Err(format!("{orphan} has children but no record"));
        }
        equal("counters", &census.counters, &self.meta.counters)?;
        self.check_indexes(&census)?;
        self.check_sessions(&census)?;
        self.check_acls(&census)
    }

    pub(super) fn all_heads(&self) -> Result<BTreeMap<String, Head>, StateError> {
        let mut heads = BTreeMap::new();
        scan_rows(&self.store, keys::HEAD, |key, row| {
            let path = keys::path_of(key).ok_or(RowError::Malformed("head"))?;
            heads.insert(path.to_owned(), decode_head(row, |id| self.acls.get(id))?.0);
            Ok(())
        })?;
        Ok(heads)
    }

    fn check_record(&self, path: &str, head: &Head, census: &Census) -> Result<(), String> {
        let live = census.live_children.get(path).copied().unwrap_or(0);
        equal(
            &format!("live children of {path}"),
            &live,
            &head.children.live,
        )?;
        if let Some(cached) = self.records.cached(path) {
            equal(&format!("cached head of {path}"), &**cached, head)?;
        }
        let value = load_value(&self.store, path, head, value_place(head), &mut Vec::new())
            .map_err(|error| format!("{path}: {error}"))?;
        let bytes = value.map(|value| value.len() as u32);
        equal(
            &format!("value length of {path}"),
            &bytes,
            &head.value_bytes,
        )
    }

    fn check_indexes(&self, census: &Census) -> Result<(), String> {
        let mut ephemerals = BTreeSet::new();
        let mut reaped = BTreeSet::new();
        let mut value_rows = 0;
        let scan = |kind, visit: &mut dyn FnMut(&[u8])| {
            scan_rows(&self.store, kind, |key, _| {
                visit(key);
                Ok(())
            })
            .map_err(|error| error.to_string())
        };
        scan(keys::EPHEMERAL, &mut |key| {
            let row = keys::ephemeral_of(key).map(|(session, path)| (session, path.to_owned()));
            ephemerals.extend(row);
        })?;
        scan(keys::REAP, &mut |key| {
            reaped.extend(keys::reap_of(key).map(str::to_owned))
        })?;
        scan(keys::VALUE, &mut |_| value_rows += 1)?;
        equal("ephemeral index", &ephemerals, &census.ephemerals)?;
        equal("reap index", &reaped, &census.reaped)?;
        equal("value rows", &value_rows, &census.value_rows)
    }

    fn check_sessions(&self, census: &Census) -> Result<(), String> {
        let mut owned: BTreeMap<SessionId, u64> = BTreeMap::new();
        for (session, _) in &census.ephemerals {
            *owned.entry(*session).or_default() += 1;
        }
        for (id, session) in self.sessions.iter() {
            let expected = owned.remove(&id).unwrap_or(0);
            equal(
                &format!("ephemerals of {id}"),
                &session.ephemerals,
                &expected,
            )?;
        }
        match owned.first_key_value() {
            Some((session, _)) => Err(format!("{session} has ended but owns records")),
            None => Ok(()),
        }
    }

    fn check_acls(&self, census: &Census) -> Result<(), String> {
        let counted: BTreeMap<usize, u64> = self
            .acls
            .references()
            .map(|(acl, references)| (address(acl), references))
            .collect();
        equal("access list references", &counted, &census.acls)
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: found {found:?}, expected {expected:?}"))
}
