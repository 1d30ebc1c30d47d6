//! The values of rows: compact encodings, each beside its decoder.
//!
//! Persisted. A row of a kind that may change starts with a format byte; an unknown one is an
//! error. Varints are LEB128; signed numbers are zigzagged first.

mod codec;
mod head;
mod meta;
mod session;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub(crate) use codec::{Reader, put_acl, put_varint, read_acl};
pub(crate) use head::{ValuePlace, decode_head, encode_head, value_place};
pub(crate) use meta::{Counters, Meta};
pub(crate) use session::{Kept, SessionRow, decode_session, encode_session};

/// Why a row cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RowError {
    #[error("{row} row has format {format}, and this build reads {known}: {}", advice(*format, *known))]
    UnknownFormat {
        row: &'static str,
        format: u8,
        known: u8,
    },
    #[error("{0} row is malformed")]
    Malformed(&'static str),
    #[error("head row names access list {0}, which is not there")]
    UnknownAcl(u64),
}

fn advice(format: u8, known: u8) -> &'static str {
    if format < known {
        "only early builds wrote it, and none reads it any more; start with an empty data folder"
    } else {
        "run the version of the program that wrote it, or a later one"
    }
}

/// An access list's row: how many records have it, and the list.
pub(crate) fn encode_acl_row(out: &mut Vec<u8>, references: u64, acl: &[oxkeeper_model::AclEntry]) {
    out.push(ACL_FORMAT);
    put_varint(out, references);
    put_acl(out, acl);
}

pub(crate) fn decode_acl_row(row: &[u8]) -> Result<(u64, oxkeeper_model::Acl), RowError> {
    let mut reader = Reader::new("acl", row);
    reader.format(ACL_FORMAT)?;
    let references = reader.varint()?;
    let acl = read_acl(&mut reader)?;
    reader.end()?;
    Ok((references, acl))
}

const ACL_FORMAT: u8 = 1;
