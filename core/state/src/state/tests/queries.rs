//! Queries that other tests do not ask.

use oxkeeper_model::{Answer, Query, SessionId};

use super::fixture::*;

#[test]
fn records_are_answered_in_order_and_with_values_on_request() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    let paths = vec!["/none".into(), "/a".into()];
    let query = Query::Records {
        paths: paths.clone(),
        with_values: true,
    };
    let Answer::Records(records) = shard.state.query(&query).expect("query") else {
        panic!()
    };
    assert_eq!(records[0], None);
    let found = records[1].as_ref().expect("a record");
    assert_eq!(found.head, shard.head("/a"));
    assert_eq!(found.value, Some(Some("v".into())));
    let query = Query::Records {
        paths,
        with_values: false,
    };
    let Answer::Records(records) = shard.state.query(&query).expect("query") else {
        panic!()
    };
    assert_eq!(records[1].as_ref().expect("a record").value, None);
}

#[test]
fn child_names_are_sorted_and_direct() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    for path in ["/a", "/a/z", "/a/b", "/a/b/deep", "/a-", "/a/é", "/a0"] {
        shard.ok(&mut client, create(path));
    }
    assert_eq!(shard.names("/a"), ["b", "z", "é"]);
    assert_eq!(shard.names("/"), ["a", "a-", "a0", "zookeeper"]);
    assert_eq!(shard.names("/a/z"), [""; 0]);
    let query = Query::ChildNames {
        path: "/none".into(),
    };
    assert_eq!(shard.state.query(&query), Ok(Answer::ChildNames(None)));
}

#[test]
fn descendants_are_counted_at_every_depth() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    for path in ["/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/x", "/ab", "/ab/y"] {
        shard.ok(&mut client, create(path));
    }
    let count = |path: &str| match shard
        .state
        .query(&Query::DescendantCount { path: path.into() })
        .expect("query")
    {
        Answer::DescendantCount(count) => count,
        answer => panic!("{answer:?}"),
    };
    assert_eq!(count("/a"), Some(4));
    assert_eq!(count("/a/b"), Some(2));
    assert_eq!(count("/ab/y"), Some(0));
    assert_eq!(count("/"), Some(8));
    assert_eq!(count("/none"), None);
}

#[test]
fn ephemerals_are_listed_by_text_prefix() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/d"));
    for path in ["/d/e2", "/d/e1", "/other", "/d2"] {
        shard.ok(&mut client, ephemeral(path));
    }
    let list = |session, prefix: &str| {
        let query = Query::Ephemerals {
            session,
            prefix: prefix.into(),
        };
        match shard.state.query(&query).expect("query") {
            Answer::Ephemerals(paths) => paths
                .iter()
                .map(|path| path.to_string())
                .collect::<Vec<_>>(),
            answer => panic!("{answer:?}"),
        }
    };
    assert_eq!(list(client.id(), "/d"), ["/d/e1", "/d/e2", "/d2"]);
    assert_eq!(list(client.id(), "/d/"), ["/d/e1", "/d/e2"]);
    assert_eq!(list(client.id(), ""), ["/d/e1", "/d/e2", "/d2", "/other"]);
    assert_eq!(list(SessionId(client.id().0 + 1), ""), [""; 0]);
}

#[test]
fn sessions_and_stats_count_what_there_is() {
    let mut shard = Shard::new();
    let mut first = shard.open();
    let second = shard.open();
    shard.ok(&mut first, ephemeral("/e"));
    assert_eq!(
        shard.state.query(&Query::Sessions),
        Ok(Answer::Sessions(vec![
            (first.id(), 10_000, 1),
            (second.id(), 10_000, 0)
        ]))
    );
    let data_bytes = ["/", "/zookeeper", "/e", "v"].concat().len() as u64;
    assert_eq!(
        shard.state.query(&Query::Stats),
        Ok(Answer::Stats {
            records: 3,
            ephemerals: 1,
            data_bytes,
            sessions: 2
        })
    );
    assert_eq!(shard.state.query(&Query::Barrier), Ok(Answer::Barrier));
}
