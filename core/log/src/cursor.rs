//! Walks over the records of one segment file and checks each.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use oxkeeper_model::Offset;

use crate::disk::DiskFile;
use crate::format::{Kind, RECORD_HEADER_BYTES, RecordHeader, Stop, next_generation, sum_of};
use crate::limits::READ_BYTES;

/// A place in a segment, with what is needed to check the record there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The offset that the record must have.
    pub(crate) offset: Offset,
    pub(crate) position: u64,
    /// The sum of the record before.
    pub(crate) sum: u32,
}

/// Reads ahead in big pieces; holds at most one piece, or one record if that is longer.
#[derive(Debug)]
pub(crate) struct Cursor {
    tag: u64,
    place: Place,
    /// The file's bytes from `place.position` on, as far as they were read.
    buffer: BytesMut,
}

impl Cursor {
    pub(crate) fn new(tag: u64, place: Place) -> Self {
        Self {
            tag,
            place,
            buffer: BytesMut::new(),
        }
    }

    /// Where the next record is expected.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Checks the record at the current place, which must end at or before the byte `limit`.
    pub(crate) fn peek<F: DiskFile>(
        &mut self,
        file: &F,
        limit: u64,
    ) -> io::Result<Result<RecordHeader, Stop>> {
        if !self.fill(file, RECORD_HEADER_BYTES, limit)? {
            return Ok(Err(Stop::EndOfSegment));
        }
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes.copy_from_slice(&self.buffer[..RECORD_HEADER_BYTES]);
        let header = match RecordHeader::decode(&bytes, self.tag) {
            Ok(header) => header,
            Err(stop) => return Ok(Err(stop)),
        };
        if header.offset != self.place.offset {
            return Ok(Err(Stop::Offset(header.offset)));
        }
        if !self.fill(file, header.record_bytes(), limit)? {
            return Ok(Err(Stop::Overlong(header.payload_bytes)));
        }
        if sum_of(self.place.sum, &self.buffer[..header.record_bytes()]) != header.sum {
            return Ok(Err(Stop::Checksum));
        }
        if header.kind == Kind::End {
            let next = next_generation(self.payload(&header));
            return Ok(Err(Stop::Closed(next)));
        }
        Ok(Ok(header))
    }

    /// The payload of the record that `peek` returned.
    pub(crate) fn payload(&self, header: &RecordHeader) -> &[u8] {
        let until = RECORD_HEADER_BYTES + header.payload_bytes as usize;
        &self.buffer[RECORD_HEADER_BYTES..until]
    }

    /// Goes past the record that `peek` returned.
    pub(crate) fn skip(&mut self, header: &RecordHeader) {
        self.buffer.advance(header.record_bytes());
        self.step(header);
    }

    /// Goes past the record that `peek` returned and gives its payload.
    pub(crate) fn take(&mut self, header: &RecordHeader) -> Bytes {
        let mut record = self.buffer.split_to(header.record_bytes()).freeze();
        self.step(header);
        record.advance(RECORD_HEADER_BYTES);
        record.truncate(header.payload_bytes as usize);
        record
    }

    fn step(&mut self, header: &RecordHeader) {
        self.place = Place {
            offset: header.offset.next(),
            position: self.place.position + header.record_bytes() as u64,
            sum: header.sum,
        };
    }

    /// Whether the buffer has `wanted` bytes after reading what is there.
    fn fill<F: DiskFile>(&mut self, file: &F, wanted: usize, limit: u64) -> io::Result<bool> {
        let left = limit.saturating_sub(self.place.position);
        if (wanted as u64) > left {
            return Ok(false);
        }
        while self.buffer.len() < wanted {
            let have = self.buffer.len();
            let until = (wanted.max(READ_BYTES) as u64).min(left) as usize;
            self.buffer.resize(until, 0);
            let position = self.place.position + have as u64;
            let read = file.read_at(position, &mut self.buffer[have..])?;
            self.buffer.truncate(have + read);
            if read == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes of memory that the cursor holds.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }
}
