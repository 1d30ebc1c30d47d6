//! Servers that tests run against: the real ZooKeeper ([`oracle`]), oxkeeper's own binary
//! ([`oxkeeper`]), or one that somebody else has started ([`External`]).
//!
//! Both real ones read the same `zoo.cfg`, so a test says once what it needs.

mod external;
pub mod oracle;
pub mod oxkeeper;
mod process;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

pub use external::External;

/// Runs behaviour tests on the real ZooKeeper, to show that the tests themselves are right.
pub const ENV_ORACLE: &str = "OXKEEPER_ORACLE";
/// `host:port` of a running server (or cluster member) to test instead of starting one.
pub const ENV_ADDR: &str = "OXKEEPER_TEST_ADDR";

/// Name of the super user that tests may log in as.
pub const SUPER_CREDENTIALS: &str = "super:test";
/// base64(SHA1("super:test")), as the server's configuration wants it.
const SUPER_DIGEST: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

/// What a test needs from the server's configuration. Same keys for both servers.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub tick_ms: u32,
    pub min_session_timeout_ms: u32,
    pub max_session_timeout_ms: u32,
    pub max_client_connections: u32,
    /// How often empty containers and elapsed TTL nodes are looked for.
    pub container_check_interval_ms: u32,
    /// fsync before every reply. Off is only for runs where durability is not the question.
    pub force_sync: bool,
    pub jute_max_buffer_bytes: Option<u32>,
    pub four_letter_words: String,
    /// When a connection that has not asked for a session is closed; `None` is the server's default.
    pub sessionless_timeout_ms: Option<u32>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            tick_ms: 500,
            min_session_timeout_ms: 1_000,
            max_session_timeout_ms: 60_000,
            max_client_connections: 0,
            // An hour: nothing vanishes by itself unless a test asks for it.
            container_check_interval_ms: 3_600_000,
            force_sync: true,
            jute_max_buffer_bytes: None,
            four_letter_words: "*".to_owned(),
            sessionless_timeout_ms: None,
        }
    }
}

impl ServerOptions {
    fn zoo_cfg(&self, port: u16, data_dir: &Path) -> String {
        let mut cfg = String::new();
        let mut put = |key: &str, value: &dyn std::fmt::Display| {
            // Writing to a String cannot fail.
            let _ = writeln!(cfg, "{key}={value}");
        };
        put("clientPort", &port);
        put("clientPortAddress", &"127.0.0.1");
        put("dataDir", &data_dir.display());
        put("tickTime", &self.tick_ms);
        put("minSessionTimeout", &self.min_session_timeout_ms);
        put("maxSessionTimeout", &self.max_session_timeout_ms);
        put("maxClientCnxns", &self.max_client_connections);
        put("4lw.commands.whitelist", &self.four_letter_words);
        put("admin.enableServer", &false);
        put("extendedTypesEnabled", &true);
        put("forceSync", &if self.force_sync { "yes" } else { "no" });
        put("DigestAuthenticationProvider.superDigest", &SUPER_DIGEST);
        if let Some(timeout_ms) = self.sessionless_timeout_ms {
            put("nio.sessionlessCnxnTimeout", &timeout_ms);
        }
        for (key, value) in self.system_properties() {
            put(&key, &value);
        }
        cfg
    }

    /// Keys that ZooKeeper reads as Java system properties without its usual prefix.
    fn system_properties(&self) -> Vec<(String, String)> {
        let interval = self.container_check_interval_ms.to_string();
        let mut all = vec![("znode.container.checkIntervalMs".to_owned(), interval)];
        if let Some(bytes) = self.jute_max_buffer_bytes {
            all.push(("jute.maxbuffer".to_owned(), bytes.to_string()));
        }
        all
    }
}

/// A server that a test can talk to, and stop and start.
pub trait TestServer: Send {
    /// Where clients connect.
    fn addr(&self) -> SocketAddr;

    /// Process id, where the server is ours to watch.
    fn pid(&self) -> Option<u32>;

    /// Ends the process with SIGKILL and waits until it is gone.
    fn kill9(&mut self) -> Result<()>;

    /// Starts it again on the same port and data, and waits until it serves.
    fn restart(&mut self) -> Result<()>;

    /// Ends the process with SIGTERM and waits until it is gone.
    fn stop(&mut self) -> Result<()>;

    /// True for the real ZooKeeper: some bounds are only asked of ours.
    fn is_oracle(&self) -> bool;

    /// What the process has written to its output so far.
    fn output(&self) -> String;
}

/// Starts the server that the environment asks for.
///
/// Fails, and does not skip, when there is none: a test that did not run must not look green.
pub fn start(options: &ServerOptions) -> Result<Box<dyn TestServer>> {
    if let Ok(addr) = std::env::var(ENV_ADDR) {
        return Ok(Box::new(External::new(&addr)?));
    }
    if std::env::var_os(ENV_ORACLE).is_some_and(|v| v == "1") {
        return Ok(Box::new(oracle::Oracle::start(options)?));
    }
    let server = oxkeeper::ServerUnderTest::start(options).context("oxkeeper")?;
    Ok(Box::new(server))
}
