//! What a shard says, and what is kept of it: the receiving end of the link.
//!
//! It fires watches, updates the view and completes requests. One delivery runs with the view
//! exclusive, so no reader sees a revision before its events stand in the buffers of those who
//! watch, nor half a revision.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use oxkeeper_link::{Event, Link, LinkError, Request, Token};
use oxkeeper_model::{
    AclEntry, Answer, Change, ChangeKind, ChangeSet, CommandOutcome, Now, Query, Revision,
    SessionEnd, SessionError, SessionGrant, SessionId,
};
use oxkeeper_wire::EventType;
use parking_lot::RwLock;

use crate::connection::{Connection, ConnectionId};
use crate::front_end::FrontEnd;
use crate::limits::DIRECT_WRITES_MAX;
use crate::pipeline::{Context, Pipeline};
use crate::translate::zxid;
use crate::view::View;
use crate::watch::{Fired, NodeEvent, WatchTable};

/// Token of the front end's own queries; connections count from 1.
pub const OWN_TOKEN: Token = Token(0);

/// One shard as this front end knows it.
pub(crate) struct Feed {
    /// Shared by whoever executes reads, exclusive while the link delivers.
    pub(crate) view: RwLock<View>,
    pub(crate) watches: WatchTable,
    link: OnceLock<Arc<dyn Link>>,
}

impl Feed {
    pub(crate) fn new(view_cache_bytes: usize) -> Self {
        Self {
            view: RwLock::new(View::new(Revision(0), view_cache_bytes)),
            watches: WatchTable::default(),
            link: OnceLock::new(),
        }
    }

    /// Opens the link. Its first event tells the view's position.
    pub(crate) fn open(
        &self,
        open: impl FnOnce() -> Result<Arc<dyn Link>, LinkError>,
    ) -> Result<(), LinkError> {
        // Whatever is delivered meanwhile waits for the view.
        let _view = self.view.write();
        self.link.set(open()?).map_err(|_| LinkError::Closed)
    }

    pub(crate) fn send(&self, requests: &mut Vec<Request>) -> Result<(), LinkError> {
        if requests.is_empty() {
            return Ok(());
        }
        self.link.get().ok_or(LinkError::Closed)?.send(requests)
    }
}

/// Takes in what the link delivers, in order.
pub struct Consumer {
    front_end: Arc<FrontEnd>,
    /// Answers to the front end's own queries, in the order of the queries.
    own_answers: Vec<Answer>,
    /// Requests that a step made; reused.
    requests: Vec<Request>,
    /// Whom an event goes to; reused.
    fired: Vec<Fired>,
    /// Connections with something to write, each once.
    to_send: Vec<Arc<Connection>>,
}

impl Consumer {
    pub fn new(front_end: Arc<FrontEnd>) -> Self {
        Self {
            front_end,
            own_answers: Vec::new(),
            requests: Vec::new(),
            fired: Vec::new(),
            to_send: Vec::new(),
        }
    }

    /// Handles the events and leaves the vector empty.
    pub fn deliver(&mut self, events: &mut Vec<Event>, now: Now) {
        let front_end = Arc::clone(&self.front_end);
        {
            let mut view = front_end.feed.view.write();
            for event in events.drain(..) {
                self.handle(&front_end, &mut view, now.monotonic_us, event);
            }
        }
        let directly = self.to_send.len() <= DIRECT_WRITES_MAX;
        for connection in self.to_send.drain(..) {
            let mut pipeline = connection.pipeline.lock();
            pipeline.send_output(&front_end.stats, directly);
        }
        if front_end.budget.is_over() {
            front_end.shed();
        }
    }

