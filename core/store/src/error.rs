//! What a store could not do.

use thiserror::Error;

/// An operation of the store failed. It changed nothing, and the store goes on working.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{action}: {reason}")]
pub struct StoreError {
    pub kind: StoreErrorKind,
    pub action: &'static str,
    /// Of damage: names the file and the place in it, if they are known.
    pub reason: String,
}

/// What the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The disk is full. The same flush may succeed once there is space.
    NoSpace,
    /// What the disk holds is not what was written. Only reads of these rows fail, each of them,
    /// until the data comes from elsewhere.
    Damaged,
    /// Anything else that the disk or the system refused.
    Io,
}

impl StoreError {
    /// Of kind [`StoreErrorKind::Io`].
    pub fn new(action: &'static str, reason: impl ToString) -> Self {
        Self::of(StoreErrorKind::Io, action, reason)
    }

    pub fn of(kind: StoreErrorKind, action: &'static str, reason: impl ToString) -> Self {
        Self {
            kind,
            action,
            reason: reason.to_string(),
        }
    }
}
