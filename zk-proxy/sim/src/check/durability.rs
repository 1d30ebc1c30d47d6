//! A write that was answered is in the log, whatever happened since.

use oxkeeper_sim::Violation;
use oxkeeper_wire::ErrorCode;

use crate::history::History;
use crate::history::Incoming;
use crate::op::Op;
use crate::truth::Truth;

pub(super) fn check(history: &History, truth: &Truth) -> Result<(), Violation> {
    for (id, connection) in history.connections.iter().enumerate() {
        for received in &connection.received {
            let Incoming::Reply { request, reply } = &received.what else {
                continue;
            };
            let sent = &connection.sent[*request];
            let executed = sent.op.is_write() && reply.err != ErrorCode::THROTTLED_OP.0;
            // A close that finds its session ended counts as done.
            let ended = connection
                .session()
                .and_then(|session| truth.ends.get(&session));
            let done = truth.writes.contains_key(&(id, *request))
                || sent.op == Op::CloseSession && ended.is_some_and(|end| end.zxid <= reply.zxid);
            if executed && !done {
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
