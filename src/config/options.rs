//! The options, once: the table at `options!` makes the flags, the keys of the YAML file, their
//! help and their defaults.

use std::fmt;

use serde::Deserialize;

use super::value::from_text;
use super::value::{
    Auto, Directory, FourLetterWords, Host, LogFormat, LogLevel, SuperDigest, Within,
};

/// 0 lets the system choose a free port, which the startup screen names.
pub(crate) type Port = Within<0, 65535>;
pub(crate) type Millis = Within<1, { i32::MAX as u64 }>;
pub(crate) type Shards = Within<1, 64>;
/// Below 1 KiB no handshake with an ACL passes; above 32 MiB a packet would not fit into a log entry.
pub(crate) type PacketBytes = Within<1024, { 32 << 20 }>;
pub(crate) type CacheBytes = Within<{ 1 << 20 }, { 1 << 40 }>;
pub(crate) type Count = Within<0, { u32::MAX as u64 }>;
pub(crate) type Threads = Within<1, 256>;

/// Session timeouts are clamped to this many ticks unless they are configured, as in ZooKeeper.
pub(super) const SESSION_TICKS_MIN: u64 = 2;
pub(super) const SESSION_TICKS_MAX: u64 = 20;

/// Few threads: at one request per connection waking threads costs more than the work.
const WORKER_THREADS_AUTO_MAX: usize = 4;

/// One option, for the page that lists them.
#[cfg(test)]
pub(super) struct OptionDoc {
    pub(super) heading: &'static str,
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) doc_lines: &'static [&'static str],
}

