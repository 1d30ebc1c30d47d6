use super::*;
use oxkeeper_model::{Digest, Revision};

const LINK: LinkId = LinkId(1);

fn at(revision: u64) -> Position {
    Position {
        revision: Revision(revision),
        digest: Digest(revision << 8),
    }
}

fn empty(revision: u64) -> Arc<ChangeSet> {
    Arc::new(ChangeSet {
        digest: at(revision).digest,
        ..ChangeSet::empty(Revision(revision))
    })
}

/// Revisions that were told to `link`.
fn told(outputs: &[Output], link: LinkId) -> Vec<u64> {
    let revision = |output: &Output| match output {
        Output::Event {
            link: to,
            event: Event::Changed(set),
        } if *to == link => Some(set.revision.0),
        _ => None,
    };
    outputs.iter().filter_map(revision).collect()
}

fn opened(links: &mut Links, after: Option<u64>, current: u64) -> (Vec<u64>, Opened) {
    let mut outputs = Vec::new();
    links.open(LINK, after.map(at), at(current), &mut outputs);
    let Output::Event {
        link: LINK,
        event: Event::Opened(opened),
    } = outputs[0]
    else {
        panic!("not opened first: {outputs:?}");
    };
    (told(&outputs, LINK), opened)
}

#[test]
fn a_link_resumes_exactly_within_the_history() {
    let mut links = Links::new(at(0));
    let last = CHANGE_HISTORY_MAX as u64 + 10;
    (1..=last).for_each(|revision| links.changed(empty(revision), &mut Vec::new()));
    let resumed = |position| Opened {
        position: at(position),
        resumed: true,
    };
    let fresh = Opened {
        position: at(last),
        resumed: false,
    };

    let (seen, opened_at) = opened(&mut links, Some(last - 2), last);
    assert_eq!(opened_at, resumed(last - 2));
    assert_eq!(seen, [last - 1, last]);
    assert_eq!(
        opened(&mut links, Some(10), last).1,
        resumed(10),
        "the oldest there is"
    );
    assert_eq!(opened(&mut links, Some(last), last).1, resumed(last));
    assert_eq!(opened(&mut links, Some(9), last).1, fresh);
    assert_eq!(
        opened(&mut links, Some(last + 1), last).1,
        fresh,
        "beyond the end"
    );
    let mut outputs = Vec::new();
    let other = Position {
        digest: Digest(1),
        ..at(last - 2)
    };
    links.open(LINK, Some(other), at(last), &mut outputs);
    assert!(
        matches!(outputs[..], [Output::Event { event: Event::Opened(opened), .. }] if opened == fresh),
        "of another history: {outputs:?}"
    );
    assert_eq!(opened(&mut links, None, last).1, fresh);
}

#[test]
fn large_values_shorten_the_history() {
    let mut history = History::new(at(0));
    let mut set = ChangeSet {
        ..(*empty(0)).clone()
    };
    let value = bytes::Bytes::from(vec![0; HISTORY_BYTES_MAX / 4]);
    set.changes.push(oxkeeper_model::Change {
        path: oxkeeper_model::Path::root(),
        kind: oxkeeper_model::ChangeKind::ValueSet,
        head: oxkeeper_link::contract::root().record.head.into(),
        parent_acl: None,
        value: ChangedValue::Set(Some(value)),
    });
    for revision in 1..=10 {
        set.revision = Revision(revision);
        history.push(Arc::new(set.clone()));
    }
    assert_eq!(history.changes.len(), 3);
    assert!(history.bytes <= HISTORY_BYTES_MAX);
}

#[test]
fn closing_a_link_leaves_the_others() {
    let mut links = Links::new(at(0));
    let mut outputs = Vec::new();
    links.open(LINK, None, at(0), &mut outputs);
    links.open(LinkId(2), None, at(0), &mut outputs);
    links.close(LINK);
    links.changed(empty(1), &mut outputs);
    links.answer(LINK, Event::Changed(empty(2)), &mut outputs);
    links.close_all(&mut outputs);
    assert_eq!(told(&outputs, LINK), []);
    assert_eq!(told(&outputs, LinkId(2)), [1]);
    let closed =
        |output: &Output| matches!(output, Output::Closed { link, .. } if *link == LinkId(2));
    assert!(outputs.last().is_some_and(closed));
    assert_eq!(links.len(), 0);
}
