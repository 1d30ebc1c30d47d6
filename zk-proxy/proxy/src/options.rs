//! What an operator can set about a proxy.

use std::net::SocketAddr;
use std::time::Duration;

use oxkeeper_session::SessionOptions;

/// Options of one proxy. Every field has ZooKeeper's default where ZooKeeper has the option.
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
    /// A connection that has not sent its connect request by then is closed.
    pub handshake_timeout: Duration,
    /// Where data is kept; shown by `conf` and measured by `dirs`.
    pub data_dir: std::path::PathBuf,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            client_address: SocketAddr::from(([0, 0, 0, 0], 2181)),
            tick_time_ms: 2000,
            max_client_connections: 60,
            max_connections: 0,
            four_letter_words: vec!["srvr".to_owned()],
            session: SessionOptions::default(),
            handshake_timeout: Duration::from_secs(30),
            data_dir: std::path::PathBuf::new(),
        }
    }
}
