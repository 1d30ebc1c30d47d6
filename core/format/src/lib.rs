//! Log entries as bytes: the format of `oxkeeper.log.v1`.
//!
//! [`encode`] is on the path of every write, so it writes the protobuf encoding straight from the
//! model's types, without building the generated ones first. [`decode`] goes through the generated
//! types. A test holds the two together: re-encoding what was decoded gives the same bytes.

mod codes;
mod decode;
mod encode;
mod out;
#[cfg(test)]
mod tests;
pub mod varint;

use thiserror::Error;

pub use codes::{error_code, error_of};
pub use decode::decode;
pub use encode::{ENTRY_HEADER_BYTES_MAX, encode, encoded_len};

/// Raised when a reader that does not know a change would apply an entry differently.
pub const FORMAT_VERSION: u32 = 2;

fn advice(version: u32) -> &'static str {
    if version < FORMAT_VERSION {
        "only early builds wrote it, and none reads it any more; start with an empty data folder"
    } else {
        "run the version of the program that wrote it, or a later one"
    }
}

/// Why bytes are not a log entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    #[error(
        "log entry has format version {0}, and this build reads {FORMAT_VERSION}: {advice}",
        advice = advice(*.0)
    )]
    UnknownVersion(u32),
    #[error("log entry is malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    #[error("log entry is malformed: {0}")]
    Invalid(&'static str),
}
