//! The records every ZooKeeper tree starts with.

use bytes::Bytes;
use oxkeeper_model::{Acl, Head, Record, Revision, SeedRecord};

use crate::auth::{ALL, anyone};

const READ: i32 = 1;

/// `/`, `/zookeeper`, `/zookeeper/config` and `/zookeeper/quota`, with the counters of a fresh
/// ZooKeeper: none of the children counts as created, so `cversion` starts below zero.
pub fn tree_seed() -> Vec<SeedRecord> {
    let config = SeedRecord {
        record: Record {
            head: Head {
                acl_version: -1,
                ..head(0, anyone(READ))
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
            head: head(children, acl),
            value: Some(Bytes::new()),
        },
    }
}

fn head(children: u32, acl: Acl) -> Head {
    let mut head = Head {
        value_bytes: Some(0),
        ..Head::new(Revision(0), 0, acl)
    };
    head.children.live = children;
    head
}
