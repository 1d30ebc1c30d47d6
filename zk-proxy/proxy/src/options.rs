//! What an operator can set about a proxy.

use std::net::SocketAddr;
use std::time::Duration;

use oxkeeper_session::SessionOptions;

use crate::admin::NodeSamples;

/// Options of one proxy. Who starts it says each: the only defaults are those of the configuration.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Where clients connect.
    pub client_address: SocketAddr,
    /// Unit of session timing; sessions expire on its multiples.
    pub tick_time_ms: u32,
    /// Connections from one IP address; 0 = unlimited.
    pub max_client_connections: u32,
    /// Connections in all; 0 = unlimited.
    pub max_connections: u32,
    /// Four-letter words that are answered; `*` stands for all.
    pub four_letter_words: Vec<String>,
    /// Sessions and their requests.
    pub session: SessionOptions,
    /// A connection that has not asked for a session by then is closed.
    pub handshake_timeout: Duration,
    /// What the node behind the link counts.
    pub node_samples: NodeSamples,
    /// Where data is kept; shown by `conf` and measured by `dirs`.
    pub data_dir: std::path::PathBuf,
}
