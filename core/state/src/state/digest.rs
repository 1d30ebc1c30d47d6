//! The digest of everything that was applied.
//!
//! It takes in the rows an entry writes and what its commands answered, so that replicas that
//! differ in a record, a session or an outcome differ in it.

use oxkeeper_model::{CloseOutcome, CommandOutcome, SessionGrant, WriteOutcome, WriteRefusal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Applied;
use oxkeeper_format::error_code;

/// The digest after an entry, from the one before it.
pub(super) fn chain(before: u64, rows: &[u8], outcomes: &[u8]) -> u64 {
    xxh3_64_with_seed(outcomes, xxh3_64_with_seed(rows, before))
}

/// Appends what a command did. The rows say the rest.
pub(super) fn feed(out: &mut Vec<u8>, applied: &Applied) {
    let numbers: [u64; 4] = match &applied.outcome {
        CommandOutcome::None => [1, 0, 0, 0],
        CommandOutcome::Written(outcome) => written(outcome),
        CommandOutcome::SessionGranted(Ok(grant)) => {
            let SessionGrant {
                session,
                attachment,
                timeout_ms,
                ..
            } = grant;
            [3, session.0 as u64, attachment.0, u64::from(*timeout_ms)]
        }
        CommandOutcome::SessionGranted(Err(error)) => [4, *error as u64, 0, 0],
        CommandOutcome::SessionClosed(session, CloseOutcome { revision, result }) => {
            [5, session.0 as u64, revision.0, refusal(result.err())]
        }
        CommandOutcome::SessionExpired(session, ended) => {
            [6, session.0 as u64, u64::from(*ended), 0]
        }
        CommandOutcome::Reaped(deleted) => [7, u64::from(*deleted), 0, 0],
    };
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn written(outcome: &WriteOutcome) -> [u64; 4] {
    use oxkeeper_model::TxnOutcome::{Applied, Failed};
    let result = match &outcome.result {
        Ok(Applied(_)) => 1,
        Ok(Failed { index, error }) => {
            let (number, code) = error_code(*error);
            let error = u64::from(number) << 8 | u64::from(code as u32) << 32;
            (2 | error) ^ u64::from(*index).rotate_right(16)
        }
        Err(error) => 3 | refusal(Some(*error)) << 8,
    };
    [
        2 | outcome.revision.0 << 8,
        outcome.session.0 as u64,
        outcome.seq.0,
        result,
    ]
}

fn refusal(refusal: Option<WriteRefusal>) -> u64 {
    match refusal {
        None => 0,
        Some(WriteRefusal::SessionExpired) => 1,
        Some(WriteRefusal::SessionMoved) => 2,
        Some(WriteRefusal::OutOfSequence { .. }) => 3,
    }
}
