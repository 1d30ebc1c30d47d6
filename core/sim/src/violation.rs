//! What a checker says when a promise was broken.

use std::fmt;

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The checker that found it; one per property.
    pub property: &'static str,
    pub what: String,
}

impl Violation {
    pub fn new(property: &'static str, what: impl Into<String>) -> Self {
        Self {
            property,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}
