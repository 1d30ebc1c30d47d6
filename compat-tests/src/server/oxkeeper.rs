//! Our own server, started from its binary as a user starts it.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process::Process;
use super::{ServerOptions, TestServer};

/// Path of the binary under test; else the one next to the test in the target folder.
pub const ENV_BIN: &str = "OXKEEPER_BIN";
const BINARY: &str = "oxkeeper";

/// A running `oxkeeper standalone` with its own data.
pub struct ServerUnderTest {
    process: Process,
}

impl ServerUnderTest {
    pub fn start(options: &ServerOptions) -> Result<Self> {
        let binary = binary()?;
        let options = options.clone();
        let process = Process::start(Box::new(move |port, folder| {
            command(&binary, &options, port, folder)
        }))?;
        Ok(Self { process })
    }
}

impl TestServer for ServerUnderTest {
    fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    fn restart(&mut self) -> Result<()> {
        self.process.stop()?;
        self.process.launch()
    }

    fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    fn is_oracle(&self) -> bool {
        false
    }

    fn output(&self) -> String {
        self.process.output()
    }
}

fn command(binary: &Path, options: &ServerOptions, port: u16, folder: &Path) -> Result<Command> {
    let config = folder.join("zoo.cfg");
    let data = folder.join("data");
    std::fs::create_dir_all(&data)?;
    std::fs::write(&config, options.zoo_cfg(port, &data))?;
    let http_port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut server = Command::new(binary);
    server.arg("standalone");
    server.arg("--config").arg(&config);
    server.arg("--data-dir").arg(&data);
    server.arg("--client-port").arg(port.to_string());
    server.arg("--http-port").arg(http_port.to_string());
    Ok(server)
}

/// The binary that tests start.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(ENV_BIN) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("{ENV_BIN} names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let me = std::env::current_exe()?;
    let found = me
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(BINARY))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "no {BINARY} binary beside {}: build it first (cargo build --release) or set {ENV_BIN}",
            me.display()
        )
    })
}
