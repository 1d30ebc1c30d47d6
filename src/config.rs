//! What can be configured, and where it is read from.
//!
//! A [`Layer`] is what one source said (a file, the command line); layers on top win, and what no
//! layer says is the default. [`Config`] is the result, with every option set. `options` has the table
//! of options, `value` their types, `zoo_cfg` reads ZooKeeper's format.
//!
//! Nothing in here opens sockets or directories: whether values can be *used* shows at start.

use std::path::{Path, PathBuf};

use thiserror::Error;

mod options;
mod value;
mod zoo_cfg;

pub(crate) use options::{Config, Layer, Port};
use options::{SESSION_TICKS_MAX, SESSION_TICKS_MIN};
pub(crate) use value::{Host, LogFormat, LogLevel};

/// Why there is no configuration. Each says where, what, and what would be right.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {}: {source}", .path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the configuration file {} is not usable:\n{problem}", .path.display())]
    Yaml { path: PathBuf, problem: String },
    #[error("{0}")]
    ZooCfg(#[from] zoo_cfg::ZooCfgError),
    #[error(
        "{}: {key} is not set, and ZooKeeper does not start without it: add it, or give {flag}", .path.display()
    )]
    Missing {
        path: PathBuf,
        key: &'static str,
        flag: &'static str,
    },
    #[error("{0}")]
    Contradiction(String),
}

/// The configuration, and what the operator should be told about how it was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) warnings: Vec<String>,
}

/// Flags over the file over the defaults.
pub(crate) fn load(flags: Layer, file: Option<&Path>) -> Result<Loaded, ConfigError> {
    let (layer, warnings) = match file {
        Some(path) => read_file(path)?,
        None => (Layer::default(), Vec::new()),
    };
    let layer = flags.over(layer);
    if let Some(path) = file.filter(|path| is_properties(path))
        && let Some((key, flag)) = zoo_cfg::missing(&layer)
    {
        let path = path.to_owned();
        return Err(ConfigError::Missing { path, key, flag });
    }
    let config = Config::from_layer(layer);
    config.check()?;
    Ok(Loaded { config, warnings })
}

/// `zoo.cfg` and other properties files are told from YAML by how their names end.
fn is_properties(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("cfg" | "properties"))
}

fn read_file(path: &Path) -> Result<(Layer, Vec<String>), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    if is_properties(path) {
        let read = zoo_cfg::parse(&path.display().to_string(), &text)?;
        return Ok((read.layer, read.warnings));
    }
    let layer = serde_saphyr::from_str(&text).map_err(|error| ConfigError::Yaml {
        path: path.to_owned(),
        problem: error
            .to_string()
            .replace("<input>", &path.display().to_string()),
    })?;
    Ok((layer, Vec::new()))
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        let (min, max) = (self.session_timeout_ms_min(), self.session_timeout_ms_max());
        if min > max {
            return Err(ConfigError::Contradiction(format!(
                "the shortest session timeout ({min} ms) is above the longest ({max} ms): change \
                 min-session-timeout-ms or max-session-timeout-ms (unset, they are {SESSION_TICKS_MIN} \
                 and {SESSION_TICKS_MAX} times tick-time-ms, now {} ms)",
                self.tick_time_ms
            )));
        }
        let port = self.client_port;
        if self.http_enabled && port == self.http_port && port.get() != 0 {
            return Err(ConfigError::Contradiction(format!(
                "client-port and http-port are both {port}: give each its own, or set http-enabled to false"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
