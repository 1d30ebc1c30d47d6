//! The real Apache ZooKeeper, fetched once by Maven and kept in the user's cache folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process::Process;
use super::{ServerOptions, TestServer};

const POM: &str = include_str!("../../oracle/pom.xml");
const MAIN_CLASS: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";

/// A running Apache ZooKeeper, standalone, with its own data.
pub struct Oracle {
    process: Process,
}

impl Oracle {
    pub fn start(options: &ServerOptions) -> Result<Self> {
        let jars = jars()?;
        let options = options.clone();
        let process = Process::start(Box::new(move |port, folder| {
            command(&jars, &options, port, folder)
        }))?;
        Ok(Self { process })
    }
}

impl TestServer for Oracle {
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
        true
    }

    fn output(&self) -> String {
        self.process.output()
    }
}

/// Version of the real server, as in the pom.
pub fn version() -> Result<&'static str> {
    let after = POM
        .split_once("<oracle.version>")
        .context("the pom names no version")?
        .1;
    Ok(after.split('<').next().unwrap_or_default())
}

fn command(jars: &Path, options: &ServerOptions, port: u16, folder: &Path) -> Result<Command> {
    let config = folder.join("zoo.cfg");
    let data = folder.join("data");
    std::fs::create_dir_all(&data)?;
    std::fs::write(&config, options.zoo_cfg(port, &data))?;
    let mut java = Command::new("java");
    // One small machine runs many of these: start quickly, stay small.
    java.args(["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    java.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    for (key, value) in options.system_properties() {
        java.arg(format!("-D{key}={value}"));
    }
    java.arg("-cp").arg(jars.join("*"));
    java.arg(MAIN_CLASS).arg(&config);
    Ok(java)
}

/// Folder with the server's jars; fetched on the first call on this machine.
pub fn jars() -> Result<PathBuf> {
    let wanted = cache_folder()?.join(format!("oracle/{}", version()?));
    if !wanted.is_dir() {
        fetch_into(&wanted)?;
    }
    Ok(wanted)
}

fn fetch_into(wanted: &Path) -> Result<()> {
    let parent = wanted.parent().context("cache folder")?;
    std::fs::create_dir_all(parent)?;
    // Fetched beside its place and moved there when complete: two test processes may race.
    let scratch = tempfile::tempdir_in(parent)?;
    let pom = scratch.path().join("pom.xml");
    let lib = scratch.path().join("lib");
    std::fs::write(&pom, POM)?;
    let result = Command::new("mvn")
        .args(["-B", "-q", "dependency:copy-dependencies"])
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", lib.display()))
        .arg("-f")
        .arg(&pom)
        .output()
        .context("mvn (Debian package maven) is needed to fetch Apache ZooKeeper")?;
    if !result.status.success() {
        bail!(
            "Maven could not fetch Apache ZooKeeper:\n{}{}",
            String::from_utf8_lossy(&result.stdout),
            String::from_utf8_lossy(&result.stderr)
        );
    }
    match std::fs::rename(&lib, wanted) {
        Err(_) if wanted.is_dir() => Ok(()),
        other => other.with_context(|| wanted.display().to_string()),
    }
}

fn cache_folder() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(dir).join("oxkeeper"));
    }
    let home = std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/oxkeeper"))
}
