//! The binary as an operator meets it: what it says, what it serves, how it ends.
#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// For anything that takes a moment; a server that needs longer is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

fn oxkeeper(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oxkeeper"));
    command
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command that is expected to end by itself.
fn run(words: &[&str]) -> (Option<i32>, String, String) {
    let mut child = oxkeeper(words).spawn().unwrap();
    wait(&mut child);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Bounded; what does not end is killed.
fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it did not end in time");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A running server; killed if a test ends without stopping it.
struct Server {
    child: Child,
    screen: String,
}

impl Server {
    fn start(data: &Path, more: &[&str]) -> Self {
        let data = data.to_str().unwrap();
        let mut words = vec!["standalone", "--data-dir", data];
        words.extend([
            "--client-address",
            "127.0.0.1",
            "--http-address",
            "127.0.0.1",
        ]);
        words.extend(["--client-port", "0", "--http-port", "0"]);
        words.extend(more);
        let mut child = oxkeeper(&words).stderr(Stdio::null()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        // Owned from here on, so that a panic below kills the process.
        let mut server = Self {
            child,
            screen: String::new(),
        };
        server.screen = screen(stdout);
        server
    }

    /// The `HOST:PORT` behind `before` on the startup screen.
    fn address(&self, before: &str) -> &str {
        let (_, after) = self.screen.split_once(before).expect(before);
        let end = |c: char| c.is_whitespace() || c == '/';
        after.trim_start().split(end).next().unwrap()
    }

    fn client(&self) -> &str {
        self.address("clients")
    }

    fn page(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        ask(self.address("http://"), &request)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything up to the last line of the startup screen.
fn screen(stdout: ChildStdout) -> String {
    let (sender, receiver) = mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.try_send(line);
        }
    });
    let mut screen = String::new();
    while !screen.contains("cli_mt") {
        let line = receiver.recv_timeout(PATIENCE).expect("a startup screen");
        screen = screen + &line + "\n";
    }
    screen
}

/// Sends and reads until the other side closes.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

#[test]
fn a_server_says_where_it_is_serves_there_and_stops_on_sigterm() {
    let data = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let server = Server::start(data.path(), &[]);
        assert!(
            server.screen.contains(data.path().to_str().unwrap()),
            "{}",
            server.screen
        );
        assert!(ask(server.client(), "srvr").contains("Mode: standalone"));
        assert!(server.page("/health").starts_with("HTTP/1.1 200"));
        let metrics = server.page("/metrics");
        for name in [
            "\nznode_count 5",
            "\nnum_alive_connections ",
            "\nfsynctime{quantile=\"0.99\"}",
        ] {
            assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
        }
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn a_data_directory_serves_one_process_with_its_number_of_shards() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let server = Server::start(data.path(), &["--shards", "2"]);
    let again = [
        "standalone",
        "--data-dir",
        folder,
        "--shards",
        "2",
        "--http-enabled",
        "false",
    ];
    let (code, _, problem) = run(&again);
    assert_eq!(code, Some(1));
    assert!(problem.contains("another oxkeeper runs on it"), "{problem}");
    assert_eq!(server.stop(), Some(0));

    let other = [
        "standalone",
        "--data-dir",
        folder,
        "--shards",
        "3",
        "--http-enabled",
        "false",
    ];
    let (code, _, problem) = run(&other);
    assert_eq!(code, Some(1));
    assert!(problem.contains("--shards"), "{problem}");
}

#[test]
fn ports_in_use_are_named_with_a_way_out() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let common = [
        "standalone",
        "--data-dir",
        folder,
        "--client-address",
        "127.0.0.1",
    ];
    for ports in [
        ["--client-port", &port, "--http-enabled", "false"],
        ["--http-address", "127.0.0.1", "--http-port", &port],
    ] {
        let (code, _, problem) = run(&[&common[..], &ports[..]].concat());
        assert_eq!(code, Some(1));
        assert!(
            problem.contains(&port) && problem.contains("choose another"),
            "{problem}"
        );
    }
}

#[test]
fn a_wrong_configuration_ends_with_its_own_exit_code() {
    let (code, _, problem) = run(&["standalone", "--client-port", "x"]);
    assert_eq!(code, Some(2));
    assert!(problem.contains("from 0 to 65535"), "{problem}");
    let (code, _, problem) = run(&["standalone", "--config", "/no/such/file.yaml"]);
    assert_eq!(code, Some(2));
    assert!(problem.contains("/no/such/file.yaml"), "{problem}");
}

#[test]
fn the_configuration_can_be_looked_at_before_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zoo.cfg");
    std::fs::write(&file, "clientPort=2999\nsnapCount=1\n").unwrap();
    let (code, config, warnings) = run(&[
        "standalone",
        "--print-config",
        "--config",
        file.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(0));
    assert!(config.contains("\nclient-port: 2999\n"), "{config}");
    assert!(
        warnings.contains("zoo.cfg:2: snapCount has no effect"),
        "{warnings}"
    );
}

#[test]
fn a_log_can_be_looked_at_while_its_server_runs() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let log = data.path().join("shard-0/log");
    let (code, printed, _) = run(&["wal", log.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert!(printed.contains("offset 1 term 1"), "{printed}");
    assert_eq!(server.stop(), Some(0));
    let (code, _, problem) = run(&["wal", "/no/such/log"]);
    assert_eq!(code, Some(1));
    assert!(problem.contains("/no/such/log"), "{problem}");
}
