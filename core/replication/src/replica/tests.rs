use super::*;
use proptest::prelude::*;

const ME: NodeId = NodeId(1);

fn step(replica: &mut Replica, input: Input) -> Result<Vec<Output>, Refusal> {
    let mut outputs = Vec::new();
    replica.step(input, &mut outputs);
    replica
        .check_invariants()
        .expect("invariants hold after every step");
    match outputs.last() {
        Some(&Output::Refused(refusal)) => Err(refusal),
        _ => Ok(outputs),
    }
}

/// A leader of `term` whose term-start entry was put out but is not durable.
fn leader(recovered: Recovered, term: u64, ensemble: &[u32]) -> Replica {
    let mut replica = Replica::new(ME, recovered);
    let term = Term(term);
    step(&mut replica, Input::NewTerm { term }).expect("a new term");
    step(&mut replica, Input::TermPersisted { term }).expect("persisted");
    let ensemble = ensemble.iter().copied().map(NodeId).collect();
    step(&mut replica, Input::BecomeLeader { term, ensemble }).expect("fenced before");
    replica
}

fn ack(replica: &mut Replica, node: u32, term: u64, offset: u64) -> Result<Vec<Output>, Refusal> {
    let (node, term, offset) = (NodeId(node), Term(term), Offset(offset));
    step(replica, Input::FollowerAck { node, term, offset })
}

fn durable(replica: &mut Replica, offset: u64) -> Vec<Output> {
    step(
        replica,
        Input::Durable {
            offset: Offset(offset),
        },
    )
    .expect("within the log")
}

fn commit(offset: u64) -> Vec<Output> {
    vec![Output::Commit {
        up_to: Offset(offset),
    }]
}

fn recovered(term: u64, offset: u64, applied: u64) -> Recovered {
    let last = LogEnd {
        term: Term(term),
        offset: Offset(offset),
    };
    let applied = LogEnd {
        term: Term(term),
        offset: Offset(applied),
    };
    Recovered {
        term: Term(term),
        last,
        applied,
    }
}

#[test]
fn an_ensemble_of_one_goes_from_fencing_to_commits() {
    let mut replica = Replica::new(ME, Recovered::default());
    let term = Term(1);
    assert_eq!(
        step(&mut replica, Input::NewTerm { term }),
        Ok(vec![Output::PersistTerm { term }])
    );
    assert_eq!(
        step(&mut replica, Input::TermPersisted { term }),
        Ok(vec![Output::Fenced {
            term,
            last: LogEnd::default()
        }])
    );
    assert_eq!(
        step(
            &mut replica,
            Input::BecomeLeader {
                term,
                ensemble: vec![ME]
            }
        ),
        Ok(vec![
            Output::Append {
                offset: Offset(1),
                term,
                kind: EntryKind::TermStart
            },
            Output::Sync
        ])
    );
    assert!(!replica.is_established());
    assert_eq!(durable(&mut replica, 1), commit(1));
    assert_eq!(
        step(&mut replica, Input::Applied { offset: Offset(1) }),
        Ok(vec![])
    );
    assert!(replica.is_established());
    assert_eq!(
        step(&mut replica, Input::Propose),
        Ok(vec![
            Output::Append {
                offset: Offset(2),
                term,
                kind: EntryKind::Proposed
            },
            Output::Sync
        ])
    );
    assert_eq!(durable(&mut replica, 2), commit(2));
    assert_eq!(durable(&mut replica, 2), vec![], "committed once");
}

#[test]
fn what_an_older_term_left_is_committed_by_the_term_start_entry() {
    let mut replica = leader(recovered(3, 10, 7), 4, &[1]);
    assert_eq!(
        durable(&mut replica, 10),
        vec![],
        "the old entries alone are not counted"
    );
    assert_eq!(replica.committed(), Offset(7));
    assert_eq!(durable(&mut replica, 11), commit(11));
}

