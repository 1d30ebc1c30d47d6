//! The four-letter words: an administrator's questions on the client port.
//! (ZooKeeper Administrator's Guide, "The Four Letter Words".)

use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_session::{ConnectionId, zxid};
use oxkeeper_wire::{FourLetterWord, Word};

use super::{dump, environment, monitor, watches};
use crate::options::ProxyOptions;
use crate::service::Service;

/// The version of ZooKeeper that clients may take this server for, then our own.
pub(crate) const VERSION: &str = concat!(
    "3.9.5-oxkeeper-",
    env!("CARGO_PKG_VERSION"),
    ", built on ",
    env!("OXKEEPER_BUILT")
);

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// What is answered to the `word` of the connection `asker`.
pub(crate) async fn answer(service: &Service, asker: ConnectionId, word: FourLetterWord) -> String {
    if !is_allowed(&service.options, word.word) {
        let name = word.word.as_str();
        return format!("{name} is not executed because it is not in the whitelist.\n");
    }
    if !service.is_serving() {
        match word.word {
            Word::Ruok | Word::Envi | Word::Gtmk | Word::Stmk => {}
            Word::Isro => return "null".to_owned(),
            _ => return NOT_SERVING.to_owned(),
        }
    }
    match word.word {
        Word::Ruok => "imok".to_owned(),
        Word::Isro => "rw".to_owned(),
        Word::Srvr => version_line() + &server_stats(service).await,
        Word::Stat => stat(service, asker).await,
        Word::Cons => cons(service, asker),
        Word::Conf => conf(service),
        Word::Dump => dump::text(service).await,
        Word::Envi => environment::text(),
        Word::Mntr => monitor::mntr(service).await,
        Word::Wchs => watches::summary(service),
        Word::Wchc => watches::by_session(service),
        Word::Wchp => watches::by_path(service),
        Word::Dirs => dirs(service),
        Word::Gtmk => service.trace_mask.load(Relaxed).to_string(),
        Word::Stmk => {
            let mask = word.argument.unwrap_or_default();
            service.trace_mask.store(mask, Relaxed);
            mask.to_string()
        }
        Word::Crst => reset_connections(service),
        Word::Srst => {
            service.stats.reset();
            "Server stats reset.\n".to_owned()
        }
        Word::Hash => String::new(),
    }
}

/// `srvr` always is: ZooKeeper's own scripts ask for it.
pub(crate) fn is_allowed(options: &ProxyOptions, word: Word) -> bool {
    let listed = |allowed: &String| allowed == "*" || allowed == word.as_str();
    word == Word::Srvr || options.four_letter_words.iter().any(listed)
}

fn version_line() -> String {
    format!("Zookeeper version: {VERSION}\n")
}

async fn server_stats(service: &Service) -> String {
    let counts = monitor::shard_counts(service).await;
    let stats = &service.stats;
    let zxid = zxid(service.position());
    format!(
        "Latency min/avg/max: {}/{:?}/{}\nReceived: {}\nSent: {}\nConnections: {}\n\
         Outstanding: {}\nZxid: {zxid:#x}\nMode: standalone\nNode count: {}\n",
        stats.latencies.min_ms(),
        rounded(stats.latencies.average_ms()),
        stats.latencies.max_ms(),
        stats.packets_received.load(Relaxed),
        stats.packets_sent.load(Relaxed),
        service.connection_count(),
        service.outstanding(),
        counts.znodes(),
    )
}

/// To four decimals, as ZooKeeper rounds it.
pub(super) fn rounded(ms: f64) -> f64 {
    (ms * 10_000.0).round() / 10_000.0
}

/// In brackets stands what the server waits for: 1 for requests, 0 after a four-letter word.
async fn stat(service: &Service, asker: ConnectionId) -> String {
    let mut text = version_line() + "Clients:\n";
    for connection in service.connections() {
        let report = connection.report();
        let _ = writeln!(
            text,
            " /{}[{}](queued={},recved={},sent={})",
            connection.peer,
            u8::from(connection.id != asker),
            report.pending,
            report.stats.received,
            report.stats.sent
        );
    }
    text.push('\n');
    text + &server_stats(service).await
}

fn cons(service: &Service, asker: ConnectionId) -> String {
    let now = service.clock.now();
    let at = |us: u64| now.wall_ms - (now.monotonic_us.saturating_sub(us) / 1000) as i64;
    let mut text = String::new();
    for connection in service.connections() {
        let report = connection.report();
        let stats = &report.stats;
        let _ = write!(
            text,
            " /{}[{}](queued={},recved={},sent={}",
            connection.peer,
            u8::from(connection.id != asker),
            report.pending,
            stats.received,
            stats.sent
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

fn conf(service: &Service) -> String {
    let options = &service.options;
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

fn dirs(service: &Service) -> String {
    let bytes = directory_bytes(&service.options.data_dir);
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

fn reset_connections(service: &Service) -> String {
    let now_us = service.clock.monotonic_us();
    for connection in service.connections() {
        connection.reset_stats(now_us);
    }
    "Connection stats reset.\n".to_owned()
}
