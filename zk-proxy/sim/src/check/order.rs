//! The order that sessions see: replies as requests were sent, time never going back, and what was
//! over before something began stands before it.

use std::collections::BTreeMap;

use oxkeeper_sim::Violation;

use crate::history::{Connection, History, Incoming};
use crate::op::Op;

const PROPERTY: &str = "sessions see one order";

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let wrong = |what| Err(Violation::new(PROPERTY, what));
    // The highest zxid that each session has seen, connection by connection.
    let mut seen: BTreeMap<i64, i64> = BTreeMap::new();
    for (id, connection) in history.connections.iter().enumerate() {
        if let Some(nonsense) = nonsense(connection) {
            return wrong(format!("connection {id}: {nonsense}"));
        }
        let Some(session) = connection.session() else {
            continue;
        };
        let seen = seen.entry(session).or_default();
        for (sent, reply, _) in connection.replies() {
            if matches!(sent.op, Op::Auth { .. }) {
                continue;
            }
            if reply.zxid < *seen {
                return wrong(format!(
                    "connection {id}, xid {}: zxid {:#x} after {seen:#x} in session {session:#x}",
                    sent.xid, reply.zxid
                ));
            }
            *seen = reply.zxid;
        }
    }
    check_real_time(history)
}

fn nonsense(connection: &Connection) -> Option<&str> {
    connection
        .received
        .iter()
        .find_map(|received| match &received.what {
            Incoming::Nonsense(what) => Some(what.as_str()),
            _ => None,
        })
}

/// A write, or a sync, that was sent when another write had been answered comes after it.
fn check_real_time(history: &History) -> Result<(), Violation> {
    let mut answered: Vec<(u64, i64)> = Vec::new();
    let mut began: Vec<(u64, i64)> = Vec::new();
    for connection in &history.connections {
        for (sent, reply, at_us) in connection.replies() {
            if sent.op.is_write() {
                answered.push((at_us, reply.zxid));
            }
            if sent.op.is_write() || matches!(sent.op, Op::Sync { .. }) {
                began.push((sent.at_us, reply.zxid));
            }
        }
    }
    answered.sort_unstable();
    began.sort_unstable();
    let mut answered = answered.into_iter().peekable();
    let mut newest = 0;
    for (at_us, zxid) in began {
        while let Some((_, before)) = answered.next_if(|&(answered_us, _)| answered_us < at_us) {
            newest = newest.max(before);
        }
        if zxid < newest {
            return Err(Violation::new(
                PROPERTY,
                format!("zxid {zxid:#x} was asked for after {newest:#x} had been answered"),
            ));
        }
    }
    Ok(())
}
