//! The core's words in ZooKeeper's: the one table from records to Stat and from errors to codes.

use oxkeeper_model::{Head, OpError, Revision};
use oxkeeper_wire::{ErrorCode, Stat};

/// A revision is shown as the zxid.
pub fn zxid(revision: Revision) -> i64 {
    revision.0 as i64
}

/// A record's Stat.
pub(crate) fn stat(head: &Head) -> Stat {
    let children = &head.children;
    Stat {
        czxid: zxid(head.created_revision),
        mzxid: zxid(head.modified_revision),
        ctime_ms: head.created_at_ms,
        mtime_ms: head.modified_at_ms,
        version: head.modifications_count,
        // ZooKeeper counts creates and deletes; both wrap at 32 bits.
        cversion: (2 * children.created_ever as i64 - i64::from(children.live)) as i32,
        aversion: head.acl_version,
        ephemeral_owner: head.session.map_or(0, |session| session.0),
        data_length: head.value_bytes.unwrap_or(0) as i32,
        num_children: children.live as i32,
        pzxid: zxid(children.last_change),
    }
}

/// The code of a failed operation.
pub(crate) fn code(error: OpError) -> ErrorCode {
    match error {
        OpError::NoNode => ErrorCode::NO_NODE,
        OpError::NoAuth => ErrorCode::NO_AUTH,
        OpError::BadVersion => ErrorCode::BAD_VERSION,
        OpError::NoChildrenForEphemerals => ErrorCode::NO_CHILDREN_FOR_EPHEMERALS,
        OpError::NodeExists => ErrorCode::NODE_EXISTS,
        OpError::NotEmpty => ErrorCode::NOT_EMPTY,
        OpError::BadArguments => ErrorCode::BAD_ARGUMENTS,
        OpError::FrontEnd(code) => ErrorCode(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::tree_seed;

    #[test]
    fn a_fresh_tree_has_the_stats_of_a_fresh_zookeeper() {
        let stats: Vec<_> = tree_seed()
            .iter()
            .map(|seed| (seed.path.to_string(), stat(&seed.record.head)))
            .collect();
        let of = |path: &str| stats.iter().find(|(at, _)| at == path).expect("seeded").1;
        assert_eq!((of("/").cversion, of("/").num_children), (-1, 1));
        assert_eq!(
            (of("/zookeeper").cversion, of("/zookeeper").num_children),
            (-2, 2)
        );
        assert_eq!(of("/zookeeper/config").aversion, -1);
        assert_eq!(of("/zookeeper/quota"), Stat::default());
    }
}
