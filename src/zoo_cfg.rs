//! Reads ZooKeeper's `zoo.cfg`, so that a server can be swapped under an existing configuration.
//!
//! A key that has a meaning here takes effect; every other key is named in one warning that says
//! why it has none. ZooKeeper takes most keys as Java system properties too, so each is known with
//! and without `zookeeper.` in front.
//!
//! The data directory is the folder `oxkeeper` in `dataDir`, so that ZooKeeper's own files there
//! stay as they are.

use std::fmt::Display;
use std::str::FromStr;

use thiserror::Error;

use crate::config::{Auto, Directory, Layer};

/// The first line that is not usable.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}: {key}: {problem}")]
pub(crate) struct ZooCfgError {
    file: String,
    line: usize,
    key: String,
    problem: String,
}

#[derive(Debug)]
pub(crate) struct ZooCfg {
    pub(crate) layer: Layer,
    pub(crate) warnings: Vec<String>,
}

/// What a key does here.
enum Meaning {
    Applies(fn(&mut Layer, &str) -> Result<(), String>),
    /// What it asks for is so anyway.
    Given,
    /// Has no effect, and why.
    Ignored(&'static str),
}

/// `file` is for messages only.
pub(crate) fn parse(file: &str, text: &str) -> Result<ZooCfg, ZooCfgError> {
    let mut layer = Layer::default();
    let mut warnings = Vec::new();
    let mut secure_port_line = None;
    for Property { line, key, value } in properties(text) {
        let fail = |problem| ZooCfgError {
            file: file.to_owned(),
            line,
            key: key.clone(),
            problem,
        };
        let bare = key.strip_prefix("zookeeper.").unwrap_or(&key);
        if bare == "secureClientPort" {
            secure_port_line = Some(line);
        }
        match meaning(bare) {
            Meaning::Applies(apply) => apply(&mut layer, &value).map_err(fail)?,
            Meaning::Given => {}
            Meaning::Ignored(reason) => {
                warnings.push(format!("{file}:{line}: {key} has no effect: {reason}"));
            }
        }
    }
    // Whoever wrote this wanted no unencrypted port; opening 2181 by default would be a leak.
    if let (Some(line), None) = (secure_port_line, layer.client_port) {
        return Err(ZooCfgError {
            file: file.to_owned(),
            line,
            key: "secureClientPort".to_owned(),
            problem: "TLS is not supported yet, and no clientPort is given: \
                      add clientPort to serve without TLS"
                .to_owned(),
        });
    }
    Ok(ZooCfg { layer, warnings })
}

/// A function that parses a value into one option of the layer.
macro_rules! sets {
    ($field:ident) => {
        Meaning::Applies(|layer, text| parsed(text).map(|value| layer.$field = Some(value)))
    };
    ($field:ident, $convert:path) => {
        Meaning::Applies(|layer, text| $convert(text).map(|value| layer.$field = Some(value)))
    };
}

const ONE_SERVER: &str = "this server runs alone; replication is not supported yet";
const NO_SNAPSHOTS: &str = "there are no snapshot files and the log is trimmed by itself";
const NO_TLS: &str = "TLS is not supported yet; the client port is not encrypted";
const NO_AUTH_PLUGINS: &str =
    "the schemes are world, auth, digest, ip and super; others are not supported yet";

fn meaning(key: &str) -> Meaning {
    match key {
        "sessionRequireClientSASLAuth" | "enforce.auth.enabled" => {
            Meaning::Applies(|_, text| refuse_enforcement(text))
        }
        "clientPort" => sets!(client_port),
        "clientPortAddress" => sets!(client_address),
        "dataDir" => sets!(data_dir, own_folder_in),
        "tickTime" => sets!(tick_time_ms),
        "minSessionTimeout" => sets!(min_session_timeout_ms, unset_if_negative),
        "maxSessionTimeout" => sets!(max_session_timeout_ms, unset_if_negative),
        "maxClientCnxns" => sets!(max_client_connections),
        "maxCnxns" => sets!(max_connections),
        "jute.maxbuffer" => sets!(packet_bytes_max, integer),
        "4lw.commands.whitelist" => sets!(four_letter_words),
        "extendedTypesEnabled" => sets!(extended_types, yes_or_no),
        "znode.container.checkIntervalMs" => sets!(container_check_interval_ms),
        "skipACL" => sets!(skip_acl, yes_or_no),
        "superDigest" | "DigestAuthenticationProvider.superDigest" => sets!(super_digest),
        "admin.enableServer" => sets!(http_enabled, yes_or_no),
        "admin.serverAddress" | "metricsProvider.httpHost" => sets!(http_address),
        "admin.serverPort" | "metricsProvider.httpPort" => sets!(http_port),
        "metricsProvider.className" => Meaning::Given,
        _ => Meaning::Ignored(why_ignored(key)),
    }
}

/// Keys of ZooKeeper that do nothing here, and anything else.
fn why_ignored(key: &str) -> &'static str {
    match key {
        "dataLogDir" => "the log lies in the data directory",
        "forceSync" => "every write is on disk before it is answered",
        "initLimit"
        | "syncLimit"
        | "electionAlg"
        | "peerType"
        | "standaloneEnabled"
        | "dynamicConfigFile"
        | "quorumListenOnAllIPs"
        | "leaderServes"
        | "reconfigEnabled"
        | "connectToLearnerMasterLimit"
        | "observerMasterPort" => ONE_SERVER,
        "snapCount" | "snapSizeLimitInKb" | "preAllocSize" | "fsync.warningthresholdms" => {
            NO_SNAPSHOTS
        }
        "secureClientPort"
        | "secureClientPortAddress"
        | "client.portUnification"
        | "client.certReload" => NO_TLS,
        "enforceQuota" => "quotas are kept but not enforced yet",
        "audit.enable" => "there is no audit log yet",
        "readonlymode.enabled" => "a server that runs alone is never read-only",
        "localSessionsEnabled" | "localSessionsUpgradingEnabled" => {
            "every session is a global session"
        }
        "globalOutstandingLimit"
        | "requestThrottleLimit"
        | "largeRequestMaxBytes"
        | "largeRequestThreshold" => "requests in flight are limited for each connection instead",
        "znode.container.maxPerMinute" | "znode.container.maxNeverUsedIntervalMs" => {
            "only znode.container.checkIntervalMs can be set"
        }
        "digest.enabled" => "the state's digest is always kept",
        "DigestAuthenticationProvider.digestAlg" => "the digest is always SHA1",
        "DigestAuthenticationProvider.enabled" => "the digest scheme is always there",
        "serverCnxnFactory" => "there is one way to serve connections",
        "clientPortListenBacklog" => "the queue of new connections has a fixed length",
        _ => why_family_ignored(key),
    }
}

