//! The whole text of each four-letter word, line ends too, without content and with: scripts cut
//! them at fixed places. What no two servers share (times, addresses, ids) is replaced before.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use std::time::{Duration, Instant};

use oxkeeper_compat_tests::conn::{Conn, DEADLINE, four_letter_word};
use oxkeeper_compat_tests::proto::mode;
use oxkeeper_compat_tests::server::{self, ServerOptions, TestServer};
use oxkeeper_compat_tests::session::Session;

/// A server of its own, so that the counts are known; none where it is somebody else's.
fn start(options: &ServerOptions) -> Option<Box<dyn TestServer>> {
    if std::env::var_os(server::ENV_ADDR).is_some() {
        eprintln!("not run: needs a server of its own");
        return None;
    }
    Some(server::start(options).unwrap())
}

/// `text` without what differs from run to run. `names` stand for the ids of sessions.
fn shape(text: &str, names: &[(String, &str)]) -> String {
    let mut text = text.to_owned();
    for (id, name) in names {
        text = text.replace(id, name);
    }
    let lines = text.split_inclusive('\n').map(shape_of_line);
    lines.collect()
}

fn shape_of_line(line: &str) -> String {
    let (content, end) = match line.strip_suffix('\n') {
        Some(content) => (content, "\n"),
        None => (line, ""),
    };
    for (before, after, instead) in [
        ("Zookeeper version: ", "", "VERSION"),
        ("Zxid: 0x", "", "N"),
        (" expire at ", ":", "DATE"),
        ("dataDir=", "", "DIR"),
        ("dataLogDir=", "", "DIR"),
        ("dataDirSize=", "", "N"),
        ("dataLogSize=", "", "N"),
        ("clientPort=", "", "N"),
        ("datadir_size: ", "", "N"),
        ("logdir_size: ", "", "N"),
    ] {
        if let Some((start, rest)) = content.split_once(before)
            && rest.ends_with(after)
        {
            return format!("{start}{before}{instead}{after}{end}");
        }
    }
    let mut shaped = String::new();
    let mut rest = content;
    while let Some((start, address)) = rest.split_once("/127.0.0.1:") {
        shaped += start;
        shaped += "/ADDRESS";
        rest = address.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    shaped += rest;
    // The fields of `cons` that tell times.
    for field in [
        "est=", "lzxid=0x", "lcxid=0x", "lresp=", "llat=", "minlat=", "avglat=", "maxlat=",
    ] {
        if let Some((start, value)) = shaped.clone().split_once(&format!(",{field}")) {
            let after = value.trim_start_matches(|c: char| c.is_ascii_hexdigit());
            shaped = format!("{start},{field}N{after}");
        }
    }
    shaped + end
}

/// Lines in order, those that belong to a line above (after a tab) in order below it.
fn sorted(text: &str) -> String {
    let mut groups: Vec<Vec<&str>> = Vec::new();
    for line in text.split_inclusive('\n') {
        match groups.last_mut() {
            Some(group) if line.starts_with('\t') => group.push(line),
            _ => groups.push(vec![line]),
        }
    }
    groups
        .iter_mut()
        .for_each(|group| group[1..].sort_unstable());
    groups.sort_unstable();
    groups.concat().concat()
}

/// Asks until the text is as wanted, for connections of earlier questions take a moment to go; at last
/// what was found.
fn ask_until(
    server: &dyn TestServer,
    word: &str,
    names: &[(String, &str)],
    wanted: impl Fn(&str) -> bool,
) -> String {
    let until = Instant::now() + DEADLINE;
    loop {
        let found = shape(&four_letter_word(server.addr(), word).unwrap(), names);
        if wanted(&found) || Instant::now() > until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn expect(server: &dyn TestServer, word: &str, names: &[(String, &str)], expected: &str) {
    if matches!(word, "wchc" | "wchp" | "cons") {
        let expected = sorted(expected);
        let found = ask_until(server, word, names, |found| sorted(found) == expected);
        assert_eq!(sorted(&found), expected, "{word}");
    } else {
        let found = ask_until(server, word, names, |found| found == expected);
        assert_eq!(found, expected, "{word}");
    }
}

/// Replaces the counts of packets, which must be one apart: the question was received, not answered.
fn without_packets(text: &str) -> String {
    let number = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    };
    let (received, sent) = (number("Received: "), number("Sent: "));
    assert_eq!(received, sent + 1, "{text}");
    text.replace(&format!("Received: {received}\n"), "Received: N\n")
        .replace(&format!("Sent: {sent}\n"), "Sent: N\n")
}

#[test]
fn an_empty_server() {
    let Some(server) = start(&ServerOptions::default()) else {
        return;
    };
    let server = &*server;
    let serving = "Latency min/avg/max: 0/0.0/0\nReceived: N\nSent: N\nConnections: 1\nOutstanding: 0\n\
                   Zxid: 0xN\nMode: standalone\nNode count: 5\n";
    let alone = |found: &str| found.contains("\nConnections: 1\n");
    assert_eq!(
        without_packets(&ask_until(server, "srvr", &[], alone)),
        format!("Zookeeper version: VERSION\n{serving}")
    );
    assert_eq!(
        without_packets(&ask_until(server, "stat", &[], alone)),
        format!(
            "Zookeeper version: VERSION\nClients:\n /ADDRESS[0](queued=0,recved=1,sent=0)\n\n{serving}"
        )
    );
    for (word, expected) in [
        ("ruok", "imok"),
        ("isro", "rw"),
        ("cons", " /ADDRESS[0](queued=0,recved=1,sent=0)\n\n"),
        (
            "conf",
            "clientPort=N\nsecureClientPort=-1\ndataDir=DIR\ndataDirSize=N\ndataLogDir=DIR\n\
             dataLogSize=N\ntickTime=500\nmaxClientCnxns=0\nminSessionTimeout=1000\n\
             maxSessionTimeout=60000\nclientPortListenBacklog=-1\nserverId=0\n",
        ),
        (
            "dump",
            "SessionTracker dump:\nSession Sets (0)/(0):\nephemeral nodes dump:\n\
             Sessions with Ephemerals (0):\nConnections dump:\nConnections Sets (1)/(1):\n\
             1 expire at DATE:\n\tip: /ADDRESS sessionId: 0x0\n",
        ),
        ("wchs", "0 connections watching 0 paths\nTotal watches:0\n"),
        ("wchc", "\n"),
        ("wchp", "\n"),
        ("dirs", "datadir_size: N\nlogdir_size: N\n"),
        ("gtmk", "306"),
        ("hash", ""),
        ("crst", "Connection stats reset.\n"),
        ("srst", "Server stats reset.\n"),
    ] {
        expect(server, word, &[], expected);
    }
}

/// Two sessions with ephemerals and with watches of each kind.
fn two_that_watch(server: &dyn TestServer) -> (Session, Session) {
    let mut a = Session::open(server.addr()).unwrap();
    let mut b = Session::open(server.addr()).unwrap();
    a.make("/x").unwrap();
    a.create("/x/e", b"", mode::EPHEMERAL).unwrap();
    a.create("/x/f", b"", mode::EPHEMERAL).unwrap();
    b.create("/b", b"", mode::EPHEMERAL).unwrap();
    a.get("/x", true).unwrap();
    a.children("/x", true).unwrap();
    b.get("/x", true).unwrap();
    b.exists("/none", true).unwrap();
    b.add_watch("/x", 0).unwrap();
    b.add_watch("/x", 1).unwrap();
    b.add_watch("/deep", 1).unwrap();
    b.add_watch("/here", 0).unwrap();
    b.children("/", true).unwrap();
    (a, b)
}

#[test]
fn sessions_watches_and_ephemerals() {
    let Some(server) = start(&ServerOptions::default()) else {
        return;
    };
    let server = &*server;
    let (a, b) = two_that_watch(server);
    let names = [
        (format!("0x{:x}", a.id), "A"),
        (format!("0x{:x}", b.id), "B"),
    ];

    let own_lines = |from: &str| {
        format!(
            " /ADDRESS[1](queued=0,recved=6,sent=6{})\n /ADDRESS[1](queued=0,recved=9,sent=9{})\n \
             /ADDRESS[0](queued=0,recved=1,sent=0)\n",
            from.replace('?', "A"),
            from.replace('?', "B")
        )
    };
    let long = ",sid=?,lop=GETC,est=N,to=30000,lcxid=0xN,lzxid=0xN,lresp=N,llat=N,minlat=N,avglat=N,maxlat=N";
    expect(server, "cons", &names, &format!("{}\n", own_lines(long)));
    let three = |found: &str| found.contains("\nConnections: 3\n");
    let stat = without_packets(&ask_until(server, "stat", &names, three));
    let (clients, serving) = stat.split_once("\n\n").unwrap();
    assert_eq!(
        sorted(&format!("{clients}\n")),
        sorted(&format!(
            "Zookeeper version: VERSION\nClients:\n{}",
            own_lines("")
        ))
    );
    assert!(serving.starts_with("Latency min/avg/max: "), "{serving}");
    assert!(
        serving.ends_with("Outstanding: 0\nZxid: 0xN\nMode: standalone\nNode count: 9\n"),
        "{serving}"
    );
    expect(
        server,
        "wchs",
        &names,
        "2 connections watching 4 paths\nTotal watches:5\n",
    );
    expect(
        server,
        "wchc",
        &names,
        "A\n\t/x\nB\n\t/x\n\t/deep\n\t/here\n\t/none\n\n",
    );
    expect(
        server,
        "wchp",
        &names,
        "/x\n\tB\n\tA\n/deep\n\tB\n/here\n\tB\n/none\n\tB\n\n",
    );
    let mntr = four_letter_word(server.addr(), "mntr").unwrap();
    for line in [
        "zk_watch_count\t9",
        "zk_ephemerals_count\t3",
        "zk_znode_count\t9",
        "zk_global_sessions\t2",
        "zk_local_sessions\t0",
        "zk_connection_request_count\t2",
    ] {
        // ZooKeeper does not count the connections of four-letter words, once it serves.
        let name = line.split('\t').next().unwrap();
        let found = mntr
            .lines()
            .find(|found| found.split('\t').next() == Some(name));
        assert_eq!(found, Some(line));
    }
    dump_has_its_form(server, &names);
}

/// How many steps of time the sessions fall into is chance; how they are counted is not.
fn dump_has_its_form(server: &dyn TestServer, names: &[(String, &str)]) {
    let dump = shape(&four_letter_word(server.addr(), "dump").unwrap(), names);
    let (sessions, rest) = dump.split_once("ephemeral nodes dump:\n").unwrap();
    let (ephemerals, connections) = rest.split_once("Connections dump:\n").unwrap();
    let sessions = sessions.strip_prefix("SessionTracker dump:\n").unwrap();
    assert_eq!(members(sessions, "Session"), ["A", "B"]);
    assert_eq!(
        sorted(ephemerals),
        sorted("Sessions with Ephemerals (2):\nA:\n\t/x/e\n\t/x/f\nB:\n\t/b\n")
    );
    let mut ips = members(connections, "Connections");
    ips.retain(|who| !who.ends_with("sessionId: 0x0"));
    assert_eq!(
        ips,
        ["ip: /ADDRESS sessionId: A", "ip: /ADDRESS sessionId: B"]
    );
}

/// Those below the lines `N expire at DATE:`, which are counted as they say.
fn members(text: &str, what: &str) -> Vec<String> {
    let (head, groups) = text.split_once('\n').unwrap();
    let mut members: Vec<String> = Vec::new();
    let (mut steps, mut announced) = (0, 0);
    for line in groups.lines() {
        match line.strip_prefix('\t') {
            Some(member) => members.push(member.to_owned()),
            None => {
                let count = line.strip_suffix(" expire at DATE:").unwrap();
                announced += count.parse::<usize>().unwrap();
                steps += 1;
            }
        }
    }
    assert_eq!(announced, members.len(), "{text}");
    assert_eq!(
        head,
        format!("{what} Sets ({steps})/({announced}):"),
        "{text}"
    );
    members.sort_unstable();
    members
}

#[test]
fn the_environment_has_the_lines_of_a_jvm() {
    let Some(server) = start(&ServerOptions::default()) else {
        return;
    };
    let text = four_letter_word(server.addr(), "envi").unwrap();
    let mut lines = text.split_inclusive('\n');
    assert_eq!(lines.next(), Some("Environment:\n"));
    let pairs: Vec<(&str, &str)> = lines
        .map(|line| line.strip_suffix('\n').unwrap().split_once('=').unwrap())
        .collect();
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
    assert_eq!(
        keys,
        [
            "zookeeper.version",
            "host.name",
            "java.version",
            "java.vendor",
            "java.home",
            "java.class.path",
            "java.library.path",
            "java.io.tmpdir",
            "java.compiler",
            "os.name",
            "os.arch",
            "os.version",
            "user.name",
            "user.home",
            "user.dir",
            "os.memory.free",
            "os.memory.max",
            "os.memory.total",
        ]
    );
    let value = |wanted: &str| pairs.iter().find(|(key, _)| *key == wanted).unwrap().1;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let user = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap();
    assert_eq!(value("os.name"), "Linux");
    assert_eq!(value("os.version"), release.trim());
    assert_eq!(value("java.io.tmpdir"), "/tmp");
    assert_eq!(value("java.compiler"), "<NA>");
    assert_eq!(
        value("user.name"),
        String::from_utf8_lossy(&user.stdout).trim()
    );
    if cfg!(target_arch = "x86_64") {
        assert_eq!(value("os.arch"), "amd64");
    }
    for memory in ["os.memory.free", "os.memory.max", "os.memory.total"] {
        let mb = value(memory).strip_suffix("MB").unwrap();
        assert!(mb.parse::<u64>().unwrap() > 0, "{memory}");
    }
}

#[test]
fn the_trace_mask_is_kept() {
    let Some(server) = start(&ServerOptions::default()) else {
        return;
    };
    let mut conn = Conn::open(server.addr()).unwrap();
    conn.send_bytes(b"stmk\0\0\0\0\0\0\0\x77").unwrap();
    assert_eq!(conn.read_to_end(DEADLINE).unwrap(), b"119");
    assert_eq!(four_letter_word(server.addr(), "gtmk").unwrap(), "119");
}

/// `stmk` too is refused at once: nobody waits for its mask. `srvr` is answered in any case.
#[test]
fn the_whitelist_decides_before_anything_else() {
    let options = ServerOptions {
        four_letter_words: "ruok, nonsense".to_owned(),
        ..ServerOptions::default()
    };
    let Some(server) = start(&options) else {
        return;
    };
    for word in ["stmk", "mntr", "stat", "wchc"] {
        assert_eq!(
            four_letter_word(server.addr(), word).unwrap(),
            format!("{word} is not executed because it is not in the whitelist.\n")
        );
    }
    assert_eq!(four_letter_word(server.addr(), "ruok").unwrap(), "imok");
    let srvr = four_letter_word(server.addr(), "srvr").unwrap();
    assert!(srvr.contains("\nMode: standalone\n"), "{srvr}");
}

/// One event is counted with all watches that it found, of each kind of event.
#[test]
fn watches_that_events_found_are_counted() {
    let Some(server) = start(&ServerOptions::default()) else {
        return;
    };
    let mut a = Session::open(server.addr()).unwrap();
    let mut b = Session::open(server.addr()).unwrap();
    a.make("/x").unwrap();
    for session in [&mut a, &mut b] {
        session.get("/x", true).unwrap();
        session.exists("/new", true).unwrap();
    }
    a.children("/x", true).unwrap();
    a.make("/new").unwrap();
    a.make("/x/child").unwrap();
    a.set("/x", b"1", -1).unwrap();
    a.get("/x/child", true).unwrap();
    a.delete("/x/child", -1).unwrap();
    let mntr = four_letter_word(server.addr(), "mntr").unwrap();
    for (name, count, sum, most) in [
        ("node_created_watch_count", 1, 2, 2),
        ("node_changed_watch_count", 1, 2, 2),
        ("node_deleted_watch_count", 1, 1, 1),
        ("node_children_watch_count", 1, 1, 1),
    ] {
        for (part, value) in [("cnt", count), ("sum", sum), ("max", most)] {
            let line = format!("zk_{part}_{name}\t{value}");
            assert!(mntr.lines().any(|found| found == line), "{line}");
        }
    }
    let bytes = mntr
        .lines()
        .find_map(|line| line.strip_prefix("zk_watch_bytes\t"));
    // Six events: a header of 16 bytes, two numbers, a length and the path each.
    let paths = ["/new", "/new", "/x", "/x", "/x", "/x/child"].iter();
    let expected: usize = paths.map(|path| 16 + 8 + 4 + path.len()).sum();
    assert_eq!(bytes.unwrap().parse::<usize>().unwrap(), expected);
}

/// What dashboards read, and what has a meaning for one server.
#[test]
fn mntr_has_zookeepers_names() {
    let Some(server) = start(&ServerOptions::default()) else {
        return;
    };
    let mut session = Session::open(server.addr()).unwrap();
    session.make("/x").unwrap();
    session.get("/x", false).unwrap();
    let mntr = four_letter_word(server.addr(), "mntr").unwrap();
    let value = |name: &str| {
        let found = mntr.lines().find_map(|line| {
            let (key, value) = line.split_once('\t')?;
            (key.strip_prefix("zk_")? == name).then_some(value)
        });
        found.unwrap_or_else(|| panic!("{name} is missing in:\n{mntr}"))
    };
    for name in [
        "unrecoverable_error_count",
        "sessionless_connections_expired",
        "commit_count",
        "proposal_count",
        "throttled_ops",
        "watch_bytes",
        "outstanding_tls_handshake",
        "non_mtls_local_conn_count",
        "non_mtls_remote_conn_count",
        "connection_rejected",
        "connection_drop_count",
        "auth_failed_count",
        "large_requests_rejected",
        "stale_sessions_expired",
        "tls_handshake_exceeded",
        "unsuccessful_handshake",
        "outstanding_requests",
    ] {
        assert_eq!(value(name), "0", "{name}");
    }
    assert_eq!(value("connection_drop_probability"), "0.0");
    // A header, a length and the path.
    assert_eq!(value("min_client_response_size"), (16 + 4 + 2).to_string());
    // A Stat, the length of no data, a header.
    assert_eq!(
        value("last_client_response_size"),
        (16 + 4 + 68).to_string()
    );
    assert_eq!(
        value("max_client_response_size"),
        value("last_client_response_size")
    );
    for latency in ["readlatency", "updatelatency"] {
        for part in ["min", "max", "cnt", "sum", "p50", "p95", "p99", "p999"] {
            let text = value(&format!("{part}_{latency}"));
            assert!(text.parse::<u64>().is_ok(), "{part}_{latency} {text}");
        }
        let average = value(&format!("avg_{latency}"));
        assert!(average.contains('.'), "{average}");
    }
    for summary in [
        "fsynctime",
        "snapshottime",
        "startup_txns_loaded",
        "startup_txns_load_time",
        "sync_processor_batch_size",
    ] {
        for part in ["min", "max", "cnt", "sum"] {
            let text = value(&format!("{part}_{summary}"));
            assert!(text.parse::<u64>().is_ok(), "{part}_{summary} {text}");
        }
    }
    for name in [
        "uptime",
        "packets_received",
        "bytes_received_count",
        "response_bytes",
        "open_file_descriptor_count",
        "approximate_data_size",
    ] {
        assert!(value(name).parse::<u64>().unwrap() > 0, "{name}");
    }
}

/// ZooKeeper looks in steps of the time itself, so between once and twice after it.
#[test]
fn a_socket_that_asks_for_no_session_is_closed_after_the_configured_time() {
    let options = ServerOptions {
        sessionless_timeout_ms: Some(1000),
        ..ServerOptions::default()
    };
    let Some(server) = start(&options) else {
        return;
    };
    for bytes in [&b""[..], b"\0\0", b"\0\0\0\x2d\0\0\0\0"] {
        let started = Instant::now();
        let mut conn = Conn::open(server.addr()).unwrap();
        conn.send_bytes(bytes).unwrap();
        conn.expect_close(DEADLINE).unwrap();
        assert!(started.elapsed() >= Duration::from_secs(1), "{bytes:?}");
    }
    let mntr = four_letter_word(server.addr(), "mntr").unwrap();
    assert!(
        mntr.contains("zk_sessionless_connections_expired\t3\n"),
        "{mntr}"
    );
    let session = Session::open(server.addr()).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    session.close().unwrap();
}
