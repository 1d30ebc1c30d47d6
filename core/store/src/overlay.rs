//! Rows that are not in a store's tables yet, in memory, above tables that only ever get whole
//! checkpoints.
//!
//! Writes go to the active layer. A freeze makes it one of the frozen ones, which never change again
//! and may be read on any thread, and starts another. Views and flushes keep the layers that they
//! need; the overlay forgets a layer when its rows are in the tables.

mod arena;
mod layer;
mod merge;
mod order;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use layer::{Hash, Layer};
pub use merge::{Cursor, Direction, NoRows, merge};

use crate::{BatchOp, WriteBatch};

/// What an overlay says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Value(&'a [u8]),
    /// Whatever the tables say.
    Deleted,
    /// Ask the tables.
    Nothing,
}

/// Frozen layers, oldest first.
pub type Layers = Vec<Arc<Layer>>;

/// What the newest of the layers that have the key says of it.
pub fn get<'a>(layers: &'a [Arc<Layer>], key: &[u8], hash: Hash) -> Found<'a> {
    let newest_first = layers.iter().rev();
    newest_first
        .map(|layer| layer.get(key, hash))
        .find(|found| *found != Found::Nothing)
        .unwrap_or(Found::Nothing)
}

/// The rows above a store's tables.
#[derive(Debug)]
pub struct Overlay {
    active: Layer,
    /// Invariant: their generations ascend, and are below the active one's.
    frozen: Layers,
    /// Layers up to this generation belong to a flush: they are left as they are.
    flushing: u64,
    seed: u64,
}

impl Overlay {
    /// `seed` keeps those who choose the keys from choosing where they collide.
    pub fn new(seed: u64) -> Self {
        Self {
            active: Layer::new(1),
            frozen: Vec::new(),
            flushing: 0,
            seed,
        }
    }

    pub fn write(&mut self, batch: &WriteBatch) {
        for op in batch.ops() {
            match op {
                BatchOp::Put { key, value } => self.set(key, Some(value)),
                BatchOp::Delete { key } => self.set(key, None),
            }
        }
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.active.set(key, Hash::of(key, self.seed), value);
    }

    pub fn get(&self, key: &[u8]) -> Found<'_> {
        let hash = self.hash(key);
        match self.active.get(key, hash) {
            Found::Nothing => get(&self.frozen, key, hash),
            found => found,
        }
    }

    pub fn hash(&self, key: &[u8]) -> Hash {
        Hash::of(key, self.seed)
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// All layers for a scan, oldest first.
    pub fn layers(&self) -> impl DoubleEndedIterator<Item = &Layer> {
        let frozen = self.frozen.iter().map(Arc::as_ref);
        frozen.chain(std::iter::once(&self.active))
    }

    /// Everything that is in memory now, as it will stay.
    pub fn freeze(&mut self) -> Layers {
        self.rotate();
        self.frozen.clone()
    }

    /// [`Self::freeze`] for a flush, and the generation to tell [`Self::forget`] once it is done.
    pub fn freeze_to_flush(&mut self) -> (Layers, u64) {
        self.rotate();
        self.flushing = self.active.generation() - 1;
        (self.frozen.clone(), self.flushing)
    }

    fn rotate(&mut self) {
        if self.active.is_empty() {
            return;
        }
        let next = Layer::new(self.active.generation() + 1);
        let full = std::mem::replace(&mut self.active, next);
        self.frozen.push(Arc::new(full));
        self.fold();
    }

    /// Many freezes in a row would leave many small layers for each read to look at. So a layer
    /// is at least twice as large as all that came after it; what is not is put together, which
    /// copies each row a few times at most.
    fn fold(&mut self) {
        while let [.., older, newer] = self.frozen.as_slice()
            && older.generation() > self.flushing
            && older.len() < 2 * newer.len()
        {
            let (Some(newer), Some(older)) = (self.frozen.pop(), self.frozen.pop()) else {
                return;
            };
            let mut both = Arc::unwrap_or_clone(older);
            both.take_over(&newer);
            self.frozen.push(Arc::new(both));
        }
    }

    /// The tables have what was frozen up to this generation.
    pub fn forget(&mut self, generation: u64) {
        self.frozen.retain(|layer| layer.generation() > generation);
    }

    /// Memory of the layers above this generation.
    pub fn bytes_above(&self, generation: u64) -> usize {
        let layers = self
            .layers()
            .filter(|layer| layer.generation() > generation);
        layers.map(Layer::bytes).sum()
    }
}
