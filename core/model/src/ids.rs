//! Newtypes for every id and counter, so that none is passed for another.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

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

macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl FromStr for $name {
            type Err = NotAUuid;

            fn from_str(text: &str) -> Result<Self, NotAUuid> {
                let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                if text.len() != 32 || !text.bytes().all(is_hex) {
                    return Err(NotAUuid);
                }
                let number = u128::from_str_radix(text, 16).map_err(|_| NotAUuid)?;
                Ok(Self(number.to_be_bytes()))
            }
        }
    };
}

uuid!(
    /// A shard for ever, whatever its id and whoever holds it.
    ShardUuid
);
uuid!(
    /// A cluster for ever. Members of another are refused.
    ClusterUuid
);

/// Sixteen bytes are written as 32 small hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not 32 small hexadecimal digits")]
pub struct NotAUuid;

/// A session: unique over the cluster and for ever, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
