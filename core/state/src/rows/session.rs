//! Sessions, with the outcomes that their proxies have not acknowledged yet.

use bytes::Bytes;
use oxkeeper_model::{
    Attachment, Head, Nonce, OpResult, OpResults, Path, Revision, SharedHead, TxnOutcome, WriteSeq,
};

use super::RowError;
use oxkeeper_format::{error_code, error_of};

use super::codec::{Reader, put_acl, put_bytes, put_signed, put_varint, read_acl};
use super::head::{encode_head, read_head};

const SESSION_FORMAT: u8 = 2;

/// A session as it is stored. The numbers of its kept outcomes grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRow<O> {
    pub(crate) attachment: Attachment,
    /// Of the open or attach that made this attachment.
    pub(crate) nonce: Nonce,
    pub(crate) timeout_ms: u32,
    pub(crate) last_seq: WriteSeq,
    pub(crate) ephemerals: u64,
    pub(crate) outcomes: O,
}

/// The outcome of a write that its proxy has not acknowledged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) seq: WriteSeq,
    pub(crate) revision: Revision,
    pub(crate) outcome: TxnOutcome,
}

pub(crate) fn encode_session<'a>(
    out: &mut Vec<u8>,
    session: &SessionRow<impl ExactSizeIterator<Item = &'a Kept> + Clone>,
) {
    out.push(SESSION_FORMAT);
    put_varint(out, session.attachment.0);
    out.extend_from_slice(&session.nonce.0.to_be_bytes());
    put_varint(out, u64::from(session.timeout_ms));
    put_varint(out, session.last_seq.0);
    put_varint(out, session.ephemerals);
    put_varint(out, session.outcomes.len() as u64);
    for kept in session.outcomes.clone() {
        put_varint(out, kept.seq.0);
        put_varint(out, kept.revision.0);
        put_outcome(out, &kept.outcome);
    }
}

pub(crate) fn decode_session(row: &[u8]) -> Result<SessionRow<Vec<Kept>>, RowError> {
    let mut reader = Reader::new("session", row);
    reader.format(SESSION_FORMAT)?;
    let mut session = SessionRow {
        attachment: Attachment(reader.varint()?),
        nonce: Nonce(u64::from_be_bytes(reader.array()?)),
        timeout_ms: reader.varint_u32()?,
        last_seq: WriteSeq(reader.varint()?),
        ephemerals: reader.varint()?,
        outcomes: Vec::new(),
    };
    for _ in 0..reader.varint()? {
        session.outcomes.push(Kept {
            seq: WriteSeq(reader.varint()?),
            revision: Revision(reader.varint()?),
            outcome: read_outcome(&mut reader)?,
        });
    }
    reader.end()?;
    Ok(session)
}

const APPLIED: u8 = 1;
const FAILED: u8 = 2;

fn put_outcome(out: &mut Vec<u8>, outcome: &TxnOutcome) {
    match outcome {
        TxnOutcome::Applied(results) => {
            out.push(APPLIED);
            put_varint(out, results.len() as u64);
            for result in results {
                put_result(out, result);
            }
        }
        TxnOutcome::Failed { index, error } => {
            out.push(FAILED);
            put_varint(out, u64::from(*index));
            let (number, code) = error_code(*error);
            out.push(number);
            put_signed(out, i64::from(code));
        }
    }
}

fn read_outcome(reader: &mut Reader<'_>) -> Result<TxnOutcome, RowError> {
    match reader.byte()? {
        APPLIED => {
            let count = reader.varint()?;
            let mut results = OpResults::new();
            for _ in 0..count {
                results.push(read_result(reader)?);
            }
            Ok(TxnOutcome::Applied(results))
        }
        FAILED => {
            let index = reader.varint_u32()?;
            let (number, code) = (reader.byte()?, reader.signed_i32()?);
            let error = error_of(number, code).ok_or(reader.malformed())?;
            Ok(TxnOutcome::Failed { index, error })
        }
        _ => Err(reader.malformed()),
    }
}

const CREATED: u8 = 1;
const VALUE_SET: u8 = 2;
const ACL_SET: u8 = 3;
const DELETED: u8 = 4;
const CHECKED: u8 = 5;
const GOT: u8 = 6;

fn put_result(out: &mut Vec<u8>, result: &OpResult) {
    match result {
        OpResult::Created { path, head } => {
            out.push(CREATED);
            put_bytes(out, path.as_bytes());
            put_head(out, head);
        }
        OpResult::ValueSet { head } => {
            out.push(VALUE_SET);
            put_head(out, head);
        }
        OpResult::AclSet { head } => {
            out.push(ACL_SET);
            put_head(out, head);
        }
        OpResult::Deleted => out.push(DELETED),
        OpResult::Checked => out.push(CHECKED),
        OpResult::Got { head, value } => {
            out.push(GOT);
            put_head(out, head);
            out.push(u8::from(value.is_some()));
            put_bytes(out, value.as_deref().unwrap_or_default());
        }
    }
}

fn read_result(reader: &mut Reader<'_>) -> Result<OpResult, RowError> {
    Ok(match reader.byte()? {
        CREATED => {
            let path = Path::from(reader.text()?);
            OpResult::Created {
                path,
                head: read_outcome_head(reader)?,
            }
        }
        VALUE_SET => OpResult::ValueSet {
            head: read_outcome_head(reader)?,
        },
        ACL_SET => OpResult::AclSet {
            head: read_outcome_head(reader)?,
        },
        DELETED => OpResult::Deleted,
        CHECKED => OpResult::Checked,
        GOT => {
            let head = read_outcome_head(reader)?;
            let is_some = reader.byte()? != 0;
            let value = reader.bytes()?;
            OpResult::Got {
                head,
                value: is_some.then(|| Bytes::copy_from_slice(value)),
            }
        }
        _ => return Err(reader.malformed()),
    })
}

/// With the whole access list: the numbered one may be forgotten before the outcome is.
fn put_head(out: &mut Vec<u8>, head: &Head) {
    put_acl(out, &head.acl);
    encode_head(out, head, 0);
}

fn read_outcome_head(reader: &mut Reader<'_>) -> Result<SharedHead, RowError> {
    let acl = read_acl(reader)?;
    Ok(read_head(reader, |_| Some(acl))?.into())
}
