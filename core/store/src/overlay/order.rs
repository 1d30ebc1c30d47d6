//! The order of a layer's rows, made when somebody asks for it.
//!
//! Most rows are never scanned before their flush, and sorting them once is cheaper than keeping
//! them sorted. A layer that is written and scanned in turn must not be sorted again each time: so
//! there are two sorted runs, a long one and a short one of recent rows, and a scan merges them.

use std::cmp::Ordering;
use std::sync::Arc;

/// A longer short run goes into the long one.
const RECENT_MAX: usize = 512;

/// Rows by number, in the order of their keys.
pub(super) type Run = Arc<Vec<u32>>;

#[derive(Debug, Default)]
pub(super) struct Order {
    long: Run,
    recent: Run,
}

impl Order {
    /// Takes in all rows up to `rows`; returns the runs.
    pub(super) fn runs(&mut self, rows: usize, compare: impl Fn(u32, u32) -> Ordering) -> [Run; 2] {
        let ordered = self.long.len() + self.recent.len();
        if ordered < rows {
            let mut new: Vec<u32> = (ordered as u32..rows as u32).collect();
            new.sort_by(|a, b| compare(*a, *b));
            let recent = Arc::make_mut(&mut self.recent);
            insert(recent, &mut new, &compare);
            if recent.len() > RECENT_MAX {
                insert(Arc::make_mut(&mut self.long), recent, &compare);
                recent.clear();
            }
        }
        [Arc::clone(&self.long), Arc::clone(&self.recent)]
    }
}

/// Merges the second run into the first, from the back, with few comparisons if one is much
/// shorter.
fn insert(long: &mut Vec<u32>, recent: &mut Vec<u32>, compare: &impl Fn(u32, u32) -> Ordering) {
    if long.len() < recent.len() {
        std::mem::swap(long, recent);
    }
    let mut unmoved = long.len();
    long.resize(unmoved + recent.len(), 0);
    for (before, row) in recent.iter().enumerate().rev() {
        let at = long[..unmoved].partition_point(|other| compare(*other, *row).is_lt());
        long.copy_within(at..unmoved, at + before + 1);
        long[at + before] = *row;
        unmoved = at;
    }
}
