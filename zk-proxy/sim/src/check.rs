//! The checkers: one property each. They know the history and what must be true, nothing else.

mod durability;
mod ephemerals;
mod liveness;
mod once;
mod order;
mod reads;
mod replies;
mod sequence;
mod sessions;
#[cfg(test)]
mod tests;
mod time;
mod watches;

use oxkeeper_sim::Violation;

use crate::history::{Connection, History};
use crate::model::Caller;
use crate::truth::Truth;

pub use ephemerals::Contacts;
pub use liveness::Ending;

/// The first promise that was broken, in the order of what explains most.
pub fn check(history: &History, truth: &Truth) -> Result<(), Violation> {
    time::check(truth)?;
    once::check(history, truth)?;
    durability::check(history, truth)?;
    sessions::check(history)?;
    order::check(history)?;
    replies::check(history, truth)?;
    reads::check(history, truth)?;
    sequence::check(history, truth)?;
    watches::check(history, truth)
}

/// Who a connection is to the server when it sends the request at `index`.
fn caller(connection: &Connection, index: usize) -> Caller {
    let mut caller = Caller {
        session: connection.session().unwrap_or_default(),
        ..Caller::default()
    };
    for credentials in connection.credentials(index) {
        caller.authenticate(credentials);
    }
    caller
}
