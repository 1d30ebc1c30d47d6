//! Where an encoding goes: into bytes, or only into their count.

use crate::varint;

pub(crate) trait Out: Sized {
    fn varint(&mut self, value: u64);
    fn extend(&mut self, bytes: &[u8]);
    /// What `body` writes, with its length ahead.
    fn nested(&mut self, body: impl FnOnce(&mut Self));
}

impl Out for Vec<u8> {
    fn varint(&mut self, value: u64) {
        varint::put(self, value);
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    /// The length is known only afterwards: one byte is kept free for it, and the body moves up in
    /// the rare case that it needs more. That is cheaper than measuring every level first.
    fn nested(&mut self, body: impl FnOnce(&mut Self)) {
        let at = self.len();
        self.push(0);
        body(self);
        let length = self.len() - at - 1;
        if let Ok(length @ ..0x80) = u8::try_from(length) {
            self[at] = length;
            return;
        }
        let end = self.len();
        varint::put(self, length as u64);
        let mut prefix = [0; varint::BYTES_MAX];
        let prefix_bytes = self.len() - end;
        prefix[..prefix_bytes].copy_from_slice(&self[end..]);
        self.resize(end + prefix_bytes - 1, 0);
        self.copy_within(at + 1..end, at + prefix_bytes);
        self[at..at + prefix_bytes].copy_from_slice(&prefix[..prefix_bytes]);
    }
}

/// Counts the bytes that an encoding would have.
#[derive(Debug, Default)]
pub(crate) struct Count(usize);

impl Count {
    pub(crate) fn bytes(&self) -> usize {
        self.0
    }
}

impl Out for Count {
    fn varint(&mut self, value: u64) {
        self.0 += varint::len(value);
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn nested(&mut self, body: impl FnOnce(&mut Self)) {
        let before = self.0;
        body(self);
        self.0 += varint::len((self.0 - before) as u64);
    }
}
