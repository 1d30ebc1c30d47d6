//! The replies to writes are those of the model, field by field.

use oxkeeper_sim::Violation;
use oxkeeper_wire::ErrorCode;

use crate::history::{History, Incoming};
use crate::op::Op;
use crate::truth::Truth;

pub(super) fn check(history: &History, truth: &Truth) -> Result<(), Violation> {
    let wrong = |what: String| Err(Violation::new("replies to writes are the model's", what));
    for (id, connection) in history.connections.iter().enumerate() {
        for received in &connection.received {
            let Incoming::Reply { request, reply } = &received.what else {
                continue;
            };
            let sent = &connection.sent[*request];
            if !sent.op.is_write() {
                continue;
            }
            if reply.err == ErrorCode::THROTTLED_OP.0 {
                if !was_full(history, sent.at_us, received.at_us) {
                    return wrong(format!(
                        "connection {id}, xid {}: refused for lack of space, and there was space",
                        sent.xid
                    ));
                }
                continue;
            }
            // Its absence is another checker's.
            let Some(done) = truth.writes.get(&(id, *request)) else {
                continue;
            };
            // A close that is sent again finds its session ended, which is what it wanted.
            let zxid = match sent.op {
                Op::CloseSession => reply.zxid.max(done.zxid),
                _ => done.zxid,
            };
            let told = (reply.zxid, reply.err, &reply.body);
            let expected = (zxid, done.answer.err, &done.answer.body);
            if told != expected {
                return wrong(format!(
                    "connection {id}, xid {}, {:?}: told {told:?}, expected {expected:?}",
                    sent.xid, sent.op
                ));
            }
        }
    }
    Ok(())
}

fn was_full(history: &History, from_us: u64, to_us: u64) -> bool {
    history
        .full_us
        .iter()
        .any(|&(full_from, full_to)| full_from <= to_us && from_us <= full_to)
}
