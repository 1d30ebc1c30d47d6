//! After a gap: the link is back, and what changed meanwhile is not told.
//!
//! The view starts anew. Nothing is answered before all who watch have been told what the records now
//! show to be later than the last revision that was heard of; else a client could read what its watch
//! has not told it. One-shot watches fire by their records' revisions. For persistent and recursive
//! ones every event would be due, so their connections are closed: their clients come back and set
//! them again, as with any ZooKeeper that went away. So are the connections whose sessions have ended.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_link::Request;
use oxkeeper_model::{AclEntry, Answer, Head, Path, Query, Revision, SessionId};
use oxkeeper_wire::EventType;

use crate::feed::{Consumer, OWN, RECONCILE_TOKEN};
use crate::front_end::FrontEnd;
use crate::limits::RECONCILED_PATHS_MAX;
use crate::translate::zxid;
use crate::view::View;
use crate::watch::Kinds;

/// What is still to be done.
#[derive(Default)]
pub(crate) struct Reconciliation {
    /// The last revision that was heard of; of several gaps the first.
    after: Revision,
    /// Watched paths that were not asked for yet.
    paths: VecDeque<Path>,
}

impl Reconciliation {
    /// For the next few paths.
    fn next_query(&mut self, with_sessions: bool) -> Option<Request> {
        if self.paths.is_empty() && !with_sessions {
            return None;
        }
        let count = self.paths.len().min(RECONCILED_PATHS_MAX);
        let records = Query::Records {
            paths: self.paths.drain(..count).collect(),
            with_values: false,
        };
        let sessions = with_sessions.then_some(Query::Sessions);
        Some(Request::Query {
            token: RECONCILE_TOKEN,
            query: Query::Batch {
                queries: sessions.into_iter().chain([records]).collect(),
                bytes_max: usize::MAX,
            },
        })
    }
}

impl Consumer {
    /// The link has ended and is back. What was sent is sent again, and its outcomes come after changes
    /// that may show what was sent behind a read: such reads cannot be answered any more.
    pub(crate) fn link_is_back(&mut self, front_end: &FrontEnd, view: &View, now_us: u64) {
        for connection in front_end.connections() {
            self.step_of(front_end, view, now_us, connection, |pipeline, cx| {
                pipeline.on_link_back(cx.load);
            });
        }
    }

    pub(crate) fn begin_reconciliation(
        &mut self,
        front_end: &FrontEnd,
        view: &View,
        now_us: u64,
        after: Revision,
    ) {
        let lasting = Kinds::PERSISTENT.with(Kinds::RECURSIVE);
        let mut to_close = BTreeSet::new();
        let mut paths = BTreeSet::new();
        front_end.feed.watches.for_each(|path, connection, kinds| {
            if kinds.intersects(lasting) {
                to_close.insert(connection);
            }
            paths.insert(path.clone());
        });
        for connection in front_end.connections() {
            if to_close.contains(&connection.id) {
                self.step_of(front_end, view, now_us, connection, |pipeline, cx| {
                    pipeline.abandon(cx.load);
                });
            }
        }
        let query = {
            let mut reconciliation = front_end.feed.reconciliation();
            let again = front_end.feed.is_reconciling.swap(true, Relaxed);
            if !again {
                reconciliation.after = after;
            }
            reconciliation.paths = paths.into_iter().collect();
            reconciliation.next_query(true)
        };
        front_end.feed.send(OWN, &mut query.into_iter().collect());
        tracing::warn!(%after, "changes of the shard were missed: comparing what is watched");
    }

