//! Which shard a key lives in. The only place that decides it.
//!
//! A shard owns a range of the 32-bit hash of the partition key (else the key), as in Oxia: the same
//! hash, and the same ranges for the same number of shards.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::limits::{NAMESPACE_BYTES_MAX, SHARD_ID_MAX};
use crate::{ShardId, ShardUuid};

/// Low 32 bits of XXH3, Oxia's hash of keys.
pub fn hash(partition_key: &str) -> u32 {
    xxh3_64(partition_key.as_bytes()) as u32
}

/// Hashes from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashRange {
    pub first: u32,
    pub last: u32,
}

impl HashRange {
    pub fn contains(self, hash: u32) -> bool {
        RangeInclusive::new(self.first, self.last).contains(&hash)
    }

    /// The ranges of a new namespace: equal, up to the last, which takes what is left.
    pub fn split(shards: u32) -> impl Iterator<Item = Self> {
        let width = u64::from(u32::MAX).checked_div(u64::from(shards));
        let width = width.map_or(0, |width| width + 1);
        (0..u64::from(shards)).map(move |at| Self {
            first: (at * width) as u32,
            last: match at + 1 == u64::from(shards) {
                true => u32::MAX,
                false => ((at + 1) * width - 1) as u32,
            },
        })
    }
}

/// `5555555a-aaaaaab3`: eight small hexadecimal digits each.
impl fmt::Display for HashRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}", self.first, self.last)
    }
}

/// In which order a shard keeps its keys. Fixed when it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyOrder {
    /// Oxia's default: by the number of slashes, then bytewise with the slash last, so that the
    /// direct children of a path are one range.
    #[default]
    Hierarchical,
    /// Bytewise.
    Natural,
}

impl KeyOrder {
    fn name(self) -> &'static str {
        match self {
            Self::Hierarchical => "hierarchical",
            Self::Natural => "natural",
        }
    }
}

impl fmt::Display for KeyOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a shard is, wherever it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardDescriptor {
    /// See [`is_namespace`].
    pub namespace: Box<str>,
    /// Unique over the cluster.
    pub id: ShardId,
    pub uuid: ShardUuid,
    pub range: HashRange,
    pub key_order: KeyOrder,
}

impl ShardDescriptor {
    /// The only shard of a namespace.
    pub fn whole(namespace: &str, id: ShardId, uuid: ShardUuid) -> Self {
        Self {
            namespace: namespace.into(),
            id,
            uuid,
            range: HashRange {
                first: 0,
                last: u32::MAX,
            },
            key_order: KeyOrder::default(),
        }
    }
}

/// Whether a namespace may have this name: letters, digits, `_`, `.`, `-`, beginning with a letter or
/// digit, as in Oxia.
pub fn is_namespace(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric();
    name.len() <= NAMESPACE_BYTES_MAX
        && name.bytes().next().is_some_and(is_plain)
        && name.bytes().all(|b| is_plain(b) || b"_.-".contains(&b))
        && !name.contains("..")
}

/// `0 default 0f…2e 00000000-ffffffff hierarchical`.
impl fmt::Display for ShardDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            id,
            uuid,
            range,
            key_order,
        } = self;
        write!(f, "{id} {namespace} {uuid} {range} {key_order}")
    }
}

/// Why a text is no descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it does not describe a shard: {0}")]
pub struct NotAShard(&'static str);

impl FromStr for ShardDescriptor {
    type Err = NotAShard;

    fn from_str(text: &str) -> Result<Self, NotAShard> {
        let mut words = text.split(' ');
        let [
            Some(id),
            Some(namespace),
            Some(uuid),
            Some(range),
            Some(key_order),
            None,
        ] = std::array::from_fn(|_| words.next())
        else {
            return Err(NotAShard("not five words"));
        };
        let id = id.parse().ok().map(ShardId);
        Ok(Self {
            id: id
                .filter(|&id| id <= SHARD_ID_MAX)
                .ok_or(NotAShard("its id is no number, or too large"))?,
            namespace: Some(namespace)
                .filter(|name| is_namespace(name))
                .ok_or(NotAShard("its namespace has no such name"))?
                .into(),
            uuid: uuid.parse().map_err(|_| NotAShard("its uuid is none"))?,
            range: parse_range(range).ok_or(NotAShard("its range is none"))?,
            key_order: [KeyOrder::Hierarchical, KeyOrder::Natural]
                .into_iter()
                .find(|order| order.name() == key_order)
                .ok_or(NotAShard("its key order is unknown"))?,
        })
    }
}

fn parse_range(text: &str) -> Option<HashRange> {
    let (first, last) = text.split_once('-')?;
    let hash = |text: &str| u32::from_str_radix(text, 16).ok();
    let range = HashRange {
        first: hash(first)?,
        last: hash(last)?,
    };
    (range.first <= range.last && range.to_string() == text).then_some(range)
}

/// All shards of one namespace. Invariant: every hash has exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards {
    /// By range.
    shards: Vec<ShardDescriptor>,
}

