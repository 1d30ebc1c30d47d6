//! The receiving end of the link: fires watches, updates the view, completes requests.
//!
//! One delivery runs with the view exclusive, so no reader sees a revision before its events stand in
//! the buffers of those who watch, nor half a revision.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use oxkeeper_link::{Event, LinkError, LinkSink, Request};
use oxkeeper_model::{
    AclEntry, Answer, Change, ChangeKind, ChangeSet, CommandOutcome, Query, SessionError,
    SessionGrant, SessionId,
};
use oxkeeper_wire::EventType;

use crate::connection::{Connection, ConnectionId};
use crate::pipeline::{Context, Pipeline};
use crate::translate::zxid;
use crate::tree::{ADMIN_TOKEN, Tree};
use crate::view::View;
use crate::watch::{Fired, NodeEvent};

/// Replies to so many connections at once are written here; to more, by their tasks, which can be on
/// several threads.
const DIRECT_WRITES_MAX: usize = 2;

pub(crate) struct Consumer {
    tree: Arc<Tree>,
    /// Requests that a step made; reused.
    requests: Vec<Request>,
    /// Whom an event goes to; reused.
    fired: Vec<Fired>,
    /// Connections with something to write, each once; woken when the delivery is done.
    to_wake: Vec<Arc<Connection>>,
}

impl LinkSink for Consumer {
    fn deliver(&mut self, events: &mut Vec<Event>) {
        let tree = Arc::clone(&self.tree);
        let now = Instant::now();
        {
            let mut view = tree.view.write();
            for event in events.drain(..) {
                self.handle(&tree, &mut view, now, event);
            }
        }
        let directly = self.to_wake.len() <= DIRECT_WRITES_MAX;
        for connection in self.to_wake.drain(..) {
            connection.send_output(&tree, directly);
        }
    }

    fn closed(&mut self, reason: LinkError) {
        self.tree.link_closed(reason);
    }
}

impl Consumer {
    pub(crate) fn new(tree: Arc<Tree>) -> Self {
        Self {
            tree,
            requests: Vec::new(),
            fired: Vec::new(),
            to_wake: Vec::new(),
        }
    }

    fn handle(&mut self, tree: &Tree, view: &mut View, now: Instant, event: Event) {
        match event {
            Event::Changed(set) => self.changed(tree, view, now, &set),
            Event::Outcome { token, outcome } => {
                self.outcome(tree, view, now, ConnectionId(token.0), outcome);
            }
            Event::Answered {
                token: ADMIN_TOKEN,
                answer,
                ..
            } => tree.admin_answered(answer),
            Event::Answered {
                token,
                query,
                answer,
            } => {
                remember(view, &query, &answer);
                self.step(tree, view, now, ConnectionId(token.0), |pipeline, cx| {
                    pipeline.on_answer(cx, query, answer);
                });
            }
        }
    }

    fn outcome(
        &mut self,
        tree: &Tree,
        view: &View,
        now: Instant,
        id: ConnectionId,
        outcome: CommandOutcome,
    ) {
        match outcome {
            CommandOutcome::Written(outcome) => {
                self.step(tree, view, now, id, |pipeline, cx| {
                    pipeline.on_written(cx, outcome)
                });
            }
            CommandOutcome::SessionGranted(result) => self.granted(tree, view, now, id, result),
            CommandOutcome::SessionClosed(_, outcome) => {
                self.step(tree, view, now, id, |pipeline, cx| {
                    pipeline.on_session_closed(cx, outcome);
                });
            }
            // Of the shard's own commands, which nobody sent.
            CommandOutcome::None
            | CommandOutcome::SessionExpired(..)
            | CommandOutcome::Reaped(_) => {}
        }
    }

