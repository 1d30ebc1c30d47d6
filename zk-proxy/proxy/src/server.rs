//! Listens for clients, and does what must be done from time to time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use dashmap::DashMap;
use oxkeeper_link::{Link, LinkError, LinkSink, Opened, Request, Shard};
use oxkeeper_model::{Revision, SessionId};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::monitor;
use crate::connection::{self, Connection, ConnectionId};
use crate::consumer::Consumer;
use crate::options::ProxyOptions;
use crate::socket;
use crate::tree::Tree;
use crate::view::View;

/// Connections that the kernel may hold while they wait to be accepted.
const BACKLOG: i32 = 4096;

/// Pause after a failed accept: when file descriptors run out, trying again at once helps nobody.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long a stopping proxy waits for its connections to end.
const STOP: Duration = Duration::from_secs(8);

/// Why a proxy did not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(
        "cannot listen on {address}: {error}; choose another client port or stop whoever has it"
    )]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("the shard does not serve: {0}")]
    Link(#[from] LinkError),
}

/// A running proxy.
pub struct Proxy {
    tree: Arc<Tree>,
    address: SocketAddr,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Proxy {
    /// Opens the link to the shard of the tree and starts to serve clients. Must run in a tokio runtime.
    pub async fn start(options: ProxyOptions, shard: &dyn Shard) -> Result<Self, StartError> {
        let listen_error = |error| StartError::Listen {
            address: options.client_address,
            error,
        };
        let listener = listen(options.client_address).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let tree = open_tree(options, shard)?;
        let proxy = Self {
            tree,
            address,
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let acceptor = Acceptor {
            tree: Arc::clone(&proxy.tree),
            shutdown: proxy.shutdown.clone(),
            tasks: proxy.tasks.clone(),
            last_id: AtomicU64::new(0),
            per_address: Arc::default(),
        };
        proxy.tasks.spawn(acceptor.run(listener));
        proxy
            .tasks
            .spawn(heartbeat(Arc::clone(&proxy.tree), proxy.shutdown.clone()));
        Ok(proxy)
    }

    /// Where it listens; tells the port if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the shard serves.
    pub fn is_serving(&self) -> bool {
        self.tree.serving.load(Relaxed)
    }

    /// Everything that is counted, under ZooKeeper's names.
    pub async fn publish_metrics(&self) {
        monitor::publish(&self.tree).await;
    }

    /// Stops accepting, answers what was received, closes the connections. Sessions live on.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP, self.tasks.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Hands the link's events on once the tree that consumes them exists.
fn open_tree(options: ProxyOptions, shard: &dyn Shard) -> Result<Arc<Tree>, LinkError> {
    let view = View::new(Revision(0), options.view_cache_bytes);
    let tree = Arc::new(Tree::new(options, view));
    // Whatever is delivered meanwhile waits for the view, whose position is known only now.
    let mut view = tree.view.write();
    let sink: Box<dyn LinkSink> = Box::new(Consumer::new(Arc::clone(&tree)));
    let (link, opened): (Arc<dyn Link>, Opened) = shard.open(None, sink)?;
    view.start_at(opened.position);
    tree.set_link(link);
    drop(view);
    Ok(tree)
}

struct Acceptor {
    tree: Arc<Tree>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    last_id: AtomicU64,
    per_address: Arc<DashMap<IpAddr, u32>>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.on_accepted(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn on_accepted(&self, stream: TcpStream, peer: SocketAddr) {
        let tree = &self.tree;
        let Some(place) = self.place(peer.ip()) else {
            tree.stats.connections_rejected.fetch_add(1, Relaxed);
            tracing::warn!(%peer, "too many connections: closing a new one");
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection lost before it began");
            return;
        }
        tree.stats.connections_accepted.fetch_add(1, Relaxed);
        let id = ConnectionId(self.last_id.fetch_add(1, Relaxed) + 1);
        let connection = Arc::new(Connection::new(id, peer, tree.options.skip_acl));
        tree.connections.insert(id, Arc::clone(&connection));
        let (tree, shutdown) = (Arc::clone(tree), self.shutdown.clone());
        self.tasks.spawn(async move {
            let (socket, direct) = socket::share(stream);
            connection::serve(tree, connection, socket, Some(direct), shutdown).await;
            drop(place);
        });
    }

    /// A place under the connection limits.
    fn place(&self, address: IpAddr) -> Option<Place> {
        let options = &self.tree.options;
        let all = options.max_connections as usize;
        if all > 0 && self.tree.connections.len() >= all {
            return None;
        }
        let mut count = self.per_address.entry(address).or_default();
        if options.max_client_connections > 0 && *count >= options.max_client_connections {
            return None;
        }
        *count += 1;
        Some(Place {
            per_address: Arc::clone(&self.per_address),
            address,
        })
    }
}

/// One connection's place among those of its address; given back when dropped.
struct Place {
    per_address: Arc<DashMap<IpAddr, u32>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut count) = self.per_address.get_mut(&self.address) {
            *count -= 1;
        }
        self.per_address
            .remove_if(&self.address, |_, count| *count == 0);
    }
}

/// Tells the shard, several times per tick, which sessions were heard of.
async fn heartbeat(tree: Arc<Tree>, shutdown: CancellationToken) {
    /// Heartbeats per tick: a session's deadline lags by less than this share.
    const PER_TICK: u32 = 8;
    let period = Duration::from_millis(u64::from(
        tree.options.tick_time_ms.max(PER_TICK) / PER_TICK,
    ));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let sessions: Vec<_> = tree
            .connections
            .iter()
            .filter(|entry| entry.value().touched.swap(false, Relaxed))
            .map(|entry| SessionId(entry.value().session.load(Relaxed)))
            .filter(|session| *session != SessionId(0))
            .collect();
        if sessions.is_empty() {
            continue;
        }
        if let Err(reason) = tree.send(&mut vec![Request::Heartbeat { sessions }]) {
            tracing::warn!(%reason, "cannot send heartbeats to the shard");
        }
    }
}
