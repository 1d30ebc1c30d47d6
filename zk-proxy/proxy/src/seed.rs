//! The records every ZooKeeper tree starts with.

use std::sync::Arc;

use bytes::Bytes;
use oxkeeper_model::{Acl, Children, Head, Lifetime, Record, Revision, SeedRecord};

use crate::auth::{ALL, anyone};

const READ: i32 = 1;

/// `/`, `/zookeeper`, `/zookeeper/config` and `/zookeeper/quota`, with the counters of a fresh
/// ZooKeeper: none of the children counts as created, so `cversion` starts below zero.
pub fn tree_seed() -> Vec<SeedRecord> {
    let config = SeedRecord {
        record: Record {
            head: Head {
                acl_version: -1,
                acl: anyone(READ),
                ..head(0)
            },
            value: Some(Bytes::new()),
        },
        path: "/zookeeper/config".into(),
    };
    vec![
        seed("/", 1, anyone(ALL)),
        seed("/zookeeper", 2, anyone(ALL)),
        config,
        seed("/zookeeper/quota", 0, anyone(ALL)),
    ]
}

fn seed(path: &str, children: u32, acl: Acl) -> SeedRecord {
    SeedRecord {
        path: path.into(),
        record: Record {
            head: Head {
                acl,
                ..head(children)
            },
            value: Some(Bytes::new()),
        },
    }
}

fn head(children: u32) -> Head {
    Head {
        created_revision: Revision(0),
        modified_revision: Revision(0),
        created_at_ms: 0,
        modified_at_ms: 0,
        modifications_count: 0,
        version_id: 0,
        acl: Arc::from([]),
        acl_version: 0,
        session: None,
        children: Children {
            live: children,
            created_ever: 0,
            last_change: Revision(0),
        },
        lifetime: Lifetime::Persistent,
        value_bytes: Some(0),
        native: None,
    }
}
