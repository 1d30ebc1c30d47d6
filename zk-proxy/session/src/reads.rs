//! Reads and watch operations, answered from the tree view.
//!
//! A read either appends its reply and registers its watch in one step, or, when the view does not
//! hold what it needs, has no effect and names the query to ask the shard: one for everything that it
//! lacks. It is then executed again with the answer, when the link has delivered it, and with the view as of the
//! same revision. If the view has lost something else meanwhile, the second query is for everything.

use std::cell::RefCell;
use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use oxkeeper_model::{
    Answer, ChildNames, Fetched, Head, Identities, Path, Permission, Query, SessionId, permits,
};
use oxkeeper_wire::{
    AclRecord, BodyWriter, EVENT_ZXID_NONE, ErrorCode, EventType, MultiReadOp, Paths, Request,
    Text, notification, reply,
};

use crate::auth;
use crate::connection::ConnectionId;
use crate::limits::REPLY_BYTES_MAX;
use crate::translate::{stat, zxid};
use crate::view::{Lookup, View};
use crate::watch::{Kinds, WatchTable};
use crate::watched::Watched;

/// Why a read could not be answered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The view lacks something, which stands in the reader's needs.
    Unknown,
    /// The answer is this code.
    Failed(ErrorCode),
}

use ReadError::{Failed, Unknown};

/// What is found is more than a reply may hold.
const TOO_LARGE: ReadError = Failed(ErrorCode::BAD_ARGUMENTS);

/// About what a result takes beside its value or names: a Stat and two headers.
const FOUND_BYTES: usize = 96;

/// Before each text.
const LENGTH_BYTES: usize = 4;

/// What a read works on.
pub(crate) struct Reader<'a> {
    pub(crate) view: &'a View,
    /// What this read asked the shard for, and the answer, as of the view's position.
    pub(crate) asked: Option<&'a (Query, Answer)>,
    pub(crate) needs: RefCell<Needs>,
    pub(crate) watches: &'a WatchTable,
    pub(crate) watched: &'a mut Watched,
    pub(crate) connection: ConnectionId,
    pub(crate) session: SessionId,
    pub(crate) identities: &'a Identities,
}

type Names<'a> = Vec<&'a str>;

impl<'a> Reader<'a> {
    /// Appends the reply, unless the view lacks something; then the query that would help.
    pub(crate) fn execute(
        &mut self,
        xid: i32,
        request: &Request<'_>,
        out: &mut BytesMut,
    ) -> Result<ErrorCode, Query> {
        let zxid = zxid(self.view.position());
        match self.answer(xid, zxid, request, out) {
            Ok(()) => Ok(ErrorCode::OK),
            Err(Unknown) => Err(self.needs.take().into_query()),
            Err(Failed(code)) => {
                reply(out, xid, zxid, code, |_| {});
                Ok(code)
            }
        }
    }

