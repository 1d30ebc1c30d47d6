//! What a shard is as of its applied offset, in one row.

use oxkeeper_model::{Digest, FeatureLevel, Offset, Revision, ShardUuid, Term};

use super::RowError;
use super::codec::{Reader, put_signed, put_varint};

const META_FORMAT: u8 = 2;

/// What the administrator's counters show; kept with every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) records: u64,
    pub(crate) ephemerals: u64,
    /// Lengths of all paths and values.
    pub(crate) data_bytes: u64,
}

impl Counters {
    pub(crate) fn add(&mut self, more: Self) {
        self.records += more.records;
        self.ephemerals += more.ephemerals;
        self.data_bytes += more.data_bytes;
    }

    /// `None`, and nothing changes, if there is not so much.
    pub(crate) fn take(&mut self, less: Self) -> Option<()> {
        *self = Self {
            records: self.records.checked_sub(less.records)?,
            ephemerals: self.ephemerals.checked_sub(less.ephemerals)?,
            data_bytes: self.data_bytes.checked_sub(less.data_bytes)?,
        };
        Some(())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Whose store this is.
    pub(crate) shard: ShardUuid,
    /// The last entry that was applied; the next one must follow it.
    pub(crate) applied: Offset,
    /// The term of that entry.
    pub(crate) term: Term,
    /// What may be used in entries after it.
    pub(crate) feature_level: FeatureLevel,
    pub(crate) revision: Revision,
    /// Of the last entry; may go back.
    pub(crate) wall_ms: i64,
    /// Of the last entry. Never goes back.
    pub(crate) elapsed_ms: u64,
    /// Sessions that were opened so far.
    pub(crate) sessions_ever: u64,
    /// Puts so far.
    pub(crate) puts: u64,
    pub(crate) next_acl_id: u64,
    /// Chained over all commands.
    pub(crate) digest: Digest,
    /// What it was after the command that took `revision`; later ones may have taken none.
    pub(crate) revision_digest: Digest,
    pub(crate) counters: Counters,
    /// Keys the session passwords; there from genesis on.
    pub(crate) secret: Option<[u8; 32]>,
}

impl Meta {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(META_FORMAT);
        out.extend_from_slice(&self.shard.0);
        put_varint(out, self.applied.0);
        put_varint(out, self.term.0);
        put_varint(out, u64::from(self.feature_level.0));
        put_varint(out, self.revision.0);
        put_signed(out, self.wall_ms);
        put_varint(out, self.elapsed_ms);
        put_varint(out, self.sessions_ever);
        put_varint(out, self.puts);
        put_varint(out, self.next_acl_id);
        out.extend_from_slice(&self.digest.0.to_be_bytes());
        out.extend_from_slice(&self.revision_digest.0.to_be_bytes());
        put_varint(out, self.counters.records);
        put_varint(out, self.counters.ephemerals);
        put_varint(out, self.counters.data_bytes);
        out.push(u8::from(self.secret.is_some()));
        if let Some(secret) = &self.secret {
            out.extend_from_slice(secret);
        }
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let mut reader = Reader::new("meta", row);
        reader.format(META_FORMAT)?;
        let meta = Self {
            shard: ShardUuid(reader.array()?),
            applied: Offset(reader.varint()?),
            term: Term(reader.varint()?),
            feature_level: FeatureLevel(reader.varint_u32()?),
            revision: Revision(reader.varint()?),
            wall_ms: reader.signed()?,
            elapsed_ms: reader.varint()?,
            sessions_ever: reader.varint()?,
            puts: reader.varint()?,
            next_acl_id: reader.varint()?,
            digest: Digest(u64::from_be_bytes(reader.array()?)),
            revision_digest: Digest(u64::from_be_bytes(reader.array()?)),
            counters: Counters {
                records: reader.varint()?,
                ephemerals: reader.varint()?,
                data_bytes: reader.varint()?,
            },
            secret: match reader.byte()? {
                0 => None,
                1 => Some(reader.array()?),
                _ => return Err(reader.malformed()),
            },
        };
        reader.end()?;
        Ok(meta)
    }
}
