//! Any order of writes, freezes, flushes and crashes, beside a plain map.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{all, rows};
use crate::{FlushWait, KeyRange, KeyValueStore, RowReader, WriteBatch, get_vec};

/// Where a store lives that can crash.
pub trait Machine {
    type Store: KeyValueStore;

    /// Opens the store as its last crash left it.
    fn open(&mut self) -> Self::Store;

    /// Ends the store's process; `seed` picks one of the ways in which that can go.
    fn crash(&mut self, store: Self::Store, seed: u64);
}

/// One step. Numbers pick among what there is.
#[derive(Clone, Debug)]
pub enum Action {
    Write(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Freeze,
    DropView(usize),
    StartFlush,
    Wait(usize),
    DropWait(usize),
    Crash(u64),
    Compare(Vec<u8>, Vec<u8>),
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    let bytes = vec(prop_oneof![Just(0), Just(1), Just(2), Just(u8::MAX)], 0..3);
    // Some are too long to be kept whole in a table's index.
    (prop_oneof![8 => Just(0), 1 => Just(1_000)], bytes)
        .prop_map(|(shared, bytes)| [&vec![1; shared][..], &bytes].concat())
}

fn writes() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
    let value = prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 3_000)];
    vec((keys(), proptest::option::weighted(0.7, value)), 0..8)
}

pub fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => writes().prop_map(Action::Write),
        3 => Just(Action::Freeze),
        2 => any::<usize>().prop_map(Action::DropView),
        3 => Just(Action::StartFlush),
        2 => any::<usize>().prop_map(Action::Wait),
        1 => any::<usize>().prop_map(Action::DropWait),
        1 => any::<u64>().prop_map(Action::Crash),
        4 => (keys(), keys()).prop_map(|(from, to)| Action::Compare(from, to)),
    ]
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store and what it should hold.
struct Pair<S: KeyValueStore> {
    store: S,
    model: Model,
    views: Vec<(S::Frozen, Model)>,
    waits: Vec<(u64, FlushWait)>,
    /// What a crash may leave: the rows that each flush froze, from the last that was waited for.
    outcomes: BTreeMap<u64, Model>,
    flushes: u64,
}

/// Runs the actions. Panics where the store and the map differ.
pub fn run_actions<M: Machine>(machine: &mut M, actions: &[Action]) {
    let mut pair = Pair::new(machine.open(), Model::new());
    for action in actions {
        match action {
            Action::Crash(seed) => pair = pair.crash(machine, *seed),
            other => pair.act(other),
        }
    }
    pair.compare(&KeyRange::all());
}

impl<S: KeyValueStore> Pair<S> {
    fn new(store: S, model: Model) -> Self {
        assert!(all(&store).into_iter().eq(model.clone()), "after an open");
        Self {
            store,
            outcomes: BTreeMap::from([(0, model.clone())]),
            model,
            views: Vec::new(),
            waits: Vec::new(),
            flushes: 0,
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Write(writes) => self.write(writes),
            Action::Freeze => {
                let view = self.store.freeze().expect("freeze");
                self.views.push((view, self.model.clone()));
            }
            Action::DropView(at) => drop(pick(&mut self.views, *at)),
            Action::StartFlush => {
                self.flushes += 1;
                let wait = self.store.start_flush().expect("start");
                self.waits.push((self.flushes, wait));
                self.outcomes.insert(self.flushes, self.model.clone());
            }
            Action::Wait(at) => {
                if let Some((flush, wait)) = pick(&mut self.waits, *at) {
                    wait().expect("flush");
                    self.outcomes.retain(|&outcome, _| outcome >= flush);
                }
            }
            Action::DropWait(at) => drop(pick(&mut self.waits, *at)),
            Action::Compare(from, to) => self.compare(&KeyRange {
                from: from.clone(),
                to: Some(to.clone()),
            }),
            Action::Crash(_) => {}
        }
    }

    fn write(&mut self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) {
        let mut batch = WriteBatch::default();
        for (key, value) in writes {
            match value {
                Some(value) => {
                    batch.put(key, value);
                    self.model.insert(key.clone(), value.clone());
                }
                None => {
                    batch.delete(key);
                    self.model.remove(key);
                }
            }
        }
        self.store.write(&batch).expect("write");
        for (key, _) in writes {
            let found = get_vec(&self.store, key).expect("get");
            assert_eq!(found.as_ref(), self.model.get(key));
        }
    }

    fn compare(&self, range: &KeyRange) {
        compare(&self.store, &self.model, range);
        std::thread::scope(|scope| {
            for (view, model) in &self.views {
                scope.spawn(|| compare(view, model, range));
            }
        });
    }

    fn crash<M: Machine<Store = S>>(self, machine: &mut M, seed: u64) -> Self {
        drop((self.views, self.waits));
        machine.crash(self.store, seed);
        let store = machine.open();
        let left: Model = all(&store).into_iter().collect();
        let expected = self.outcomes.values().any(|outcome| *outcome == left);
        assert!(expected, "{left:02x?} is none of {:02x?}", self.outcomes);
        Self::new(store, left)
    }
}

fn compare(store: &impl RowReader, model: &Model, range: &KeyRange) {
    let expected: Vec<_> = match range.is_empty() {
        true => Vec::new(),
        false => model.range::<[u8], _>(range.bounds()).collect(),
    };
    let found = rows(store, range);
    assert!(
        found
            .iter()
            .map(|(key, value)| (key, value))
            .eq(expected.iter().copied()),
        "{range:02x?}: found {found:02x?}, expected {expected:02x?}"
    );
    for key in [Some(&range.from), range.to.as_ref()].into_iter().flatten() {
        assert_eq!(get_vec(store, key).expect("get").as_ref(), model.get(key));
    }
    let mut first = None;
    let _ = store.scan(range, &mut |key, _| {
        first = Some(key.to_vec());
        ControlFlow::Break(())
    });
    assert_eq!(first.as_ref(), expected.first().map(|(key, _)| *key));
}

fn pick<T>(from: &mut Vec<T>, at: usize) -> Option<T> {
    let at = at.checked_rem(from.len())?;
    Some(from.swap_remove(at))
}
