//! RocksDB's errors as the store's.

use oxkeeper_store::{StoreError, StoreErrorKind};
use rocksdb::{Error, ErrorKind};

/// Of a read: whatever it was, the row cannot be had. The message names the file.
pub(crate) fn read_failed(action: &'static str) -> impl Fn(Error) -> StoreError {
    move |error| StoreError::of(StoreErrorKind::Damaged, action, error)
}

pub(crate) fn write_failed(action: &'static str) -> impl Fn(Error) -> StoreError {
    move |error| {
        let kind = match error.kind() {
            ErrorKind::Corruption => StoreErrorKind::Damaged,
            _ if is_no_space(error.as_ref()) => StoreErrorKind::NoSpace,
            _ => StoreErrorKind::Io,
        };
        StoreError::of(kind, action, error)
    }
}

/// RocksDB passes its subcode and the system's words on in the message only.
fn is_no_space(message: &str) -> bool {
    [
        "No space left on device",
        "Disk quota exceeded",
        "Space limit reached",
    ]
    .iter()
    .any(|words| message.contains(words))
}

pub(crate) fn io_failed(action: &'static str) -> impl Fn(std::io::Error) -> StoreError {
    move |error| {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                StoreErrorKind::NoSpace
            }
            _ => StoreErrorKind::Io,
        };
        StoreError::of(kind, action, error)
    }
}
