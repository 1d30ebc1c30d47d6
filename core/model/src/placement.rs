//! Which shard a key lives in. The only function that decides it.

use xxhash_rust::xxh3::xxh3_64;

use crate::ShardId;

/// The shards of a namespace: each owns an equal range of the 32-bit hash of the partition key,
/// as in Oxia; the last takes the remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards {
    count: u32,
}

impl Shards {
    /// `None` if `count` is 0.
    pub fn new(count: u32) -> Option<Self> {
        (count > 0).then_some(Self { count })
    }

    pub fn count(self) -> u32 {
        self.count
    }

    pub fn ids(self) -> impl Iterator<Item = ShardId> {
        (0..self.count).map(ShardId)
    }

    /// The shard that owns `partition_key`.
    pub fn place(self, partition_key: &str) -> ShardId {
        let width = (1u64 << 32) / u64::from(self.count);
        let shard = u64::from(hash(partition_key)) / width;
        ShardId((shard as u32).min(self.count - 1))
    }
}

/// Low 32 bits of xxh3, Oxia's hash of keys.
fn hash(key: &str) -> u32 {
    xxh3_64(key.as_bytes()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_shard_and_all_shards_are_used() {
        for count in [1, 2, 3, 7] {
            let shards = Shards::new(count).expect("not zero");
            let mut used = vec![0; count as usize];
            for key in 0..1000 {
                used[shards.place(&key.to_string()).0 as usize] += 1;
            }
            assert!(used.iter().all(|&keys| keys > 0), "{used:?}");
        }
        assert_eq!(Shards::new(0), None);
    }
}
