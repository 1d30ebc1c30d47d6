//! Tree operations: effects, error priorities, transactions, access lists.

use bytes::Bytes;
use oxkeeper_model::{
    ChangeKind, ChangedValue, Children, ClientCommand, Command, Head, Lifetime, OpError, OpResult,
    Path, Revision, TreeOp, TxnOutcome,
};

use super::fixture::*;

#[test]
fn a_create_sets_every_field_and_moves_the_parent() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let root_before = shard.head("/");
    let OpResult::Created { path, head } = shard.ok(&mut client, create("/a")) else {
        panic!()
    };
    let revision = shard.state.revision();
    assert_eq!(&*path, "/a");
    assert_eq!(
        (head.created_revision, head.modified_revision),
        (revision, revision)
    );
    assert_eq!(
        (head.created_at_ms, head.modified_at_ms),
        (START_MS, START_MS)
    );
    assert_eq!((head.modifications_count, head.acl_version), (0, 0));
    assert_eq!(
        head.children,
        Children {
            live: 0,
            created_ever: 0,
            last_change: revision
        }
    );
    assert_eq!(
        (head.session, head.value_bytes, head.version_id),
        (None, Some(1), 1)
    );
    assert_eq!(shard.head("/a"), head);
    assert_eq!(shard.value("/a").as_deref(), Some(&b"v"[..]));
    let root = shard.head("/");
    assert_eq!(
        root.children,
        Children {
            live: 2,
            created_ever: 1,
            last_change: revision
        }
    );
    assert_eq!(
        (root.modified_revision, root.modifications_count),
        (
            root_before.modified_revision,
            root_before.modifications_count
        )
    );
    assert_eq!(shard.names("/"), ["a", "zookeeper"]);
}

#[test]
fn a_set_moves_version_revision_and_time_but_not_the_parent() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    let root = shard.head("/");
    let before = shard.head("/a");
    shard.wait(5);
    let OpResult::ValueSet { head } = shard.ok(&mut client, set("/a", "longer")) else {
        panic!()
    };
    assert_eq!(head.modifications_count, 1);
    assert_eq!(head.modified_revision, shard.state.revision());
    assert_eq!(
        (head.created_at_ms, head.modified_at_ms),
        (START_MS, START_MS + 5)
    );
    assert_eq!((head.value_bytes, head.version_id), (Some(6), 2));
    assert_eq!(
        (head.created_revision, head.children),
        (before.created_revision, before.children)
    );
    assert_eq!(shard.value("/a").as_deref(), Some(&b"longer"[..]));
    assert_eq!(shard.head("/"), root);
}

#[test]
fn a_null_value_is_not_the_empty_value() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    for value in [
        None,
        Some(Bytes::new()),
        None,
        Some(Bytes::from_static(b"x")),
    ] {
        let op = TreeOp::SetValue {
            path: "/a".into(),
            value: value.clone(),
            expected_version: None,
        };
        shard.ok(&mut client, op);
        assert_eq!(shard.value("/a"), value);
        assert_eq!(
            shard.ok(&mut client, get("/a")),
            OpResult::Got {
                head: shard.head("/a"),
                value
            }
        );
    }
}

#[test]
fn a_value_moves_out_of_its_heads_row_unchanged() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    shard.ok(
        &mut client,
        set_acl(
            "/a",
            acl(&[(31, "ip", "::/0"), (31, "world", "anyone")]),
            None,
        ),
    );
    assert_eq!(shard.value("/a").as_deref(), Some(&b"v"[..]));
    let rows = |shard: &Shard| {
        shard
            .disk
            .rows()
            .keys()
            .filter(|key| key[0] == crate::keys::VALUE)
            .count()
    };
    assert_eq!(
        rows(&shard),
        0,
        "a small value of a leaf has no row of its own"
    );
    // The transaction reads the value while the store still has it in its old place.
    let results = shard.multi(&mut client, vec![create("/a/b"), get("/a")]);
    let OpResult::Got { value, .. } = &results[1] else {
        panic!()
    };
    assert_eq!(value.as_deref(), Some(&b"v"[..]));
    assert_eq!(
        (rows(&shard), shard.value("/a").as_deref()),
        (1, Some(&b"v"[..]))
    );
    shard.ok(&mut client, delete("/a/b"));
    shard.multi(&mut client, vec![delete("/a"), create("/a")]);
    assert_eq!(
        (rows(&shard), shard.value("/a").as_deref()),
        (0, Some(&b"v"[..]))
    );
}

