//! Reads ZooKeeper's `zoo.cfg`, so that a server can be swapped under an existing configuration.
//!
//! A key that has a meaning here takes effect; every other key is named in one warning that says
//! why it has none. ZooKeeper takes most keys as Java system properties too, so each is known with
//! and without `zookeeper.` in front.
//!
//! The data directory is the folder `oxkeeper` in `dataDir`, so that ZooKeeper's own files there
//! stay as they are.

mod ensemble;
mod given;
mod properties;

use thiserror::Error;

use self::ensemble::Ensemble;
use self::given::{
    Given, boolean, count, directory, enforcement, interval, packet_bytes, parsed, port,
    property_count, session_timeout_max, session_timeout_min, super_digest, unless_false, words,
    yes,
};
use self::properties::{Property, properties};
use super::options::{Layer, Millis};

/// The first line that is not usable.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}: {key}: {problem}")]
pub(crate) struct ZooCfgError {
    file: String,
    line: usize,
    key: String,
    problem: String,
}

impl ZooCfgError {
    fn at(file: &str, line: usize, key: &str, problem: String) -> Self {
        Self {
            file: file.to_owned(),
            line,
            key: key.to_owned(),
            problem,
        }
    }
}

#[derive(Debug)]
pub(super) struct ZooCfg {
    pub(super) layer: Layer,
    pub(super) warnings: Vec<String>,
}

/// What a key does here.
enum Meaning {
    Applies(fn(&mut Layer, &str) -> Result<Note, String>),
    /// Says who the servers of an ensemble are, or whether one alone may be one.
    Ensemble,
    /// What it asks for is so anyway.
    Given,
    /// Has no effect, and why.
    Ignored(&'static str),
}

/// What the operator is told of a value that was not taken as it stands.
type Note = Option<String>;

/// ZooKeeper's, where no tickTime is given; our own default is another.
const TICK_TIME_MS: u64 = 3000;

/// `file` is for messages only.
pub(super) fn parse(file: &str, text: &str) -> Result<ZooCfg, ZooCfgError> {
    let mut layer = Layer::default();
    let mut warnings = Vec::new();
    let mut ensemble = Ensemble::default();
    let properties = properties(text);
    for Property { line, key, value } in &properties {
        let fail = |problem| ZooCfgError::at(file, *line, key, problem);
        match meaning(bare(key)) {
            Meaning::Applies(apply) => {
                let note = apply(&mut layer, value).map_err(fail)?;
                warnings.extend(note.map(|note| format!("{file}:{line}: {key}: {note}")));
            }
            Meaning::Ensemble => ensemble.add(file, *line, bare(key), value)?,
            Meaning::Given => {}
            Meaning::Ignored(reason) => {
                warnings.push(format!("{file}:{line}: {key} has no effect: {reason}"));
            }
        }
    }
    warnings.extend(ensemble.check(value_of(&properties, "dataDir"))?);
    check_secure_port(file, &properties, &layer)?;
    if value_of(&properties, "readonlymode.enabled") == Some("true") {
        // A server in this mode is asked whether it is read-only.
        let words = layer.four_letter_words.get_or_insert_default();
        words.allow("isro");
    }
    if layer.tick_time_ms.is_none() {
        layer.tick_time_ms = Millis::new(TICK_TIME_MS);
    }
    Ok(ZooCfg { layer, warnings })
}

/// What ZooKeeper does not start without, in a configuration that has a `zoo.cfg` in it: the key, and
/// the flag that can stand for it.
pub(super) fn missing(layer: &Layer) -> Option<(&'static str, &'static str)> {
    if layer.data_dir.is_none() {
        Some(("dataDir", "--data-dir"))
    } else if layer.client_port.is_none() {
        Some(("clientPort", "--client-port"))
    } else {
        None
    }
}

/// Without what ZooKeeper puts in front of its system properties.
fn bare(key: &str) -> &str {
    key.strip_prefix("zookeeper.").unwrap_or(key)
}

/// The last one given counts.
fn value_of<'a>(properties: &'a [Property], wanted: &str) -> Option<&'a str> {
    let mut found = properties.iter().rev();
    let property = found.find(|property| bare(&property.key) == wanted)?;
    Some(&property.value)
}

/// Whoever gave this one only wanted no unencrypted port; opening 2181 by default would be a leak.
fn check_secure_port(
    file: &str,
    properties: &[Property],
    layer: &Layer,
) -> Result<(), ZooCfgError> {
    let mut found = properties.iter().rev();
    let secure = found.find(|property| bare(&property.key) == "secureClientPort");
    match (secure, layer.client_port) {
        (Some(property), None) => Err(ZooCfgError::at(
            file,
            property.line,
            "secureClientPort",
            "TLS is not supported yet, and no clientPort is given: \
             add clientPort to serve without TLS"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// A function that parses a value into one option of the layer.
macro_rules! sets {
    ($field:ident) => {
        sets!($field, parsed)
    };
    ($field:ident, $read:path) => {
        Meaning::Applies(|layer, text| {
            let (value, note) = match $read(text)? {
                Given::As(value) => (Some(value), None),
                Given::Otherwise(value, note) => (Some(value), Some(note)),
                Given::Default(note) => (None, Some(note)),
            };
            layer.$field = value;
            Ok(note)
        })
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
            Meaning::Applies(|_, text| enforcement(text))
        }
        "clientPort" => sets!(client_port, port),
        "clientPortAddress" => sets!(client_address),
        "dataDir" => sets!(data_dir, directory),
        "tickTime" => sets!(tick_time_ms),
        "minSessionTimeout" => sets!(min_session_timeout_ms, session_timeout_min),
        "maxSessionTimeout" => sets!(max_session_timeout_ms, session_timeout_max),
        "maxClientCnxns" => sets!(max_client_connections, count),
        "maxCnxns" => sets!(max_connections, property_count),
        "jute.maxbuffer" => sets!(packet_bytes_max, packet_bytes),
        "4lw.commands.whitelist" => sets!(four_letter_words, words),
        "extendedTypesEnabled" => sets!(extended_types, boolean),
        "znode.container.checkIntervalMs" => sets!(container_check_interval_ms, interval),
        "nio.sessionlessCnxnTimeout" => sets!(session_request_timeout_ms, interval),
        "skipACL" => sets!(skip_acl, yes),
        "superDigest" | "DigestAuthenticationProvider.superDigest" => {
            sets!(super_digest, super_digest)
        }
        "admin.enableServer" => sets!(http_enabled, unless_false),
        "admin.serverAddress" | "metricsProvider.httpHost" => sets!(http_address),
        "admin.serverPort" | "metricsProvider.httpPort" => sets!(http_port),
        "metricsProvider.className" | "readonlymode.enabled" => Meaning::Given,
        "standaloneEnabled" | "dynamicConfigFile" => Meaning::Ensemble,
        _ if key.starts_with("server.") => Meaning::Ensemble,
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

#[cfg(test)]
mod tests;
