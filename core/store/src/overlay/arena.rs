//! Bytes of many rows in few allocations, which go all at once.
//!
//! A checkpoint's worth of rows comes and goes again and again, and is tens of megabytes. Large chunks
//! are mapped, so that their memory goes back to the system when they are dropped: an allocator would
//! keep it for the next ones, which an idle shard does not write.

use memmap2::MmapMut;

/// Chunks grow with the arena from the first to the second.
const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Chunks from this size on are mapped.
const MAPPED_BYTES_MIN: usize = 256 << 10;

/// Room in an arena. Stays where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    chunk: u32,
    at: u32,
}

#[derive(Debug)]
enum Memory {
    Allocated(Vec<u8>),
    Mapped(MmapMut),
}

#[derive(Debug)]
struct Chunk {
    memory: Memory,
    used: usize,
}

impl Chunk {
    /// Zeros.
    fn new(bytes: usize) -> Self {
        let mapped = (bytes >= MAPPED_BYTES_MIN).then(|| MmapMut::map_anon(bytes));
        let memory = match mapped {
            Some(Ok(map)) => Memory::Mapped(map),
            // The system has a limit on maps.
            _ => Memory::Allocated(vec![0; bytes]),
        };
        Self { memory, used: 0 }
    }

    fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Allocated(bytes) => bytes,
            Memory::Mapped(map) => map,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Allocated(bytes) => bytes,
            Memory::Mapped(map) => map,
        }
    }
}

impl Clone for Chunk {
    fn clone(&self) -> Self {
        let mut clone = Self::new(self.bytes().len());
        clone.bytes_mut()[..self.used].copy_from_slice(&self.bytes()[..self.used]);
        clone.used = self.used;
        clone
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    /// The one with room.
    current: usize,
    bytes: usize,
}

impl Arena {
    /// Room for `capacity` bytes that begins with the given ones.
    pub(super) fn add(&mut self, bytes: &[u8], capacity: usize) -> Place {
        let number = self.chunk_for(capacity);
        let chunk = &mut self.chunks[number];
        let at = chunk.used;
        chunk.used += capacity;
        let place = Place {
            chunk: number as u32,
            at: at as u32,
        };
        self.overwrite(place, bytes);
        place
    }

    fn chunk_for(&mut self, bytes: usize) -> usize {
        let has_room = |chunk: &Chunk| chunk.bytes().len() - chunk.used >= bytes;
        if self.chunks.get(self.current).is_some_and(has_room) {
            return self.current;
        }
        let usual = self.bytes.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let chunk_bytes = usual.max(bytes);
        self.bytes += chunk_bytes;
        self.chunks.push(Chunk::new(chunk_bytes));
        let last = self.chunks.len() - 1;
        // One that a large row fills leaves the room elsewhere in use.
        if bytes <= usual / 4 || last == 0 {
            self.current = last;
        }
        last
    }

    pub(super) fn read(&self, place: Place, bytes: usize) -> &[u8] {
        let at = place.at as usize;
        &self.chunks[place.chunk as usize].bytes()[at..at + bytes]
    }

    pub(super) fn overwrite(&mut self, place: Place, bytes: &[u8]) {
        let at = place.at as usize;
        self.chunks[place.chunk as usize].bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
