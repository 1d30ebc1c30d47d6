//! A write that was answered is in the log, whatever happened since.

use oxkeeper_sim::Violation;
use oxkeeper_wire::ErrorCode;

use crate::history::History;
use crate::history::Incoming;
use crate::truth::Truth;

pub(super) fn check(history: &History, truth: &Truth) -> Result<(), Violation> {
    for (id, connection) in history.connections.iter().enumerate() {
        for received in &connection.received {
            let Incoming::Reply { request, reply } = &received.what else {
                continue;
            };
            let sent = &connection.sent[*request];
            let executed = sent.op.is_write() && reply.err != ErrorCode::THROTTLED_OP.0;
            if executed && !truth.writes.contains_key(&(id, *request)) {
                return Err(Violation::new(
                    "no acknowledged write is lost",
                    format!(
                        "connection {id} was told of zxid {:#x} by xid {}, {:?}",
                        reply.zxid, sent.xid, sent.op
                    ),
                ));
            }
        }
    }
    Ok(())
}
