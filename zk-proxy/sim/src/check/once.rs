//! Every request takes effect once: the log holds no effect that nobody asked for, or asked for once less.

use oxkeeper_sim::Violation;

use crate::truth::Truth;

pub(super) fn check(truth: &Truth) -> Result<(), Violation> {
    match truth.unclaimed.first() {
        None => Ok(()),
        Some((zxid, what)) => Err(Violation::new(
            "every request takes effect once",
            format!("at zxid {zxid:#x} there is one too many: {what}"),
        )),
    }
}
