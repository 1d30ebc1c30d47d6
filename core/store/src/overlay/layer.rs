//! One layer: rows by hash, and in order when that is asked for.

use std::cmp::Ordering;
use std::ops::Range;

use hashbrown::HashTable;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Found;
use super::arena::{Arena, Place};
use super::merge::{Cursor, Direction};
use super::order::{Order, Run};
use crate::{KeyRange, StoreError};

/// A key's hash in all layers of an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u32);

impl Hash {
    pub fn of(key: &[u8], seed: u64) -> Self {
        Self(xxh3_64_with_seed(key, seed) as u32)
    }

    /// The table takes the place from the lower bits and compares the upper ones.
    fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

/// Value length of a row that was deleted.
const DELETED: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Row {
    hash: Hash,
    key: Place,
    key_bytes: u32,
    value: Place,
    value_bytes: u32,
    value_capacity: u32,
}

/// Rows that were written between two freezes. Rows are overwritten and never removed.
#[derive(Debug)]
pub struct Layer {
    generation: u64,
    index: HashTable<u32>,
    rows: Vec<Row>,
    arena: Arena,
    order: Mutex<Order>,
}

impl Clone for Layer {
    fn clone(&self) -> Self {
        Self {
            generation: self.generation,
            index: self.index.clone(),
            rows: self.rows.clone(),
            arena: self.arena.clone(),
            order: Mutex::default(),
        }
    }
}

impl Layer {
    pub(super) fn new(generation: u64) -> Self {
        Self {
            generation,
            index: HashTable::new(),
            rows: Vec::new(),
            arena: Arena::default(),
            order: Mutex::default(),
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Memory of it all, about.
    pub fn bytes(&self) -> usize {
        let per_row = self.rows.capacity() * size_of::<Row>() + self.index.capacity() * 5;
        self.arena.bytes() + per_row
    }

    pub(super) fn get(&self, key: &[u8], hash: Hash) -> Found<'_> {
        match self.find(key, hash).map(|row| self.value(row)) {
            None => Found::Nothing,
            Some(None) => Found::Deleted,
            Some(Some(value)) => Found::Value(value),
        }
    }

    fn find(&self, key: &[u8], hash: Hash) -> Option<u32> {
        let same = |row: &u32| self.rows[*row as usize].hash == hash && self.key(*row) == key;
        self.index.find(hash.spread(), same).copied()
    }

    fn key(&self, row: u32) -> &[u8] {
        let row = &self.rows[row as usize];
        self.arena.read(row.key, row.key_bytes as usize)
    }

    /// `None` if it was deleted.
    fn value(&self, row: u32) -> Option<&[u8]> {
        let row = &self.rows[row as usize];
        let bytes = Some(row.value_bytes).filter(|bytes| *bytes != DELETED)?;
        Some(self.arena.read(row.value, bytes as usize))
    }

    /// Puts a value, or notes a deletion.
    pub(super) fn set(&mut self, key: &[u8], hash: Hash, value: Option<&[u8]>) {
        match self.find(key, hash) {
            Some(row) => self.overwrite(row, value),
            None => self.insert(key, hash, value),
        }
    }

    fn insert(&mut self, key: &[u8], hash: Hash, value: Option<&[u8]>) {
        let written = value.unwrap_or_default();
        let row = Row {
            hash,
            key: self.arena.add(key, key.len()),
            key_bytes: key.len() as u32,
            value: self.arena.add(written, written.len()),
            value_bytes: value.map_or(DELETED, |value| value.len() as u32),
            value_capacity: written.len() as u32,
        };
        let rows = &mut self.rows;
        let number = rows.len() as u32;
        rows.push(row);
        let hash_of = |row: &u32| rows[*row as usize].hash.spread();
        self.index.insert_unique(hash.spread(), number, hash_of);
    }

    fn overwrite(&mut self, row: u32, value: Option<&[u8]>) {
        let row = &mut self.rows[row as usize];
        let Some(value) = value else {
            row.value_bytes = DELETED;
            return;
        };
        row.value_bytes = value.len() as u32;
        if value.len() <= row.value_capacity as usize {
            return self.arena.overwrite(row.value, value);
        }
        // A value that grew may grow again.
        let capacity = value.len() + value.len() / 4;
        row.value = self.arena.add(value, capacity);
        row.value_capacity = capacity as u32;
    }

    /// Becomes both layers in one.
    pub(super) fn take_over(&mut self, newer: &Self) {
        for (number, row) in newer.rows.iter().enumerate() {
            let number = number as u32;
            self.set(newer.key(number), row.hash, newer.value(number));
        }
        self.generation = newer.generation;
    }

    /// Cursors that together meet each row of the range once.
    pub fn cursors(&self, range: &KeyRange, direction: Direction) -> [LayerCursor<'_>; 2] {
        let compare = |a, b| Ord::cmp(self.key(a), self.key(b));
        let runs = self.order.lock().runs(self.rows.len(), compare);
        runs.map(|run| LayerCursor {
            layer: self,
            left: self.within(&run, range),
            run,
            direction,
        })
    }

    fn within(&self, run: &Run, range: &KeyRange) -> Range<usize> {
        let below =
            |key: &[u8]| run.partition_point(|row| Ord::cmp(self.key(*row), key) == Ordering::Less);
        let to = range.to.as_ref().map_or(run.len(), |to| below(to));
        below(&range.from).min(to)..to
    }
}

/// A place in one run of a layer.
#[derive(Debug)]
pub struct LayerCursor<'a> {
    layer: &'a Layer,
    run: Run,
    left: Range<usize>,
    direction: Direction,
}

impl Cursor for LayerCursor<'_> {
    fn row(&self) -> Option<(&[u8], Option<&[u8]>)> {
        if self.left.is_empty() {
            return None;
        }
        let at = match self.direction {
            Direction::Forward => self.left.start,
            Direction::Back => self.left.end - 1,
        };
        let row = self.run[at];
        Some((self.layer.key(row), self.layer.value(row)))
    }

    fn step(&mut self) -> Result<(), StoreError> {
        match self.direction {
            Direction::Forward => self.left.start += 1,
            Direction::Back => self.left.end -= 1,
        }
        Ok(())
    }
}
