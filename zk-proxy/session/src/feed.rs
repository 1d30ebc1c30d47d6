//! What a shard says, and what is kept of it: the receiving end of the link.
//!
//! It fires watches, updates the view and completes requests. One delivery runs with the view
//! exclusive, so no reader sees a revision before its events stand in the buffers of those who
//! watch, nor half a revision.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use oxkeeper_link::{Event, Happened, Link, LinkError, Owner, Request, Resume, SessionBeat, Token};
use oxkeeper_model::{
    AclEntry, Answer, Change, ChangeKind, ChangeSet, ClientCommand, CommandOutcome, Now, Position,
    Query, Revision, SessionEnd, SessionError, SessionGrant, SessionId,
};
use oxkeeper_wire::EventType;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::connection::{Connection, ConnectionId};
use crate::front_end::FrontEnd;
use crate::limits::DIRECT_WRITES_MAX;
use crate::pipeline::{Context, Pipeline};
use crate::reconcile::Reconciliation;
use crate::translate::zxid;
use crate::view::View;
use crate::watch::{Fired, NodeEvent, WatchTable};

/// The front end itself; connections count from 1.
pub(crate) const OWN: Owner = Owner(0);

/// Token of the queries after a gap; the front end's other queries have those above.
pub(crate) const RECONCILE_TOKEN: Token = Token(0);

/// One shard as this front end knows it.
pub(crate) struct Feed {
    /// Shared by whoever executes reads, exclusive while the link delivers.
    pub(crate) view: RwLock<View>,
    pub(crate) watches: WatchTable,
    /// Changes were missed, and not everybody who watches has been told. Nothing is answered then.
    /// Changed with the view exclusive.
    pub(crate) is_reconciling: AtomicBool,
    reconciliation: Mutex<Reconciliation>,
    upstream: Mutex<Upstream>,
}

/// The way to the shard. Whoever locks it locks nothing else then.
#[derive(Default)]
struct Upstream {
    /// What is unanswered, so that the link may break and come back.
    resume: Resume,
    /// `None`: broken.
    link: Option<Arc<dyn Link>>,
    /// When it was first seen broken.
    broken_since_us: Option<u64>,
}

impl Upstream {
    /// Sends what waits; says whether the shard has no room for it.
    fn flush(&mut self) -> bool {
        let Some(link) = &self.link else {
            return false;
        };
        let sent = self.resume.flush(|requests| link.send(requests));
        if sent == Err(LinkError::Closed) {
            self.link = None;
        }
        sent == Err(LinkError::Busy)
    }

    fn keep(&mut self, owner: Owner, request: Request) {
        match request {
            Request::Command { token, command } => match command {
                ClientCommand::Write(write) => self.resume.write(owner, token, write),
                ClientCommand::CloseSession {
                    session,
                    attachment,
                    ..
                } => self.resume.close_session(owner, token, session, attachment),
                command => self.resume.session(owner, token, command),
            },
            Request::Query { token, query } => self.resume.query(owner, token, query),
            Request::Heartbeat { beats } => {
                for beat in beats {
                    self.resume.beat(beat.session, beat.attachment);
                }
            }
        }
    }
}

impl Feed {
    pub(crate) fn new(view_cache_bytes: usize) -> Self {
        Self {
            view: RwLock::new(View::new(Revision(0), view_cache_bytes)),
            watches: WatchTable::default(),
            is_reconciling: AtomicBool::new(false),
            reconciliation: Mutex::default(),
            upstream: Mutex::default(),
        }
    }

