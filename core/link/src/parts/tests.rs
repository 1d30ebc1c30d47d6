use oxkeeper_model::{
    Acl, Digest, EndedParent, EndedRecord, Path, Query, Revision, SessionId, WriteSeq,
};

use super::*;
use crate::Token;
use crate::contract::root;

fn head() -> oxkeeper_model::SharedHead {
    root().record.head.into()
}

fn changed(set: ChangeSet) -> Event {
    Event::Changed(Arc::new(ChangeSet {
        digest: Digest(5),
        ..set
    }))
}

fn end_of(records: usize) -> Event {
    let acl: Acl = [].into();
    let record = |n| {
        let record = EndedRecord {
            acl: acl.clone(),
            value_bytes: 1,
        };
        (Path::from(format!("/e/{n:08}").as_str()), record)
    };
    let parent = EndedParent {
        acl: acl.clone(),
        gone: records as u32,
        value_bytes: records as u64,
    };
    changed(ChangeSet {
        session_ended: Some(SessionId(1)),
        end: Some(Arc::new(SessionEnd {
            records: (0..records).map(record).collect(),
            parents: [(Path::from("/e"), parent)].into(),
            fingerprint: 9,
        })),
        ..ChangeSet::empty(Revision(7))
    })
}

fn changes(count: usize) -> Event {
    let change = |n: usize| Change {
        path: Path::from(format!("/{n}").as_str()),
        kind: oxkeeper_model::ChangeKind::ValueSet,
        head: head(),
        parent_acl: None,
        value: ChangedValue::Set(Some(vec![n as u8; 3_000].into())),
    };
    changed(ChangeSet {
        changes: (0..count).map(change).collect(),
        parents: (0..count)
            .map(|n| (Path::from(format!("/p{n}").as_str()), head()))
            .collect(),
        ..ChangeSet::empty(Revision(7))
    })
}

fn answered(answer: Answer) -> Event {
    Event::Answered {
        token: Token(3),
        query: Query::Barrier,
        answer,
    }
}

fn written(values: usize) -> Event {
    let got = |n: usize| OpResult::Got {
        head: head(),
        value: Some(vec![n as u8; 100_000].into()),
    };
    Event::Outcome {
        token: Token(4),
        outcome: CommandOutcome::Written(WriteOutcome {
            session: SessionId(1),
            seq: WriteSeq(2),
            revision: Revision(7),
            result: Ok(TxnOutcome::Applied((0..values).map(got).collect())),
        }),
    }
}

fn answers(count: usize) -> Vec<Event> {
    let records = (0..count).map(|n| {
        (n % 3 > 0).then(|| Fetched {
            head: head(),
            value: (n % 3 > 1).then(|| Some(vec![n as u8; 2_000].into())),
        })
    });
    let names = (0..count).map(|n| n.to_string().into()).collect();
    let head = head();
    vec![
        answered(Answer::Records(records.collect())),
        answered(Answer::ChildNames(Some(ChildNames { head, names }))),
        answered(Answer::ChildNames(None)),
        answered(Answer::Ephemerals(vec![Path::root(); count])),
        answered(Answer::Sessions(vec![(SessionId(1), 2, 3); count])),
        answered(Answer::Failed),
    ]
}

fn assembled(parts: Vec<Part>) -> Event {
    let mut assembler = Assembler::default();
    let last = parts.len() - 1;
    for (at, part) in parts.into_iter().enumerate() {
        assert_eq!(part.more, at < last);
        let event = assembler.take(part).expect("in order");
        assert_eq!(event.is_some(), at == last, "not before the last part");
        if let Some(event) = event {
            return event;
        }
    }
    panic!("no last part");
}

#[test]
fn every_event_comes_out_as_it_went_in() {
    for count in [0, 1, 2, 100, 5_000] {
        let mut events = vec![end_of(count), changes(count), written(count.min(100))];
        events.extend(answers(count));
        for event in events {
            assert_eq!(assembled(split(event.clone())), event);
        }
    }
}

#[test]
fn parts_are_small_and_what_is_small_has_one() {
    for event in [end_of(10), changes(10), written(1)] {
        assert_eq!(split(event).len(), 1);
    }
    let records_per_part = PART_BYTES_TARGET / PART_ITEM_BYTES;
    let parts = split(end_of(100_000));
    assert!(parts.len() > 100_000 / records_per_part);
    for part in parts {
        let Event::Changed(set) = part.event else {
            panic!("not a change")
        };
        let end = set.end.as_ref().expect("an end");
        assert!(end.records.len() <= records_per_part);
    }
}

#[test]
fn parts_of_two_events_are_not_mixed() {
    let first = |event| split(event).swap_remove(0);
    for (one, other) in [
        (changes(500), written(10)),
        (end_of(50_000), answers(20_000).swap_remove(1)),
        (
            answers(20_000).swap_remove(0),
            answers(20_000).swap_remove(1),
        ),
    ] {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.take(first(one)), Ok(None));
        assert_eq!(assembler.take(first(other)), Err(PartError::Mixed));
    }
}

#[test]
fn an_endless_event_is_refused() {
    let mut assembler = Assembler::default();
    let part = Part {
        event: answered(Answer::Ephemerals(Vec::new())),
        more: true,
    };
    for _ in 1..ASSEMBLED_PARTS_MAX {
        assert_eq!(assembler.take(part.clone()), Ok(None));
    }
    assert_eq!(assembler.take(part), Err(PartError::TooMany));
}