#[test]
fn setting_the_access_list_touches_only_it_and_its_version() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    let mut expected = Head::clone(&shard.head("/a"));
    let list = acl(&[(31, "world", "anyone"), (1, "digest", "bob:x")]);
    shard.wait(5);
    shard.ok(&mut client, set_acl("/a", list.clone(), Some(0)));
    expected.acl = list;
    expected.acl_version = 1;
    assert_eq!(*shard.head("/a"), expected);
}

#[test]
fn a_delete_keeps_the_parents_count_of_creates() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    shard.ok(&mut client, create("/a/b"));
    shard.ok(&mut client, delete_at("/a/b", Some(0)));
    let revision = shard.state.revision();
    let children = Children {
        live: 0,
        created_ever: 1,
        last_change: revision,
    };
    assert_eq!(shard.head("/a").children, children);
    assert_eq!(shard.find("/a/b"), None);
    shard.ok(&mut client, create("/a/c"));
    shard.ok(
        &mut client,
        set("/a/c", "grandchildren and values do not count"),
    );
    shard.ok(&mut client, create("/a/c/d"));
    let root = shard.head("/").children;
    assert_eq!((root.live, root.created_ever), (2, 1));
    assert_eq!(shard.head("/a").children.created_ever, 2);
}

#[test]
fn sequence_numbers_count_all_creates_and_never_go_back() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/q"));
    let mut next = |shard: &mut Shard, path| created_path(&shard.ok(&mut client, sequential(path)));
    assert_eq!(&*next(&mut shard, "/q/n-"), "/q/n-0000000000");
    assert_eq!(&*next(&mut shard, "/q/"), "/q/0000000001");
    assert_eq!(&*next(&mut shard, "/"), "/0000000001");
    shard.ok(&mut client, create("/q/plain"));
    shard.ok(&mut client, delete("/q/0000000001"));
    let results = shard.multi(&mut client, vec![sequential("/q/n-"), sequential("/q/n-")]);
    let paths: Vec<Path> = results.iter().map(created_path).collect();
    assert_eq!(
        paths.iter().map(|path| &**path).collect::<Vec<_>>(),
        ["/q/n-0000000003", "/q/n-0000000004"]
    );
}

#[test]
fn a_sequence_number_that_is_taken_is_an_error_without_effect() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/q"));
    shard.ok(&mut client, create("/q/n-0000000001"));
    assert_eq!(
        shard.err(&mut client, sequential("/q/n-")),
        OpError::NodeExists
    );
    assert_eq!(shard.head("/q").children.created_ever, 1);
}

#[test]
fn errors_of_a_create_come_in_their_order() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, ephemeral("/e"));
    shard.ok(
        &mut client,
        create_with(
            "/closed",
            Lifetime::Persistent,
            acl(&[(27, "world", "anyone")]),
        ),
    );
    let mut err = |op| shard.err(&mut client, op);
    assert_eq!(err(malformed(create("/none/x"))), OpError::NoNode);
    assert_eq!(err(malformed(create("/closed/x"))), OpError::NoAuth);
    assert_eq!(err(malformed(create("/e"))), OpError::BadArguments);
    assert_eq!(err(malformed(create("/e/x"))), OpError::BadArguments);
    assert_eq!(err(create("/e")), OpError::NodeExists);
    assert_eq!(err(create("/e/x")), OpError::NoChildrenForEphemerals);
    assert_eq!(err(create("/e/x/y")), OpError::NoNode);
    assert_eq!(err(create("/")), OpError::NodeExists);
    assert_eq!(err(create("relative")), OpError::BadArguments);
    assert_eq!(err(create("//x")), OpError::BadArguments);
    assert_eq!(err(create("foo/bar")), OpError::NoNode);
}