    pub(crate) fn reconciliation(&self) -> MutexGuard<'_, Reconciliation> {
        self.reconciliation.lock()
    }

    pub(crate) fn wants_link(&self) -> Option<Option<Position>> {
        self.upstream.lock().resume.wants_link()
    }

    /// Opens the link. Its first event tells the position.
    pub(crate) fn open(
        &self,
        open: impl FnOnce() -> Result<Arc<dyn Link>, LinkError>,
    ) -> Result<(), LinkError> {
        // Whatever is delivered meanwhile waits for the view.
        let _view = self.view.write();
        let opened = open();
        let mut upstream = self.upstream.lock();
        match opened {
            Ok(link) => {
                upstream.resume.wants_link();
                upstream.link = Some(link);
                Ok(())
            }
            Err(error) => {
                upstream.resume.not_opened();
                Err(error)
            }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.upstream.lock().resume.is_open()
    }

    /// Sends requests in order. What the link does not take waits, here or for another link.
    /// Whether the shard has no room for more.
    pub(crate) fn send(&self, owner: Owner, requests: &mut Vec<Request>) -> bool {
        if requests.is_empty() {
            return false;
        }
        let mut upstream = self.upstream.lock();
        for request in requests.drain(..) {
            upstream.keep(owner, request);
        }
        upstream.flush()
    }

    /// Tells the shard who was heard of, and sends what it had no room for. Whether it still has none.
    pub(crate) fn beat(&self, beats: &[SessionBeat]) -> bool {
        let mut upstream = self.upstream.lock();
        for beat in beats {
            upstream.resume.beat(beat.session, beat.attachment);
        }
        upstream.resume.flush_beats();
        upstream.flush()
    }

    /// Nobody waits any more for the answers to what a connection sent.
    pub(crate) fn forget(&self, owner: Owner) {
        self.upstream.lock().resume.socket_closed(owner);
    }

    fn heard(&self, events: &mut Vec<Event>, happened: &mut Vec<Happened>) -> bool {
        let mut upstream = self.upstream.lock();
        for event in events.drain(..) {
            upstream.resume.heard(event, happened);
        }
        if upstream.resume.is_open() {
            upstream.broken_since_us = None;
        }
        upstream.flush()
    }

    fn link_ended(&self) {
        let mut upstream = self.upstream.lock();
        upstream.resume.closed();
        upstream.link = None;
    }

    /// Whether the link is broken for so long that what is known of the shard is too old.
    pub(crate) fn is_stale(&self, now_us: u64, limit_us: u64) -> bool {
        let mut upstream = self.upstream.lock();
        if upstream.resume.is_open() {
            return false;
        }
        let since_us = *upstream.broken_since_us.get_or_insert(now_us);
        now_us.saturating_sub(since_us) >= limit_us
    }

    /// Forgets everything that is unanswered.
    pub(crate) fn give_up(&self) -> Vec<Happened> {
        let mut happened = Vec::new();
        self.upstream.lock().resume.give_up(&mut happened);
        happened
    }
}

/// Takes in what the link delivers, in order.
pub struct Consumer {
    front_end: Arc<FrontEnd>,
    /// Answers to [`FrontEnd::query`].
    own_answers: Vec<(Token, Answer)>,
    /// Reused.
    happened: Vec<Happened>,
    /// Requests that a step made; reused.
    requests: Vec<Request>,
    /// Whom an event goes to; reused.
    pub(crate) fired: Vec<Fired>,
    /// Connections with something to write, each once.
    to_send: Vec<Arc<Connection>>,
}

impl Consumer {
    pub fn new(front_end: Arc<FrontEnd>) -> Self {
        Self {
            front_end,
            own_answers: Vec::new(),
            happened: Vec::new(),
            requests: Vec::new(),
            fired: Vec::new(),
            to_send: Vec::new(),
        }
    }

    /// Handles the events and leaves the vector empty.
    pub fn deliver(&mut self, events: &mut Vec<Event>, now: Now) {
        let front_end = Arc::clone(&self.front_end);
        let mut happened = std::mem::take(&mut self.happened);
        {
            let mut view = front_end.feed.view.write();
            let busy = front_end.feed.heard(events, &mut happened);
            front_end.load.set_busy(busy);
            for happened in happened.drain(..) {
                self.handle(&front_end, &mut view, now.monotonic_us, happened);
            }
        }
        self.happened = happened;
        let directly = self.to_send.len() <= DIRECT_WRITES_MAX;
        for connection in self.to_send.drain(..) {
            let mut pipeline = connection.pipeline.lock();
            pipeline.send_output(&front_end.stats, directly);
        }
        if front_end.budget.is_over() {
            front_end.shed();
        }
    }

