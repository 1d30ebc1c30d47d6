//! Where the highest term is kept that a replica has heard of.

use std::sync::Arc;

use oxkeeper_model::Term;
use parking_lot::Mutex;
use thiserror::Error;

/// The term could not be read or made durable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct TermError(pub String);

/// Keeps the highest term that a replica has heard of.
pub trait TermStore: Send + Sync + 'static {
    /// `Term(0)` if there was none.
    fn load(&self) -> Result<Term, TermError>;
    /// Durable when it returns. Blocks.
    fn save(&self, term: Term) -> Result<(), TermError>;
}

/// A term in memory, for tests and simulation. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryTerm(Arc<Mutex<Term>>);

impl TermStore for MemoryTerm {
    fn load(&self) -> Result<Term, TermError> {
        Ok(*self.0.lock())
    }

    fn save(&self, term: Term) -> Result<(), TermError> {
        *self.0.lock() = term;
        Ok(())
    }
}
