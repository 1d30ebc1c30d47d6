//! The four-letter words that scripts, probes and clients read.

#![allow(clippy::unwrap_used, reason = "a test says what must be there")]

use oxkeeper_compat_tests::bed::Bed;
use oxkeeper_compat_tests::conn::{Conn, DEADLINE, four_letter_word};
use oxkeeper_compat_tests::server::ServerOptions;

fn word(bed: &Bed, word: &str) -> String {
    four_letter_word(bed.addr(), word).unwrap()
}

#[test]
fn ruok_and_isro_answer_without_a_line_end() {
    let bed = Bed::new();
    assert_eq!(word(&bed, "ruok"), "imok");
    assert_eq!(word(&bed, "ruok\n"), "imok");
    assert_eq!(word(&bed, "isro"), "rw");
}

#[test]
fn a_word_may_come_in_pieces() {
    let bed = Bed::new();
    let mut conn = Conn::open(bed.addr()).unwrap();
    for byte in b"ruok" {
        conn.send_bytes(&[*byte]).unwrap();
        std::thread::yield_now();
    }
    assert_eq!(conn.read_to_end(DEADLINE).unwrap(), b"imok");
}

/// Lines as name and value.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find_map(|l| l.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name:?} in:\n{text}"))
}

#[test]
fn srvr_and_stat_have_the_lines_that_scripts_read() {
    let bed = Bed::new();
    let s = bed.session();
    for text in [word(&bed, "srvr"), word(&bed, "stat")] {
        assert!(text.starts_with("Zookeeper version: "), "{text}");
        for name in [
            "Latency min/avg/max: ",
            "Received: ",
            "Sent: ",
            "Outstanding: ",
        ] {
            field(&text, name);
        }
        assert!(field(&text, "Connections: ").parse::<u32>().unwrap() >= 1);
        assert!(field(&text, "Node count: ").parse::<u32>().unwrap() >= 6);
        let zxid = field(&text, "Zxid: 0x");
        assert!(i64::from_str_radix(zxid, 16).unwrap() > 0);
        assert!(!field(&text, "Mode: ").is_empty());
    }
    let stat = word(&bed, "stat");
    let me = s.conn.local_addr().unwrap().to_string();
    assert!(stat.contains("Clients:\n") && stat.contains(&me), "{stat}");
}

/// go-zookeeper takes a server for dead whose version line it cannot parse.
#[test]
fn the_version_line_ends_with_a_date_that_clients_parse() {
    let answer = word(&Bed::new(), "srvr");
    let line = field(&answer, "Zookeeper version: ");
    let (_, built) = line.split_once(", built on ").unwrap();
    let shape: String = built
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00 00:00 UTC");
}

#[test]
fn cons_shows_the_session_of_a_connection() {
    let bed = Bed::new();
    let s = bed.session();
    let text = word(&bed, "cons");
    let sid = format!("sid=0x{:x}", s.id);
    let line = text.lines().find(|l| l.contains(&sid));
    let line = line.unwrap_or_else(|| panic!("no {sid} in:\n{text}"));
    for field in ["queued=", "recved=", "sent=", "to=30000", "lop="] {
        assert!(line.contains(field), "{line}");
    }
}

#[test]
fn envi_names_the_version_that_clients_parse() {
    let bed = Bed::new();
    let text = word(&bed, "envi");
    assert!(text.starts_with("Environment:\n"), "{text}");
    let version = field(&text, "zookeeper.version=");
    let numbers: Vec<u32> = version
        .split(|c: char| !c.is_ascii_digit())
        .take(2)
        .map(|n| n.parse().unwrap())
        .collect();
    assert_eq!(numbers, [3, 9]);
}

/// <https://github.com/ClickHouse/ClickHouse/issues/86323>
#[test]
fn conf_shows_the_configuration_in_effect() {
    let Some(bed) = Bed::own(&ServerOptions::default()) else {
        return;
    };
    let text = word(&bed, "conf");
    assert_eq!(field(&text, "clientPort="), bed.addr().port().to_string());
    assert_eq!(field(&text, "tickTime="), "500");
    assert_eq!(field(&text, "minSessionTimeout="), "1000");
    assert_eq!(field(&text, "maxSessionTimeout="), "60000");
    for name in ["dataDir=", "maxClientCnxns=", "serverId="] {
        field(&text, name);
    }
}

#[test]
fn mntr_is_tab_separated_and_has_what_dashboards_read() {
    let bed = Bed::new();
    let text = word(&bed, "mntr");
    for name in [
        "zk_version",
        "zk_server_state",
        "zk_ephemerals_count",
        "zk_num_alive_connections",
        "zk_avg_latency",
        "zk_min_latency",
        "zk_max_latency",
        "zk_outstanding_requests",
        "zk_znode_count",
        "zk_watch_count",
        "zk_packets_received",
        "zk_packets_sent",
        "zk_approximate_data_size",
        "zk_open_file_descriptor_count",
        "zk_max_file_descriptor_count",
    ] {
        assert!(!field(&text, &format!("{name}\t")).is_empty());
    }
}

#[test]
fn watches_are_listed_by_session_and_by_path() {
    let bed = Bed::new();
    let mut s = bed.session();
    s.get(&bed.root, true).unwrap();
    let sid = format!("0x{:x}", s.id);
    let by_session = word(&bed, "wchc");
    assert!(
        by_session.contains(&format!("{sid}\n\t{}", bed.root)),
        "{by_session}"
    );
    let by_path = word(&bed, "wchp");
    assert!(
        by_path.contains(&format!("{}\n\t{sid}", bed.root)),
        "{by_path}"
    );
    let summary = word(&bed, "wchs");
    assert!(summary.contains(" connections watching "), "{summary}");
    assert!(summary.contains("Total watches:"), "{summary}");
}

#[test]
fn dump_lists_sessions_and_their_ephemerals() {
    let bed = Bed::new();
    let mut s = bed.session();
    let path = bed.at("/e");
    s.create(&path, b"", oxkeeper_compat_tests::proto::mode::EPHEMERAL)
        .unwrap();
    let text = word(&bed, "dump");
    assert!(text.contains("Sessions with Ephemerals ("), "{text}");
    assert!(text.contains(&format!("0x{:x}:\n\t{path}", s.id)), "{text}");
}

/// <https://github.com/ClickHouse/ClickHouse/pull/35992>
#[test]
fn a_word_that_is_not_listed_is_refused_with_its_name() {
    let options = ServerOptions {
        four_letter_words: "srvr".to_owned(),
        ..ServerOptions::default()
    };
    let Some(bed) = Bed::own(&options) else {
        return;
    };
    for refused in ["ruok", "mntr", "stat"] {
        let wanted = format!("{refused} is not executed because it is not in the whitelist.\n");
        assert_eq!(word(&bed, refused), wanted);
    }
}

#[test]
fn a_word_on_an_established_session_is_a_broken_frame() {
    let bed = Bed::new();
    let mut s = bed.session();
    s.conn.send_bytes(b"ruok").unwrap();
    s.conn.expect_close(DEADLINE).unwrap();
    s.reattach(bed.addr()).unwrap();
}
