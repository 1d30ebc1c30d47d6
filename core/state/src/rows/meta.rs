//! What a shard is as of its applied offset, in one row.

use oxkeeper_model::{Offset, Revision};

use super::RowError;
use super::codec::{Reader, put_signed, put_varint};

const META_FORMAT: u8 = 1;

/// What the administrator's counters show; kept with every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) records: u64,
    pub(crate) ephemerals: u64,
    /// Lengths of all paths and values.
    pub(crate) data_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The last entry that was applied; the next one must follow it.
    pub(crate) applied: Offset,
    pub(crate) revision: Revision,
    /// Never goes back.
    pub(crate) log_time_ms: i64,
    /// Low 56 bits of the last session id that was given out.
    pub(crate) last_session: u64,
    /// Puts so far.
    pub(crate) puts: u64,
    pub(crate) next_acl_id: u32,
    /// Chained over all entries.
    pub(crate) digest: u64,
    pub(crate) counters: Counters,
    /// Keys the session passwords; there from genesis on.
    pub(crate) secret: Option<[u8; 32]>,
}

impl Meta {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(META_FORMAT);
        put_varint(out, self.applied.0);
        put_varint(out, self.revision.0);
        put_signed(out, self.log_time_ms);
        put_varint(out, self.last_session);
        put_varint(out, self.puts);
        put_varint(out, u64::from(self.next_acl_id));
        out.extend_from_slice(&self.digest.to_be_bytes());
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
            applied: Offset(reader.varint()?),
            revision: Revision(reader.varint()?),
            log_time_ms: reader.signed()?,
            last_session: reader.varint()?,
            puts: reader.varint()?,
            next_acl_id: reader.varint_u32()?,
            digest: u64::from_be_bytes(reader.array()?),
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