#[test]
fn two_of_three_commit_and_one_does_not() {
    let mut replica = leader(Recovered::default(), 1, &[1, 2, 3]);
    assert_eq!(durable(&mut replica, 1), vec![]);
    assert_eq!(ack(&mut replica, 2, 1, 1), Ok(commit(1)));
    assert_eq!(ack(&mut replica, 3, 1, 1), Ok(vec![]));
    step(&mut replica, Input::Propose).expect("leading");
    step(&mut replica, Input::Propose).expect("leading");
    assert_eq!(ack(&mut replica, 2, 1, 3), Ok(vec![]));
    assert_eq!(
        ack(&mut replica, 3, 1, 2),
        Ok(commit(2)),
        "without the leader's own disk"
    );
    assert_eq!(durable(&mut replica, 3), commit(3));
}

#[test]
fn a_majority_of_an_even_ensemble_is_more_than_half() {
    let mut replica = leader(Recovered::default(), 1, &[1, 2, 3, 4]);
    durable(&mut replica, 1);
    assert_eq!(ack(&mut replica, 2, 1, 1), Ok(vec![]));
    assert_eq!(ack(&mut replica, 3, 1, 1), Ok(commit(1)));
}

#[test]
fn entries_of_older_terms_on_a_majority_are_not_committed_by_counting() {
    let mut replica = leader(recovered(2, 5, 3), 4, &[1, 2, 3]);
    assert_eq!(ack(&mut replica, 2, 4, 5), Ok(vec![]));
    assert_eq!(ack(&mut replica, 3, 4, 5), Ok(vec![]));
    assert_eq!(replica.committed(), Offset(3));
    assert_eq!(ack(&mut replica, 2, 4, 6), Ok(vec![]));
    assert_eq!(ack(&mut replica, 3, 4, 6), Ok(commit(6)));
}

#[test]
fn a_higher_term_in_any_message_ends_the_leadership_at_once() {
    let mut by_coordinator = leader(Recovered::default(), 1, &[1]);
    let stopped = vec![
        Output::StepDown { term: Term(1) },
        Output::PersistTerm { term: Term(2) },
    ];
    assert_eq!(
        step(&mut by_coordinator, Input::NewTerm { term: Term(2) }),
        Ok(stopped.clone())
    );
    assert_eq!(
        durable(&mut by_coordinator, 1),
        vec![],
        "commits nothing any more"
    );
    assert_eq!(
        step(&mut by_coordinator, Input::Propose),
        Err(Refusal::NotLeader)
    );

    let mut by_follower = leader(Recovered::default(), 1, &[1, 2, 3]);
    let mut outputs = Vec::new();
    let input = Input::FollowerAck {
        node: NodeId(2),
        term: Term(2),
        offset: Offset(1),
    };
    by_follower.step(input, &mut outputs);
    let refused = Output::Refused(Refusal::NotLeader);
    assert_eq!(
        outputs,
        [stopped, vec![refused]].concat(),
        "nothing is lost"
    );
    assert_eq!(by_follower.term(), Term(2));
}

#[test]
fn an_older_term_is_refused() {
    let mut replica = leader(Recovered::default(), 5, &[1, 2, 3]);
    let stale = Err(Refusal::StaleTerm { current: Term(5) });
    assert_eq!(step(&mut replica, Input::NewTerm { term: Term(4) }), stale);
    assert_eq!(step(&mut replica, Input::NewTerm { term: Term(5) }), stale);
    assert_eq!(ack(&mut replica, 2, 4, 1), stale);
    let become_leader = Input::BecomeLeader {
        term: Term(4),
        ensemble: vec![ME],
    };
    assert_eq!(step(&mut replica, become_leader), stale);
}

#[test]
fn leading_needs_a_durable_term_and_a_proper_ensemble() {
    let mut replica = Replica::new(ME, Recovered::default());
    let term = Term(1);
    let become_leader = |ensemble: &[u32]| Input::BecomeLeader {
        term,
        ensemble: ensemble.iter().copied().map(NodeId).collect(),
    };
    step(&mut replica, Input::NewTerm { term }).expect("new");
    assert_eq!(
        step(&mut replica, become_leader(&[1])),
        Err(Refusal::NotFenced)
    );
    step(&mut replica, Input::TermPersisted { term }).expect("persisted");
    for (ensemble, error) in [
        (&[2, 3][..], EnsembleError::WithoutSelf(ME)),
        (&[][..], EnsembleError::WithoutSelf(ME)),
        (&[1, 2, 2][..], EnsembleError::Duplicate(NodeId(2))),
    ] {
        assert_eq!(
            step(&mut replica, become_leader(ensemble)),
            Err(Refusal::Ensemble(error))
        );
    }
    assert!(step(&mut replica, become_leader(&[1, 2])).is_ok());
}

