//! Listens for clients, and does what must be done from time to time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use dashmap::DashMap;
use oxkeeper_link::{LinkError, Shard};
use oxkeeper_wire::Word;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, TaskWaker};
use super::limits::{ACCEPT_PAUSE, BACKLOG, HEARTBEATS_PER_TICK, STOP};
use super::socket;
use crate::admin::{Sample, Unwell, four_letter, health, monitor};
use crate::options::ProxyOptions;
use crate::service::Service;

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
    service: Arc<Service>,
    address: SocketAddr,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    acceptor: JoinHandle<()>,
}

impl Proxy {
    /// Opens the link to the shard of the tree and starts to serve clients. Must run in a tokio runtime.
    pub fn start(options: ProxyOptions, shard: Arc<dyn Shard>) -> Result<Self, StartError> {
        let listen_error = |error| StartError::Listen {
            address: options.client_address,
            error,
        };
        let listener = listen(options.client_address).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let service = Service::start(options, shard)?;
        let service = Arc::new(service);
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let acceptor = Acceptor {
            service: Arc::clone(&service),
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
            per_address: Arc::default(),
        };
        let acceptor = tasks.spawn(acceptor.run(listener));
        tasks.spawn(heartbeat(Arc::clone(&service), shutdown.clone()));
        Ok(Self {
            service,
            address,
            shutdown,
            tasks,
            acceptor,
        })
    }

    /// Where it listens; tells the port if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether clients can connect, and the shard answers within a time.
    pub async fn check(&self, within: Duration) -> Result<(), Unwell> {
        if self.acceptor.is_finished() {
            return Err(Unwell::NotAccepting);
        }
        health::ask_shard(&self.service, within).await
    }

    /// Everything that is counted, under ZooKeeper's names.
    pub async fn samples(&self) -> Vec<Sample> {
        monitor::samples(&self.service).await
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

struct Acceptor {
    service: Arc<Service>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
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
        let service = &self.service;
        let Some(place) = self.place(peer.ip()) else {
            service.stats.connections_rejected.fetch_add(1, Relaxed);
            tracing::warn!(%peer, "too many connections: closing a new one");
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection lost before it began");
            return;
        }
        let (socket, direct) = socket::share(stream);
        // An error shows again when the task writes.
        let direct = Box::new(move |bytes: &[u8]| direct.write(bytes).unwrap_or(0));
        let waker = Arc::new(TaskWaker::default());
        let task_waker = Arc::clone(&waker).into();
        let mut endpoint =
            service
                .front_end
                .connect(peer, task_waker, Some(direct), service.clock.now());
        if !four_letter::is_allowed(&service.options, Word::Stmk) {
            endpoint.refuse_trace_mask();
        }
        let (service, shutdown) = (Arc::clone(service), self.shutdown.clone());
        self.tasks.spawn(async move {
            connection::serve(service, endpoint, waker, socket, shutdown).await;
            drop(place);
        });
    }

    /// A place under the connection limits.
    fn place(&self, address: IpAddr) -> Option<Place> {
        let options = &self.service.options;
        let all = options.max_connections as usize;
        if all > 0 && self.service.connection_count() >= all {
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
async fn heartbeat(service: Arc<Service>, shutdown: CancellationToken) {
    let tick_ms = service.options.tick_time_ms.max(HEARTBEATS_PER_TICK);
    let period = Duration::from_millis(u64::from(tick_ms / HEARTBEATS_PER_TICK));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        service.tick();
    }
}
