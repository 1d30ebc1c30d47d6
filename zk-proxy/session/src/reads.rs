//! Reads and watch operations, answered from the tree view.
//!
//! A read either appends its reply and registers its watch in one step, or, when the view does not
//! hold what it needs, has no effect and names the query to ask the shard. It is then executed again
//! with the answer, when the link has delivered it.

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
use crate::translate::{stat, zxid};
use crate::view::{Lookup, View};
use crate::watch::{Kinds, WatchTable};
use crate::watched::Watched;

/// Why a read could not be answered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The view lacks something: ask the shard.
    Unknown(Query),
    /// The answer is this code.
    Failed(ErrorCode),
}

use ReadError::{Failed, Unknown};

/// What a read works on.
pub(crate) struct Reader<'a> {
    pub(crate) view: &'a View,
    /// What this read asked the shard for so far. The last answer is as of the view's position.
    pub(crate) asked: &'a [(Query, Answer)],
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
            Err(Unknown(query)) => Err(query),
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
                self.unwatch(path.as_deref().unwrap_or_default(), kinds);
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
        self.find(records(path, with_values), |query, answer| {
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

    fn find<T>(
        &self,
        query: Query,
        matching: impl Fn(&'a Query, &'a Answer) -> Option<T>,
    ) -> Result<T, ReadError> {
        for (query, answer) in self.asked {
            if *answer == Answer::Failed {
                return Err(Failed(ErrorCode::SYSTEM_ERROR));
            }
            if let Some(found) = matching(query, answer) {
                return Ok(found);
            }
        }
        Err(Unknown(query))
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
        Ok((head, names))
    }

    fn fetched_children(&self, path: &str) -> Result<Option<&'a ChildNames>, ReadError> {
        self.find(
            Query::ChildNames { path: path.into() },
            |query, answer| match (query, answer) {
                (Query::ChildNames { path: asked }, Answer::ChildNames(found))
                    if asked.as_str() == path =>
                {
                    Some(found.as_ref())
                }
                _ => None,
            },
        )
    }

    fn exists(&mut self, path: &str, watch: bool) -> Result<&'a Head, ReadError> {
        if path.contains('\0') {
            return Err(Failed(ErrorCode::BAD_ARGUMENTS));
        }
        let head = self.head(path)?;
        if let Some(head) = head {
            self.require(head, Permission::Read)?;
        }
        self.watch(path, watch, Kinds::DATA);
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
        self.find(Query::Barrier, |_, answer| {
            (*answer == Answer::Barrier).then_some(())
        })
    }

    fn ephemerals(&self, prefix: Option<&str>) -> Result<&'a [Path], ReadError> {
        let prefix = prefix.filter(|prefix| !matches!(prefix.trim(), "" | "/"));
        let prefix = prefix.unwrap_or_default().to_owned();
        self.find(
            Query::Ephemerals {
                session: self.session,
                prefix,
            },
            |_, answer| match answer {
                Answer::Ephemerals(paths) => Some(paths.as_slice()),
                _ => None,
            },
        )
    }

    fn descendants(&self, path: &str) -> Result<u64, ReadError> {
        // By its empty name the root is not one of those that are not counted.
        let root_itself = u64::from(path.is_empty());
        let path = or_root(path);
        let head = self.head(path)?.ok_or(Failed(ErrorCode::NO_NODE))?;
        self.require(head, Permission::Read)?;
        let count =
            self.find(
                Query::DescendantCount { path: path.into() },
                |_, answer| match answer {
                    Answer::DescendantCount(count) => Some(*count),
                    _ => None,
                },
            )?;
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
        // Nothing may be written before it is certain that nothing is unknown.
        let mut results = Vec::with_capacity(reads.len());
        let mut code = ErrorCode::OK;
        for read in reads {
            let (MultiReadOp::GetData { path, .. } | MultiReadOp::GetChildren { path, .. }) = read;
            let Some(path) = path.as_deref() else {
                code = ErrorCode::MARSHALLING_ERROR;
                break;
            };
            let found = match read {
                MultiReadOp::GetData { .. } => self
                    .record(path)
                    .map(|(head, value)| Found::Data(head, value)),
                MultiReadOp::GetChildren { .. } => {
                    self.children(path).map(|(_, names)| Found::Children(names))
                }
            };
            results.push(match found {
                Ok(found) => found,
                Err(Failed(code)) => Found::Nothing(code),
                Err(unknown) => return Err(unknown),
            });
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
        self.watch(path.unwrap_or_default(), true, kinds);
        Ok(())
    }

    /// The kinds of watch that `kind` names and this connection has on `path`.
    fn find_watch(&self, path: Option<&str>, kind: i32) -> Result<Kinds, ReadError> {
        let kinds = match kind {
            1 => Kinds::CHILD,
            2 => Kinds::DATA,
            3 => Kinds::ANY,
            4 => Kinds::PERSISTENT,
            5 => Kinds::RECURSIVE,
            _ => return Err(Failed(ErrorCode::MARSHALLING_ERROR)),
        };
        if self
            .watched
            .kinds(path.unwrap_or_default())
            .intersects(kinds)
        {
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
            self.event_or_watch(path, event, Kinds::DATA, out);
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
            self.watch(path.as_deref().unwrap_or_default(), true, Kinds::PERSISTENT);
        }
        for path in required_list(lists.recursive)? {
            self.watch(path.as_deref().unwrap_or_default(), true, Kinds::RECURSIVE);
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
        let unknown = |path: &str| matches!(self.head(path), Err(Unknown(_)));
        if !looked_at.clone().any(unknown) {
            return Ok(());
        }
        let mut paths: Vec<Path> = looked_at.map(Path::from).collect();
        paths.sort_unstable();
        paths.dedup();
        Err(Unknown(Query::Records {
            paths,
            with_values: false,
        }))
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

/// The empty path is another name of the root, for reads.
fn or_root(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

fn records(path: &str, with_values: bool) -> Query {
    Query::Records {
        paths: vec![path.into()],
        with_values,
    }
}
