//! What a node is and which shards it holds, as the text of the FORMAT file in its data folder.
//!
//! ```text
//! oxkeeper-data 2
//! cluster 8c5e…0f
//! node 1
//! shards 2
//! shard 0 default 17ab…9d 00000000-7fffffff hierarchical
//! shard 1 default c06f…42 80000000-ffffffff hierarchical
//! ```

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::placement::{NotAShard, ShardDescriptor};
use crate::{ClusterUuid, NodeId, ShardId};

const HEADER: &str = "oxkeeper-data";
const VERSION: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeManifest {
    pub cluster: ClusterUuid,
    pub node: NodeId,
    /// Those that the node holds, of any namespace.
    pub shards: Vec<ShardDescriptor>,
}

/// Why a text is no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    #[error("it does not begin with its name and version")]
    NoHeader,
    #[error(
        "it has format version {0}, which only early builds of this program wrote and none reads \
         any more; this one reads version {VERSION}: start with an empty folder"
    )]
    OldVersion(u32),
    #[error(
        "it has format version {0}, and this build of the program reads version {VERSION}: \
         run the version that wrote it, or a later one"
    )]
    NewerVersion(u32),
    #[error("line {0}: {1}")]
    Line(usize, &'static str),
    #[error("line {0}: {1}")]
    Shard(usize, NotAShard),
    #[error("shard {0} stands in it twice")]
    Twice(ShardId),
    #[error("its end is missing")]
    Cut,
}

impl fmt::Display for NodeManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER} {VERSION}")?;
        writeln!(f, "cluster {}", self.cluster)?;
        writeln!(f, "node {}", self.node)?;
        writeln!(f, "shards {}", self.shards.len())?;
        let mut shards = self.shards.iter();
        shards.try_for_each(|shard| writeln!(f, "shard {shard}"))
    }
}

impl FromStr for NodeManifest {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, ManifestError> {
        let mut lines = (1..).zip(text.split_terminator('\n'));
        let (_, header) = lines.next().ok_or(ManifestError::NoHeader)?;
        check_header(header)?;
        if !text.ends_with('\n') {
            return Err(ManifestError::Cut);
        }
        let cluster = field(lines.next(), 2, "cluster", "no cluster")?;
        let node = field(lines.next(), 3, "node", "no node").map(NodeId)?;
        let count: usize = field(lines.next(), 4, "shards", "no number of shards")?;
        let mut shards: Vec<ShardDescriptor> = Vec::new();
        for (at, line) in lines {
            let shard = line
                .strip_prefix("shard ")
                .ok_or(ManifestError::Line(at, "not a shard"))?;
            let shard: ShardDescriptor = shard
                .parse()
                .map_err(|error| ManifestError::Shard(at, error))?;
            if shards.iter().any(|other| other.id == shard.id) {
                return Err(ManifestError::Twice(shard.id));
            }
            shards.push(shard);
        }
        if shards.len() != count {
            return Err(ManifestError::Cut);
        }
        Ok(Self {
            cluster,
            node,
            shards,
        })
    }
}

fn check_header(line: &str) -> Result<(), ManifestError> {
    let version = line
        .strip_prefix(HEADER)
        .and_then(|rest| rest.strip_prefix(' '))
        .and_then(|version| version.parse::<u32>().ok())
        .ok_or(ManifestError::NoHeader)?;
    match version {
        VERSION => Ok(()),
        ..VERSION => Err(ManifestError::OldVersion(version)),
        _ => Err(ManifestError::NewerVersion(version)),
    }
}

/// The value of the line `name value`.
fn field<T: FromStr>(
    line: Option<(usize, &str)>,
    at: usize,
    name: &str,
    missing: &'static str,
) -> Result<T, ManifestError> {
    line.and_then(|(_, line)| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        .ok_or(ManifestError::Line(at, missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Shards;
    use crate::{ClusterUuid, ShardUuid};

    fn manifest() -> NodeManifest {
        let uuids = [ShardUuid([0x11; 16]), ShardUuid([0x22; 16])];
        let shards = Shards::found("default", ShardId(0), &uuids).expect("a namespace");
        NodeManifest {
            cluster: ClusterUuid([0xab; 16]),
            node: NodeId(3),
            shards: shards.iter().cloned().collect(),
        }
    }

    const TEXT: &str = "oxkeeper-data 2
cluster abababababababababababababababab
node 3
shards 2
shard 0 default 11111111111111111111111111111111 00000000-7fffffff hierarchical
shard 1 default 22222222222222222222222222222222 80000000-ffffffff hierarchical
";

    fn error(text: &str) -> String {
        let error = text.parse::<NodeManifest>().expect_err("refused");
        error.to_string()
    }

    #[test]
    fn a_manifest_has_its_persisted_text() {
        assert_eq!(manifest().to_string(), TEXT);
        assert_eq!(TEXT.parse(), Ok(manifest()));
    }

    #[test]
    fn other_versions_are_named_with_what_to_do() {
        let old = error("oxkeeper-data 1\nshards 4\n");
        assert!(
            old.contains("format version 1") && old.contains("start with an empty folder"),
            "{old}"
        );
        let newer = error("oxkeeper-data 3\n");
        assert!(
            newer.contains("format version 3") && newer.contains("or a later one"),
            "{newer}"
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert_eq!(error(""), "it does not begin with its name and version");
        assert_eq!(
            error("oxkeeper-term 2\n"),
            "it does not begin with its name and version"
        );
        assert_eq!(error("oxkeeper-data 2\n"), "line 2: no cluster");
        assert_eq!(error(&TEXT.replace("node 3", "node x")), "line 3: no node");
        assert_eq!(
            error(&TEXT.replace("shard 1", "split 1")),
            "line 6: not a shard"
        );
        assert!(error(&TEXT.replace("-7fff", "+7fff")).starts_with("line 5: it does not describe"));
        assert_eq!(
            error(&TEXT.replace("shard 1", "shard 0")),
            "shard 0 stands in it twice"
        );
    }

    #[test]
    fn a_cut_text_is_refused_at_every_byte() {
        for length in 0..TEXT.len() {
            assert!(TEXT[..length].parse::<NodeManifest>().is_err(), "{length}");
        }
    }
}
