//! Where each term begins in the log, so that nobody has to scan for it.

use oxkeeper_model::{Offset, Term};

/// The first entry of each term that is in the log. It is as long as there were elections since
/// the last trim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TermIndex {
    /// Invariant: terms and offsets rise strictly.
    starts: Vec<(Term, Offset)>,
}

impl TermIndex {
    /// An entry was added at the end.
    pub(crate) fn push(&mut self, offset: Offset, term: Term) {
        if self.starts.last().is_none_or(|&(last, _)| last < term) {
            self.starts.push((term, offset));
        }
    }

    /// Everything after `offset` is gone.
    pub(crate) fn truncate_after(&mut self, offset: Offset) {
        let kept = self.starts.partition_point(|&(_, first)| first <= offset);
        self.starts.truncate(kept);
    }

    /// Everything before `first` is gone.
    pub(crate) fn trim_before(&mut self, first: Offset) {
        let after = self.starts.partition_point(|&(_, start)| start <= first);
        self.starts.drain(..after.saturating_sub(1));
        if let Some((_, start)) = self.starts.first_mut() {
            *start = first.max(*start);
        }
    }

    /// The last entry of a term that is not above `term`, in a log that ends with `last`.
    pub(crate) fn last_at_or_below(&self, term: Term, last: Offset) -> Option<Offset> {
        match self.starts.partition_point(|&(start, _)| start <= term) {
            0 => None,
            after => Some(match self.starts.get(after) {
                Some(&(_, first)) => Offset(first.0 - 1),
                None => last,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(terms: &[u64]) -> TermIndex {
        let mut index = TermIndex::default();
        for (offset, &term) in (1..).zip(terms) {
            index.push(Offset(offset), Term(term));
        }
        index
    }

    /// What a scan would find.
    fn scan(terms: &[u64], first: u64, term: u64) -> Option<Offset> {
        let entries = (1..).zip(terms).filter(|&(offset, _)| offset >= first);
        let below = entries.filter(|&(_, &of)| of <= term);
        below.map(|(offset, _)| Offset(offset)).last()
    }

    #[test]
    fn it_answers_as_a_scan_would_after_any_trim_and_cut() {
        let terms = [2, 2, 2, 3, 7, 7, 8, 8, 8, 8, 12];
        for first in 1..=terms.len() as u64 {
            for last in first..=terms.len() as u64 {
                let mut index = index(&terms);
                index.trim_before(Offset(first));
                index.truncate_after(Offset(last));
                let kept = &terms[..last as usize];
                for term in 0..14 {
                    let found = index.last_at_or_below(Term(term), Offset(last));
                    assert_eq!(found, scan(kept, first, term), "{first} {last} {term}");
                }
            }
        }
    }

    #[test]
    fn an_emptied_index_starts_again() {
        let mut index = index(&[4, 4, 5]);
        index.truncate_after(Offset(0));
        assert_eq!(index, TermIndex::default());
        index.push(Offset(1), Term(3));
        assert_eq!(index.last_at_or_below(Term(9), Offset(1)), Some(Offset(1)));
    }
}
