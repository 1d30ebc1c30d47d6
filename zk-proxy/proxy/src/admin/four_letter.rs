//! The four-letter words: an administrator's questions on the client port.
//! (ZooKeeper Administrator's Guide, "The Four Letter Words".)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_model::{Answer, Query, SessionId};
use oxkeeper_session::{Kinds, zxid};
use oxkeeper_wire::{FourLetterWord, Word};

use super::monitor;
use crate::service::Service;

/// The version of ZooKeeper that clients may take this server for, then our own.
pub(crate) const VERSION: &str = concat!(
    "3.9.5-oxkeeper-",
    env!("CARGO_PKG_VERSION"),
    ", built on ",
    env!("OXKEEPER_BUILT")
);

/// ZooKeeper's trace mask, which has no meaning here.
const TRACE_MASK: &str = "306";

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// What is answered to `word`.
pub(crate) async fn answer(tree: &Arc<Service>, word: FourLetterWord) -> String {
    let name = word.word.as_str();
    let allowed = &tree.options.four_letter_words;
    if !allowed
        .iter()
        .any(|allowed| allowed == "*" || allowed == name)
    {
        return format!("{name} is not executed because it is not in the whitelist.\n");
    }
    if !tree.is_serving() {
        match word.word {
            Word::Ruok | Word::Envi | Word::Gtmk | Word::Stmk => {}
            Word::Isro => return "null".to_owned(),
            _ => return NOT_SERVING.to_owned(),
        }
    }
    match word.word {
        Word::Ruok => "imok".to_owned(),
        Word::Isro => "rw".to_owned(),
        Word::Srvr => format!("{}{}", version_line(), server_stats(tree).await),
        Word::Stat => stat(tree).await,
        Word::Cons => cons(tree),
        Word::Conf => conf(tree),
        Word::Dump => dump(tree).await,
        Word::Envi => envi(),
        Word::Mntr => monitor::mntr(tree).await,
        Word::Wchs => watch_summary(tree),
        Word::Wchc => watches_by_session(tree),
        Word::Wchp => watches_by_path(tree),
        Word::Dirs => dirs(tree),
        Word::Gtmk => TRACE_MASK.to_owned(),
        Word::Stmk => word.argument.unwrap_or_default().to_string(),
        Word::Crst => reset_connections(tree),
        Word::Srst => {
            tree.stats.reset();
            "Server stats reset.\n".to_owned()
        }
        Word::Hash => String::new(),
    }
}

fn version_line() -> String {
    format!("Zookeeper version: {VERSION}\n")
}

async fn server_stats(tree: &Service) -> String {
    let counts = monitor::shard_counts(tree).await;
    let stats = &tree.stats;
    let zxid = zxid(tree.position());
    format!(
        "Latency min/avg/max: {}/{:?}/{}\nReceived: {}\nSent: {}\nConnections: {}\n\
         Outstanding: {}\nZxid: {zxid:#x}\nMode: standalone\nNode count: {}\n",
        stats.latencies.min_ms(),
        rounded(stats.latencies.average_ms()),
        stats.latencies.max_ms(),
        stats.packets_received.load(Relaxed),
        stats.packets_sent.load(Relaxed),
        tree.connection_count(),
        tree.outstanding(),
        counts.znodes(),
    )
}

/// To four decimals, as ZooKeeper rounds it.
fn rounded(ms: f64) -> f64 {
    (ms * 10_000.0).round() / 10_000.0
}

async fn stat(tree: &Service) -> String {
    let mut text = version_line() + "Clients:\n";
    for connection in tree.connections() {
        let report = connection.report();
        let _ = writeln!(
            text,
            " /{}[1](queued={},recved={},sent={})",
            connection.peer, report.pending, report.stats.received, report.stats.sent
        );
    }
    text.push('\n');
    text + &server_stats(tree).await
}

fn cons(tree: &Service) -> String {
    let now = tree.clock.now();
    let at = |us: u64| now.wall_ms - (now.monotonic_us.saturating_sub(us) / 1000) as i64;
    let mut text = String::new();
    for connection in tree.connections() {
        let report = connection.report();
        let stats = &report.stats;
        let _ = write!(
            text,
            " /{}[1](queued={},recved={},sent={}",
            connection.peer, report.pending, stats.received, stats.sent
        );
        if let Some((session, timeout_ms)) = report.session {
            let _ = write!(
                text,
                ",sid={session},lop={},est={},to={timeout_ms}",
                stats.last_op.short_name(),
                at(stats.established_us)
            );
            if stats.last_xid >= 0 {
                let _ = write!(text, ",lcxid={:#x}", stats.last_xid);
            }
            let _ = write!(
                text,
                ",lzxid={:#x},lresp={},llat={},minlat={},avglat={},maxlat={}",
                stats.last_zxid,
                at(stats.last_response_us),
                stats.last_latency_us / 1000,
                stats.min_latency_us.unwrap_or(0) / 1000,
                stats.average_latency_us() / 1000,
                stats.max_latency_us / 1000
            );
        }
        text.push_str(")\n");
    }
    text + "\n"
}