    fn answer(
        &mut self,
        xid: i32,
        zxid: i64,
        request: &Request<'_>,
        out: &mut BytesMut,
    ) -> Result<(), ReadError> {
        let ok = |out: &mut BytesMut, body: &mut dyn FnMut(&mut BodyWriter<'_>)| {
            reply(out, xid, zxid, ErrorCode::OK, |writer| body(writer));
        };
        match request {
            Request::GetData { path, watch } => {
                let path = required(path)?;
                let (head, value) = self.record(path)?;
                self.watch(path, *watch, Kinds::DATA);
                ok(out, &mut |body| {
                    body.buffer(value.map(|value| &**value));
                    body.stat(&stat(head));
                });
            }
            Request::Exists { path, watch } => {
                let head = self.exists(required(path)?, *watch)?;
                ok(out, &mut |body| body.stat(&stat(head)));
            }
            Request::GetChildren { path, watch } => {
                let path = required(path)?;
                let (_, names) = self.children(path)?;
                self.watch(path, *watch, Kinds::CHILD);
                ok(out, &mut |body| body.texts(&names));
            }
            Request::GetChildren2 { path, watch } => {
                let path = required(path)?;
                let (head, names) = self.children(path)?;
                self.watch(path, *watch, Kinds::CHILD);
                ok(out, &mut |body| {
                    body.texts(&names);
                    body.stat(&stat(head));
                });
            }
            Request::GetAcl { path } => {
                let head = self
                    .head(required(path)?)?
                    .ok_or(Failed(ErrorCode::NO_NODE))?;
                let acl = self.visible_acl(head)?;
                ok(out, &mut |body| {
                    body.acl(
                        acl.iter().map(|entry| {
                            AclRecord::new(entry.permissions, &entry.scheme, &entry.id)
                        }),
                    );
                    body.stat(&stat(head));
                });
            }
            Request::Sync { path } => {
                self.barrier()?;
                ok(out, &mut |body| body.text(path.as_deref()));
            }
            Request::GetEphemerals { prefix } => {
                let paths = self.ephemerals(prefix.as_deref())?;
                ok(out, &mut |body| body.texts(paths.iter().map(Path::as_str)));
            }
            Request::GetAllChildrenNumber { path } => {
                let count = self.descendants(required(path)?)?;
                ok(out, &mut |body| body.int(count as i32));
            }
            Request::MultiRead(reads) => self.multi_read(xid, zxid, reads, out)?,
            Request::WhoAmI => {
                let infos: Vec<_> = self
                    .identities
                    .iter()
                    .map(|identity| (&*identity.scheme, auth::user_of(identity)))
                    .collect();
                ok(out, &mut |body| body.client_infos(infos.iter().copied()));
            }
            _ => {
                let number = self.watch_request(request, out)?;
                ok(out, &mut |body| {
                    number.into_iter().for_each(|number| body.int(number))
                });
            }
        }
        Ok(())
    }

    /// Requests about watches only. What is returned is the body of the reply, if it has one.
    fn watch_request(
        &mut self,
        request: &Request<'_>,
        out: &mut BytesMut,
    ) -> Result<Option<i32>, ReadError> {
        match request {
            Request::AddWatch { path, mode } => {
                self.add_watch(path.as_deref(), *mode)?;
                return Ok(Some(ErrorCode::OK.0));
            }
            Request::CheckWatches { path, kind } => {
                self.find_watch(path.as_deref(), *kind)?;
            }
            Request::RemoveWatches { path, kind } => {
                let kinds = self.find_watch(path.as_deref(), *kind)?;
                self.unwatch(watched_path(path.as_deref()), kinds);
            }
            Request::SetWatches { .. } | Request::SetWatches2 { .. } => {
                self.set_watches(request, out)?;
            }
            _ => return Err(Failed(ErrorCode::UNIMPLEMENTED)),
        }
        Ok(None)
    }

