//! One of the two servers that are compared: started as a user would start it, stopped and
//! killed, timed until it answers.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::process::cpu_time;
use oxkeeper_compat_tests::conn::{Conn, ConnectRequest, ConnectResponse};
use oxkeeper_compat_tests::proto::err;
use oxkeeper_compat_tests::session::{CallError, Session};

const MAIN_CLASS: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
/// Heap that the comparison gives ZooKeeper; everything else of the JVM is its default.
pub(super) const HEAP: &str = "-Xmx2g";
/// Below the ports that the kernel gives to outgoing connections: a load leaves thousands of those
/// behind, and a server must get its port again when it restarts.
const PORTS: std::ops::Range<u16> = 24_000..28_000;

const START_DEADLINE: Duration = Duration::from_secs(300);
const STOP_DEADLINE: Duration = Duration::from_secs(120);
/// How long one attempt to get an answer from a starting server may take.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(2);
/// Between attempts; the resolution of restart times.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(10);
const STOP_POLL: Duration = Duration::from_millis(20);
const SETPRIV: &str = "/usr/bin/setpriv";
const LOG_TAIL_BYTES: usize = 3_000;

/// A znode that is read to see that a server serves.
const PROBE_PATH: &str = "/bench-probe";
const PROBE_VALUE: [u8; 100] = [b'p'; 100];

/// A server counts as idle when it uses less than this share of a core.
const IDLE_CORES: f64 = 0.1;
const IDLE_WINDOW: Duration = Duration::from_millis(300);
/// Snapshots, compactions and garbage collection of the largest trees end well within this.
const IDLE_DEADLINE: Duration = Duration::from_secs(60);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Reference,
    Oxkeeper,
}

impl Side {
    /// In the order in which they are loaded.
    pub(super) const BOTH: [Self; 2] = [Self::Reference, Self::Oxkeeper];
}

/// What servers are started from.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub oxkeeper: PathBuf,
    pub reference: Reference,
}

/// What oxkeeper is compared with.
#[derive(Debug, Clone)]
pub(super) enum Reference {
    ZooKeeper {
        jars: PathBuf,
    },
    /// Another build.
    Oxkeeper {
        binary: PathBuf,
    },
}

impl Programs {
    pub(super) fn name(&self, side: Side) -> &'static str {
        match (side, &self.reference) {
            (Side::Oxkeeper, _) => "oxkeeper",
            (Side::Reference, Reference::ZooKeeper { .. }) => "ZooKeeper",
            (Side::Reference, Reference::Oxkeeper { .. }) => "other build",
        }
    }
}

