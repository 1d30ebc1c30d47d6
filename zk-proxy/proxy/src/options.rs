//! What an operator can set about a proxy.

use std::net::SocketAddr;
use std::time::Duration;

/// Options of one proxy. Every field has ZooKeeper's default where ZooKeeper has the option.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Where clients connect.
    pub client_address: SocketAddr,
    /// Unit of session timing; sessions expire on its multiples.
    pub tick_time_ms: u32,
    /// Shortest session timeout a client gets.
    pub min_session_timeout_ms: u32,
    /// Longest session timeout a client gets.
    pub max_session_timeout_ms: u32,
    /// Connections from one IP address; 0 = unlimited.
    pub max_client_connections: u32,
    /// Connections in all; 0 = unlimited.
    pub max_connections: u32,
    /// Largest client packet, without its length field; ZooKeeper's `jute.maxbuffer`.
    pub packet_bytes_max: usize,
    /// Four-letter words that are answered; `*` stands for all.
    pub four_letter_words: Vec<String>,
    /// Whether TTL znodes may be created.
    pub extended_types_enabled: bool,
    /// `super:<base64 of SHA-1>`: whoever authenticates to this digest passes every check.
    pub super_digest: Option<String>,
    /// Evaluate no access lists at all.
    pub skip_acl: bool,
    /// Memory for cached records and child lists.
    pub view_cache_bytes: usize,
    /// A connection that has not sent its connect request by then is closed.
    pub handshake_timeout: Duration,
    /// Where data is kept; shown by `conf` and measured by `dirs`.
    pub data_dir: std::path::PathBuf,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        let tick_time_ms = 2000;
        Self {
            client_address: SocketAddr::from(([0, 0, 0, 0], 2181)),
            tick_time_ms,
            min_session_timeout_ms: 2 * tick_time_ms,
            max_session_timeout_ms: 20 * tick_time_ms,
            max_client_connections: 60,
            max_connections: 0,
            packet_bytes_max: oxkeeper_wire::limits::PACKET_BYTES_MAX,
            four_letter_words: vec!["srvr".to_owned()],
            extended_types_enabled: false,
            super_digest: None,
            skip_acl: false,
            view_cache_bytes: 40 << 20,
            handshake_timeout: Duration::from_secs(30),
            data_dir: std::path::PathBuf::new(),
        }
    }
}

impl ProxyOptions {
    /// The session timeout a client gets for the one it asked for; 0 and negative ask for the shortest.
    pub(crate) fn negotiate_timeout(&self, asked_ms: i32) -> u32 {
        u32::try_from(asked_ms)
            .unwrap_or(0)
            .clamp(self.min_session_timeout_ms, self.max_session_timeout_ms)
    }
}
