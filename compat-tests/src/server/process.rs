//! A server process: started on a free port, watched until it serves, never left behind.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::conn::four_letter_word_within;

/// How long a server may take to serve, and to end.
const START_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// A ZooKeeper that accepts while it starts may never answer on that connection.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);
/// A port that was free may be taken by the time the server binds it.
const PORT_ATTEMPTS: u32 = 5;
const SETPRIV: &str = "/usr/bin/setpriv";
const LOG_TAIL_BYTES: usize = 4_000;

/// What [`Process`] runs: gets the port, returns the command.
pub(super) type CommandFor = Box<dyn Fn(u16, &Path) -> Result<Command> + Send>;

/// A child process with its own folder, which holds its data and its output.
pub(super) struct Process {
    command_for: CommandFor,
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Process {
    /// Starts on a free port.
    pub(super) fn start(command_for: CommandFor) -> Result<Self> {
        let folder = tempfile::tempdir().context("folder for the server's data")?;
        let mut process = Self {
            command_for,
            folder,
            port: 0,
            child: None,
        };
        for attempt in 1.. {
            process.port = free_port()?;
            match process.launch() {
                Ok(()) => break,
                Err(e) if attempt == PORT_ATTEMPTS => return Err(e),
                Err(_) => process.kill9()?,
            }
        }
        Ok(process)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts the process on its port and data, and waits until it serves.
    pub(super) fn launch(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("the server runs already");
        }
        let log = self.log_path();
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| log.display().to_string())?;
        let command = (self.command_for)(self.port, self.folder.path())?;
        let child = die_with_parent(command)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("start the server")?;
        self.child = Some(child);
        self.wait_until_serving()
    }

    fn wait_until_serving(&mut self) -> Result<()> {
        let until = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.exit_status()? {
                self.child = None;
                bail!("the server ended ({status}):\n{}", self.output());
            }
            // Not `ruok`: a ZooKeeper that is still loading its data answers that already.
            let answer = four_letter_word_within(self.addr(), "srvr", PROBE_DEADLINE);
            if answer.is_ok_and(|r| r.contains("Mode:")) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("the server does not serve:\n{}", self.output());
            }
            std::thread::sleep(POLL);
        }
    }

    fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(match &mut self.child {
            Some(child) => child.try_wait()?,
            None => None,
        })
    }

    pub(super) fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(child) = &self.child else {
            return Ok(());
        };
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let until = Instant::now() + STOP_DEADLINE;
        while self.exit_status()?.is_none() {
            if Instant::now() > until {
                self.kill9()?;
                bail!("the server did not end on SIGTERM:\n{}", self.output());
            }
            std::thread::sleep(POLL);
        }
        self.child = None;
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// The end of what the server has written.
    pub(super) fn output(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        let from = bytes.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing to tell anyone here: either it ends or the kernel has ended it.
        let _ = self.kill9();
    }
}

/// The same command, told to end when the thread that starts it ends: an aborted test run
/// must not leave servers behind. (util-linux has it; elsewhere the command stays as it is.)
fn die_with_parent(command: Command) -> Command {
    if !Path::new(SETPRIV).is_file() {
        return command;
    }
    let mut wrapped = Command::new(SETPRIV);
    wrapped.args(["--pdeathsig", "KILL", "--"]);
    wrapped.arg(command.get_program());
    wrapped.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    wrapped
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
