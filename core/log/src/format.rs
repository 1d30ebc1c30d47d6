//! What is on disk. Persisted: never renumber, never reuse a value.
//!
//! A log is a folder of segment files, `<number>.wal`, the number in 16 hexadecimal digits and
//! rising with every segment that was ever started (its *generation*). `<number>.spare` is a file
//! that waits to be reused, `<number>.tmp` one that is being prepared. All integers are little-endian.
//!
//! Segment (since version 1): one header block, then records until the log ends or the next
//! segment's base is reached.
//!
//! | at | bytes | segment header |
//! |---|---|---|
//! | 0 | 8 | magic `oxk-wal\n` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | flags: bit 0 = the log starts here, whatever older segments there are |
//! | 16 | 8 | generation, as in the file name |
//! | 24 | 8 | salt: any number that others cannot guess |
//! | 32 | 8 | base: the offset of the first record |
//! | 40 | 4 | seed: the chain value of the record before, 0 if the log starts here |
//! | 44 | 16 | zero |
//! | 60 | 4 | CRC32C of bytes 0..60: the *tag* of the segment |
//! | 64 | 4032 | zero, so that no record shares a page with the header |
//!
//! | at | bytes | record, starts at a multiple of 8 |
//! |---|---|---|
//! | 0 | 4 | the tag of its segment |
//! | 4 | 4 | payload length |
//! | 8 | 8 | offset |
//! | 16 | 8 | term |
//! | 24 | 4 | how many records before this one were not yet durable when it was written |
//! | 28 | 4 | kind: 0 = entry |
//! | 32 | 4 | CRC32C of bytes 0..32 |
//! | 36 | 4 | chain: CRC32C of bytes 0..32, payload and padding, continued from the chain value of the record before (from the tag for the first) |
//! | 40 | | payload, then zeros up to a multiple of 8 |
//!
//! Why so: files are reused, so behind the end of the log stands what an earlier generation left.
//! The tag tells whose a record is, the chain whether it continues the one before. The header has
//! a sum of its own so that a length is trusted before it is used, and so that the search for
//! records behind a bad one costs one look at each position. The count of records that were not
//! yet durable turns a later record into a proof that an earlier one was on disk, which is
//! the difference between a torn tail and damage.
//!
//! The chain leaves bytes 32..40 out: a CRC that runs over a message and then over the CRC
//! of that message no longer depends on the message.

use crc32c::{crc32c, crc32c_append};
use oxkeeper_model::limits::ENTRY_BYTES_MAX;
use oxkeeper_model::{Offset, Term};

pub(crate) const MAGIC: [u8; 8] = *b"oxk-wal\n";
pub(crate) const VERSION: u32 = 1;
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 4096;
pub(crate) const RECORD_HEADER_BYTES: usize = 40;
pub(crate) const RECORD_ALIGN_BYTES: usize = 8;
/// Offsets above are taken for damage, so that counting up never overflows.
pub(crate) const OFFSET_MAX: Offset = Offset(u64::MAX >> 1);
/// Generations above are taken for foreign files.
pub(crate) const GENERATION_MAX: u64 = u64::MAX >> 1;

const FLAG_STARTS_LOG: u32 = 1;
const KIND_ENTRY: u32 = 0;
const TAG_AT: usize = 60;
const SUMMED_BYTES: usize = 32;

const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN_BYTES));
const _: () = assert!(ENTRY_BYTES_MAX < u32::MAX as usize - RECORD_ALIGN_BYTES);

pub(crate) const SEGMENT_SUFFIX: &str = ".wal";
pub(crate) const SPARE_SUFFIX: &str = ".spare";
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// The name of file `number` with one of the suffixes above.
pub(crate) fn file_name(number: u64, suffix: &str) -> String {
    format!("{number:016x}{suffix}")
}

/// The inverse of [`file_name`]; `None` for files that are not the log's.
pub(crate) fn file_number(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (file_name(number, suffix) == name && number <= GENERATION_MAX).then_some(number)
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) generation: u64,
    pub(crate) salt: u64,
    pub(crate) base: Offset,
    pub(crate) seed: u32,
    pub(crate) starts_log: bool,
}

/// Why a block is not a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Version(u32),
    Reason(&'static str),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; SEGMENT_HEADER_BYTES as usize];
        block[0..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let flags = if self.starts_log { FLAG_STARTS_LOG } else { 0 };
        block[12..16].copy_from_slice(&flags.to_le_bytes());
        block[16..24].copy_from_slice(&self.generation.to_le_bytes());
        block[24..32].copy_from_slice(&self.salt.to_le_bytes());
        block[32..40].copy_from_slice(&self.base.0.to_le_bytes());
        block[40..44].copy_from_slice(&self.seed.to_le_bytes());
        let tag = crc32c(&block[..TAG_AT]);
        block[TAG_AT..TAG_AT + 4].copy_from_slice(&tag.to_le_bytes());
        block
    }

    pub(crate) fn decode(block: &[u8]) -> Result<(Self, u32), BadHeader> {
        if block.len() < SEGMENT_HEADER_BYTES as usize {
            return Err(BadHeader::Reason("the segment header is cut off"));
        }
        if block[0..8] != MAGIC {
            return Err(BadHeader::Reason("no segment header"));
        }
        let version = u32_at(block, 8);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let tag = crc32c(&block[..TAG_AT]);
        if tag != u32_at(block, TAG_AT) {
            return Err(BadHeader::Reason("wrong checksum of the segment header"));
        }
        let flags = u32_at(block, 12);
        if flags & !FLAG_STARTS_LOG != 0 {
            return Err(BadHeader::Reason("unknown flags in the segment header"));
        }
        let rest = &block[TAG_AT + 4..SEGMENT_HEADER_BYTES as usize];
        if rest.iter().any(|&byte| byte != 0) {
            return Err(BadHeader::Reason("bytes behind the segment header"));
        }
        let header = Self {
            generation: u64_at(block, 16),
            salt: u64_at(block, 24),
            base: Offset(u64_at(block, 32)),
            seed: u32_at(block, 40),
            starts_log: flags & FLAG_STARTS_LOG != 0,
        };
        if header.base.0 == 0 || header.base > OFFSET_MAX {
            return Err(BadHeader::Reason("impossible base offset"));
        }
        Ok((header, tag))
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) tag: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) offset: Offset,
    pub(crate) term: Term,
    pub(crate) unsynced: u32,
    pub(crate) chain: u32,
}

