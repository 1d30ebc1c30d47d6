//! Newtypes for every id and counter, so that none is passed for another.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The value after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A shard of a namespace: one log, one store.
    ShardId(u32)
);
id!(
    /// A storage node of the cluster.
    NodeId(u32)
);
id!(
    /// An election period of a shard. At most one leader acts in a term.
    Term(u64)
);
id!(
    /// Position of an entry in a shard's log. The first entry has offset 1; 0 means "before the log".
    Offset(u64)
);
id!(
    /// Per-shard count of transactions, failed ones too; shown to ZooKeeper clients as the zxid.
    Revision(u64)
);
id!(
    /// How often a session was attached to a connection. A write that carries an older one is refused.
    Attachment(u64)
);
id!(
    /// Number of a write within one attachment, from 1 and growing.
    WriteSeq(u64)
);
id!(
    /// Which formats and commands every member of a shard knows. Raised by a log entry.
    FeatureLevel(u32)
);

/// Chosen by whoever opens or attaches a session, for one attempt and all re-sends of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub u64);

/// Checksum of a shard's history: of every logical change so far. Equal where histories are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u64);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A point in a shard's history. The digest tells it from the same revision of another history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    pub revision: Revision,
    /// After the command that took it; 0 before the first.
    pub digest: Digest,
}

/// A session: unique over the cluster and for ever, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