/// The lines of a doc comment as one.
pub(super) fn joined(doc_lines: &[&str]) -> String {
    let lines: Vec<&str> = doc_lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

fn help(doc_lines: &[&str], default: &str) -> String {
    format!("{} [default: {default}]", joined(doc_lines))
}

/// A default of the table; the test `defaults_parse` keeps the promise.
fn default_of<T: std::str::FromStr>(name: &str, text: &str) -> T {
    match text.parse() {
        Ok(value) => value,
        Err(_) => unreachable!("the default of {name} does not parse: {text}"),
    }
}

macro_rules! options {
    ($(
        $heading:literal {
            $( $(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:literal, $value_name:literal; )+
        }
    )+) => {
        /// What one source says; `None` where it is silent.
        #[derive(Clone, Debug, Default, clap::Args, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub(crate) struct Layer {
            $($(
                #[serde(deserialize_with = "from_text")]
                #[arg(
                    long, value_name = $value_name, help_heading = $heading,
                    help = help(&[$($doc),+], concat!($default))
                )]
                pub(crate) $name: Option<$type>,
            )+)+
        }

        impl Layer {
            /// This layer, and where it is silent the one below.
            pub(crate) fn over(self, below: Self) -> Self {
                Self { $($( $name: self.$name.or(below.$name), )+)+ }
            }
        }

        /// Every option with the value that takes effect.
        #[derive(Clone, Debug)]
        pub(crate) struct Config {
            $($( $(#[doc = $doc])+ pub(crate) $name: $type, )+)+
        }

        impl Config {
            pub(super) fn from_layer(layer: Layer) -> Self {
                Self {
                    $($( $name: layer.$name.unwrap_or_else(
                        || default_of(stringify!($name), concat!($default))
                    ), )+)+
                }
            }
        }

        /// As a YAML file that has this configuration, but for secrets.
        impl fmt::Display for Config {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $($(
                    let key = stringify!($name).replace('_', "-");
                    writeln!(f, "{key}: {}", yaml_scalar(&self.$name.to_string()))?;
                )+)+
                Ok(())
            }
        }

        /// All options in the order of the table.
        #[cfg(test)]
        pub(super) const OPTIONS: &[OptionDoc] = &[$($(
            OptionDoc {
                heading: $heading,
                name: stringify!($name),
                default: concat!($default),
                doc_lines: &[$($doc),+],
            },
        )+)+];
    };
}

options! {
    "Storage" {
        /// Directory of the log and the store. Made if it is not there. One process at a time.
        data_dir: Directory = "oxkeeper-data", "DIR";
        /// Shards of a new data directory, 1 to 64; fixed once the directory exists.
        /// A ZooKeeper tree lives in one of them.
        shards: Shards = 1, "COUNT";
        /// Memory for blocks of the store's files, bytes, shared by all shards.
        block_cache_bytes: CacheBytes = 33554432, "BYTES";
        /// Memory for records that reads are answered from, bytes, shared by all connections.
        view_cache_bytes: CacheBytes = 41943040, "BYTES";
    }
    "Clients" {
        /// Address to serve ZooKeeper clients on: an IP address or a host name.
        client_address: Host = "0.0.0.0", "HOST";
        /// TCP port to serve ZooKeeper clients on; 0 takes a free one.
        client_port: Port = 2181, "PORT";
        /// Connections allowed from one client address; 0 is no limit.
        max_client_connections: Count = 60, "COUNT";
        /// Connections allowed in all; 0 is no limit but the system's own.
        max_connections: Count = 0, "COUNT";
        /// A connection that has not asked for a session by then is closed, milliseconds.
        session_request_timeout_ms: Millis = 15000, "MS";
        /// Largest request, bytes (ZooKeeper's jute.maxbuffer), 1024 to 33554432.
        packet_bytes_max: PacketBytes = 1048575, "BYTES";
        /// Four-letter words that are answered, separated by commas; `*` is all. `srvr` always is.
        four_letter_words: FourLetterWords = "srvr", "WORDS";
    }
    "Sessions and records" {
        /// Session expiry is checked once per tick, milliseconds.
        tick_time_ms: Millis = 2000, "MS";
        /// Shortest session timeout that a client gets, milliseconds; `auto` is 2 ticks.
        min_session_timeout_ms: Auto<Millis> = "auto", "MS";
        /// Longest session timeout that a client gets, milliseconds; `auto` is 20 ticks.
        max_session_timeout_ms: Auto<Millis> = "auto", "MS";
        /// Whether records with a time to live can be created.
        extended_types: bool = false, "BOOL";
        /// How often childless containers and outlived TTL records are looked for, milliseconds.
        container_check_interval_ms: Millis = 60000, "MS";
    }
    "Access" {
        /// Digest of the administrator who passes every ACL: `USER:` and the Base64 of the SHA-1 of
        /// `USER:PASSWORD`; `none` for no such identity.
        super_digest: SuperDigest = "none", "DIGEST";
        /// Ignore all access lists: everybody may do everything.
        skip_acl: bool = false, "BOOL";
    }
    "Operation" {
        /// Serve /metrics and /health by HTTP.
        http_enabled: bool = true, "BOOL";
        /// Address to serve HTTP on: an IP address or a host name.
        http_address: Host = "0.0.0.0", "HOST";
        /// TCP port to serve HTTP on; 0 takes a free one.
        http_port: Port = 8080, "PORT";
        /// Threads that serve connections; `auto` is one per core, at most 4.
        worker_threads: Auto<Threads> = "auto", "COUNT";
        /// Which log lines are written to standard error: `error`, `warn`, `info`, `debug`, `trace`,
        /// or by module as in `info,oxkeeper_proxy=debug`.
        log_level: LogLevel = "info", "LEVEL";
        /// How log lines look: `text` or `json`.
        log_format: LogFormat = "text", "FORMAT";
    }
}

impl Config {
    pub(crate) fn session_timeout_ms_min(&self) -> u32 {
        self.ticks_unless(self.min_session_timeout_ms, SESSION_TICKS_MIN)
    }

    pub(crate) fn session_timeout_ms_max(&self) -> u32 {
        self.ticks_unless(self.max_session_timeout_ms, SESSION_TICKS_MAX)
    }

    fn ticks_unless(&self, configured: Auto<Millis>, ticks: u64) -> u32 {
        let timeout_ms = configured
            .0
            .map_or(self.tick_time_ms.get() * ticks, Millis::get);
        u32::try_from(timeout_ms)
            .unwrap_or(u32::MAX)
            .min(i32::MAX as u32)
    }

    /// How many threads run the connections' tasks.
    pub(crate) fn worker_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.worker_threads
            .0
            .map_or(cores.min(WORKER_THREADS_AUTO_MAX), Threads::usize)
    }
}

/// Quotes what YAML would not read back as the same text.
pub(super) fn yaml_scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) && !text.is_empty() {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
