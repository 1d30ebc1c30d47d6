//! A server that somebody else runs: it can be talked to, not stopped.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};

use super::TestServer;

/// A running server or cluster member, named by `host:port`.
#[derive(Debug)]
pub struct External {
    addr: SocketAddr,
}

impl External {
    pub fn new(addr: &str) -> Result<Self> {
        let addr = addr
            .to_socket_addrs()
            .with_context(|| format!("address {addr}"))?
            .next()
            .with_context(|| format!("address {addr} names no host"))?;
        Ok(Self { addr })
    }
}

impl TestServer for External {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn pid(&self) -> Option<u32> {
        None
    }

    fn kill9(&mut self) -> Result<()> {
        bail!("the server at {} is not ours to kill", self.addr)
    }

    fn restart(&mut self) -> Result<()> {
        bail!("the server at {} is not ours to restart", self.addr)
    }

    fn stop(&mut self) -> Result<()> {
        bail!("the server at {} is not ours to stop", self.addr)
    }

    fn is_oracle(&self) -> bool {
        false
    }

    fn output(&self) -> String {
        String::new()
    }
}