    /// Answers to [`FrontEnd::query`] that came since the last call.
    pub fn own_answers(&mut self) -> std::vec::Drain<'_, (Token, Answer)> {
        self.own_answers.drain(..)
    }

    /// The link has ended. What is unanswered waits for another one.
    pub fn closed(&mut self, reason: LinkError) {
        tracing::warn!(%reason, "the link to the shard has ended");
        self.front_end.feed.link_ended();
    }

    fn handle(&mut self, front_end: &FrontEnd, view: &mut View, now_us: u64, happened: Happened) {
        match happened {
            Happened::Started(position) => view.start_at(position.revision),
            Happened::Resumed => self.link_is_back(front_end, view, now_us),
            Happened::Gap { after, now } => {
                view.start_at(now.revision);
                self.link_is_back(front_end, view, now_us);
                self.begin_reconciliation(front_end, view, now_us, after.revision);
            }
            Happened::Changed(set) => self.changed(front_end, view, now_us, &set),
            Happened::Outcome {
                owner,
                token,
                outcome,
            } => self.outcome(front_end, view, now_us, (owner, token), outcome),
            Happened::Refused {
                owner,
                token,
                refusal,
            } => self.step(front_end, view, now_us, owner, |pipeline, cx| {
                pipeline.on_refused(cx, token, refusal);
            }),
            Happened::Unknown { owner, .. } | Happened::NotSent { owner, .. } => {
                self.step(front_end, view, now_us, owner, |pipeline, cx| {
                    pipeline.close(cx.load);
                });
            }
            Happened::Answered {
                owner,
                token,
                query,
                answer,
            } => self.answered(front_end, view, now_us, (owner, token), query, answer),
        }
    }

    fn answered(
        &mut self,
        front_end: &FrontEnd,
        view: &mut View,
        now_us: u64,
        (owner, token): (Owner, Token),
        query: Query,
        answer: Answer,
    ) {
        match (owner, token) {
            (OWN, RECONCILE_TOKEN) => self.reconcile(front_end, view, now_us, &query, &answer),
            (OWN, token) => self.own_answers.push((token, answer)),
            _ => {
                remember(view, &query, &answer);
                self.step(front_end, view, now_us, owner, |pipeline, cx| {
                    pipeline.on_answer(cx, query, answer);
                });
            }
        }
    }

    fn outcome(
        &mut self,
        front_end: &FrontEnd,
        view: &View,
        now_us: u64,
        (owner, token): (Owner, Token),
        outcome: CommandOutcome,
    ) {
        match outcome {
            CommandOutcome::Written(outcome) => {
                self.step(front_end, view, now_us, owner, |pipeline, cx| {
                    pipeline.on_written(cx, token, outcome);
                });
            }
            CommandOutcome::SessionGranted(result) => {
                self.granted(front_end, view, now_us, owner, result)
            }
            CommandOutcome::SessionClosed(_, outcome) => {
                self.step(front_end, view, now_us, owner, |pipeline, cx| {
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
        Owner(id): Owner,
        step: impl FnOnce(&mut Pipeline, &mut Context<'_>),
    ) {
        let connection = front_end
            .connections
            .get(&ConnectionId(id))
            .map(|entry| Arc::clone(entry.value()));
        if let Some(connection) = connection {
            self.step_of(front_end, view, now_us, connection, step);
        }
    }

    pub(crate) fn step_of(
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
            let owner = Owner(connection.id.0);
            if front_end.feed.send(owner, &mut self.requests) {
                front_end.load.set_busy(true);
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
        Owner(id): Owner,
        result: Result<SessionGrant, SessionError>,
    ) {
        let connection = front_end
            .connections
            .get(&ConnectionId(id))
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

    pub(crate) fn notify(
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
