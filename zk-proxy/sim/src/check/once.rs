//! Every request takes effect once and in turn: the log holds no effect that nobody asked for, or asked
//! for once less, and none without those that its session asked for before it.

use oxkeeper_sim::Violation;

use crate::history::History;
use crate::truth::Truth;

const PROPERTY: &str = "every request takes effect once";

pub(super) fn check(history: &History, truth: &Truth) -> Result<(), Violation> {
    // What a full disk refused has no effect, and its client may never have been told so.
    let passed_over = truth.passed_over.iter().find(|(id, index)| {
        let sent_us = history.connections[*id].sent[*index].at_us;
        history
            .full_us
            .iter()
            .all(|(_, until_us)| *until_us < sent_us)
    });
    if let Some((id, index)) = passed_over {
        let sent = &history.connections[*id].sent[*index];
        let what = format!(
            "connection {id}: what was sent behind xid {} took effect, and it did not: {:?}",
            sent.xid, sent.op
        );
        return Err(Violation::new(PROPERTY, what));
    }
    match truth.unclaimed.first() {
        None => Ok(()),
        Some((zxid, what)) => Err(Violation::new(
            PROPERTY,
            format!("at zxid {zxid:#x} there is one too many: {what}"),
        )),
    }
}
