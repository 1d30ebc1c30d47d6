//! The binary as an operator meets it: what it says, what it serves, how it ends.
#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
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
        Self::start_with_stderr(data, more, Stdio::null())
    }

    fn start_with_stderr(data: &Path, more: &[&str], stderr: Stdio) -> Self {
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
        let mut child = oxkeeper(&words).stderr(stderr).spawn().unwrap();
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

/// Sends and reads until the other side closes, which it may do at once.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reply = Vec::new();
    let asked = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read_to_end(&mut reply));
    if let Err(problem) = asked {
        let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(kinds.contains(&problem.kind()), "{problem}");
    }
    String::from_utf8(reply).unwrap()
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
            "\n# TYPE fsynctime summary\nfsynctime{quantile=\"0.5\"}",
            "\n# TYPE readlatency summary\nreadlatency{quantile=\"0.5\"}",
            "\n# TYPE updatelatency summary\nupdatelatency{quantile=\"0.5\"}",
            "\nfsynctime_sum ",
            "\nshard_entries_total{shard=\"0\"}",
            "\nprocess_resident_memory_bytes ",
        ] {
            assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
        }
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn the_page_of_metrics_lists_every_name() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let listed = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let listed = std::fs::read_to_string(listed).unwrap();
    let page = server.page("/metrics");
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    assert!(names.len() > 60, "{names:?}");
    let ours = names.iter().filter(|name| !name.starts_with("shard_"));
    for name in ours {
        assert!(listed.contains(&format!("`{name}`")), "{name}");
    }
    assert_eq!(server.stop(), Some(0));
}

/// Where log lines go to nowhere, in the ways in which a standard error can fail.
fn broken_stderrs() -> Vec<(&'static str, Stdio)> {
    let (reader, without_reader) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    vec![
        ("a pipe without a reader", without_reader.into()),
        ("a full disk", full.into()),
    ]
}

/// Connections beyond the limit, each of which is worth a line.
fn refused_connections(server: &Server, count: usize) {
    for _ in 0..count {
        assert_eq!(ask(server.client(), ""), "");
    }
}

fn serves_and_stops(server: Server, what: &str) {
    assert!(server.page("/health").starts_with("HTTP/1.1 200"), "{what}");
    assert_eq!(server.stop(), Some(0), "{what}");
}

#[test]
fn a_log_line_that_cannot_be_written_costs_nothing_but_the_line() {
    for (what, stderr) in broken_stderrs() {
        let data = tempfile::tempdir().unwrap();
        let only_one = ["--max-client-connections", "1"];
        let server = Server::start_with_stderr(data.path(), &only_one, stderr);
        let first = TcpStream::connect(server.client()).unwrap();
        refused_connections(&server, 3);
        drop(first);
        // The place is free when the server has seen that.
        let served = std::iter::repeat_with(|| ask(server.client(), "srvr"));
        assert!(
            served.take(1000).any(|answer| answer.contains("Mode: ")),
            "{what}"
        );
        serves_and_stops(server, what);
    }
}

/// Its buffer fills with lines, then writes to it do not return.
#[test]
fn a_pipe_that_nobody_reads_stops_nobody() {
    let data = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let only_one = ["--max-client-connections", "1"];
    let server = Server::start_with_stderr(data.path(), &only_one, writer.into());
    let first = TcpStream::connect(server.client()).unwrap();
    refused_connections(&server, 2000);
    drop(first);
    serves_and_stops(server, "a pipe that nobody reads");
    drop(reader);
}

/// Exit codes tell a supervisor what happened, whoever reads the text.
#[test]
fn a_command_whose_output_nobody_reads_ends_as_it_would() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("shard-0/log");
    let server = Server::start(data.path(), &[]);
    let address = server.client();
    for (words, code) in [
        (vec!["standalone", "--config", "/no/such.yaml"], 2),
        (vec!["standalone", "--print-config"], 0),
        (vec!["wal", "--quiet", log.to_str().unwrap()], 0),
        (vec!["wal", "/no/such/log"], 1),
        (vec!["perf", "--servers", "127.0.0.1:1"], 1),
        (
            vec![
                "perf",
                "--servers",
                address,
                "--duration-s",
                "2",
                "--warmup-s",
                "0",
            ],
            0,
        ),
    ] {
        for (what, stderr) in broken_stderrs() {
            let (reader, stdout) = std::io::pipe().unwrap();
            drop(reader);
            let mut child = oxkeeper(&words)
                .stdout(stdout)
                .stderr(stderr)
                .spawn()
                .unwrap();
            assert_eq!(wait(&mut child), Some(code), "{words:?} on {what}");
        }
    }
}

#[test]
fn requests_by_http_that_never_end_harm_nobody() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let page = server.address("http://").to_owned();
    let half_sent: Vec<TcpStream> = (0..3000)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(&page).ok()?;
            // It may have made room for another already.
            let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost:");
            Some(stream)
        })
        .collect();
    assert!(half_sent.len() > 2000);
    assert!(server.page("/health").starts_with("HTTP/1.1 200"));
    let held = open_sockets(&server);
    assert!(held < 200, "{held} sockets");
    assert!(ask(server.client(), "srvr").contains("Mode: standalone"));
    serves_and_stops(server, "half-sent requests");
}

fn open_sockets(server: &Server) -> usize {
    let links = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap();
    links
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Who sends nothing is not kept for ever either.
#[test]
fn an_http_connection_ends_by_itself() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    assert_eq!(ask(server.address("http://"), "GET /health"), "");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn the_data_directory_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    fn modes(folder: &Path, found: &mut Vec<(String, u32)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            if path.is_dir() {
                modes(&path, found);
            }
            found.push((path.display().to_string(), mode));
        }
    }
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    Server::start(&data, &[]).stop();
    let mut found = Vec::new();
    modes(parent.path(), &mut found);
    assert!(found.len() > 8, "{found:?}");
    for (path, mode) in found {
        assert_eq!(mode & 0o077, 0, "{path}: {mode:o}");
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
    std::fs::write(&file, "clientPort=2999\nsnapCount=1\ndataDir=/data\n").unwrap();
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