#[test]
fn a_term_is_not_led_twice_across_a_restart() {
    // Its term-start entry survived, was lost with the power, or was lost with all before it.
    for (last_term, last_offset) in [(4, 9), (3, 8), (0, 0)] {
        let last = LogEnd {
            term: Term(last_term),
            offset: Offset(last_offset),
        };
        let term = Term(4);
        let recovered = Recovered {
            term,
            last,
            applied: LogEnd::default(),
        };
        let mut replica = Replica::new(ME, recovered);
        step(&mut replica, Input::NewTerm { term }).expect("a repeated fencing");
        step(&mut replica, Input::TermPersisted { term }).expect("persisted");
        let lead = |term| Input::BecomeLeader {
            term,
            ensemble: vec![ME],
        };
        assert_eq!(
            step(&mut replica, lead(term)),
            Err(Refusal::TermBeforeStart { term })
        );
        let term = Term(5);
        step(&mut replica, Input::NewTerm { term }).expect("a later one");
        step(&mut replica, Input::TermPersisted { term }).expect("persisted");
        assert!(step(&mut replica, lead(term)).is_ok());
        assert_eq!(
            step(&mut replica, lead(term)),
            Err(Refusal::NotFenced),
            "nor twice within one"
        );
    }
}

#[test]
fn a_log_behind_its_store_claims_only_what_the_store_has() {
    let end = |term, offset| LogEnd {
        term: Term(term),
        offset: Offset(offset),
    };
    for (last, applied, reported) in [
        (end(3, 9), end(2, 7), end(3, 9)),
        (end(2, 9), end(3, 12), end(3, 12)),
        (end(0, 0), end(3, 12), end(3, 12)),
    ] {
        let term = Term(5);
        let recovered = Recovered {
            term,
            last,
            applied,
        };
        let mut replica = Replica::new(ME, recovered);
        step(&mut replica, Input::NewTerm { term }).expect("a repeated fencing");
        assert_eq!(
            step(&mut replica, Input::TermPersisted { term }),
            Ok(vec![Output::Fenced {
                term,
                last: reported
            }])
        );
        assert_eq!(replica.applied(), applied.offset);
    }
}

#[test]
fn a_repeated_fencing_is_answered_again() {
    let mut replica = Replica::new(ME, recovered(3, 9, 9));
    let term = Term(4);
    let last = LogEnd {
        term: Term(3),
        offset: Offset(9),
    };
    step(&mut replica, Input::NewTerm { term }).expect("new");
    step(&mut replica, Input::TermPersisted { term }).expect("persisted");
    assert_eq!(
        step(&mut replica, Input::NewTerm { term }),
        Ok(vec![Output::Fenced { term, last }])
    );
}

#[test]
fn strangers_and_offsets_from_the_future_do_not_count() {
    let mut replica = leader(Recovered::default(), 1, &[1, 2, 3]);
    assert_eq!(
        ack(&mut replica, 9, 1, 1),
        Err(Refusal::Ensemble(EnsembleError::Stranger(NodeId(9))))
    );
    assert_eq!(
        ack(&mut replica, 2, 1, 2),
        Err(Refusal::OffsetAhead {
            offset: Offset(2),
            limit: Offset(1)
        })
    );
    assert_eq!(
        ack(&mut replica, 1, 1, 1),
        Ok(vec![]),
        "only the own disk speaks for the leader"
    );
    assert_eq!(ack(&mut replica, 2, 1, 1), Ok(vec![]));
    assert_eq!(
        step(&mut replica, Input::Applied { offset: Offset(1) }),
        Err(Refusal::OffsetAhead {
            offset: Offset(1),
            limit: Offset(0)
        })
    );
}