#[test]
fn a_create_of_an_existing_record_needs_the_parents_permission_only() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(
        &mut client,
        create_with(
            "/mine",
            Lifetime::Persistent,
            acl(&[(31, "digest", "me:x")]),
        ),
    );
    assert_eq!(shard.err(&mut client, create("/mine")), OpError::NodeExists);
}

#[test]
fn errors_of_a_delete_come_in_their_order() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    // No DELETE on the parent; the record's own list is irrelevant.
    shard.ok(
        &mut client,
        create_with(
            "/closed",
            Lifetime::Persistent,
            acl(&[(23, "world", "anyone")]),
        ),
    );
    shard.ok(&mut client, create("/a"));
    shard.ok(&mut client, create("/a/b"));
    shard.ok(
        &mut client,
        create_with(
            "/a/mine",
            Lifetime::Persistent,
            acl(&[(0, "world", "anyone")]),
        ),
    );
    let mut err = |op| shard.err(&mut client, op);
    assert_eq!(err(delete("/none/x")), OpError::NoNode);
    assert_eq!(err(delete_at("/closed/x", Some(7))), OpError::NoAuth);
    assert_eq!(err(delete_at("/x", Some(7))), OpError::NoNode);
    assert_eq!(err(delete_at("/a", Some(7))), OpError::BadVersion);
    assert_eq!(err(delete_at("/a", Some(0))), OpError::NotEmpty);
    assert_eq!(err(delete("/")), OpError::BadArguments);
    shard.ok(&mut client, delete("/a/mine"));
}

#[test]
fn errors_of_set_check_and_get_come_in_their_order() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let read_only = acl(&[(1, "world", "anyone")]);
    let unreadable = acl(&[(30, "world", "anyone")]);
    shard.ok(
        &mut client,
        create_with("/r", Lifetime::Persistent, read_only.clone()),
    );
    shard.ok(
        &mut client,
        create_with("/w", Lifetime::Persistent, unreadable),
    );
    let mut err = |op| shard.err(&mut client, op);
    assert_eq!(err(set_at("/none", "", Some(7))), OpError::NoNode);
    assert_eq!(err(set_at("/r", "", Some(7))), OpError::NoAuth);
    assert_eq!(err(set_at("/w", "", Some(7))), OpError::BadVersion);
    assert_eq!(
        err(set_acl("/none", read_only.clone(), Some(7))),
        OpError::NoNode
    );
    assert_eq!(
        err(set_acl("/r", read_only.clone(), Some(7))),
        OpError::NoAuth
    );
    assert_eq!(
        err(set_acl("/w", read_only.clone(), Some(7))),
        OpError::BadVersion
    );
    assert_eq!(err(check("/none", Some(7))), OpError::NoNode);
    assert_eq!(err(check("/w", Some(7))), OpError::NoAuth);
    assert_eq!(err(check("/r", Some(7))), OpError::BadVersion);
    assert_eq!(err(get("/none")), OpError::NoNode);
    assert_eq!(err(get("/w")), OpError::NoAuth);
    assert_eq!(err(TreeOp::Refused { code: -114 }), OpError::FrontEnd(-114));
    assert_eq!(
        shard.ok(&mut client, check("/r", Some(0))),
        OpResult::Checked
    );
}

