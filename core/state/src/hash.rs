//! The hash of maps whose keys clients choose.
//!
//! With a key that clients do not know, they cannot choose names that all fall into one bucket. The
//! key comes in when a shard is opened: there is no randomness inside, so that a simulated run can
//! be repeated. Nothing that leaves the state machine depends on it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) type KeyedMap<K, V> = HashMap<K, V, HashKey>;

/// The secret key of a shard's maps.
#[derive(Clone, Copy, Debug, Default)]
pub struct HashKey(pub u64);

impl BuildHasher for HashKey {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher(self.0)
    }
}

#[derive(Debug)]
pub struct KeyedHasher(u64);

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// What ends each text; the text itself is hashed as one.
    fn write_u8(&mut self, byte: u8) {
        self.0 = self.0.rotate_left(8) ^ u64::from(byte);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_puts_names_into_other_buckets() {
        let buckets = |key: u64| {
            let bucket = |name: u32| HashKey(key).hash_one(format!("/a/{name}")) % 64;
            (0..64).map(bucket).collect::<Vec<_>>()
        };
        assert_eq!(buckets(1), buckets(1));
        let same = buckets(1)
            .into_iter()
            .zip(buckets(2))
            .filter(|(a, b)| a == b);
        assert!(same.count() < 16);
    }
}
