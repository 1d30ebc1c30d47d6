//! The time that ages are counted by never goes back.

use oxkeeper_sim::Violation;

use crate::truth::Truth;

pub(super) fn check(truth: &Truth) -> Result<(), Violation> {
    for pair in truth.states.windows(2) {
        let (before, after) = (pair[0].at, pair[1].at);
        if after.elapsed_ms < before.elapsed_ms {
            return Err(Violation::new(
                "elapsed time never goes back",
                format!(
                    "{} ms at zxid {:#x} after {} ms",
                    after.elapsed_ms, after.zxid, before.elapsed_ms
                ),
            ));
        }
    }
    Ok(())
}