    /// The head at `path`, if there is a record.
    fn head(&self, path: &str) -> Result<Option<&'a Head>, ReadError> {
        let path = or_root(path);
        match self.view.head(path) {
            Lookup::Present(head) => Ok(Some(head)),
            Lookup::Absent => Ok(None),
            Lookup::Unknown => Ok(self.fetched(path, false)?.map(|found| &*found.head)),
        }
    }

    /// What the shard said of the record at `path`; the query for it if it was not asked.
    fn fetched(&self, path: &str, with_values: bool) -> Result<Option<&'a Fetched>, ReadError> {
        let need = |needs: &mut Needs| needs.record(path, with_values);
        self.find(need, |query, answer| {
            let (
                Query::Records {
                    paths,
                    with_values: had_values,
                },
                Answer::Records(found),
            ) = (query, answer)
            else {
                return None;
            };
            let at = paths
                .binary_search_by(|asked| asked.as_str().cmp(path))
                .ok()?;
            (*had_values || !with_values).then(|| found.get(at).and_then(Option::as_ref))
        })
    }

    /// What the shard answered to the first query that matches; else `need` is noted.
    fn find<T>(
        &self,
        need: impl FnOnce(&mut Needs),
        matching: impl Fn(&'a Query, &'a Answer) -> Option<T>,
    ) -> Result<T, ReadError> {
        let found = match self.asked {
            None => None,
            Some((_, Answer::Failed)) => return Err(Failed(ErrorCode::SYSTEM_ERROR)),
            Some((_, Answer::TooLarge)) => return Err(TOO_LARGE),
            Some((Query::Batch { queries, .. }, Answer::Batch(answers))) => {
                let mut pairs = queries.iter().zip(answers);
                pairs.find_map(|(query, answer)| matching(query, answer))
            }
            Some((query, answer)) => matching(query, answer),
        };
        found.ok_or_else(|| {
            need(&mut self.needs.borrow_mut());
            Unknown
        })
    }

    /// The record at `path`, which must exist and be readable.
    fn record(&self, path: &str) -> Result<(&'a Head, Option<&'a Bytes>), ReadError> {
        let path = or_root(path);
        let found = match self.view.record(path) {
            Lookup::Present((head, value)) => Some((head, value)),
            Lookup::Absent => None,
            Lookup::Unknown => self
                .fetched(path, true)?
                .map(|found| (&*found.head, found.value.as_ref().and_then(Option::as_ref))),
        };
        let (head, value) = found.ok_or(Failed(ErrorCode::NO_NODE))?;
        self.require(head, Permission::Read)?;
        Ok((head, value))
    }

    /// The children of the record at `path`, which must exist and be readable.
    fn children(&self, path: &str) -> Result<(&'a Head, Names<'a>), ReadError> {
        let path = or_root(path);
        let (head, names): (&Head, Names<'a>) = match self.view.children(path) {
            Lookup::Present((head, names)) => (head, names.iter().map(|name| &**name).collect()),
            Lookup::Absent => return Err(Failed(ErrorCode::NO_NODE)),
            Lookup::Unknown => {
                let found = self
                    .fetched_children(path)?
                    .ok_or(Failed(ErrorCode::NO_NODE))?;
                (
                    &found.head,
                    found.names.iter().map(|name| &**name).collect(),
                )
            }
        };
        self.require(head, Permission::Read)?;
        if names_bytes(&names) > REPLY_BYTES_MAX {
            return Err(TOO_LARGE);
        }
        Ok((head, names))
    }

    fn fetched_children(&self, path: &str) -> Result<Option<&'a ChildNames>, ReadError> {
        if let Some((Query::Batch { queries, .. }, Answer::Batch(answers))) = self.asked {
            let found = child_names_of(queries, path).and_then(|at| answers.get(at));
            if let Some(Answer::ChildNames(found)) = found {
                return Ok(found.as_ref());
            }
        }
        self.find(|needs| needs.children(path), |_, _| None)
    }

    fn exists(&mut self, path: &str, watch: bool) -> Result<&'a Head, ReadError> {
        if path.contains('\0') {
            return Err(Failed(ErrorCode::BAD_ARGUMENTS));
        }
        let head = self.head(path)?;
        if let Some(head) = head {
            self.require(head, Permission::Read)?;
        }
        let kinds = match head {
            Some(_) => Kinds::DATA,
            None => Kinds::DATA.with(Kinds::ABSENT),
        };
        self.watch(path, watch, kinds);
        head.ok_or(Failed(ErrorCode::NO_NODE))
    }

    fn visible_acl(&self, head: &Head) -> Result<oxkeeper_model::Acl, ReadError> {
        let may = |permission| permits(&head.acl, self.identities, permission);
        if !may(Permission::Read) && !may(Permission::Admin) {
            return Err(Failed(ErrorCode::NO_AUTH));
        }
        Ok(auth::visible(&head.acl, self.identities))
    }

    fn require(&self, head: &Head, permission: Permission) -> Result<(), ReadError> {
        if permits(&head.acl, self.identities, permission) {
            return Ok(());
        }
        Err(Failed(ErrorCode::NO_AUTH))
    }

    fn barrier(&self) -> Result<(), ReadError> {
        let need = |needs: &mut Needs| needs.other.push(Query::Barrier);
        self.find(need, |_, answer| (*answer == Answer::Barrier).then_some(()))
    }

    fn ephemerals(&self, prefix: Option<&str>) -> Result<&'a [Path], ReadError> {
        let prefix = prefix.filter(|prefix| !matches!(prefix.trim(), "" | "/"));
        let prefix = prefix.unwrap_or_default().to_owned();
        let query = Query::Ephemerals {
            session: self.session,
            prefix,
        };
        let need = |needs: &mut Needs| needs.other.push(query);
        self.find(need, |_, answer| match answer {
            Answer::Ephemerals(paths) => Some(paths.as_slice()),
            _ => None,
        })
    }

    fn descendants(&self, path: &str) -> Result<u64, ReadError> {
        // By its empty name the root is not one of those that are not counted.
        let root_itself = u64::from(path.is_empty());
        let path = or_root(path);
        let query = Query::DescendantCount { path: path.into() };
        let need = |needs: &mut Needs| {
            needs.record(path, false);
            needs.other.push(query);
        };
        let count = self.find(need, |_, answer| match answer {
            Answer::DescendantCount(count) => Some(*count),
            _ => None,
        })?;
        let head = self.head(path)?.ok_or(Failed(ErrorCode::NO_NODE))?;
        self.require(head, Permission::Read)?;
        count
            .map(|count| count + root_itself)
            .ok_or(Failed(ErrorCode::NO_NODE))
    }

    /// Every read on its own; a failed one does not fail the others. A null path does, but what was
    /// read before it is told all the same.
    fn multi_read(
        &self,
        xid: i32,
        zxid: i64,
        reads: &[MultiReadOp<'_>],
        out: &mut BytesMut,
    ) -> Result<(), ReadError> {
        // Nothing may be written before it is certain that nothing is unknown, and how much it will be.
        let mut results = Vec::with_capacity(reads.len());
        let mut code = ErrorCode::OK;
        let mut bytes = 0;
        let mut unknown = false;
        for read in reads {
            let Some(path) = path_of(read) else {
                code = ErrorCode::MARSHALLING_ERROR;
                break;
            };
            let found = match self.found(read, path) {
                Err(Unknown) => {
                    unknown = true;
                    continue;
                }
                Err(Failed(code)) => Found::Nothing(code),
                Ok(found) => found,
            };
            bytes += found.reply_bytes();
            if bytes > REPLY_BYTES_MAX {
                return Err(TOO_LARGE);
            }
            results.push(found);
        }
        if unknown {
            if self.asked.is_some() {
                self.need_all(reads);
            }
            return Err(Unknown);
        }
        reply(out, xid, zxid, code, |body| {
            results.iter().for_each(|result| match result {
                Found::Data(head, value) => {
                    body.multi_data(value.map(|value| &**value), &stat(head))
                }
                Found::Children(names) => body.multi_children(names),
                Found::Nothing(code) => body.multi_error(*code),
            });
            body.multi_end();
        });
        Ok(())
    }

    fn found(&self, read: &MultiReadOp<'_>, path: &str) -> Result<Found<'a>, ReadError> {
        match read {
            MultiReadOp::GetData { .. } => {
                let (head, value) = self.record(path)?;
                Ok(Found::Data(head, value))
            }
            MultiReadOp::GetChildren { .. } => {
                let (_, names) = self.children(path)?;
                Ok(Found::Children(names))
            }
        }
    }

    /// The answer to this is enough, whatever the view loses before it comes.
    fn need_all(&self, reads: &[MultiReadOp<'_>]) {
        let mut needs = self.needs.borrow_mut();
        for read in reads {
            let Some(path) = path_of(read).map(or_root) else {
                break;
            };
            match read {
                MultiReadOp::GetData { .. } => needs.record(path, true),
                MultiReadOp::GetChildren { .. } => needs.children(path),
            }
        }
    }

    fn watch(&mut self, path: &str, wanted: bool, kinds: Kinds) {
        if wanted {
            self.watched.add(self.watches, self.connection, path, kinds);
        }
    }

    fn unwatch(&mut self, path: &str, kinds: Kinds) {
        self.watched
            .remove(self.watches, self.connection, path, kinds);
    }

    fn add_watch(&mut self, path: Option<&str>, mode: i32) -> Result<(), ReadError> {
        let kinds = match mode {
            0 => Kinds::PERSISTENT,
            1 => Kinds::RECURSIVE,
            _ => return Err(Failed(ErrorCode::MARSHALLING_ERROR)),
        };
        self.watch(watched_path(path), true, kinds);
        Ok(())
    }

    /// The kinds of watch that `kind` names and this connection has on `path`.
    fn find_watch(&self, path: Option<&str>, kind: i32) -> Result<Kinds, ReadError> {
        let kinds = match kind {
            1 => Kinds::CHILD,
            2 => Kinds::DATA.with(Kinds::ABSENT),
            3 => Kinds::ANY,
            4 => Kinds::PERSISTENT,
            5 => Kinds::RECURSIVE,
            _ => return Err(Failed(ErrorCode::MARSHALLING_ERROR)),
        };
        if self.watched.kinds(watched_path(path)).intersects(kinds) {
            return Ok(kinds);
        }
        Err(Failed(ErrorCode::NO_WATCHER))
    }

    /// After a reconnect: events for what the client missed, watches for the rest. As in ZooKeeper,
    /// a null path fails the request only when its turn comes.
    fn set_watches(&mut self, request: &Request<'_>, out: &mut BytesMut) -> Result<(), ReadError> {
        let Some(lists) = WatchLists::of(request) else {
            return Ok(());
        };
        self.know_all(&lists)?;
        for path in required_list(lists.data)? {
            let path = required(path)?;
            let event = match self.known(path) {
                None => Some(EventType::NodeDeleted),
                Some(head) if zxid(head.modified_revision) > lists.relative_zxid => {
                    Some(EventType::NodeDataChanged)
                }
                Some(_) => None,
            };
            self.event_or_watch(path, event, Kinds::DATA, out);
        }
        for path in required_list(lists.exist)? {
            let path = required(path)?;
            let event = self.known(path).map(|_| EventType::NodeCreated);
            self.event_or_watch(path, event, Kinds::DATA.with(Kinds::ABSENT), out);
        }
        for path in required_list(lists.child)? {
            let path = required(path)?;
            let event = match self.known(path) {
                None => Some(EventType::NodeDeleted),
                Some(head) if zxid(head.children.last_change) > lists.relative_zxid => {
                    Some(EventType::NodeChildrenChanged)
                }
                Some(_) => None,
            };
            self.event_or_watch(path, event, Kinds::CHILD, out);
        }
        for path in required_list(lists.persistent)? {
            self.watch(watched_path(path.as_deref()), true, Kinds::PERSISTENT);
        }
        for path in required_list(lists.recursive)? {
            self.watch(watched_path(path.as_deref()), true, Kinds::RECURSIVE);
        }
        Ok(())
    }

    fn event_or_watch(
        &mut self,
        path: &str,
        event: Option<EventType>,
        kinds: Kinds,
        out: &mut BytesMut,
    ) {
        match event {
            Some(event) => notification(out, EVENT_ZXID_NONE, event, path),
            None => self.watch(path, true, kinds),
        }
    }

    /// Asks for all heads at once unless the view has them, or the shard has just told.
    fn know_all(&self, lists: &WatchLists<'_>) -> Result<(), ReadError> {
        let all = [lists.data, lists.exist, lists.child];
        let all = all.into_iter().filter_map(Option::as_ref).flatten();
        let looked_at = all.filter_map(Option::as_deref).map(or_root);
        let is_unknown = |path: &str| matches!(self.head(path), Err(Unknown));
        if !looked_at.clone().any(is_unknown) {
            return Ok(());
        }
        let mut needs = self.needs.borrow_mut();
        looked_at.for_each(|path| needs.record(path, false));
        Err(Unknown)
    }

    /// The head at `path`, after `know_all`.
    fn known(&self, path: &str) -> Option<&'a Head> {
        self.head(path).ok().flatten()
    }
}

enum Found<'a> {
    Data(&'a Head, Option<&'a Bytes>),
    Children(Names<'a>),
    Nothing(ErrorCode),
}

impl Found<'_> {
    /// About what it takes in a reply.
    fn reply_bytes(&self) -> usize {
        FOUND_BYTES
            + match self {
                Self::Data(_, value) => value.map_or(0, Bytes::len),
                Self::Children(names) => names_bytes(names),
                Self::Nothing(_) => 0,
            }
    }
}