#[test]
fn permissions_belong_to_identities() {
    let mut shard = Shard::new();
    let bob = shard.open();
    let mut bob = bob.with_identity("digest", "bob:x");
    let mut eve = shard.open().with_identity("digest", "eve:x");
    let mut root = shard.open().with_identity("super", "");
    shard.ok(
        &mut bob,
        create_with(
            "/bob",
            Lifetime::Persistent,
            acl(&[(31, "digest", "bob:x")]),
        ),
    );
    shard.ok(&mut bob, create("/bob/open"));
    shard.ok(&mut bob, set("/bob", "1"));
    assert_eq!(shard.err(&mut eve, set("/bob", "2")), OpError::NoAuth);
    assert_eq!(shard.err(&mut eve, create("/bob/x")), OpError::NoAuth);
    assert_eq!(shard.err(&mut eve, delete("/bob/open")), OpError::NoAuth);
    assert_eq!(
        shard.err(&mut eve, set_acl("/bob", open_acl(), None)),
        OpError::NoAuth
    );
    shard.ok(&mut eve, set("/bob/open", "lists are not inherited"));
    shard.ok(&mut root, set_acl("/bob", open_acl(), None));
    shard.ok(&mut eve, delete("/bob/open"));
}

#[test]
fn a_path_has_no_empty_component_and_at_most_so_many_as_keys_can_count() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    for path in ["//", "//a", "/a/", "/a//", "/a//b"] {
        let error = shard.err(&mut client, create(path));
        let no_parent = matches!(path, "/a//" | "/a//b");
        let expected = if no_parent {
            OpError::NoNode
        } else {
            OpError::BadArguments
        };
        assert_eq!(error, expected, "{path}");
    }
    let sequence = shard.ok(&mut client, sequential("/a/"));
    assert_eq!(&*created_path(&sequence), "/a/0000000000");

    let deepest = "/a".repeat(crate::keys::DEPTH_MAX);
    let mut shard = Shard::empty();
    // The records above it are left out.
    shard.check_each = false;
    shard.found(vec![("/", seed(0)), (&deepest, seed(0))]);
    let mut client = shard.open();
    let child = format!("{deepest}/b");
    let error = shard.err(&mut client, create(&child));
    assert_eq!(error, OpError::BadArguments);
}

/// A shard whose only record is this root.
fn shard_with_root(record: oxkeeper_model::Record) -> Shard {
    let mut shard = Shard::empty();
    shard.found(vec![("/", record)]);
    shard
}

/// <https://github.com/ClickHouse/ClickHouse/pull/99120>
#[test]
fn sequence_numbers_go_on_beyond_31_bits() {
    let mut seeded = seed(0);
    seeded.head.children.created_ever = i32::MAX as u64;
    let mut shard = shard_with_root(seeded);
    let mut client = shard.open();
    for number in ["2147483647", "2147483648", "2147483649"] {
        let created = shard.ok(&mut client, sequential("/n-"));
        assert_eq!(created_path(&created).as_str(), format!("/n-{number}"));
    }
}

#[test]
fn versions_skip_minus_one() {
    let mut seeded = seed(0);
    seeded.head.modifications_count = -3;
    seeded.head.acl_version = i32::MAX;
    let mut shard = shard_with_root(seeded);
    let mut client = shard.open();
    for version in [-2, 0, 1] {
        shard.ok(&mut client, set("/", ""));
        assert_eq!(shard.head("/").modifications_count, version);
    }
    shard.ok(&mut client, set_acl("/", open_acl(), Some(i32::MAX)));
    assert_eq!(shard.head("/").acl_version, i32::MIN);
}

#[test]
fn a_second_genesis_changes_nothing() {
    let mut shard = Shard::new();
    let before = shard.tree();
    let applied = shard.apply_one(genesis());
    assert_eq!((applied.change, shard.tree()), (None, before));
}

#[test]
fn operations_of_a_transaction_see_the_ones_before() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let results = shard.multi(
        &mut client,
        vec![
            create("/a"),
            set_at("/a", "two", Some(0)),
            check("/a", Some(1)),
            create("/a/b"),
            get("/a"),
            delete("/a/b"),
            delete_at("/a", Some(1)),
            create("/a"),
        ],
    );
    let revision = shard.state.revision();
    assert_eq!(results.len(), 8);
    let OpResult::Created { head: first, .. } = &results[0] else {
        panic!()
    };
    assert_eq!(
        (first.modifications_count, first.children.live),
        (0, 0),
        "right after its own step"
    );
    let OpResult::Got { head, value } = &results[4] else {
        panic!()
    };
    assert_eq!(value.as_deref(), Some(&b"two"[..]));
    assert_eq!((head.children.live, head.created_revision), (1, revision));
    assert_eq!(
        shard.head("/a").children.created_ever,
        0,
        "the second /a is another record"
    );
    assert_eq!(shard.head("/").children.created_ever, 2);
}

