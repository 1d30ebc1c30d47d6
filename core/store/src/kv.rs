//! The ordered key-value store under a shard, as a trait with two implementations.
//!
//! A store has no log of its own: what was written and not yet flushed is lost by a crash, all of
//! it, and the shard replays its own log from there. So an implementation must never make a write
//! durable by itself, only when [`KeyValueStore::start_flush`] says so.

use std::ops::ControlFlow;

use thiserror::Error;

/// The store could not read or write. The shard stops.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{action}: {reason}")]
pub struct StoreError {
    pub action: &'static str,
    pub reason: String,
}

impl StoreError {
    pub fn new(action: &'static str, reason: impl ToString) -> Self {
        Self {
            action,
            reason: reason.to_string(),
        }
    }
}

/// Keys from `from` (included) to `to` (excluded; `None`: to the end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub from: Vec<u8>,
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    /// All keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self {
            from: prefix.to_vec(),
            to: successor(prefix),
        }
    }

    /// The part of this range after `key`.
    #[must_use]
    pub fn after(self, key: &[u8]) -> Self {
        let mut from = key.to_vec();
        from.push(0);
        Self {
            from: from.max(self.from),
            to: self.to,
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.from.as_slice() && self.to.as_deref().is_none_or(|to| key < to)
    }
}

/// The first key after all that start with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut key = prefix[..=keep].to_vec();
    key[keep] += 1;
    Some(key)
}

/// Puts and deletes in order, kept in one buffer that is reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// Per operation: kind, key length and value length (u32 LE), key, value.
    buffer: Vec<u8>,
    count: usize,
}

/// One operation of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOp<'a> {
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const HEADER_BYTES: usize = 9;
/// A larger buffer than this is given back after an unusually large batch.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

impl WriteBatch {
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.put_with(key, |buffer| buffer.extend_from_slice(value));
    }

    /// A put whose value is written in place; `write` may only append.
    pub fn put_with(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let header = self.buffer.len();
        self.begin(PUT, key);
        let value = self.buffer.len();
        write(&mut self.buffer);
        let value_bytes = (self.buffer.len() - value) as u32;
        self.buffer[header + 5..header + 9].copy_from_slice(&value_bytes.to_le_bytes());
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.begin(DELETE, key);
    }

    fn begin(&mut self, kind: u8, key: &[u8]) {
        self.buffer.push(kind);
        self.buffer
            .extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(key);
        self.count += 1;
    }

    pub fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        self.count = 0;
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch as bytes: equal exactly for equal batches.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer
    }

    pub fn ops(&self) -> impl Iterator<Item = BatchOp<'_>> {
        let mut rest = self.buffer.as_slice();
        std::iter::from_fn(move || {
            if rest.len() < HEADER_BYTES {
                return None;
            }
            let length = |at: usize| {
                u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]) as usize
            };
            let (kind, key_bytes, value_bytes) = (rest[0], length(1), length(5));
            let (key, after) = rest[HEADER_BYTES..].split_at(key_bytes);
            let (value, after) = after.split_at(value_bytes);
            rest = after;
            Some(if kind == PUT {
                BatchOp::Put { key, value }
            } else {
                BatchOp::Delete { key }
            })
        })
    }
}

/// Waits until what [`KeyValueStore::start_flush`] froze is durable. May be called on any thread;
/// dropping it lets the flush go on unwatched.
pub type FlushWait = Box<dyn FnOnce() -> Result<(), StoreError> + Send>;

/// What a scan calls with each key and value; it says whether to go on.
pub type RowVisitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An ordered map of bytes with atomic batches and explicit durability.
pub trait KeyValueStore: Send + 'static {
    /// Calls `read` with the value, if there is one; says whether there was.
    fn get(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError>;

    /// Visits keys and values in order until the visitor breaks.
    fn scan(&self, range: &KeyRange, visit: RowVisitor<'_>) -> Result<(), StoreError>;

    /// Applies all operations in order, or none. Visible at once, durable only after a flush.
    fn write(&mut self, batch: &WriteBatch) -> Result<(), StoreError>;

    /// Freezes exactly what was written until now and starts to make it durable. A crash leaves
    /// the store as it was at the freezing of one of the flushes started before, at least of the
    /// last one that was waited for; never between.
    fn start_flush(&mut self) -> Result<FlushWait, StoreError>;

    /// [`Self::start_flush`] and the wait.
    fn flush(&mut self) -> Result<(), StoreError> {
        self.start_flush()?()
    }
}

/// A value as a vector; for where speed does not matter.
pub fn get_vec(store: &impl KeyValueStore, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut value = None;
    store.get(key, &mut |bytes| value = Some(bytes.to_vec()))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_its_operations_in_order() {
        let mut batch = WriteBatch::default();
        batch.put(b"k", b"value");
        batch.delete(b"gone");
        batch.put(b"", b"");
        let ops: Vec<_> = batch.ops().collect();
        assert_eq!(
            ops,
            [
                BatchOp::Put {
                    key: b"k",
                    value: b"value"
                },
                BatchOp::Delete { key: b"gone" },
                BatchOp::Put {
                    key: b"",
                    value: b""
                },
            ]
        );
        assert_eq!(batch.len(), 3);
        batch.clear();
        assert!(batch.is_empty() && batch.ops().next().is_none());
    }

    #[test]
    fn a_prefix_range_holds_exactly_the_keys_with_the_prefix() {
        let range = KeyRange::prefix(&[1, 0xff]);
        assert!(range.contains(&[1, 0xff]) && range.contains(&[1, 0xff, 0xff, 0xff]));
        assert!(!range.contains(&[1, 0xfe, 9]) && !range.contains(&[2]));
        assert_eq!(KeyRange::prefix(&[0xff, 0xff]).to, None);
        let rest = KeyRange::prefix(b"a").after(b"ab");
        assert!(!rest.contains(b"ab") && rest.contains(b"ab\0") && !rest.contains(b"aa"));
    }
}
