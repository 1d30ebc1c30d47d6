//! The chain over what was logged: the same on every replica, whatever its files look like.

use std::fmt;

use oxkeeper_model::{Offset, Term};
use xxhash_rust::xxh3::xxh3_64;

/// Sum over the terms, offsets and payloads of all entries up to one. Two logs with the same
/// chain at the same offset hold the same entries up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chain(pub u64);

impl Chain {
    /// Before the first entry of a shard.
    pub const START: Self = Self(0);

    /// The chain after one more entry: XXH3-64 of this chain, term, offset and the payload's
    /// XXH3-64, each as eight bytes, the lowest first.
    #[must_use]
    pub fn after(self, offset: Offset, term: Term, payload: &[u8]) -> Self {
        let mut link = [0; 32];
        link[0..8].copy_from_slice(&self.0.to_le_bytes());
        link[8..16].copy_from_slice(&term.0.to_le_bytes());
        link[16..24].copy_from_slice(&offset.0.to_le_bytes());
        link[24..32].copy_from_slice(&xxh3_64(payload).to_le_bytes());
        Self(xxh3_64(&link))
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An entry, or the place before the first one, with all that tells it from another log's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPoint {
    pub offset: Offset,
    pub term: Term,
    pub chain: Chain,
}

impl LogPoint {
    /// Before the first entry of a shard.
    pub const START: Self = Self {
        offset: Offset(0),
        term: Term(0),
        chain: Chain::START,
    };

    /// The point after one more entry.
    #[must_use]
    pub fn after(self, offset: Offset, term: Term, payload: &[u8]) -> Self {
        Self {
            offset,
            term,
            chain: self.chain.after(offset, term, payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_has_its_golden_values() {
        let one = Chain::START.after(Offset(1), Term(1), b"hello");
        let two = one.after(Offset(2), Term(3), b"");
        assert_eq!(one.to_string(), "e331ff922d357ce9");
        assert_eq!(two.to_string(), "aebf227c8a153d43");
    }

    #[test]
    fn the_chain_depends_on_term_offset_payload_and_all_before() {
        let chain = Chain(7).after(Offset(5), Term(2), b"abc");
        assert_ne!(chain, Chain(8).after(Offset(5), Term(2), b"abc"));
        assert_ne!(chain, Chain(7).after(Offset(6), Term(2), b"abc"));
        assert_ne!(chain, Chain(7).after(Offset(5), Term(3), b"abc"));
        assert_ne!(chain, Chain(7).after(Offset(5), Term(2), b"abd"));
        assert_ne!(chain, Chain(7).after(Offset(5), Term(2), b"abc\0"));
    }
}
