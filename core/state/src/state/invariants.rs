//! The invariants of a shard's rows, as code that tests and the simulator call between entries.

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_model::{Acl, Head, SessionId, parent_of};
use rustc_hash::FxHashMap;

use super::{ShardState, StateError, load::scan_rows};
use crate::keys;
use crate::preparation::Preparation;
use crate::quota::Role;
use crate::records::{Found, load_value};
use crate::rows::{Counters, RowError, ValuePlace, value_place};
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
    /// Paths that have limits.
    limited: BTreeSet<String>,
    /// Records that went with their session and still have rows.
    dead: BTreeSet<(SessionId, String)>,
}

impl Census {
    /// A head that has rows, but is no record any more.
    fn bury(&mut self, path: &str, head: &Head) {
        self.value_rows += u64::from(value_place(head) == ValuePlace::OwnRow);
        *self.acls.entry(address(&head.acl)).or_default() += 1;
        let owner = head.session.unwrap_or_default();
        self.dead.insert((owner, path.to_owned()));
    }

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
        if let Role::Limits(limited) = Role::of(path) {
            self.limited.insert(limited.to_owned());
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
        let dead = self.dead_heads().map_err(|error| error.to_string())?;
        for (path, head) in &dead {
            census.bury(path, head);
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
        self.check_graves(&census)?;
        let limited = self.quotas.iter().map(|path| path.to_string()).collect();
        equal("limited paths", &limited, &census.limited)?;
        self.check_acls(&census)
    }

    pub(super) fn all_heads(&self) -> Result<BTreeMap<String, Head>, StateError> {
        self.heads_where(|found| match found {
            Found::Record(head) => Some(head),
            _ => None,
        })
    }

    fn dead_heads(&self) -> Result<BTreeMap<String, Head>, StateError> {
        self.heads_where(|found| match found {
            Found::Dead(head) => Some(head),
            _ => None,
        })
    }

    fn heads_where(
        &self,
        choose: impl Fn(Found) -> Option<Head>,
    ) -> Result<BTreeMap<String, Head>, StateError> {
        let (mut heads, mut path) = (BTreeMap::new(), String::new());
        scan_rows(&self.store, &[keys::HEAD], |key, row| {
            let path = keys::path_of(key, &mut path).ok_or(RowError::Malformed("head"))?;
            let head = choose(self.rows().decode(path, row)?);
            heads.extend(head.map(|head| (path.to_owned(), head)));
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
            scan_rows(&self.store, &[kind], |key, _| {
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
        let owned = census.ephemerals.union(&census.dead).cloned().collect();
        equal("ephemeral index", &ephemerals, &owned)?;
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
            equal(
                &format!("weight of {id}'s outcomes"),
                &session.is_weighed(),
                &true,
            )?;
        }
        match owned.first_key_value() {
            Some((session, _)) => Err(format!("{session} has ended but owns records")),
            None => Ok(()),
        }
    }

    fn check_graves(&self, census: &Census) -> Result<(), String> {
        let mut dead: BTreeMap<(SessionId, &str), u32> = BTreeMap::new();
        for (session, path) in &census.dead {
            let parent = parent_of(path).unwrap_or_default();
            *dead.entry((*session, parent)).or_default() += 1;
        }
        let mut left = BTreeMap::new();
        for grave in self.graves.iter() {
            if self.sessions.get(grave.session).is_some() {
                return Err(format!("{} lives and is buried", grave.session));
            }
            let rows = grave.all_left().filter(|(_, count)| *count > 0);
            left.extend(rows.map(|(parent, count)| ((grave.session, &**parent), count)));
        }
        equal("dead rows by parent", &left, &dead)?;
        for (session, preparation) in &self.preparations {
            self.check_preparation(*session, preparation, census)?;
        }
        Ok(())
    }

    /// What was gathered of a session's end is what it owns, as far as was looked.
    fn check_preparation(
        &self,
        session: SessionId,
        preparation: &Preparation,
        census: &Census,
    ) -> Result<(), String> {
        let owned = census
            .ephemerals
            .iter()
            .filter(|(owner, _)| *owner == session);
        let owned: BTreeSet<&str> = owned.map(|(_, path)| &**path).collect();
        let (end, data_bytes) = preparation.clone().finish();
        let mut gathered = Preparation::new(session);
        for (path, record) in &end.records {
            if !owned.contains(&**path) {
                return Err(format!("{path} is gathered and not owned by {session}"));
            }
            let parent = path.parent().unwrap_or_default();
            let heads = self
                .current(path)
                .ok()
                .flatten()
                .zip(self.current(parent).ok().flatten());
            let (head, parent) = heads.ok_or_else(|| format!("{path} or its parent is missing"))?;
            equal(&format!("gathered list of {path}"), &record.acl, &head.acl)?;
            gathered.add(path, &head, &parent.acl);
        }
        if preparation.is_complete() {
            equal(
                &format!("gathered of {session}"),
                &end.records.len(),
                &owned.len(),
            )?;
        }
        equal("a prepared end", &(end, data_bytes), &gathered.finish())
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
