//! Numbers of errors, equal wherever they are persisted or sent. Never renumber.

use oxkeeper_model::OpError;

/// Persisted: never renumber.
const ERRORS: [(u8, OpError); 11] = [
    (1, OpError::NoNode),
    (2, OpError::NoAuth),
    (3, OpError::BadVersion),
    (4, OpError::NoChildrenForEphemerals),
    (5, OpError::NodeExists),
    (6, OpError::NotEmpty),
    (7, OpError::InvalidAcl),
    (8, OpError::BadArguments),
    (9, OpError::Unimplemented),
    (10, OpError::ReconfigDisabled),
    (11, OpError::Garbled),
];

/// The number of an error wherever it is persisted: rows, log entries (`OpError` of log.proto), digests.
pub fn error_code(error: OpError) -> u8 {
    match error {
        OpError::NoNode => 1,
        OpError::NoAuth => 2,
        OpError::BadVersion => 3,
        OpError::NoChildrenForEphemerals => 4,
        OpError::NodeExists => 5,
        OpError::NotEmpty => 6,
        OpError::InvalidAcl => 7,
        OpError::BadArguments => 8,
        OpError::Unimplemented => 9,
        OpError::ReconfigDisabled => 10,
        OpError::Garbled => 11,
    }
}

pub fn error_of(code: u8) -> Option<OpError> {
    ERRORS
        .iter()
        .find(|(known, _)| *known == code)
        .map(|&(_, error)| error)
}
