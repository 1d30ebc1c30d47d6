//! Bytes of many rows in few allocations, which go all at once.

/// Chunks grow with the arena from the first to the second.
const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Room in an arena. Stays where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    chunk: u32,
    at: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Vec<u8>>,
    /// The one with room.
    current: usize,
    bytes: usize,
}

impl Arena {
    /// Room for `capacity` bytes that begins with the given ones.
    pub(super) fn add(&mut self, bytes: &[u8], capacity: usize) -> Place {
        let chunk_at = self.chunk_for(capacity);
        let chunk = &mut self.chunks[chunk_at];
        let at = chunk.len();
        chunk.extend_from_slice(bytes);
        chunk.resize(at + capacity, 0);
        Place {
            chunk: chunk_at as u32,
            at: at as u32,
        }
    }

    fn chunk_for(&mut self, bytes: usize) -> usize {
        let has_room = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= bytes;
        if self.chunks.get(self.current).is_some_and(has_room) {
            return self.current;
        }
        let usual = self.bytes.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let chunk = Vec::with_capacity(usual.max(bytes));
        self.bytes += chunk.capacity();
        self.chunks.push(chunk);
        let last = self.chunks.len() - 1;
        // One that a large row fills leaves the room elsewhere in use.
        if bytes <= usual / 4 || last == 0 {
            self.current = last;
        }
        last
    }

    pub(super) fn read(&self, place: Place, bytes: usize) -> &[u8] {
        let at = place.at as usize;
        &self.chunks[place.chunk as usize][at..at + bytes]
    }

    pub(super) fn overwrite(&mut self, place: Place, bytes: &[u8]) {
        let at = place.at as usize;
        self.chunks[place.chunk as usize][at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
