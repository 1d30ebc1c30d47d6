//! A record: its head (everything a `Stat` shows, and the access list) and its value.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Acl, Revision, SessionId};

/// Counters of a record's direct children, moved in the same apply as the child itself.
///
/// ZooKeeper's `cversion` is `2 * created_ever - live`, so a delete needs no counter of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Children {
    /// Children there are now.
    pub live: u32,
    /// Creates of a child so far; the next sequential suffix. Never goes back.
    pub created_ever: u64,
    /// Revision of the last create or delete of a child; the record's own creation before that.
    pub last_change: Revision,
}

/// When a record goes away by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    #[default]
    Persistent,
    /// With the session that owns it. May have no children.
    Ephemeral,
    /// Some time after its last child has gone.
    Container,
    /// When it has had no children and no write for this long.
    Ttl { ttl_ms: u64 },
}

impl Lifetime {
    /// Whether time deletes records of this lifetime.
    pub fn ages(self) -> bool {
        matches!(self, Self::Container | Self::Ttl { .. })
    }
}

/// Fields that only native (Oxia) records use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeFields {
    pub client_identity: Option<Box<str>>,
    pub partition_key: Option<Box<str>>,
    /// (index name, secondary key), in the order they were given.
    pub secondary_indexes: Vec<(Box<str>, Box<str>)>,
}

/// A head as it was at some revision; whoever keeps it shares it.
pub type SharedHead = Arc<Head>;

/// Everything about a record but its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub created_revision: Revision,
    /// Revision of the last write of the value.
    pub modified_revision: Revision,
    /// Wall clock of the entry, milliseconds since the epoch.
    pub created_at_ms: i64,
    pub modified_at_ms: i64,
    /// Writes of the value since creation, as ZooKeeper counts them: 32 bits that skip −1 on overflow.
    pub modifications_count: i32,
    /// Puts of the shard before the last write of this record, so the first ever has 0; Oxia's version id.
    pub version_id: u64,
    pub acl: Acl,
    pub acl_version: i32,
    /// The owner, for ephemeral records.
    pub session: Option<SessionId>,
    pub children: Children,
    pub lifetime: Lifetime,
    /// Elapsed time of the last write of the value, of records that age (see
    /// [`Lifetime::ages`]); of others 0. Milliseconds.
    pub idle_since_ms: u64,
    /// Length of the value; `None` where the value is null, which is not the empty value.
    pub value_bytes: Option<u32>,
    pub native: Option<Box<NativeFields>>,
}

impl Head {
    /// A persistent record without children, whose value is null and was never written again.
    pub fn new(created: Revision, at_ms: i64, acl: Acl) -> Self {
        Self {
            created_revision: created,
            modified_revision: created,
            created_at_ms: at_ms,
            modified_at_ms: at_ms,
            modifications_count: 0,
            version_id: 0,
            acl,
            acl_version: 0,
            session: None,
            children: Children {
                live: 0,
                created_ever: 0,
                last_change: created,
            },
            lifetime: Lifetime::Persistent,
            idle_since_ms: 0,
            value_bytes: None,
            native: None,
        }
    }
}

/// A head with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub head: Head,
    pub value: Option<Bytes>,
}