/// Why the bytes at a position are not the next record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// No room for another record.
    EndOfSegment,
    /// Never written.
    Zeros,
    /// Not of this segment's generation.
    OtherGeneration,
    HeaderChecksum,
    Kind(u32),
    /// Longer than the limit, or than the rest of the segment.
    Length(u32),
    Offset(Offset),
    Chain,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EndOfSegment => f.write_str("end of the segment"),
            Self::Zeros => f.write_str("nothing was written here"),
            Self::OtherGeneration => f.write_str("not a record of this segment"),
            Self::HeaderChecksum => f.write_str("wrong checksum of the record's header"),
            Self::Kind(kind) => write!(f, "unknown kind of record {kind}"),
            Self::Length(bytes) => write!(f, "a record of {bytes} bytes does not fit here"),
            Self::Offset(offset) => write!(f, "a record with the wrong offset {offset}"),
            Self::Chain => f.write_str("wrong checksum of the record"),
        }
    }
}

impl RecordHeader {
    /// Checks what can be checked without the payload.
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES], tag: u32) -> Result<Self, Stop> {
        if u32_at(bytes, 0) != tag {
            let zeros = bytes.iter().all(|&byte| byte == 0);
            return Err(if zeros {
                Stop::Zeros
            } else {
                Stop::OtherGeneration
            });
        }
        if crc32c(&bytes[..SUMMED_BYTES]) != u32_at(bytes, 32) {
            return Err(Stop::HeaderChecksum);
        }
        let kind = u32_at(bytes, 28);
        if kind != KIND_ENTRY {
            return Err(Stop::Kind(kind));
        }
        let payload_bytes = u32_at(bytes, 4);
        if payload_bytes as usize > ENTRY_BYTES_MAX {
            return Err(Stop::Length(payload_bytes));
        }
        Ok(Self {
            tag,
            payload_bytes,
            offset: Offset(u64_at(bytes, 8)),
            term: Term(u64_at(bytes, 16)),
            unsynced: u32_at(bytes, 24),
            chain: u32_at(bytes, 36),
        })
    }

    /// Length of the whole record with its padding.
    pub(crate) fn record_bytes(&self) -> usize {
        record_bytes(self.payload_bytes as usize)
    }

    /// The last offset that was surely on disk when this record was written.
    pub(crate) fn durable_before(&self) -> Offset {
        Offset(self.offset.0.saturating_sub(1 + u64::from(self.unsynced)))
    }
}

/// Length of a record with a payload of `payload_bytes`.
pub(crate) fn record_bytes(payload_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(RECORD_ALIGN_BYTES)
}

/// The chain value of a whole record that follows one with `previous`.
pub(crate) fn chain_of(previous: u32, record: &[u8]) -> u32 {
    let sum = crc32c_append(previous, &record[..SUMMED_BYTES]);
    crc32c_append(sum, &record[RECORD_HEADER_BYTES..])
}

/// What an append knows of its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRecord {
    pub(crate) tag: u32,
    pub(crate) previous_chain: u32,
    pub(crate) offset: Offset,
    pub(crate) term: Term,
    pub(crate) unsynced: u32,
}

/// Appends the record to `buffer` and returns its chain value.
pub(crate) fn encode_record(buffer: &mut Vec<u8>, new: NewRecord, payload: &[u8]) -> u32 {
    let start = buffer.len();
    let mut header = [0; RECORD_HEADER_BYTES];
    header[0..4].copy_from_slice(&new.tag.to_le_bytes());
    header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8..16].copy_from_slice(&new.offset.0.to_le_bytes());
    header[16..24].copy_from_slice(&new.term.0.to_le_bytes());
    header[24..28].copy_from_slice(&new.unsynced.to_le_bytes());
    header[28..32].copy_from_slice(&KIND_ENTRY.to_le_bytes());
    let sum = crc32c(&header[..SUMMED_BYTES]);
    header[32..36].copy_from_slice(&sum.to_le_bytes());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(payload);
    buffer.resize(start + record_bytes(payload.len()), 0);
    let chain = chain_of(new.previous_chain, &buffer[start..]);
    buffer[start + 36..start + RECORD_HEADER_BYTES].copy_from_slice(&chain.to_le_bytes());
    chain
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests;