fn names_bytes(names: &[&str]) -> usize {
    names.iter().map(|name| LENGTH_BYTES + name.len()).sum()
}

fn path_of<'r>(read: &'r MultiReadOp<'_>) -> Option<&'r str> {
    let (MultiReadOp::GetData { path, .. } | MultiReadOp::GetChildren { path, .. }) = read;
    path.as_deref()
}

/// Where the query for the children of `path` stands in a batch that [`Needs`] made.
fn child_names_of(queries: &[Query], path: &str) -> Option<usize> {
    let start = queries.partition_point(|query| !matches!(query, Query::ChildNames { .. }));
    let asked = |query: &Query| match query {
        Query::ChildNames { path: asked } => asked.as_str().cmp(path),
        _ => std::cmp::Ordering::Less,
    };
    let at = queries[start..].binary_search_by(asked).ok()?;
    Some(start + at)
}

/// What a read lacks.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    heads: BTreeSet<Path>,
    /// With their heads.
    values: BTreeSet<Path>,
    children: BTreeSet<Path>,
    other: Vec<Query>,
}

impl Needs {
    fn record(&mut self, path: &str, with_value: bool) {
        let paths = match with_value {
            true => &mut self.values,
            false => &mut self.heads,
        };
        paths.insert(path.into());
    }