fn why_family_ignored(key: &str) -> &'static str {
    const FAMILIES: &[(&str, &str)] = &[
        ("server.", ONE_SERVER),
        ("group.", ONE_SERVER),
        ("weight.", ONE_SERVER),
        ("quorum.", ONE_SERVER),
        ("autopurge.", NO_SNAPSHOTS),
        ("snapshot.", NO_SNAPSHOTS),
        ("ssl.", NO_TLS),
        ("authProvider.", NO_AUTH_PLUGINS),
        ("enforce.auth.", NO_AUTH_PLUGINS),
        ("X509AuthenticationProvider.", NO_AUTH_PLUGINS),
        ("ssl.quorum.", ONE_SERVER),
        (
            "admin.",
            "HTTP serves /metrics and /health; the admin commands are not supported yet",
        ),
        (
            "metricsProvider.",
            "of the metrics provider only httpHost and httpPort can be set",
        ),
    ];
    FAMILIES
        .iter()
        .find(|(family, _)| key.starts_with(family))
        .map_or("it is not a key that this server knows", |(_, reason)| {
            reason
        })
}

fn parsed<T>(text: &str) -> Result<T, String>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|problem: T::Err| problem.to_string())
}

/// The folder in `dataDir` that this server's data is in.
const DATA_FOLDER: &str = "oxkeeper";

fn own_folder_in(text: &str) -> Result<Directory, String> {
    parsed::<Directory>(text).map(|Directory(path)| Directory(path.join(DATA_FOLDER)))
}

/// ZooKeeper's −1 for "derive it from tickTime".
fn unset_if_negative<T: FromStr<Err = String>>(text: &str) -> Result<Auto<T>, String> {
    if text == "-1" {
        Ok(Auto(None))
    } else {
        parsed(text)
    }
}

/// As Java reads integers of system properties: decimal, or hexadecimal after `0x` or `#`.
fn integer<T: FromStr<Err = String>>(text: &str) -> Result<T, String> {
    let digits = ["0x", "0X", "#"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix));
    match digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
        Some(value) => parsed(&value.to_string()),
        None => parsed(text),
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err(format!(
            "`{text}` is not allowed here: give `true` or `false`"
        )),
    }
}

/// Serving without what is asked for would let in whom the operator wants out.
fn refuse_enforcement(text: &str) -> Result<(), String> {
    if yes_or_no(text)? {
        return Err("authentication cannot be enforced yet: \
                    remove this to serve clients that do not authenticate too"
            .to_owned());
    }
    Ok(())
}

struct Property {
    /// Where it starts, from 1.
    line: usize,
    key: String,
    value: String,
}

/// The properties of a Java properties file, in order: `key=value`, `key: value` or `key value`,
/// comments after `#` or `!`, lines joined by a `\` at the end.
fn properties(text: &str) -> Vec<Property> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let mut logical = first.trim().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim()),
                None => break,
            }
        }
        let (key, value) = split_property(&logical);
        found.push(Property {
            line: index + 1,
            key,
            value,
        });
    }
    found
}

/// An odd number of backslashes at the end; an even one is backslashes meant as such.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

fn split_property(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || c.is_whitespace());
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim();
    (unescape(key), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            plain.extend(chars.next());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests;