#[test]
fn an_empty_transaction_takes_a_revision() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let before = shard.state.revision();
    assert_eq!(shard.multi(&mut client, vec![]), []);
    assert_eq!(shard.state.revision(), before.next());
}

#[test]
fn a_failure_at_any_position_leaves_no_trace() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(&mut client, create("/a"));
    shard.ok(&mut client, create("/a/old"));
    shard.ok(&mut client, ephemeral("/e"));
    let steps = [
        set("/a", "new"),
        set_acl(
            "/a/old",
            acl(&[(31, "digest", "new:list"), (31, "world", "anyone")]),
            None,
        ),
        create("/a/b"),
        ephemeral("/a/eph"),
        create_with("/a/container", Lifetime::Container, open_acl()),
        sequential("/a/s-"),
        delete("/a/old"),
        create("/a/old"),
        delete("/e"),
        set("/a", "newer"),
        delete("/a/b"),
        ephemeral("/e"),
    ];
    for position in 0..=steps.len() {
        let before = (
            shard.tree(),
            shard.state.query(&oxkeeper_model::Query::Stats),
        );
        let mut ops = steps.to_vec();
        ops.insert(position, check("/none", None));
        let (outcome, change) = shard.txn(&mut client, ops);
        let index = position as u32;
        assert_eq!(
            outcome,
            TxnOutcome::Failed {
                index,
                error: OpError::NoNode
            }
        );
        assert!(change.changes.is_empty() && change.parents.is_empty());
        let after = (
            shard.tree(),
            shard.state.query(&oxkeeper_model::Query::Stats),
        );
        assert_eq!(after, before, "failure at {position}");
    }
    shard.multi(&mut client, steps.to_vec());
    assert_eq!(
        shard.names("/a"),
        ["container", "eph", "old", "s-0000000004"]
    );
}

#[test]
fn failures_between_writes_of_one_entry_leave_no_trace() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let writes = [
        vec![create("/a"), create("/a/b")],
        vec![
            set("/a", "lost"),
            create("/a/c"),
            delete("/a/b"),
            check("/none", None),
        ],
        vec![delete("/a/b"), create("/x"), delete("/none")],
        vec![set("/a/b", "kept")],
    ];
    let commands: Vec<_> = writes
        .map(|ops| Command::Client(ClientCommand::Write(client.next(ops))))
        .into_iter()
        .collect();
    let applied = shard.apply(commands);
    let changes: Vec<usize> = applied
        .iter()
        .map(|each| each.change.as_ref().expect("a revision each").changes.len())
        .collect();
    assert_eq!(changes, [2, 0, 0, 1]);
    assert_eq!(shard.names("/a"), ["b"]);
    assert_eq!(shard.value("/a").as_deref(), Some(&b"v"[..]));
    assert_eq!(shard.value("/a/b").as_deref(), Some(&b"kept"[..]));
}