    fn children(&mut self, path: &str) {
        self.children.insert(path.into());
    }

    /// One query for everything. Paths are sorted, and those of children come last.
    fn into_query(self) -> Query {
        let Self {
            heads,
            values,
            children,
            other,
        } = self;
        let records = [(heads, false), (values, true)].into_iter();
        let records = records.filter(|(paths, _)| !paths.is_empty());
        let records = records.map(|(paths, with_values)| Query::Records {
            paths: paths.into_iter().collect(),
            with_values,
        });
        let children = children.into_iter().map(|path| Query::ChildNames { path });
        let mut queries: Vec<_> = records.chain(other).chain(children).collect();
        let bounded = |query: &Query| match query {
            Query::Records { paths, .. } => paths.len() == 1,
            Query::ChildNames { .. } | Query::Ephemerals { .. } => false,
            _ => true,
        };
        match queries.pop() {
            Some(query) if queries.is_empty() && bounded(&query) => query,
            last => Query::Batch {
                queries: queries.into_iter().chain(last).collect(),
                bytes_max: REPLY_BYTES_MAX,
            },
        }
    }
}

struct WatchLists<'r> {
    relative_zxid: i64,
    data: &'r Paths<'r>,
    exist: &'r Paths<'r>,
    child: &'r Paths<'r>,
    persistent: &'r Paths<'r>,
    recursive: &'r Paths<'r>,
}

