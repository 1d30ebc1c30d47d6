//! Numbers of errors, equal wherever they are persisted or sent. Never renumber; 7 and 9 to 11 were
//! refusals of the ZooKeeper front end once.

use oxkeeper_model::OpError;

/// Its own code follows.
const FRONT_END: u8 = 12;

/// The number of an error, and the front end's code if it is its refusal, else 0.
pub fn error_code(error: OpError) -> (u8, i32) {
    match error {
        OpError::NoNode => (1, 0),
        OpError::NoAuth => (2, 0),
        OpError::BadVersion => (3, 0),
        OpError::NoChildrenForEphemerals => (4, 0),
        OpError::NodeExists => (5, 0),
        OpError::NotEmpty => (6, 0),
        OpError::BadArguments => (8, 0),
        OpError::FrontEnd(code) => (FRONT_END, code),
    }
}

/// The error that [`error_code`] gave these numbers.
pub fn error_of(number: u8, code: i32) -> Option<OpError> {
    Some(match (number, code) {
        (1, 0) => OpError::NoNode,
        (2, 0) => OpError::NoAuth,
        (3, 0) => OpError::BadVersion,
        (4, 0) => OpError::NoChildrenForEphemerals,
        (5, 0) => OpError::NodeExists,
        (6, 0) => OpError::NotEmpty,
        (8, 0) => OpError::BadArguments,
        (FRONT_END, code) => OpError::FrontEnd(code),
        _ => return None,
    })
}
