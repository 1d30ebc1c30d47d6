//! Heads: about 30 bytes for a usual record, since revisions and times are kept as distances.
//!
//! A small value of a record that never had a child follows its head in the same row: most records
//! are such leaves, and one row costs half of two. A record that had a child has its value in a row
//! of its own, since its head is rewritten with every child that comes or goes.

use oxkeeper_model::{Acl, Children, Head, Lifetime, NativeFields, Revision, SessionId};

use super::RowError;
use super::codec::{Reader, put_bytes, put_signed, put_varint};

const HEAD_FORMAT: u8 = 2;

const LIFETIME_BITS: u8 = 0b11;
const HAS_SESSION: u8 = 1 << 2;
const HAS_NATIVE: u8 = 1 << 3;

/// Longest value that is kept with its head. Part of the format.
const INLINE_VALUE_BYTES_MAX: u32 = 256;

/// Where the store keeps a record's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValuePlace {
    /// Null or empty: the head says it all.
    Nowhere,
    AfterHead,
    OwnRow,
}

pub(crate) fn value_place(head: &Head) -> ValuePlace {
    match head.value_bytes {
        None | Some(0) => ValuePlace::Nowhere,
        Some(..=INLINE_VALUE_BYTES_MAX) if head.children.created_ever == 0 => ValuePlace::AfterHead,
        Some(_) => ValuePlace::OwnRow,
    }
}

/// Appends the head's row, to which the caller appends the value if that is its place; the access
/// list is in it by its number.
pub(crate) fn encode_head(out: &mut Vec<u8>, head: &Head, acl_id: u64) {
    let (lifetime, ttl_ms) = match head.lifetime {
        Lifetime::Persistent => (0, None),
        Lifetime::Ephemeral => (1, None),
        Lifetime::Container => (2, None),
        Lifetime::Ttl { ttl_ms } => (3, Some(ttl_ms)),
    };
    let mut flags = lifetime;
    if head.session.is_some() {
        flags |= HAS_SESSION;
    }
    if head.native.is_some() {
        flags |= HAS_NATIVE;
    }
    out.push(HEAD_FORMAT);
    out.push(flags);
    put_varint(out, acl_id);
    put_varint(out, head.created_revision.0);
    put_distance(out, head.created_revision, head.modified_revision);
    put_signed(out, head.created_at_ms);
    put_signed(out, head.modified_at_ms.wrapping_sub(head.created_at_ms));
    put_signed(out, i64::from(head.modifications_count));
    put_varint(out, head.version_id);
    put_signed(out, i64::from(head.acl_version));
    put_varint(out, u64::from(head.children.live));
    put_varint(out, head.children.created_ever);
    put_distance(out, head.created_revision, head.children.last_change);
    put_varint(
        out,
        head.value_bytes.map_or(0, |bytes| u64::from(bytes) + 1),
    );
    if let Some(session) = head.session {
        out.extend_from_slice(&session.0.to_be_bytes());
    }
    if let Some(ttl_ms) = ttl_ms {
        put_varint(out, ttl_ms);
    }
    if head.lifetime.ages() {
        put_varint(out, head.idle_since_ms);
    }
    if let Some(native) = &head.native {
        put_native(out, native);
    }
}

/// Reads a head, and the value after it if that is its place; `acl` gives the list of a number.
pub(crate) fn decode_head(
    row: &[u8],
    acl: impl FnOnce(u64) -> Option<Acl>,
) -> Result<(Head, &[u8]), RowError> {
    let mut reader = Reader::new("head", row);
    let head = read_head(&mut reader, acl)?;
    let value = match value_place(&head) {
        ValuePlace::AfterHead => reader.take(head.value_bytes.unwrap_or(0) as usize)?,
        _ => &[],
    };
    reader.end()?;
    Ok((head, value))
}

/// Reads a head in the middle of another row.
pub(super) fn read_head(
    reader: &mut Reader<'_>,
    acl: impl FnOnce(u64) -> Option<Acl>,
) -> Result<Head, RowError> {
    reader.format(HEAD_FORMAT)?;
    let flags = reader.byte()?;
    if flags & !(LIFETIME_BITS | HAS_SESSION | HAS_NATIVE) != 0 {
        return Err(reader.malformed());
    }
    let acl_id = reader.varint()?;
    let created_revision = Revision(reader.varint()?);
    let modified_revision = read_distance(reader, created_revision)?;
    let created_at_ms = reader.signed()?;
    let modified_at_ms = created_at_ms.wrapping_add(reader.signed()?);
    let modifications_count = reader.signed_i32()?;
    let version_id = reader.varint()?;
    let acl_version = reader.signed_i32()?;
    let live = reader.varint_u32()?;
    let created_ever = reader.varint()?;
    let last_change = read_distance(reader, created_revision)?;
    let value_bytes = match reader.varint()?.checked_sub(1) {
        None => None,
        Some(bytes) => Some(u32::try_from(bytes).map_err(|_| reader.malformed())?),
    };
    let session = match flags & HAS_SESSION {
        0 => None,
        _ => Some(SessionId(i64::from_be_bytes(reader.array()?))),
    };
    let lifetime = match flags & LIFETIME_BITS {
        0 => Lifetime::Persistent,
        1 => Lifetime::Ephemeral,
        2 => Lifetime::Container,
        _ => Lifetime::Ttl {
            ttl_ms: reader.varint()?,
        },
    };
    let idle_since_ms = match lifetime.ages() {
        true => reader.varint()?,
        false => 0,
    };
    let native = match flags & HAS_NATIVE {
        0 => None,
        _ => Some(Box::new(read_native(reader)?)),
    };
    Ok(Head {
        created_revision,
        modified_revision,
        created_at_ms,
        modified_at_ms,
        modifications_count,
        version_id,
        acl: acl(acl_id).ok_or(RowError::UnknownAcl(acl_id))?,
        acl_version,
        session,
        children: Children {
            live,
            created_ever,
            last_change,
        },
        lifetime,
        idle_since_ms,
        value_bytes,
        native,
    })
}

fn put_distance(out: &mut Vec<u8>, from: Revision, to: Revision) {
    put_signed(out, to.0.wrapping_sub(from.0) as i64);
}

fn read_distance(reader: &mut Reader<'_>, from: Revision) -> Result<Revision, RowError> {
    Ok(Revision(from.0.wrapping_add(reader.signed()? as u64)))
}

fn put_native(out: &mut Vec<u8>, native: &NativeFields) {
    for text in [&native.client_identity, &native.partition_key] {
        out.push(u8::from(text.is_some()));
        if let Some(text) = text {
            put_bytes(out, text.as_bytes());
        }
    }
    put_varint(out, native.secondary_indexes.len() as u64);
    for (name, key) in &native.secondary_indexes {
        put_bytes(out, name.as_bytes());
        put_bytes(out, key.as_bytes());
    }
}

fn read_native(reader: &mut Reader<'_>) -> Result<NativeFields, RowError> {
    let client_identity = read_optional_text(reader)?;
    let partition_key = read_optional_text(reader)?;
    let count = reader.varint()?;
    let mut secondary_indexes = Vec::new();
    for _ in 0..count {
        secondary_indexes.push((reader.text()?.into(), reader.text()?.into()));
    }
    Ok(NativeFields {
        client_identity,
        partition_key,
        secondary_indexes,
    })
}

fn read_optional_text(reader: &mut Reader<'_>) -> Result<Option<Box<str>>, RowError> {
    match reader.byte()? {
        0 => Ok(None),
        1 => Ok(Some(reader.text()?.into())),
        _ => Err(reader.malformed()),
    }
}