    /// Answers to [`OWN_TOKEN`]'s queries that came since the last call.
    pub fn own_answers(&mut self) -> std::vec::Drain<'_, Answer> {
        self.own_answers.drain(..)
    }

    /// The link has ended: nothing can be answered any more.
    pub fn closed(&mut self, reason: LinkError) {
        self.front_end.link_closed(reason);
    }

    fn handle(&mut self, front_end: &FrontEnd, view: &mut View, now_us: u64, event: Event) {
        match event {
            Event::Opened(opened) => view.start_at(opened.position.revision),
            Event::Changed(set) => self.changed(front_end, view, now_us, &set),
            Event::Outcome { token, outcome } => {
                self.outcome(front_end, view, now_us, ConnectionId(token.0), outcome);
            }
            Event::Refused { token, refusal } => {
                let id = ConnectionId(token.0);
                tracing::warn!(connection = %id, %refusal, "closing a connection whose request was refused");
                self.step(front_end, view, now_us, id, |pipeline, cx| {
                    pipeline.close(cx.load)
                });
            }
            Event::Answered {
                token: OWN_TOKEN,
                answer,
                ..
            } => self.own_answers.push(answer),
            Event::Answered {
                token,
                query,
                answer,
            } => {
                remember(view, &query, &answer);
                self.step(
                    front_end,
                    view,
                    now_us,
                    ConnectionId(token.0),
                    |pipeline, cx| {
                        pipeline.on_answer(cx, query, answer);
                    },
                );
            }
        }
    }

    fn outcome(
        &mut self,
        front_end: &FrontEnd,
        view: &View,
        now_us: u64,
        id: ConnectionId,
        outcome: CommandOutcome,
    ) {
        match outcome {
            CommandOutcome::Written(outcome) => {
                self.step(front_end, view, now_us, id, |pipeline, cx| {
                    pipeline.on_written(cx, outcome)
                });
            }
            CommandOutcome::SessionGranted(result) => {
                self.granted(front_end, view, now_us, id, result)
            }
            CommandOutcome::SessionClosed(_, outcome) => {
                self.step(front_end, view, now_us, id, |pipeline, cx| {
                    pipeline.on_session_closed(cx, outcome);
                });
            }
            // Of the shard's own commands, which nobody sent.
            CommandOutcome::None
            | CommandOutcome::SessionExpired(..)
            | CommandOutcome::Reaped(_)
            | CommandOutcome::Compared(_) => {}
        }
    }

    /// Lets a connection's pipeline take a step, if the connection is still there, and sends what
    /// the step asks for.
    fn step(
        &mut self,
        front_end: &FrontEnd,
        view: &View,
        now_us: u64,
        id: ConnectionId,
        step: impl FnOnce(&mut Pipeline, &mut Context<'_>),
    ) {
        let connection = front_end
            .connections
            .get(&id)
            .map(|entry| Arc::clone(entry.value()));
        if let Some(connection) = connection {
            self.step_of(front_end, view, now_us, connection, step);
        }
    }

    fn step_of(
        &mut self,
        front_end: &FrontEnd,
        view: &View,
        now_us: u64,
        connection: Arc<Connection>,
        step: impl FnOnce(&mut Pipeline, &mut Context<'_>),
    ) {
        let first = {
            let mut pipeline = connection.pipeline.lock();
            let mut cx = front_end.context(view, &mut self.requests, now_us);
            step(&mut pipeline, &mut cx);
            if let Err(reason) = front_end.feed.send(&mut self.requests) {
                tracing::warn!(connection = %connection.id, %reason, "closing a connection whose requests cannot be sent");
                self.requests.clear();
                pipeline.close(&front_end.load);
            }
            pipeline.outbox.claim()
        };
        if first {
            self.to_send.push(connection);
        }
    }

    fn granted(
        &mut self,
        front_end: &FrontEnd,
        view: &View,
        now_us: u64,
        id: ConnectionId,
        result: Result<SessionGrant, SessionError>,
    ) {
        let connection = front_end
            .connections
            .get(&id)
            .map(|entry| Arc::clone(entry.value()));
        if let Ok(grant) = &result {
            let before = match &connection {
                Some(connection) => {
                    connection.session.store(grant.session.0, Relaxed);
                    front_end
                        .sessions
                        .insert(grant.session, Arc::clone(connection))
                }
                None => front_end
                    .sessions
                    .remove(&grant.session)
                    .map(|(_, before)| before),
            };
            if let Some(before) = before {
                self.step_of(front_end, view, now_us, before, |pipeline, cx| {
                    pipeline.close(cx.load)
                });
            }
        }
        if let Some(connection) = connection {
            self.step_of(front_end, view, now_us, connection, |pipeline, cx| {
                pipeline.on_granted(cx, result)
            });
        }
    }

    fn changed(&mut self, front_end: &FrontEnd, view: &mut View, now_us: u64, set: &ChangeSet) {
        for change in &set.changes {
            self.fire(front_end, zxid(set.revision), change);
        }
        if let Some(end) = &set.end {
            self.fire_end(front_end, zxid(set.revision), end);
        }
        view.apply(set);
        if let Some(session) = set.session_ended {
            self.session_ended(front_end, view, now_us, session);
        }
    }

    fn session_ended(
        &mut self,
        front_end: &FrontEnd,
        view: &View,
        now_us: u64,
        session: SessionId,
    ) {
        let mut expired = true;
        if let Some((_, connection)) = front_end.sessions.remove(&session) {
            self.step_of(front_end, view, now_us, connection, |pipeline, cx| {
                expired = pipeline.on_session_ended(cx);
            });
        }
        if expired {
            front_end.stats.sessions_expired.fetch_add(1, Relaxed);
            tracing::info!(%session, "session expired");
        }
    }

    /// The events of one change: its own znode's first, then the parent's children event.
    fn fire(&mut self, front_end: &FrontEnd, zxid: i64, change: &Change) {
        let (node_event, kind) = match change.kind {
            ChangeKind::Created => (NodeEvent::Created, EventType::NodeCreated),
            ChangeKind::Deleted => (NodeEvent::Deleted, EventType::NodeDeleted),
            ChangeKind::ValueSet => (NodeEvent::DataChanged, EventType::NodeDataChanged),
            ChangeKind::AclSet | ChangeKind::Recounted => return,
        };
        let watches = &front_end.feed.watches;
        watches.fire_node(&change.path, node_event, &mut self.fired);
        self.notify(front_end, zxid, kind, &change.path, &change.head.acl);
        if let (Some(parent), Some(acl)) = (change.path.parent(), &change.parent_acl) {
            self.fire_children(front_end, zxid, parent, acl);
        }
    }

    fn fire_children(&mut self, front_end: &FrontEnd, zxid: i64, path: &str, acl: &[AclEntry]) {
        let watches = &front_end.feed.watches;
        watches.fire_children(path, &mut self.fired);
        self.notify(front_end, zxid, EventType::NodeChildrenChanged, path, acl);
    }

    /// The events of a session's end that lists no changes.
    fn fire_end(&mut self, front_end: &FrontEnd, zxid: i64, end: &SessionEnd) {
        let watches = &front_end.feed.watches;
        for (path, record) in &end.records {
            watches.fire_node(path, NodeEvent::Deleted, &mut self.fired);
            self.notify(front_end, zxid, EventType::NodeDeleted, path, &record.acl);
            let parent_path = path.parent().unwrap_or_default();
            if let Some(parent) = end.parents.get(parent_path) {
                self.fire_children(front_end, zxid, parent_path, &parent.acl);
            }
        }
    }

    fn notify(
        &mut self,
        front_end: &FrontEnd,
        zxid: i64,
        kind: EventType,
        path: &str,
        acl: &[AclEntry],
    ) {
        if !self.fired.is_empty() {
            let watches = self.fired.len() as u64;
            front_end.stats.watches_fired.of(kind).record(watches);
        }
        for fired in self.fired.drain(..) {
            let found = front_end.connections.get(&fired.connection);
            let Some(connection) = found.map(|entry| Arc::clone(entry.value())) else {
                continue;
            };
            let first = {
                let mut pipeline = connection.pipeline.lock();
                let load = &front_end.load;
                let bytes = pipeline.on_event(load, fired, zxid, kind, path, acl);
                if bytes > 0 {
                    front_end.stats.event_sent(bytes);
                }
                pipeline.outbox.claim()
            };
            if first {
                self.to_send.push(connection);
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
        (Query::Batch { queries, .. }, Answer::Batch(answers)) => {
            for (query, answer) in queries.iter().zip(answers) {
                remember(view, query, answer);
            }
        }
        _ => {}
    }
}