/// A server with a folder of its own for data, configuration and log.
#[derive(Debug)]
pub(super) struct Server {
    side: Side,
    programs: Programs,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts an empty server in a new folder below `parent`, and waits until it serves.
    pub(super) fn start(side: Side, programs: &Programs, parent: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(programs.name(side))
            .tempdir_in(parent)?
            .keep();
        let mut server = Self {
            side,
            programs: programs.clone(),
            folder,
            port: free_port()?,
            child: None,
        };
        std::fs::create_dir(server.data_folder())?;
        std::fs::write(server.config_path(), server.config())?;
        server.launch()?;
        server.first_answer()?;
        let mut session = Session::open(server.addr())?;
        session.create(PROBE_PATH, &PROBE_VALUE, 0)?;
        session.close()?;
        Ok(server)
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    pub(super) fn name(&self) -> &'static str {
        self.programs.name(self.side)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(super) fn pid(&self) -> Result<u32> {
        let child = self.child.as_ref();
        Ok(child.context("the server does not run")?.id())
    }

    /// Where it keeps what it stores, and nothing else.
    pub(super) fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn config_path(&self) -> PathBuf {
        self.folder.join("zoo.cfg")
    }

    /// Both read the same file. Durable before every reply; all else as either has it by default.
    fn config(&self) -> String {
        format!(
            "clientPort={}\nclientPortAddress=127.0.0.1\ndataDir={}\ntickTime=2000\n\
             maxClientCnxns=0\nforceSync=yes\nadmin.enableServer=false\n",
            self.port,
            self.data_folder().display()
        )
    }

    fn command(&self) -> Command {
        let binary = match (self.side, &self.programs.reference) {
            (Side::Reference, Reference::ZooKeeper { jars }) => {
                let mut java = wrapped("java".as_ref());
                java.arg(HEAP);
                java.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
                java.arg("-cp").arg(jars.join("*"));
                java.arg(MAIN_CLASS).arg(self.config_path());
                return java;
            }
            (Side::Reference, Reference::Oxkeeper { binary }) => binary,
            (Side::Oxkeeper, _) => &self.programs.oxkeeper,
        };
        let mut server = wrapped(binary);
        server.arg("standalone");
        server.arg("--config").arg(self.config_path());
        server.arg("--data-dir").arg(self.data_folder());
        server
    }

    fn launch(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("server.log"))?;
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.name()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Starts it again on the data that it has; the time until it has answered a getData.
    pub(super) fn relaunch(&mut self) -> Result<Duration> {
        let started = Instant::now();
        self.launch()?;
        let answered = self.first_answer()?;
        let mut session = Session::open(self.addr())?;
        match session.get(PROBE_PATH, false)? {
            (Some(data), _) if data == PROBE_VALUE => session.close()?,
            other => bail!("{PROBE_PATH} holds {other:?} after a restart"),
        }
        Ok(answered - started)
    }

    /// When the server first answered. Attempts overlap: ZooKeeper accepts connections before it
    /// serves, and may leave one of them unanswered, which must not count as time to start.
    fn first_answer(&mut self) -> Result<Instant> {
        let until = Instant::now() + START_DEADLINE;
        let (report, reports) = mpsc::sync_channel(1);
        let addr = self.addr();
        let mut last_fault = None;
        while Instant::now() < until {
            let report = report.clone();
            // When an answer has come, nobody listens to the later attempts.
            std::thread::spawn(move || report.send(attempt(addr)).ok());
            let next = Instant::now() + ATTEMPT_INTERVAL;
            while let Ok(outcome) =
                reports.recv_timeout(next.saturating_duration_since(Instant::now()))
            {
                match outcome {
                    Ok(answered) => return Ok(answered),
                    Err(fault) => last_fault = Some(fault),
                }
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                bail!("{} ended ({status}):\n{}", self.name(), self.log());
            }
        }
        bail!(
            "{} does not serve ({last_fault:?}):\n{}",
            self.name(),
            self.log()
        )
    }

    pub(super) fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let until = Instant::now() + STOP_DEADLINE;
        while child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("{} did not end on SIGTERM:\n{}", self.name(), self.log());
            }
            std::thread::sleep(STOP_POLL);
        }
        self.child = None;
        Ok(())
    }

    /// Waits until it has done what it does behind replies: snapshots, compaction, collection.
    pub(super) fn settle(&self) -> Result<()> {
        let until = Instant::now() + IDLE_DEADLINE;
        let pid = self.pid()?;
        loop {
            let (before, started) = (cpu_time(pid)?, Instant::now());
            std::thread::sleep(IDLE_WINDOW);
            let used = (cpu_time(pid)? - before).as_secs_f64();
            if used / started.elapsed().as_secs_f64() < IDLE_CORES {
                return Ok(());
            }
            if Instant::now() > until {
                let name = self.name();
                eprintln!("{name} is still busy by itself after {IDLE_DEADLINE:?}");
                return Ok(());
            }
        }
    }

    /// The end of what it has logged.
    pub(super) fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.join("server.log")).unwrap_or_default();
        let from = bytes.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody is left to be told; the folder above is removed with the run in any case.
        let _ = self.kill9();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One session and one getData. A server without the znode has answered too.
fn attempt(addr: SocketAddr) -> Result<Instant> {
    const TIMEOUT_MS: i32 = 30_000;
    let mut conn = Conn::open(addr)?;
    conn.send_frame(&ConnectRequest::new_session(TIMEOUT_MS).encode())?;
    let response = ConnectResponse::decode(&conn.read_frame(ATTEMPT_DEADLINE)?)?;
    let mut session = Session::from_handshake(conn, response)?;
    match session.get(PROBE_PATH, false) {
        Ok(_) | Err(CallError::Code(err::NO_NODE)) => {}
        Err(fault) => return Err(fault.into()),
    }
    let answered = Instant::now();
    // Only the end of the session that nobody needs; it would expire.
    let _ = session.close();
    Ok(answered)
}

/// A command that the kernel ends with this program, where util-linux can arrange that.
fn wrapped(program: &Path) -> Command {
    if !Path::new(SETPRIV).is_file() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn free_port() -> Result<u16> {
    // Begin at a place that differs between runs.
    let offset = std::process::id() % u32::from(PORTS.end - PORTS.start);
    let first = PORTS.start + u16::try_from(offset)?;
    (first..PORTS.end)
        .chain(PORTS.start..first)
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .context("no free port")
}
