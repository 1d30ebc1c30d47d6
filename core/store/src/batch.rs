//! Writes that happen together.

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
}
