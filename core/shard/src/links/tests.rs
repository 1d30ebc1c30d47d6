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
    let mut links = Links::new(at(0), 64 << 20);
    let last = 20;
    let mut unheard = Vec::new();
    for revision in 1..=last {
        let now_us = revision * 1_000_000;
        links
            .changed(now_us, empty(revision), &mut unheard)
            .unwrap();
    }
    let oldest = last - 6;
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
        opened(&mut links, Some(oldest), last).1,
        resumed(oldest),
        "the oldest there is"
    );
    assert_eq!(opened(&mut links, Some(last), last).1, resumed(last));
    assert_eq!(opened(&mut links, Some(oldest - 1), last).1, fresh);
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
fn closing_a_link_leaves_the_others() {
    let mut links = Links::new(at(0), 64 << 20);
    let mut outputs = Vec::new();
    links.open(LINK, None, at(0), &mut outputs);
    links.open(LinkId(2), None, at(0), &mut outputs);
    links.close(LINK);
    links.changed(0, empty(1), &mut outputs).unwrap();
    links.answer(LINK, Event::Changed(empty(2)), &mut outputs);
    links.close_all(&mut outputs);
    assert_eq!(told(&outputs, LINK), []);
    assert_eq!(told(&outputs, LinkId(2)), [1]);
    let closed =
        |output: &Output| matches!(output, Output::Closed { link, .. } if *link == LinkId(2));
    assert!(outputs.last().is_some_and(closed));
    assert_eq!(links.len(), 0);
}
