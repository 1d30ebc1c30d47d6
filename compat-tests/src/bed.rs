//! A place for one behaviour test: a server, and a node of its own to work below.
//!
//! With `OXKEEPER_TEST_ADDR` many tests share one server, so no test may use fixed paths at
//! the top, and tests that need their own configuration or want to kill the server say so by
//! [`Bed::own`] and do not run there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::server::{self, ENV_ADDR, ServerOptions, TestServer};
use crate::session::Session;

static BEDS: AtomicU32 = AtomicU32::new(0);

/// A server and a fresh node on it.
pub struct Bed {
    pub server: Box<dyn TestServer>,
    /// The test's node, without a slash at the end.
    pub root: String,
}

impl Bed {
    /// A bed on any server.
    ///
    /// # Panics
    /// If there is no server: a test that cannot run must fail.
    pub fn new() -> Self {
        Self::with(&ServerOptions::default())
    }

    /// A bed on a server with these options; `None` where the server is somebody else's.
    pub fn own(options: &ServerOptions) -> Option<Self> {
        if std::env::var_os(ENV_ADDR).is_some() {
            eprintln!("not run: needs a server of its own");
            return None;
        }
        Some(Self::with(options))
    }

    fn with(options: &ServerOptions) -> Self {
        let server = match server::start(options) {
            Ok(server) => server,
            Err(e) => panic!("{e:?}"),
        };
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos());
        let number = BEDS.fetch_add(1, Ordering::Relaxed);
        let root = format!("/t{nanos:x}-{number}");
        let bed = Self { server, root };
        if let Err(e) = bed.session().make(&bed.root) {
            panic!("{} cannot be created: {e}", bed.root);
        }
        bed
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// A path below the bed's node: `at("/a/b")`.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// A new session.
    ///
    /// # Panics
    /// If the server refuses it.
    pub fn session(&self) -> Session {
        match Session::open(self.addr()) {
            Ok(session) => session,
            Err(e) => panic!("no session: {e}\n{}", self.server.output()),
        }
    }
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}