/// Why descriptors are not all shards of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ShardsError {
    #[error("there are no shards")]
    None,
    #[error("shards of different namespaces")]
    OtherNamespace,
    #[error("shards of different key orders")]
    OtherKeyOrder,
    #[error("shard ids end at {SHARD_ID_MAX}, and one is {0}")]
    IdTooLarge(ShardId),
    #[error("two shards have the id {0}")]
    Twice(ShardId),
    #[error("hash {0:#010x} belongs to no shard, or to two")]
    Uncovered(u32),
}

impl Shards {
    /// A new namespace with a shard for each uuid, with ids from `first_id`.
    pub fn found(
        namespace: &str,
        first_id: ShardId,
        uuids: &[ShardUuid],
    ) -> Result<Self, ShardsError> {
        let count = u32::try_from(uuids.len()).unwrap_or(u32::MAX);
        let ranges = HashRange::split(count);
        let shards = (first_id.0..).zip(uuids).zip(ranges);
        Self::new(
            shards
                .map(|((id, &uuid), range)| ShardDescriptor {
                    namespace: namespace.into(),
                    id: ShardId(id),
                    uuid,
                    range,
                    key_order: KeyOrder::default(),
                })
                .collect(),
        )
    }

    pub fn new(mut shards: Vec<ShardDescriptor>) -> Result<Self, ShardsError> {
        shards.sort_by_key(|shard| shard.range);
        let first = shards.first().ok_or(ShardsError::None)?;
        let mut ids: Vec<ShardId> = shards.iter().map(|shard| shard.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ShardsError::Twice(twice[0]));
        }
        if let Some(&last) = ids.last().filter(|&&last| last > SHARD_ID_MAX) {
            return Err(ShardsError::IdTooLarge(last));
        }
        // Of the hashes not looked at yet, the lowest; past the end when all were.
        let mut next = 0;
        for shard in &shards {
            if shard.namespace != first.namespace {
                return Err(ShardsError::OtherNamespace);
            }
            if shard.key_order != first.key_order {
                return Err(ShardsError::OtherKeyOrder);
            }
            if u64::from(shard.range.first) != next {
                return Err(ShardsError::Uncovered(
                    next.min(shard.range.first.into()) as u32
                ));
            }
            next = u64::from(shard.range.last) + 1;
        }
        match u32::try_from(next) {
            Ok(uncovered) => Err(ShardsError::Uncovered(uncovered)),
            Err(_) => Ok(Self { shards }),
        }
    }

    pub fn ids(&self) -> impl Iterator<Item = ShardId> {
        self.shards.iter().map(|shard| shard.id)
    }

    pub fn count(&self) -> usize {
        self.shards.len()
    }

    /// By range.
    pub fn iter(&self) -> impl Iterator<Item = &ShardDescriptor> {
        self.shards.iter()
    }

    /// The shard that owns `partition_key`.
    pub fn place(&self, partition_key: &str) -> ShardId {
        let hash = hash(partition_key);
        let at = self.shards.partition_point(|shard| shard.range.last < hash);
        self.shards[at].id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uuids(count: u8) -> Vec<ShardUuid> {
        (0..count).map(|at| ShardUuid([at; 16])).collect()
    }

    fn shards(count: u8) -> Shards {
        Shards::found("default", ShardId(0), &uuids(count)).expect("a namespace")
    }

    #[test]
    fn keys_hash_as_in_oxia() {
        assert_eq!(hash("foo"), 125_730_186);
        assert_eq!(hash("bar"), 2_687_685_474);
        assert_eq!(hash("baz"), 862_947_621);
    }

    #[test]
    fn ranges_are_oxias_also_where_they_are_not_equal() {
        let text = |count| {
            let ranges = HashRange::split(count).map(|range| range.to_string());
            ranges.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(0), "");
        assert_eq!(text(1), "00000000-ffffffff");
        assert_eq!(text(2), "00000000-7fffffff 80000000-ffffffff");
        assert_eq!(
            text(3),
            "00000000-55555555 55555556-aaaaaaab aaaaaaac-ffffffff"
        );
        assert_eq!(
            text(5),
            "00000000-33333333 33333334-66666667 66666668-9999999b 9999999c-cccccccf ccccccd0-ffffffff"
        );
    }

    #[test]
    fn every_key_has_a_shard_and_all_shards_are_used() {
        for count in [1, 2, 3, 7] {
            let shards = shards(count);
            let mut used = vec![0; usize::from(count)];
            for key in 0..1000 {
                used[shards.place(&key.to_string()).0 as usize] += 1;
            }
            assert!(used.iter().all(|&keys| keys > 0), "{used:?}");
        }
    }

    #[test]
    fn shards_that_leave_a_hash_out_or_share_one_are_refused() {
        assert_eq!(Shards::found("n", ShardId(0), &[]), Err(ShardsError::None));
        let changed = |change: fn(&mut Vec<ShardDescriptor>)| {
            let mut descriptors = shards(3).shards;
            change(&mut descriptors);
            Shards::new(descriptors).map(|shards| shards.count())
        };
        assert_eq!(changed(|shards| shards.reverse()), Ok(3));
        assert_eq!(
            changed(|shards| drop(shards.remove(1))),
            Err(ShardsError::Uncovered(0x5555_5556))
        );
        assert_eq!(
            changed(|shards| drop(shards.pop())),
            Err(ShardsError::Uncovered(0xaaaa_aaac))
        );
        assert_eq!(
            changed(|shards| shards[1].range.first -= 1),
            Err(ShardsError::Uncovered(0x5555_5555))
        );
        assert_eq!(
            changed(|shards| shards[1].id = ShardId(0)),
            Err(ShardsError::Twice(ShardId(0)))
        );
        assert_eq!(
            changed(|shards| shards[1].namespace = "other".into()),
            Err(ShardsError::OtherNamespace)
        );
        assert_eq!(
            changed(|shards| shards[1].key_order = KeyOrder::Natural),
            Err(ShardsError::OtherKeyOrder)
        );
    }

    #[test]
    fn ids_fit_into_those_of_sessions() {
        let first = |id| Shards::found("n", ShardId(id), &uuids(2)).map(|shards| shards.count());
        assert_eq!(first(SHARD_ID_MAX.0 - 1), Ok(2));
        let beyond = ShardId(SHARD_ID_MAX.0 + 1);
        assert_eq!(first(SHARD_ID_MAX.0), Err(ShardsError::IdTooLarge(beyond)));
    }

    #[test]
    fn a_descriptor_has_its_persisted_text() {
        let text = "7 my.name 000102030405060708090a0b0c0d0e0f 00000000-7fffffff natural";
        let shard: ShardDescriptor = text.parse().expect("a descriptor");
        assert_eq!((shard.id, &*shard.namespace), (ShardId(7), "my.name"));
        assert_eq!(shard.uuid.0[15], 15);
        assert_eq!((shard.range.first, shard.range.last), (0, 0x7fff_ffff));
        assert_eq!(shard.key_order, KeyOrder::Natural);
        assert_eq!(shard.to_string(), text);
        let whole = format!("{} ", text);
        for other in [
            &whole[..],
            &text[1..],
            &text.replace("my.name", "..")[..],
            &text.replace("my.name", "")[..],
            &text.replace("0f", "0F")[..],
            &text.replace("0f ", " ")[..],
            &text.replace("7fff", "7FFF")[..],
            &text.replace("00000000-7", "80000000-7")[..],
            &text.replace("natural", "random")[..],
            &text.replace("7 my", "32767 my")[..],
        ] {
            assert!(other.parse::<ShardDescriptor>().is_err(), "{other}");
        }
    }

    #[test]
    fn names_of_namespaces_are_bounded() {
        let longest = "n".repeat(NAMESPACE_BYTES_MAX);
        assert!(is_namespace(&longest) && is_namespace("0-a_b.c"));
        let longer = format!("{longest}n");
        for name in [&longer, "", "-a", ".a", "a..b", "a b", "a/b", "é"] {
            assert!(!is_namespace(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn each_hash_lies_in_the_range_of_its_shard(count in 1u8..=255, key in "[a-z/]{0,12}") {
            let shards = shards(count);
            let place = shards.place(&key);
            let owners: Vec<_> = shards
                .iter()
                .filter(|shard| shard.range.contains(hash(&key)))
                .map(|shard| shard.id)
                .collect();
            prop_assert_eq!(owners, [place]);
        }
    }
}