#[test]
fn changes_tell_records_parents_and_small_values() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.ok(
        &mut client,
        create_with(
            "/a",
            Lifetime::Persistent,
            acl(&[(31, "ip", "::/0"), (31, "world", "anyone")]),
        ),
    );
    let parent_acl = shard.head("/a").acl.clone();
    let change = shard.change(&mut client, create("/a/b"));
    assert_eq!(change.changes.len(), 1);
    let created = &change.changes[0];
    assert_eq!(
        (&*created.path, created.kind),
        ("/a/b", ChangeKind::Created)
    );
    assert_eq!(created.head, shard.head("/a/b"));
    assert_eq!(created.parent_acl, Some(parent_acl.clone()));
    assert_eq!(
        created.value,
        ChangedValue::Set(Some(Bytes::from_static(b"v")))
    );
    assert_eq!(change.parents[..], [("/a".into(), shard.head("/a"))]);

    let large = "x".repeat(1 << 20);
    let change = shard.change(&mut client, set("/a/b", &large));
    assert_eq!(
        change.changes[0].value,
        ChangedValue::Set(Some(Bytes::from(large)))
    );
    assert_eq!(
        (change.changes[0].kind, change.parents.len()),
        (ChangeKind::ValueSet, 0)
    );
    assert_eq!(change.changes[0].parent_acl, None);
    let change = shard.change(&mut client, set_acl("/a/b", open_acl(), None));
    assert_eq!(change.changes[0].kind, ChangeKind::AclSet);
    assert_eq!(change.changes[0].value, ChangedValue::Unchanged);

    let last = shard.head("/a/b");
    let change = shard.change(&mut client, delete("/a/b"));
    let deleted = &change.changes[0];
    assert_eq!((deleted.kind, &deleted.head), (ChangeKind::Deleted, &last));
    assert_eq!(deleted.parent_acl, Some(parent_acl));
    assert_eq!(change.parents[..], [("/a".into(), shard.head("/a"))]);
}

#[test]
fn changes_name_each_living_parent_once_with_its_last_head() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let ops = vec![
        create("/a"),
        create("/a/1"),
        create("/a/2"),
        create("/gone"),
        create("/gone/1"),
        delete("/gone/1"),
        delete("/gone"),
        set("/a", "x"),
    ];
    let (_, change) = shard.txn(&mut client, ops);
    let parents: Vec<_> = change
        .parents
        .iter()
        .map(|(path, head)| (&**path, head.clone()))
        .collect();
    assert_eq!(parents, [("/", shard.head("/")), ("/a", shard.head("/a"))]);
    assert_eq!(change.changes.len(), 8);
    assert_eq!(change.session_ended, None);
}

#[test]
fn equal_access_lists_are_one_and_unused_ones_go() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    let list = || acl(&[(31, "digest", "a:b"), (31, "world", "anyone")]);
    shard.ok(&mut client, create_with("/a", Lifetime::Persistent, list()));
    shard.ok(&mut client, create_with("/b", Lifetime::Persistent, list()));
    assert!(std::sync::Arc::ptr_eq(
        &shard.head("/a").acl,
        &shard.head("/b").acl
    ));
    let acl_rows = |shard: &mut Shard| {
        shard
            .state
            .start_checkpoint()
            .expect("start")
            .wait()
            .expect("flush");
        shard
            .disk
            .rows()
            .keys()
            .filter(|key| key[0] == crate::keys::ACL)
            .count()
    };
    assert_eq!(acl_rows(&mut shard), 2);
    shard.ok(&mut client, delete("/a"));
    assert_eq!(acl_rows(&mut shard), 2);
    shard.ok(&mut client, set_acl("/b", open_acl(), None));
    assert_eq!(acl_rows(&mut shard), 1);
}

#[test]
fn stamps_follow_the_wall_clock_back_too() {
    let mut shard = Shard::new();
    let mut client = shard.open();
    shard.now_ms -= 1000;
    shard.ok(&mut client, create("/a"));
    assert_eq!(shard.head("/a").created_at_ms, START_MS - 1000);
    assert_eq!(shard.state.wall_ms(), START_MS - 1000);
}

#[test]
fn every_revision_is_taken_once_and_in_order() {
    let mut shard = Shard::new();
    assert_eq!(shard.state.revision(), Revision(0));
    let mut client = shard.open();
    assert_eq!(shard.state.revision(), Revision(1));
    shard.ok(&mut client, create("/a"));
    shard.err(&mut client, create("/a"));
    assert_eq!(shard.state.revision(), Revision(3));
    shard.attach(&mut client);
    assert_eq!(shard.state.revision(), Revision(3));
    let (closed, _) = shard.close(&mut client);
    assert_eq!((closed.revision, closed.result), (Revision(4), Ok(())));
}
