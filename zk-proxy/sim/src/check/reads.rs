//! A read's answer is the state at the zxid of its reply: with the session's writes before it, and
//! with none of those behind it.

use oxkeeper_sim::Violation;

use super::caller;
use crate::history::{Connection, History, Incoming};
use crate::op::Op;
use crate::truth::Truth;

const PROPERTY: &str = "reads are as of their zxid";

pub(super) fn check(history: &History, truth: &Truth) -> Result<(), Violation> {
    for (id, connection) in history.connections.iter().enumerate() {
        check_connection(id, connection, truth)?;
    }
    Ok(())
}

fn check_connection(id: usize, connection: &Connection, truth: &Truth) -> Result<(), Violation> {
    for received in &connection.received {
        let Incoming::Reply { request, reply } = &received.what else {
            continue;
        };
        let sent = &connection.sent[*request];
        if sent.op.is_write() || matches!(sent.op, Op::Auth { .. }) {
            continue;
        }
        let wrong = |what: String| {
            let text = format!("connection {id}, xid {}, {:?}: {what}", sent.xid, sent.op);
            Err(Violation::new(PROPERTY, text))
        };
        let Some(state) = truth.state(reply.zxid) else {
            return wrong(format!(
                "told of zxid {:#x}, the log ends at {:#x}",
                reply.zxid,
                truth.last_zxid()
            ));
        };
        if let Some(later) = next_write(id, connection, *request, truth)
            && later <= reply.zxid
        {
            return wrong(format!(
                "at zxid {:#x} it shows the session's own later write {later:#x}",
                reply.zxid
            ));
        }
        // What is about watches only is another checker's.
        let Some(expected) = state.tree.read(&sent.op, &caller(connection, *request)) else {
            continue;
        };
        let told = (reply.err, &reply.body);
        if told != (expected.err, &expected.body) {
            return wrong(format!(
                "at zxid {:#x} told {told:?}, expected {expected:?}",
                reply.zxid
            ));
        }
    }
    Ok(())
}

/// The zxid of the first write that the connection sent after the request at `index`.
fn next_write(id: usize, connection: &Connection, index: usize, truth: &Truth) -> Option<i64> {
    let later = index + 1..connection.sent.len();
    later
        .filter_map(|index| truth.writes.get(&(id, index)))
        .map(|done| done.zxid)
        .next()
}