    /// Lets a connection's pipeline take a step, if the connection is still there, and sends what
    /// the step asks for.
    fn step(
        &mut self,
        tree: &Tree,
        view: &View,
        now: Instant,
        id: ConnectionId,
        step: impl FnOnce(&mut Pipeline, &mut Context<'_>),
    ) {
        let connection = tree
            .connections
            .get(&id)
            .map(|entry| Arc::clone(entry.value()));
        if let Some(connection) = connection {
            self.step_of(tree, view, now, connection, step);
        }
    }

    fn step_of(
        &mut self,
        tree: &Tree,
        view: &View,
        now: Instant,
        connection: Arc<Connection>,
        step: impl FnOnce(&mut Pipeline, &mut Context<'_>),
    ) {
        let first = {
            let mut pipeline = connection.pipeline.lock();
            let mut cx = Context {
                tree,
                view,
                requests: &mut self.requests,
                now,
            };
            step(&mut pipeline, &mut cx);
            if let Err(reason) = tree.send(&mut self.requests) {
                tracing::warn!(connection = %connection.id, %reason, "closing a connection whose requests cannot be sent");
                self.requests.clear();
                pipeline.close(tree);
            }
            !std::mem::replace(&mut pipeline.woken, true)
        };
        if first {
            self.to_wake.push(connection);
        }
    }

    fn granted(
        &mut self,
        tree: &Tree,
        view: &View,
        now: Instant,
        id: ConnectionId,
        result: Result<SessionGrant, SessionError>,
    ) {
        let connection = tree
            .connections
            .get(&id)
            .map(|entry| Arc::clone(entry.value()));
        if let Ok(grant) = &result {
            let before = match &connection {
                Some(connection) => {
                    connection.session.store(grant.session.0, Relaxed);
                    tree.sessions.insert(grant.session, Arc::clone(connection))
                }
                None => tree
                    .sessions
                    .remove(&grant.session)
                    .map(|(_, before)| before),
            };
            if let Some(before) = before {
                self.step_of(tree, view, now, before, |pipeline, cx| {
                    pipeline.close(cx.tree)
                });
            }
        }
        if let Some(connection) = connection {
            self.step_of(tree, view, now, connection, |pipeline, cx| {
                pipeline.on_granted(cx, result)
            });
        }
    }

    fn changed(&mut self, tree: &Tree, view: &mut View, now: Instant, set: &ChangeSet) {
        for change in &set.changes {
            self.fire(tree, zxid(set.revision), change);
        }
        view.apply(set);
        if let Some(session) = set.session_ended {
            self.session_ended(tree, view, now, session);
        }
    }

    fn session_ended(&mut self, tree: &Tree, view: &View, now: Instant, session: SessionId) {
        let mut expired = true;
        if let Some((_, connection)) = tree.sessions.remove(&session) {
            self.step_of(tree, view, now, connection, |pipeline, cx| {
                expired = pipeline.on_session_ended(cx);
            });
        }
        if expired {
            tree.stats.sessions_expired.fetch_add(1, Relaxed);
            tracing::info!(%session, "session expired");
        }
    }

    /// The events of one change: its own znode's first, then the parent's children event.
    fn fire(&mut self, tree: &Tree, zxid: i64, change: &Change) {
        let (node_event, kind) = match change.kind {
            ChangeKind::Created => (NodeEvent::Created, EventType::NodeCreated),
            ChangeKind::Deleted => (NodeEvent::Deleted, EventType::NodeDeleted),
            ChangeKind::ValueSet => (NodeEvent::DataChanged, EventType::NodeDataChanged),
            ChangeKind::AclSet => return,
        };
        tree.watches
            .fire_node(&change.path, node_event, &mut self.fired);
        self.notify(tree, zxid, kind, &change.path, &change.head.acl);
        if let (Some(parent), Some(acl)) = (change.path.parent(), &change.parent_acl) {
            tree.watches.fire_children(parent, &mut self.fired);
            self.notify(tree, zxid, EventType::NodeChildrenChanged, parent, acl);
        }
    }

    fn notify(&mut self, tree: &Tree, zxid: i64, kind: EventType, path: &str, acl: &[AclEntry]) {
        for fired in self.fired.drain(..) {
            let found = tree.connections.get(&fired.connection);
            let Some(connection) = found.map(|entry| Arc::clone(entry.value())) else {
                continue;
            };
            let first = {
                let mut pipeline = connection.pipeline.lock();
                pipeline.on_event(tree, fired, zxid, kind, path, acl);
                !std::mem::replace(&mut pipeline.woken, true)
            };
            tree.stats.events_sent.fetch_add(1, Relaxed);
            if first {
                self.to_wake.push(connection);
            }
        }
    }
}

/// What the shard was asked for is worth keeping.
fn remember(view: &mut View, query: &Query, answer: &Answer) {
    match (query, answer) {
        (Query::Records { paths, .. }, Answer::Records(found)) => {
            for (path, record) in paths.iter().zip(found) {
                view.insert_fetched(path, record.as_ref());
            }
        }
        (Query::ChildNames { path }, Answer::ChildNames(found)) => {
            view.insert_children(path, found.as_ref());
        }
        _ => {}
    }
}
