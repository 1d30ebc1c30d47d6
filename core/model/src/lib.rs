//! The words of the core: ids, records, tree operations, outcomes and changes.
//!
//! Plain data that every room of the core and the proxies share. Nothing here
//! does I/O, reads a clock or knows ZooKeeper's wire format; the mapping from a
//! record to ZooKeeper's `Stat` is in the proxy, the mapping to rows and log
//! entries is in the store.
//!
//! Start at [`Command`] (what enters the log), [`ChangeSet`] (what comes out)
//! and [`Head`] (what a record is, without its value).

mod acl;
mod change;
mod command;
mod ids;
pub mod limits;
mod manifest;
mod outcome;
mod path;
pub mod placement;
mod query;
mod record;
mod session_end;
mod time;

pub use acl::{
    Acl, AclEntry, AddressRange, Identities, Identity, Permission, SUPER_SCHEME, permits,
};
pub use change::{Change, ChangeKind, ChangeSet, ChangedValue, Changes, Parents};
pub use command::{
    ClientCommand, Command, Create, Entry, Ops, SeedRecord, SessionPassword, SessionWrite, TreeOp,
};
pub use ids::{
    Attachment, ClusterUuid, Digest, FeatureLevel, NodeId, Nonce, NotAUuid, Offset, Position,
    Revision, SessionId, ShardId, ShardUuid, Term, WriteSeq,
};
pub use manifest::{ManifestError, NodeManifest};
pub use outcome::{
    CloseOutcome, CommandOutcome, OpError, OpResult, OpResults, Refusal, SessionError,
    SessionGrant, TxnOutcome, WriteOutcome, WriteRefusal,
};
pub use path::{Path, name_of, parent_of};
pub use query::{Answer, ChildNames, Fetched, Query};
pub use record::{Children, Head, Lifetime, NativeFields, Record, SharedHead};
pub use session_end::{EndedParent, EndedRecord, SessionEnd};
pub use time::Now;
