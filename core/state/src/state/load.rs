//! What is kept in memory, read from the rows of a store.

use std::ops::ControlFlow;

use oxkeeper_model::{Offset, Path, Revision, ShardUuid};

use super::StateError;
use crate::acls::AclTable;
use crate::graves::{Grave, Graves};
use crate::hash::HashKey;
use crate::keys;
use crate::quota::{QUOTA_ROOT, Quotas, Role};
use crate::records::Rows;
use crate::rows::{self, Meta, RowError};
use oxkeeper_store::{KeyRange, RowReader, get_vec};

/// What the shard is as of its applied offset.
pub(super) fn stored_meta(store: &impl RowReader) -> Result<Option<Meta>, StateError> {
    let row = get_vec(store, &[keys::META])?;
    Ok(row.map(|row| Meta::decode(&row)).transpose()?)
}

/// The same, if the store is that of `shard` and exactly at a checkpoint. An empty one is a new shard's.
pub(super) fn meta(store: &impl RowReader, shard: ShardUuid) -> Result<Meta, StateError> {
    let meta = stored_meta(store)?.unwrap_or(Meta {
        shard,
        ..Meta::default()
    });
    if meta.shard != shard {
        return Err(StateError::OtherShard {
            found: meta.shard,
            expected: shard,
        });
    }
    let checkpoint = match get_vec(store, &[keys::CHECKPOINT])? {
        Some(row) => {
            let row = row
                .try_into()
                .map_err(|_| RowError::Malformed("checkpoint"))?;
            Offset(u64::from_be_bytes(row))
        }
        None => Offset(0),
    };
    if meta.applied != checkpoint {
        return Err(StateError::NotAtCheckpoint {
            applied: meta.applied,
            checkpoint,
        });
    }
    Ok(meta)
}

/// Visits all rows with a prefix until one fails.
pub(super) fn scan_rows(
    store: &impl RowReader,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let mut result = Ok(());
    store.scan(&KeyRange::prefix(prefix), &mut |key, row| {
        result = visit(key, row);
        if result.is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    result
}

pub(super) fn acls(store: &impl RowReader, hash_key: HashKey) -> Result<AclTable, StateError> {
    let mut acls = AclTable::new(hash_key);
    scan_rows(store, &[keys::ACL], |key, row| {
        let id = keys::acl_of(key).ok_or(RowError::Malformed("acl"))?;
        let (references, acl) = rows::decode_acl_row(row)?;
        acls.restore(id, acl, references);
        Ok(())
    })?;
    Ok(acls)
}

/// In the order of the sessions' ends.
pub(super) fn graves(store: &impl RowReader) -> Result<Graves, StateError> {
    let mut ended = Vec::new();
    scan_rows(store, &[keys::GRAVE], |key, row| {
        let session = keys::session_of(key).ok_or(RowError::Malformed("grave"))?;
        let revision = row.try_into().map_err(|_| RowError::Malformed("grave"))?;
        ended.push((Revision(u64::from_be_bytes(revision)), session));
        Ok(())
    })?;
    ended.sort_unstable();
    let mut graves = Graves::default();
    for (revision, session) in ended {
        let (mut prefix, mut dead) = (Vec::new(), Vec::new());
        keys::ephemeral(&mut prefix, session, "");
        scan_rows(store, &prefix, |key, _| {
            let (_, path) = keys::ephemeral_of(key).ok_or(RowError::Malformed("ephemeral"))?;
            dead.push(Path::from(path));
            Ok(())
        })?;
        graves.push(Grave::restore(session, revision, &dead));
    }
    Ok(graves)
}

/// The paths that have limits.
pub(super) fn quotas(rows: Rows<'_, impl RowReader>) -> Result<Quotas, StateError> {
    let mut quotas = Quotas::default();
    let is_limits = |path: &str| matches!(Role::of(path), Role::Limits(_));
    rows.each_below(QUOTA_ROOT, is_limits, |path, _| {
        if let Role::Limits(limited) = Role::of(path) {
            quotas.insert(limited);
        }
    })?;
    Ok(quotas)
}
