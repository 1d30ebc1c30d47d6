//! What a replica says to what: inputs and outputs as text.

use oxkeeper_model::{NodeId, Offset, Term};
use oxkeeper_replication::{EntryKind, Input, LogEnd, Output, Recovered, Replica};

fn output_text(output: &Output) -> String {
    match output {
        Output::PersistTerm { term } => format!("persist term {term}"),
        Output::Fenced { term, last } => {
            format!("fenced in {term} at {}/{}", last.term, last.offset)
        }
        Output::Append { offset, term, kind } => {
            let kind = match kind {
                EntryKind::TermStart => " term start",
                EntryKind::Proposed => "",
            };
            format!("append {term}/{offset}{kind}")
        }
        Output::Sync => "sync".to_owned(),
        Output::Commit { up_to } => format!("commit {up_to}"),
        Output::StepDown { term } => format!("step down from {term}"),
        Output::Refused(refusal) => format!("refused: {refusal}"),
    }
}

/// Runs a script of lines `> input` and compares all that is said with it.
fn check(recovered: Recovered, script: &str) {
    let mut replica = Replica::new(NodeId(1), recovered);
    let mut said = Vec::new();
    let lines = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let expected: Vec<String> = lines.map(str::to_owned).collect();
    for line in expected.iter().filter(|line| line.starts_with('>')) {
        let mut outputs = Vec::new();
        replica.step(input(line), &mut outputs);
        replica.check_invariants().expect("after every step");
        said.push(line.clone());
        said.extend(outputs.iter().map(output_text));
    }
    assert_eq!(said, expected, "\n{}", said.join("\n"));
}

/// `> name number number...`
fn input(line: &str) -> Input {
    let mut words = line.split_whitespace().skip(1);
    let name = words.next().expect("a name");
    let numbers: Vec<u64> = words.map(|word| word.parse().expect("a number")).collect();
    let node = |number: &u64| NodeId(u32::try_from(*number).expect("a node"));
    match (name, &numbers[..]) {
        ("new-term", [term]) => Input::NewTerm { term: Term(*term) },
        ("persisted", [term]) => Input::TermPersisted { term: Term(*term) },
        ("lead", [term, ensemble @ ..]) => Input::BecomeLeader {
            term: Term(*term),
            ensemble: ensemble.iter().map(node).collect(),
        },
        ("propose", []) => Input::Propose,
        ("durable", [offset]) => Input::Durable {
            offset: Offset(*offset),
        },
        ("ack", [from, term, offset]) => Input::FollowerAck {
            node: node(from),
            term: Term(*term),
            offset: Offset(*offset),
        },
        ("applied", [offset]) => Input::Applied {
            offset: Offset(*offset),
        },
        ("log-failed", []) => Input::LogFailed,
        _ => panic!("{line}"),
    }
}

fn recovered(term: u64, last: (u64, u64), applied: (u64, u64)) -> Recovered {
    let end = |(term, offset)| LogEnd {
        term: Term(term),
        offset: Offset(offset),
    };
    Recovered {
        term: Term(term),
        last: end(last),
        applied: end(applied),
    }
}

#[test]
fn one_of_three_leads_and_commits_without_its_own_disk() {
    check(
        Recovered::default(),
        "> new-term 1
         persist term 1
         > lead 1 1 2 3
         refused: the term was not made durable here before
         > persisted 1
         fenced in 1 at 0/0
         > lead 1 1 2 3
         append 1/1 term start
         sync
         > propose
         append 1/2
         sync
         > ack 2 1 1
         > ack 3 1 2
         commit 1
         > ack 2 1 2
         commit 2
         > durable 2
         > applied 2
         > ack 4 1 2
         refused: node 4 is not in the ensemble
         > ack 2 1 3
         refused: offset 3 is beyond 2, the last possible one",
    );
}

#[test]
fn a_deposed_leader_persists_the_term_that_deposed_it_and_is_fenced() {
    check(
        recovered(3, (3, 9), (3, 7)),
        "> new-term 4
         persist term 4
         > persisted 4
         fenced in 4 at 3/9
         > lead 4 1 2 3
         append 4/10 term start
         sync
         > ack 2 6 10
         step down from 4
         persist term 6
         refused: not the leader
         > propose
         refused: not the leader
         > durable 10
         > persisted 6
         fenced in 6 at 4/10
         > new-term 5
         refused: the term is over: this node is in term 6
         > lead 6 1
         append 6/11 term start
         sync
         > durable 11
         commit 11",
    );
}

#[test]
fn a_restart_does_not_lead_what_it_had_led_and_answers_for_its_store() {
    check(
        recovered(4, (2, 5), (4, 8)),
        "> new-term 4
         persist term 4
         > persisted 4
         fenced in 4 at 4/8
         > lead 4 1
         refused: term 4 was known here before this start: only a later one can be led
         > new-term 5
         persist term 5
         > persisted 5
         fenced in 5 at 4/8
         > lead 5 1
         append 5/9 term start
         sync
         > log-failed
         step down from 5
         > durable 9
         refused: the log has failed",
    );
}
