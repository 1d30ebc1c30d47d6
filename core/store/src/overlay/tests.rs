//! Overlays beside plain maps. The tables below them are a map too.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Cursor, Direction, Found, Hash, Layer, Layers, NoRows, Overlay, get, merge};
use crate::{KeyRange, StoreError, WriteBatch};

type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

const SEED: u64 = 7;

fn batch(writes: &Model) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for (key, value) in writes {
        match value {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        }
    }
    batch
}

fn merged<'a>(
    layers: impl DoubleEndedIterator<Item = &'a Layer>,
    tables: &mut impl Cursor,
    range: &KeyRange,
    direction: Direction,
) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut rows = Vec::new();
    merge(layers, tables, range, direction, &mut |key, value| {
        rows.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        Ok(ControlFlow::Continue(()))
    })
    .expect("merge");
    rows
}

fn check(layers: &Layers, expected: &Model) {
    let refs = || layers.iter().map(AsRef::as_ref);
    let mut rows = merged(refs(), &mut NoRows, &KeyRange::all(), Direction::Forward);
    assert!(rows.iter().map(|(key, value)| (key, value)).eq(expected));
    rows.reverse();
    let back = merged(refs(), &mut NoRows, &KeyRange::all(), Direction::Back);
    assert_eq!(back, rows);
    for (key, value) in expected {
        let found = get(layers, key, Hash::of(key, SEED));
        let value = value.as_deref().map_or(Found::Deleted, Found::Value);
        assert_eq!(found, value);
    }
}

/// Sorted rows as tables would have them.
struct Table(Vec<(Vec<u8>, Vec<u8>)>);

impl Cursor for Table {
    fn row(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let (key, value) = self.0.last()?;
        Some((key, Some(value)))
    }

    fn step(&mut self) -> Result<(), StoreError> {
        self.0.pop();
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Model),
    Freeze,
    Flush,
    Forget,
    Scan,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..4);
    let value = proptest::option::weighted(0.8, vec(any::<u8>(), 0..40));
    let writes = proptest::collection::btree_map(key, value, 1..12);
    let step = prop_oneof![
        6 => writes.prop_map(Step::Write),
        3 => Just(Step::Freeze),
        1 => Just(Step::Flush),
        1 => Just(Step::Forget),
        2 => Just(Step::Scan),
    ];
    vec(step, 1..60)
}

proptest! {
    #[test]
    fn layers_hold_what_was_written_as_of_their_freeze(steps in steps()) {
        let mut overlay = Overlay::new(SEED);
        // Per generation that is not forgotten, what it holds.
        let mut tables = Model::new();
        let mut model = Model::new();
        let mut flushing: Option<(u64, Model)> = None;
        let mut views: Vec<(Layers, Model)> = Vec::new();
        for step in &steps {
            match step {
                Step::Write(writes) => {
                    overlay.write(&batch(writes));
                    model.extend(writes.clone());
                }
                Step::Freeze => views.push((overlay.freeze(), model.clone())),
                Step::Flush => {
                    let (layers, generation) = overlay.freeze_to_flush();
                    views.push((layers, model.clone()));
                    flushing = Some((generation, model.clone()));
                }
                Step::Forget => if let Some((generation, flushed)) = flushing.take() {
                    overlay.forget(generation);
                    tables.extend(flushed);
                },
                Step::Scan => drop(merged(overlay.layers(), &mut NoRows, &KeyRange::all(), Direction::Back)),
            }
            // Layers forget only what the tables then have.
            for (key, value) in &model {
                let value = value.as_deref().map_or(Found::Deleted, Found::Value);
                match overlay.get(key) {
                    Found::Nothing => prop_assert_eq!(tables.get(key), model.get(key)),
                    found => prop_assert_eq!(found, value),
                }
            }
        }
        for (layers, model) in &views {
            let held: Model = merged(
                layers.iter().map(AsRef::as_ref), &mut NoRows, &KeyRange::all(), Direction::Forward,
            ).into_iter().collect();
            check(layers, &held);
            for (key, value) in &held {
                prop_assert_eq!(Some(value), model.get(key));
            }
        }
    }

    #[test]
    fn a_merge_with_tables_has_each_key_once_and_its_newest_row(
        table in proptest::collection::btree_map(vec(0..4u8, 0..3), vec(any::<u8>(), 0..3), 0..20),
        writes in vec(proptest::collection::btree_map(
            vec(0..4u8, 0..3), proptest::option::of(vec(any::<u8>(), 0..3)), 0..12), 0..4),
        from in vec(0..4u8, 0..3), to in vec(0..4u8, 0..3),
    ) {
        let range = KeyRange { from, to: Some(to) };
        let mut overlay = Overlay::new(SEED);
        let mut model: Model = table.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        for writes in &writes {
            overlay.write(&batch(writes));
            overlay.freeze();
            model.extend(writes.clone());
        }
        let in_range = table.into_iter().filter(|(key, _)| range.contains(key));
        let mut rows: Vec<_> = in_range.collect();
        let mut expected: Vec<_> = model.into_iter().filter(|(key, _)| range.contains(key)).collect();
        let back = merged(overlay.layers(), &mut Table(rows.clone()), &range, Direction::Back);
        rows.reverse();
        let forward = merged(overlay.layers(), &mut Table(rows), &range, Direction::Forward);
        prop_assert_eq!(&forward, &expected);
        expected.reverse();
        prop_assert_eq!(&back, &expected);
    }
}

#[test]
fn many_freezes_leave_few_layers() {
    let mut overlay = Overlay::new(SEED);
    let mut model = Model::new();
    for round in 0..1_000u32 {
        let key = (round * 7_919 % 700).to_be_bytes().to_vec();
        let writes = Model::from([(key, Some(round.to_be_bytes().to_vec()))]);
        overlay.write(&batch(&writes));
        model.extend(writes);
        assert!(overlay.freeze().len() <= 11, "round {round}");
    }
    check(&overlay.freeze(), &model);
}

#[test]
fn an_order_is_kept_through_scans_between_writes() {
    let mut overlay = Overlay::new(SEED);
    let mut model = Model::new();
    for round in 0..3_000u32 {
        let key = round.wrapping_mul(2_654_435_761).to_be_bytes().to_vec();
        let writes = Model::from([(key, Some(Vec::new()))]);
        overlay.write(&batch(&writes));
        model.extend(writes);
        if round % 37 == 0 || round > 2_990 {
            let rows = merged(
                overlay.layers(),
                &mut NoRows,
                &KeyRange::all(),
                Direction::Forward,
            );
            assert!(rows.iter().map(|(key, value)| (key, value)).eq(&model));
        }
    }
}

#[test]
fn rows_of_any_size_come_and_grow() {
    let mut overlay = Overlay::new(SEED);
    let mut model = Model::new();
    for round in 0..200usize {
        let key = vec![(round % 7) as u8; 1 << (round % 7)];
        let writes = Model::from([(key, Some(vec![round as u8; round * round * 3]))]);
        overlay.write(&batch(&writes));
        model.extend(writes);
    }
    check(&overlay.freeze(), &model);
    let held: usize = model.values().flatten().map(Vec::len).sum();
    assert!(overlay.bytes_above(0) > held, "it counts all that it holds");
}

#[test]
fn a_row_that_is_written_again_and_again_takes_one_place() {
    let mut overlay = Overlay::new(SEED);
    for round in 0..10_000u32 {
        let value = Some(round.to_be_bytes().to_vec());
        overlay.write(&batch(&Model::from([(b"key".to_vec(), value)])));
    }
    assert!(overlay.bytes_above(0) < 10_000);
}
