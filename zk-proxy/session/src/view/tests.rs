use std::sync::Arc;

use oxkeeper_model::Children;

use super::*;

const BUDGET: usize = 1 << 20;

fn head(revision: u64) -> SharedHead {
    let mut head = Head {
        value_bytes: Some(1),
        ..Head::new(Revision(revision), 0, Arc::from([]))
    };
    head.children = Children::default();
    head.into()
}

fn change(path: &str, kind: ChangeKind, revision: u64, value: ChangedValue) -> Change {
    Change {
        path: path.into(),
        kind,
        head: head(revision),
        parent_acl: None,
        value,
    }
}

fn revision(number: u64, changes: Vec<Change>) -> ChangeSet {
    ChangeSet {
        changes: changes.into(),
        ..ChangeSet::empty(Revision(number))
    }
}

fn created(path: &str, number: u64) -> ChangeSet {
    let value = ChangedValue::Set(Some(Bytes::from_static(b"v")));
    revision(
        number,
        vec![change(path, ChangeKind::Created, number, value)],
    )
}

fn deleted(path: &str, number: u64) -> ChangeSet {
    revision(
        number,
        vec![change(
            path,
            ChangeKind::Deleted,
            number,
            ChangedValue::Unchanged,
        )],
    )
}

fn names(view: &View, path: &str) -> Vec<String> {
    match view.children(path) {
        Lookup::Present((_, children)) => children.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_never_seen_is_unknown_not_absent() {
    let view = View::new(Revision(7), BUDGET);
    assert_eq!(view.position(), Revision(7));
    assert_eq!(view.head("/a"), Lookup::Unknown);
    assert_eq!(view.record("/a"), Lookup::Unknown);
    assert!(matches!(view.children("/a"), Lookup::Unknown));
}

#[test]
fn a_deleted_record_is_absent_and_a_created_one_present() {
    let mut view = View::new(Revision(0), BUDGET);
    view.apply(&created("/a", 1));
    assert!(matches!(view.record("/a"), Lookup::Present((_, Some(_)))));
    view.apply(&deleted("/a", 2));
    assert_eq!(view.head("/a"), Lookup::Absent);
    assert_eq!(view.position(), Revision(2));
    view.apply(&created("/a", 3));
    assert!(
        matches!(view.head("/a"), Lookup::Present(head) if head.created_revision == Revision(3))
    );
    view.check_invariants();
}

#[test]
fn what_is_pinned_stays_known_through_changes_and_evictions() {
    let mut view = View::new(Revision(0), 4096);
    view.apply(&created("/a", 1));
    view.insert_children(
        &"/".into(),
        Some(&ChildNames {
            head: head(0),
            names: Vec::new(),
        }),
    );
    let value = view.pin("/a", Part::Value).expect("it is known");
    let names_of_root = view.pin("", Part::Children).expect("they are known");
    assert!(view.pin("/b", Part::Head).is_none());
    let large = Bytes::from(vec![1; 10_000]);
    let set = ChangedValue::Set(Some(large.clone()));
    view.apply(&revision(
        2,
        vec![change("/a", ChangeKind::ValueSet, 2, set)],
    ));
    for number in 3..200 {
        view.apply(&created(&format!("/{number}"), number));
        view.insert_fetched(&format!("/other{number}").into(), None);
        view.check_invariants();
    }
    assert!(matches!(view.record("/a"), Lookup::Present((_, Some(value))) if *value == large));
    assert_eq!(names(&view, "/").len(), 197);
    drop((value, names_of_root));
    view.apply(&created("/last", 200));
    view.insert_fetched(&"/b".into(), None);
    assert!(view.used_bytes() <= 4096, "what is pinned no more goes");
    view.check_invariants();
}

#[test]
fn a_cached_child_list_follows_creates_and_deletes() {
    let mut view = View::new(Revision(0), BUDGET);
    let found = ChildNames {
        head: head(0),
        names: vec!["a".into(), "b".into()],
    };
    view.insert_children(&"/".into(), Some(&found));
    view.apply(&created("/c", 1));
    view.apply(&deleted("/a", 2));
    view.apply(&created("/c/below", 3));
    assert_eq!(names(&view, "/"), ["b", "c"]);
    view.check_invariants();
}

#[test]
fn a_child_list_beyond_its_share_is_not_kept() {
    let mut view = View::new(Revision(0), 4096);
    let many = (0..1000).map(|name| name.to_string().into()).collect();
    view.insert_children(
        &"/".into(),
        Some(&ChildNames {
            head: head(0),
            names: many,
        }),
    );
    assert!(matches!(view.head("/"), Lookup::Present(_)));
    assert!(matches!(view.children("/"), Lookup::Unknown));

    view.insert_children(
        &"/".into(),
        Some(&ChildNames {
            head: head(0),
            names: Vec::new(),
        }),
    );
    for number in 1..100 {
        view.apply(&created(&format!("/{number}"), number));
        view.check_invariants();
    }
    assert!(matches!(view.children("/"), Lookup::Unknown));
}

#[test]
fn the_budget_holds_and_what_is_read_stays() {
    let mut view = View::new(Revision(0), 64 << 10);
    view.apply(&created("/hot", 1));
    for number in 2..5000 {
        assert!(matches!(view.head("/hot"), Lookup::Present(_)));
        view.apply(&created(&format!("/cold-{number}"), number));
        assert!(view.used_bytes() <= 64 << 10);
    }
    assert_eq!(
        view.head("/cold-4999"),
        Lookup::Unknown,
        "there was no room"
    );
    view.check_invariants();
}

#[test]
fn a_child_of_a_parent_that_is_read_gets_a_place_in_a_full_view() {
    let mut view = View::new(Revision(0), 64 << 10);
    view.apply(&created("/parent", 1));
    for number in 2..1000 {
        view.apply(&created(&format!("/cold-{number}"), number));
    }
    view.apply(&created("/parent/unread", 1000));
    assert_eq!(view.head("/parent/unread"), Lookup::Unknown);
    assert!(matches!(view.children("/parent"), Lookup::Present(_)));
    view.apply(&created("/parent/read", 1001));
    assert!(matches!(view.record("/parent/read"), Lookup::Present(_)));
    assert!(view.used_bytes() <= 64 << 10);
    view.check_invariants();
}

#[test]
fn what_is_fetched_pushes_out_what_was_only_written() {
    let mut view = View::new(Revision(0), 64 << 10);
    for number in 1..1000 {
        view.apply(&created(&format!("/written-{number}"), number));
    }
    for number in 0..1000 {
        let path = Path::from(format!("/fetched-{number}"));
        let (head, value) = (head(1), Some(None));
        view.insert_fetched(&path, Some(&Fetched { head, value }));
        assert!(matches!(view.record(&path), Lookup::Present(_)));
    }
    assert_eq!(view.head("/written-1"), Lookup::Unknown);
    view.check_invariants();
}