#[test]
fn a_failed_log_ends_everything() {
    let mut replica = leader(Recovered::default(), 1, &[1]);
    assert_eq!(
        step(&mut replica, Input::LogFailed),
        Ok(vec![Output::StepDown { term: Term(1) }])
    );
    for input in [Input::Propose, Input::Durable { offset: Offset(1) }] {
        assert_eq!(step(&mut replica, input), Err(Refusal::Stopped));
    }
}

fn any_input() -> impl Strategy<Value = Input> {
    let term = || (0u64..6).prop_map(Term);
    let offset = || (0u64..12).prop_map(Offset);
    let node = || (1u32..5).prop_map(NodeId);
    prop_oneof![
        1 => term().prop_map(|term| Input::NewTerm { term }),
        2 => term().prop_map(|term| Input::TermPersisted { term }),
        2 => (term(), proptest::collection::vec(node(), 0..5))
            .prop_map(|(term, ensemble)| Input::BecomeLeader { term, ensemble }),
        4 => Just(Input::Propose),
        6 => offset().prop_map(|offset| Input::Durable { offset }),
        8 => (node(), term(), offset())
            .prop_map(|(node, term, offset)| Input::FollowerAck { node, term, offset }),
        4 => offset().prop_map(|offset| Input::Applied { offset }),
    ]
}

/// Terms and commits that a run of outputs showed, checked against a plain count of the acks.
#[derive(Default)]
struct Witness {
    term: Term,
    last: Offset,
    committed: Offset,
    term_start: Offset,
    ensemble: Vec<NodeId>,
    acks: Vec<(NodeId, Offset)>,
}

impl Witness {
    fn saw_input(&mut self, input: &Input) {
        match *input {
            Input::BecomeLeader { ref ensemble, .. } => self.ensemble.clone_from(ensemble),
            Input::Durable { offset } => self.acks.push((ME, offset)),
            Input::FollowerAck { node, offset, .. } if node != ME => self.acks.push((node, offset)),
            _ => {}
        }
    }

    fn saw_output(&mut self, output: Output) {
        match output {
            Output::PersistTerm { term } => {
                assert!(term >= self.term);
                self.term = term;
            }
            Output::Append { offset, term, kind } => {
                assert_eq!((offset, term), (self.last.next(), self.term));
                self.last = offset;
                if kind == EntryKind::TermStart {
                    self.term_start = offset;
                    self.acks.retain(|&(node, _)| node == ME);
                }
            }
            Output::Commit { up_to } => {
                assert!(up_to > self.committed && up_to >= self.term_start && up_to <= self.last);
                let have = |node: &&NodeId| {
                    self.acks
                        .iter()
                        .any(|(member, offset)| member == *node && *offset >= up_to)
                };
                assert!(self.ensemble.iter().filter(have).count() * 2 > self.ensemble.len());
                self.committed = up_to;
            }
            Output::Sync | Output::Fenced { .. } | Output::StepDown { .. } | Output::Refused(_) => {
            }
        }
    }
}

proptest! {
    #[test]
    fn no_order_of_inputs_breaks_an_invariant_or_commits_without_a_majority(
        inputs in proptest::collection::vec(any_input(), 1..200)
    ) {
        let mut replica = Replica::new(ME, Recovered::default());
        let mut witness = Witness::default();
        let mut outputs = Vec::new();
        for input in inputs {
            let before = replica.clone();
            outputs.clear();
            replica.step(input.clone(), &mut outputs);
            replica.check_invariants().expect("invariants hold after every step");
            match outputs[..] {
                [Output::Refused(_)] => prop_assert_eq!(&before, &replica),
                [.., Output::Refused(_)] => prop_assert!(replica.term() > before.term()),
                _ => witness.saw_input(&input),
            }
            prop_assert!(replica.committed() >= before.committed());
            for output in outputs.drain(..) {
                witness.saw_output(output);
            }
        }
        prop_assert_eq!(witness.committed, replica.committed());
    }
}