/// What setWatches has where setWatches2 has more.
static NO_PATHS: Paths<'static> = Some(Vec::new());

impl<'r> WatchLists<'r> {
    /// `None` if the request is not one of the two.
    fn of(request: &'r Request<'r>) -> Option<Self> {
        match request {
            Request::SetWatches {
                relative_zxid,
                data,
                exist,
                child,
            } => Some(Self {
                relative_zxid: *relative_zxid,
                data,
                exist,
                child,
                persistent: &NO_PATHS,
                recursive: &NO_PATHS,
            }),
            Request::SetWatches2 {
                relative_zxid,
                data,
                exist,
                child,
                persistent,
                persistent_recursive,
            } => Some(Self {
                relative_zxid: *relative_zxid,
                data,
                exist,
                child,
                persistent,
                recursive: persistent_recursive,
            }),
            _ => None,
        }
    }
}

/// As with a null path.
fn required_list<'r>(paths: &'r Paths<'r>) -> Result<&'r [Text<'r>], ReadError> {
    paths.as_deref().ok_or(Failed(ErrorCode::MARSHALLING_ERROR))
}

/// ZooKeeper fails on a null path as on a garbled record.
fn required<'r>(path: &'r Text<'_>) -> Result<&'r str, ReadError> {
    path.as_deref().ok_or(Failed(ErrorCode::MARSHALLING_ERROR))
}

/// The path under which a watch is kept. ZooKeeper keeps a null path apart from the empty one, and
/// shows it as this; no event ever concerns it.
fn watched_path(path: Option<&str>) -> &str {
    path.unwrap_or("null")
}

/// The empty path is another name of the root, for reads.
fn or_root(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}