fn conf(tree: &Service) -> String {
    let options = &tree.options;
    let data_bytes = directory_bytes(&options.data_dir);
    let data_dir = options.data_dir.display();
    format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={data_dir}\ndataDirSize={data_bytes}\n\
         dataLogDir={data_dir}\ndataLogSize={data_bytes}\ntickTime={}\nmaxClientCnxns={}\n\
         minSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog=-1\nserverId=0\n",
        options.client_address.port(),
        options.tick_time_ms,
        options.max_client_connections,
        options.session.min_timeout_ms,
        options.session.max_timeout_ms,
    )
}

async fn dump(tree: &Service) -> String {
    let sessions = match tree.query(Query::Sessions).await {
        Ok(Answer::Sessions(sessions)) => sessions,
        _ => Vec::new(),
    };
    let mut text = format!(
        "SessionTracker dump:\nGlobal Sessions({}):\n",
        sessions.len()
    );
    for (session, timeout_ms, _) in &sessions {
        let _ = writeln!(text, "{session}\t{timeout_ms}ms");
    }
    let owners: Vec<_> = sessions
        .iter()
        .filter(|(_, _, ephemerals)| *ephemerals > 0)
        .collect();
    let _ = writeln!(
        text,
        "ephemeral nodes dump:\nSessions with Ephemerals ({}):",
        owners.len()
    );
    for &&(session, _, _) in &owners {
        let _ = writeln!(text, "{session}:");
        let query = Query::Ephemerals {
            session,
            prefix: String::new(),
        };
        if let Ok(Answer::Ephemerals(paths)) = tree.query(query).await {
            paths.iter().for_each(|path| {
                let _ = writeln!(text, "\t{path}");
            });
        }
    }
    let connections = tree.connections();
    let _ = writeln!(
        text,
        "Connections dump:\nConnections Sets (1)/({}):",
        connections.len()
    );
    for connection in connections {
        let session = connection.session();
        let _ = writeln!(text, "\tip: /{} sessionId: {session}", connection.peer);
    }
    text
}

/// kazoo and others read the server's version from here.
fn envi() -> String {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={}\nos.name={}\nos.arch={}\n\
         user.name={}\nuser.home={}\nuser.dir={}\n",
        host.trim(),
        std::env::consts::OS,
        std::env::consts::ARCH,
        env("USER"),
        env("HOME"),
        std::env::current_dir().unwrap_or_default().display(),
    )
}

/// Counts data watches only, as ZooKeeper does.
fn watch_summary(tree: &Service) -> String {
    let watches = data_watches(tree);
    let paths: BTreeSet<_> = watches.iter().map(|(path, _)| path).collect();
    let sessions: BTreeSet<_> = watches.iter().map(|(_, session)| session.0).collect();
    let (connections, paths) = (sessions.len(), paths.len());
    format!(
        "{connections} connections watching {paths} paths\nTotal watches:{}\n",
        watches.len()
    )
}

fn data_watches(tree: &Service) -> Vec<(String, SessionId)> {
    let data = Kinds::DATA.with(Kinds::PERSISTENT).with(Kinds::RECURSIVE);
    let watches = tree.watches().into_iter();
    let of_data = watches.filter(|(_, _, kinds)| kinds.intersects(data));
    of_data.map(|(path, session, _)| (path, session)).collect()
}

fn watches_by_session(tree: &Service) -> String {
    grouped(
        data_watches(tree)
            .into_iter()
            .map(|(path, session)| (session.to_string(), path)),
    )
}

fn watches_by_path(tree: &Service) -> String {
    grouped(
        data_watches(tree)
            .into_iter()
            .map(|(path, session)| (path, session.to_string())),
    )
}

fn grouped(pairs: impl Iterator<Item = (String, String)>) -> String {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    pairs.for_each(|(key, member)| groups.entry(key).or_default().push(member));
    let mut text = String::new();
    for (key, members) in groups {
        let _ = writeln!(text, "{key}");
        members.iter().for_each(|member| {
            let _ = writeln!(text, "\t{member}");
        });
    }
    text
}

fn dirs(tree: &Service) -> String {
    let bytes = directory_bytes(&tree.options.data_dir);
    format!("datadir_size: {bytes}\nlogdir_size: {bytes}\n")
}

/// Bytes of all files below `directory`; what cannot be read counts nothing.
fn directory_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn reset_connections(tree: &Service) -> String {
    let now_us = tree.clock.monotonic_us();
    for connection in tree.connections() {
        connection.reset_stats(now_us);
    }
    "Connection stats reset.\n".to_owned()
}
