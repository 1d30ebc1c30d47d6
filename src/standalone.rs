//! The role `standalone`: one process with a node, a proxy and an HTTP server, put together here.
//!
//! It starts from the inside out (store, shards, proxy, pages), so that whoever can connect is served, and stops
//! from the outside in, so that what was received is answered and what was answered is kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use oxkeeper_link::Shard;
use oxkeeper_model::ShardId;
use oxkeeper_node::{Node, NodeOptions};
use oxkeeper_proxy::{NodeSamples, Proxy, ProxyOptions, SessionOptions, tree_seed};
use oxkeeper_store_rocksdb::{BlockCache, RocksOptions, RocksStore};
use tokio::net::{TcpListener, lookup_host};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Host, Loaded, Port};
use crate::logging::Log;
use crate::node_metrics::NodeMetrics;
use crate::screen::Screen;
use crate::{files, hint, http, logging, shutdown};

/// What places the one tree that is served.
const TREE_PARTITION_KEY: &str = "/";

/// Runs until a signal or a failure. An error was not logged yet.
pub(crate) fn run(loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, warnings } = loaded;
    let log = logging::start(&config.log_level, config.log_format)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    files::raise_limit();
    files::keep_private();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads())
        .thread_name("proxy")
        .enable_all()
        .build()
        .context("cannot start the threads that serve connections")?;
    runtime.block_on(serve(config, log.0.clone()))
}

async fn serve(config: Config, log: Log) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal(log)?;
    let pages_listener = listen_for_http(&config).await?;
    let node = Arc::new(start_node(&config, shutdown.clone()).await?);
    let proxy = Arc::new(start_proxy(&config, &node).await?);
    let stopped = CancellationToken::new();
    let pages = http::Pages {
        shutdown: shutdown.clone(),
        proxy: Arc::clone(&proxy),
    };
    let screen = Screen {
        client: proxy.address(),
        http: pages_listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok()),
        data_dir: config.data_dir.0.clone(),
        shards: config.shards.u32(),
    };
    let http =
        pages_listener.map(|listener| tokio::spawn(http::serve(listener, pages, stopped.clone())));
    announce(&screen);

    shutdown.cancelled().await;

    proxy.stop().await;
    let ended = {
        let node = Arc::clone(&node);
        tokio::task::spawn_blocking(move || node.shutdown()).await
    };
    stopped.cancel();
    if let Some(http) = http {
        // It has logged its own failure.
        let _ = http.await;
    }
    ended.context("the shards did not end in order")?;
    match node.failed() {
        None => {
            tracing::info!("stopped");
            Ok(())
        }
        Some((shard, reason)) => anyhow::bail!("shard {shard} has failed: {reason}"),
    }
}

fn announce(screen: &Screen) {
    screen.print();
    tracing::info!(
        client = %screen.client,
        http = screen.http.map(tracing::field::display),
        data_dir = %screen.data_dir.display(),
        shards = screen.shards,
        "serving"
    );
}

fn tree_shard(node: &Node) -> ShardId {
    node.shards().place(TREE_PARTITION_KEY)
}

/// A shard that stops by itself takes the process down: a supervisor starts it again, and the log is replayed.
async fn start_node(config: &Config, shutdown: CancellationToken) -> anyhow::Result<Node> {
    let options = NodeOptions {
        shards: config.shards.u32(),
        seed: tree_seed(),
        session_tick_ms: config.tick_time_ms.u32(),
        reap_interval_ms: config.container_check_interval_ms.u32(),
        on_failure: Some(Arc::new(move |_, _| shutdown.cancel())),
        ..NodeOptions::default()
    };
    let store = RocksOptions {
        block_cache: BlockCache::new(config.block_cache_bytes.usize()),
        ..RocksOptions::default()
    };
    let data_dir = config.data_dir.0.clone();
    // Recovery reads disks and takes its time: not on a thread that serves connections.
    let started = tokio::task::spawn_blocking(move || {
        Node::start(options, &data_dir, |_, path| RocksStore::open(path, &store))
    });
    let node = started.await.context("the node's start panicked")?;
    node.map_err(|error| match hint::of_node(&error) {
        Some(hint) => anyhow::anyhow!("{error}\n{hint}"),
        None => error.into(),
    })
}

async fn start_proxy(config: &Config, node: &Arc<Node>) -> anyhow::Result<Proxy> {
    let tree_shard = tree_shard(node);
    let shard: Arc<dyn Shard> = node
        .shard(tree_shard)
        .context("the tree's shard is not on this node")?;
    let metrics = NodeMetrics::new(node, tree_shard);
    let address = resolve(&config.client_address, config.client_port, "client-address").await?;
    let options = ProxyOptions {
        client_address: address,
        tick_time_ms: config.tick_time_ms.u32(),
        max_client_connections: config.max_client_connections.u32(),
        max_connections: config.max_connections.u32(),
        four_letter_words: match &config.four_letter_words.allowed {
            Some(words) => words.clone(),
            None => vec!["*".to_owned()],
        },
        session: SessionOptions {
            min_timeout_ms: config.session_timeout_ms_min(),
            max_timeout_ms: config.session_timeout_ms_max(),
            packet_bytes_max: config.packet_bytes_max.usize(),
            extended_types_enabled: config.extended_types,
            super_digest: config.super_digest.0.clone(),
            skip_acl: config.skip_acl,
            view_cache_bytes: config.view_cache_bytes.usize(),
            ..SessionOptions::default()
        },
        handshake_timeout: Duration::from_millis(config.session_request_timeout_ms.get()),
        node_samples: NodeSamples::new(move || metrics.samples()),
        data_dir: config.data_dir.0.clone(),
    };
    Ok(Proxy::start(options, shard)?)
}

async fn listen_for_http(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    if !config.http_enabled {
        return Ok(None);
    }
    let address = resolve(&config.http_address, config.http_port, "http-address").await?;
    let listener = TcpListener::bind(address).await;
    Ok(Some(listener.with_context(|| {
        format!(
            "cannot listen on {address} for HTTP; choose another port (--http-port), \
             or go without (--http-enabled false)"
        )
    })?))
}

async fn resolve(host: &Host, port: Port, option: &str) -> anyhow::Result<SocketAddr> {
    let mut found = lookup_host((host.0.as_str(), port.u16()))
        .await
        .with_context(|| format!("{option}: cannot look up `{host}`"))?;
    found
        .next()
        .with_context(|| format!("{option}: `{host}` has no address"))
}