    /// The shard's answer about some of the watched paths.
    pub(crate) fn reconcile(
        &mut self,
        front_end: &FrontEnd,
        view: &View,
        now_us: u64,
        query: &Query,
        answer: &Answer,
    ) {
        let (Query::Batch { queries, .. }, Answer::Batch(answers)) = (query, answer) else {
            tracing::error!("the shard cannot tell what is watched: closing all connections");
            return self.close_all(front_end, view, now_us, |_| true);
        };
        let after = front_end.feed.reconciliation().after;
        for pair in queries.iter().zip(answers) {
            match pair {
                (Query::Records { paths, .. }, Answer::Records(found)) => {
                    for (path, found) in paths.iter().zip(found) {
                        let head = found.as_ref().map(|found| &*found.head);
                        self.tell(front_end, zxid(view.position()), path, head, after);
                    }
                }
                (_, Answer::Sessions(sessions)) => {
                    let live: BTreeSet<_> = sessions.iter().map(|(id, ..)| *id).collect();
                    self.close_all(front_end, view, now_us, |session| {
                        session != SessionId(0) && !live.contains(&session)
                    });
                }
                _ => {}
            }
        }
        let next = front_end.feed.reconciliation().next_query(false);
        match next {
            Some(query) => {
                front_end.feed.send(OWN, &mut vec![query]);
            }
            None => self.end_reconciliation(front_end, view, now_us),
        }
    }

    fn end_reconciliation(&mut self, front_end: &FrontEnd, view: &View, now_us: u64) {
        front_end.feed.is_reconciling.store(false, Relaxed);
        for connection in front_end.connections() {
            self.step_of(front_end, view, now_us, connection, |pipeline, cx| {
                pipeline.pump(cx);
            });
        }
    }

    fn close_all(
        &mut self,
        front_end: &FrontEnd,
        view: &View,
        now_us: u64,
        which: impl Fn(SessionId) -> bool,
    ) {
        for connection in front_end.connections() {
            if which(connection.session()) {
                self.step_of(front_end, view, now_us, connection, |pipeline, cx| {
                    pipeline.close(cx.load);
                });
            }
        }
    }

    /// Fires the one-shot watches of a path for what has happened to its record after a revision.
    fn tell(
        &mut self,
        front_end: &FrontEnd,
        zxid: i64,
        path: &Path,
        head: Option<&Head>,
        after: Revision,
    ) {
        const ACL_OF_NOTHING: &[AclEntry] = &[];
        let acl = head.map_or(ACL_OF_NOTHING, |head| &head.acl);
        for (kind, is_due) in missed(head, after) {
            let mut fired = std::mem::take(&mut self.fired);
            front_end.feed.watches.fire_due(path, is_due, &mut fired);
            self.fired = fired;
            self.notify(front_end, zxid, kind, path, acl);
        }
    }
}

/// The events that a record's revisions show, each with the one-shot watches that it uses up: of
/// those that a connection has, which.
fn missed(head: Option<&Head>, after: Revision) -> Vec<(EventType, fn(Kinds) -> Kinds)> {
    let of_existing = |kinds: Kinds| match kinds.intersects(Kinds::ABSENT) {
        true => kinds.only(Kinds::CHILD),
        false => kinds.only(Kinds::DATA.with(Kinds::CHILD)),
    };
    let of_absent = |kinds: Kinds| match kinds.intersects(Kinds::ABSENT) {
        true => Kinds::DATA.with(Kinds::ABSENT),
        false => Kinds::NONE,
    };
    let of_data = |kinds: Kinds| match kinds.intersects(Kinds::ABSENT) {
        true => Kinds::NONE,
        false => kinds.only(Kinds::DATA),
    };
    let of_children = |kinds: Kinds| kinds.only(Kinds::CHILD);
    let Some(head) = head else {
        return vec![(EventType::NodeDeleted, of_existing)];
    };
    let mut events: Vec<(EventType, fn(Kinds) -> Kinds)> =
        vec![(EventType::NodeCreated, of_absent)];
    if head.created_revision > after {
        // What was there before is another record.
        events.push((EventType::NodeDeleted, of_existing));
        return events;
    }
    if head.modified_revision > after {
        events.push((EventType::NodeDataChanged, of_data));
    }
    if head.children.last_change > after {
        events.push((EventType::NodeChildrenChanged, of_children));
    }
    events
}
