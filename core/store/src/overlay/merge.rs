//! One scan over layers and tables: for each key the newest row, unless that is a deletion.

use std::ops::ControlFlow;

use super::layer::{Layer, LayerCursor};
use crate::{KeyRange, StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Back,
}

impl Direction {
    /// Whether a scan meets `a` first.
    pub fn is_before(self, a: &[u8], b: &[u8]) -> bool {
        match self {
            Self::Forward => a < b,
            Self::Back => a > b,
        }
    }
}

/// A place among sorted rows.
pub trait Cursor {
    /// Key and value of the row here; no value: it was deleted. `None` after the last row.
    fn row(&self) -> Option<(&[u8], Option<&[u8]>)>;

    /// Goes to the next row. There must be one here.
    fn step(&mut self) -> Result<(), StoreError>;
}

/// What a merge without tables has at its bottom.
pub struct NoRows;

impl Cursor for NoRows {
    fn row(&self) -> Option<(&[u8], Option<&[u8]>)> {
        None
    }

    fn step(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What a merge calls with each key and its newest value; `None`: it was deleted.
pub(super) type MergedVisitor<'a> =
    &'a mut dyn FnMut(&[u8], Option<&[u8]>) -> Result<ControlFlow<()>, StoreError>;

/// Visits the newest row of each key in the range, deletions too. `layers` come oldest first and
/// are newer than the `tables`, whose cursor keeps to the range by itself.
pub fn merge<'a>(
    layers: impl DoubleEndedIterator<Item = &'a Layer>,
    tables: &mut impl Cursor,
    range: &KeyRange,
    direction: Direction,
    visit: MergedVisitor<'_>,
) -> Result<(), StoreError> {
    let newest_first = layers.rev();
    let cursors = newest_first.flat_map(|layer| layer.cursors(range, direction));
    let mut cursors: Vec<LayerCursor<'_>> =
        cursors.filter(|cursor| cursor.row().is_some()).collect();
    loop {
        let first = first(&cursors, direction);
        if let Some((key, value)) = tables.row()
            && first.is_none_or(|(_, first)| direction.is_before(key, first))
        {
            if visit(key, value)?.is_break() {
                return Ok(());
            }
            tables.step()?;
            continue;
        }
        let Some((at, _)) = first else {
            return Ok(());
        };
        if visit_and_step(&mut cursors[at..], tables, visit)?.is_break() {
            return Ok(());
        }
    }
}

/// The cursor at the first key, the newest of them, and the key.
fn first<'a>(cursors: &'a [LayerCursor<'_>], direction: Direction) -> Option<(usize, &'a [u8])> {
    let mut first = None;
    for (at, cursor) in cursors.iter().enumerate() {
        if let Some((key, _)) = cursor.row()
            && first.is_none_or(|(_, first)| direction.is_before(key, first))
        {
            first = Some((at, key));
        }
    }
    first
}

/// Visits the row of the first cursor and steps over its key wherever else it is.
fn visit_and_step(
    cursors: &mut [LayerCursor<'_>],
    tables: &mut impl Cursor,
    visit: MergedVisitor<'_>,
) -> Result<ControlFlow<()>, StoreError> {
    let Some((newest, older)) = cursors.split_first_mut() else {
        return Ok(ControlFlow::Continue(()));
    };
    let Some((key, value)) = newest.row() else {
        return Ok(ControlFlow::Continue(()));
    };
    let flow = visit(key, value)?;
    for cursor in older {
        if cursor.row().is_some_and(|(other, _)| other == key) {
            cursor.step()?;
        }
    }
    if tables.row().is_some_and(|(other, _)| other == key) {
        tables.step()?;
    }
    newest.step()?;
    Ok(flow)
}
