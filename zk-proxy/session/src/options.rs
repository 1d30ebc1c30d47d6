//! What an operator can set about sessions and their requests.

use oxkeeper_model::Nonce;

use crate::connection::ConnectionId;

/// Every field has ZooKeeper's default where ZooKeeper has the option.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Shortest session timeout a client gets.
    pub min_timeout_ms: u32,
    /// Longest session timeout a client gets.
    pub max_timeout_ms: u32,
    /// Largest client packet, without its length field; ZooKeeper's `jute.maxbuffer`.
    pub packet_bytes_max: usize,
    /// Whether TTL znodes may be created.
    pub extended_types_enabled: bool,
    /// `super:<base64 of SHA-1>`: whoever authenticates to this digest passes every check.
    pub super_digest: Option<String>,
    /// Evaluate no access lists at all.
    pub skip_acl: bool,
    /// Memory for cached records and child lists.
    pub view_cache_bytes: usize,
    /// A random number, so that no two front ends of a cluster make the same nonces.
    pub nonce_seed: u64,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            min_timeout_ms: 4000,
            max_timeout_ms: 40_000,
            packet_bytes_max: oxkeeper_wire::limits::PACKET_BYTES_MAX,
            extended_types_enabled: false,
            super_digest: None,
            skip_acl: false,
            view_cache_bytes: 40 << 20,
            nonce_seed: 0,
        }
    }
}

impl SessionOptions {
    /// For the one open or attach of a connection.
    pub(crate) fn nonce(&self, connection: ConnectionId) -> Nonce {
        Nonce(self.nonce_seed.wrapping_add(connection.0))
    }

    /// The timeout a client gets for the one it asked for; 0 and negative ask for the shortest.
    pub(crate) fn negotiate_timeout(&self, asked_ms: i32) -> u32 {
        u32::try_from(asked_ms)
            .unwrap_or(0)
            .clamp(self.min_timeout_ms, self.max_timeout_ms)
    }
}
