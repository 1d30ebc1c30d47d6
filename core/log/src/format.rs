//! What is on disk. Persisted: never renumber, never reuse a value. `docs/formats.md` tells it to people.
//!
//! A log is a folder of segment files, `<number>.wal`, the number in 16 hexadecimal digits and
//! rising with every segment that was ever started (its *generation*). `<number>.spare` is a file
//! that waits to be used, `<number>.tmp` one that is being prepared. All integers are little-endian.
//!
//! Segment (version 2): one header block, then records until the log ends or the segment is closed.
//!
//! | at | bytes | segment header |
//! |---|---|---|
//! | 0 | 8 | magic `oxk-wal\n` |
//! | 8 | 4 | version: 2 |
//! | 12 | 4 | flags: bit 0 = the log starts here, whatever older segments there are |
//! | 16 | 16 | uuid of the shard |
//! | 32 | 8 | generation, as in the file name |
//! | 40 | 8 | tag: any number that others cannot guess |
//! | 48 | 8 | length of the file |
//! | 56 | 8 | offset of the entry before the first record |
//! | 64 | 8 | term of that entry |
//! | 72 | 8 | chain of that entry |
//! | 80 | 4 | sum of the record before, 0 if the log starts here |
//! | 84 | 4 | CRC32C of bytes 0..84 |
//! | 88 | 4008 | zero, so that no record shares a page with the header |
//!
//! | at | bytes | record, starts at a multiple of 8 |
//! |---|---|---|
//! | 0 | 8 | the tag of its segment |
//! | 8 | 4 | payload length |
//! | 12 | 4 | kind: 0 = entry, 1 = end of the segment |
//! | 16 | 8 | offset |
//! | 24 | 8 | term |
//! | 32 | 8 | the last offset that was known to be on disk when this was written |
//! | 40 | 8 | chain: see [`crate::Chain`] |
//! | 48 | 4 | CRC32C of bytes 0..48 |
//! | 52 | 4 | sum: CRC32C of bytes 0..48, payload and padding, continued from the sum of the record before (for the first, from the header's CRC32C) |
//! | 56 | | payload, then zeros up to a multiple of 8 |
//!
//! An end record stands where a segment was left for the next one. It has the offset of the first record
//! there, term and chain of the last entry here, and the next segment's generation as payload. It is
//! written when that segment is durable, so without it the log has lost a file.
//!
//! Behind the last record stand as many zeros as a record's header has: every write brings them
//! along. So a log that ends anywhere but at zeros has lost something, be it only a torn write.
//!
//! Why so: files are reused, so behind the zeros stands what an earlier generation left.
//! The tag tells whose a record is, the sum whether it continues the one before. The header has
//! a CRC of its own so that a length is trusted before it is used, and so that the search for
//! records behind a bad one costs one look at each position. The offset that was known to be on disk
//! turns a later record into a proof that an earlier one was there, which is the difference between a
//! torn tail and damage. The chain leaves out whatever differs between replicas.
//!
//! The sum leaves bytes 48..56 out: a CRC that runs over a message and then over the CRC
//! of that message no longer depends on the message.

use crc32c::{crc32c, crc32c_append};
use oxkeeper_model::{Offset, ShardUuid, Term};

use crate::chain::{Chain, LogPoint};
use crate::limits::{ENTRY_BYTES_MAX, GENERATION_MAX, OFFSET_MAX};

pub(crate) const MAGIC: [u8; 8] = *b"oxk-wal\n";
pub(crate) const VERSION: u32 = 2;
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 4096;
pub(crate) const RECORD_HEADER_BYTES: usize = 56;
pub(crate) const RECORD_ALIGN_BYTES: usize = 8;
const END_PAYLOAD_BYTES: usize = 8;
/// Kept free in each segment for its end record, and so for the zeros as well.
pub(crate) const END_RECORD_BYTES: u64 = (RECORD_HEADER_BYTES + END_PAYLOAD_BYTES) as u64;

const FLAG_STARTS_LOG: u32 = 1;
const KIND_ENTRY: u32 = 0;
const KIND_END: u32 = 1;
pub(crate) const HEADER_SUM_AT: usize = 84;
pub(crate) const RECORD_SUM_AT: usize = 48;
pub(crate) const CHAINED_SUM_AT: usize = 52;

const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN_BYTES));
const _: () = assert!(END_PAYLOAD_BYTES.is_multiple_of(RECORD_ALIGN_BYTES));
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
    pub(crate) uuid: ShardUuid,
    pub(crate) generation: u64,
    pub(crate) tag: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// The entry before the first record.
    pub(crate) before: LogPoint,
    /// The sum of the record before.
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
    /// The offset of the first record.
    pub(crate) fn base(&self) -> Offset {
        self.before.offset.next()
    }

    /// The header block and the sum that the first record continues.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let mut block = vec![0; SEGMENT_HEADER_BYTES as usize];
        block[0..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let flags = if self.starts_log { FLAG_STARTS_LOG } else { 0 };
        block[12..16].copy_from_slice(&flags.to_le_bytes());
        block[16..32].copy_from_slice(&self.uuid.0);
        block[32..40].copy_from_slice(&self.generation.to_le_bytes());
        block[40..48].copy_from_slice(&self.tag.to_le_bytes());
        block[48..56].copy_from_slice(&self.bytes.to_le_bytes());
        block[56..64].copy_from_slice(&self.before.offset.0.to_le_bytes());
        block[64..72].copy_from_slice(&self.before.term.0.to_le_bytes());
        block[72..80].copy_from_slice(&self.before.chain.0.to_le_bytes());
        block[80..84].copy_from_slice(&self.seed.to_le_bytes());
        let sum = crc32c(&block[..HEADER_SUM_AT]);
        block[HEADER_SUM_AT..HEADER_SUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        (block, sum)
    }

    /// The header and the sum that the first record continues.
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
        let sum = crc32c(&block[..HEADER_SUM_AT]);
        if sum != u32_at(block, HEADER_SUM_AT) {
            return Err(BadHeader::Reason("wrong checksum of the segment header"));
        }
        let flags = u32_at(block, 12);
        if flags & !FLAG_STARTS_LOG != 0 {
            return Err(BadHeader::Reason("unknown flags in the segment header"));
        }
        let rest = &block[HEADER_SUM_AT + 4..SEGMENT_HEADER_BYTES as usize];
        if rest.iter().any(|&byte| byte != 0) {
            return Err(BadHeader::Reason("bytes behind the segment header"));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&block[16..32]);
        let header = Self {
            uuid: ShardUuid(uuid),
            generation: u64_at(block, 32),
            tag: u64_at(block, 40),
            bytes: u64_at(block, 48),
            before: LogPoint {
                offset: Offset(u64_at(block, 56)),
                term: Term(u64_at(block, 64)),
                chain: Chain(u64_at(block, 72)),
            },
            seed: u32_at(block, 80),
            starts_log: flags & FLAG_STARTS_LOG != 0,
        };
        if header.before.offset >= OFFSET_MAX {
            return Err(BadHeader::Reason("impossible base offset"));
        }
        Ok((header, sum))
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Entry,
    /// The segment was left for the next one.
    End,
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) payload_bytes: u32,
    pub(crate) offset: Offset,
    pub(crate) term: Term,
    /// The last offset that was known to be on disk when this record was written.
    pub(crate) synced: Offset,
    pub(crate) chain: Chain,
    pub(crate) sum: u32,
}

/// Why the bytes at a position are not the next record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// No room for another record.
    EndOfSegment,
    /// Never written.
    Zeros,
    /// Neither zeros nor a record of this segment's generation.
    Foreign,
    HeaderChecksum,
    Checksum,
    /// Longer than the rest of the segment.
    Overlong(u32),
    Offset(Offset),
    Term(Term),
    Chain,
    /// The segment was left for the one with this generation.
    Closed(u64),
    UnknownKind(u32),
    UnknownLength(u32),
}

impl Stop {
    /// Whether the record is whole but not understood.
    pub(crate) fn is_unknown(self) -> bool {
        matches!(self, Self::UnknownKind(_) | Self::UnknownLength(_))
    }

    /// Whether a write that was cut short can look so.
    pub(crate) fn may_be_torn(self) -> bool {
        matches!(
            self,
            Self::EndOfSegment
                | Self::Zeros
                | Self::Foreign
                | Self::HeaderChecksum
                | Self::Checksum
        )
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EndOfSegment => f.write_str("end of the segment"),
            Self::Zeros => f.write_str("nothing was written here"),
            Self::Foreign => f.write_str("not a record of this segment"),
            Self::HeaderChecksum => f.write_str("wrong checksum of the record's header"),
            Self::Checksum => f.write_str("wrong checksum of the record"),
            Self::Overlong(bytes) => write!(f, "a record of {bytes} bytes does not fit here"),
            Self::Offset(offset) => write!(f, "a record with the wrong offset {offset}"),
            Self::Term(term) => write!(f, "a record with the earlier term {term}"),
            Self::Chain => f.write_str("the chain does not continue the entry before"),
            Self::Closed(next) => write!(
                f,
                "the log goes on in {}, which is missing",
                file_name(*next, SEGMENT_SUFFIX)
            ),
            Self::UnknownKind(kind) => write!(f, "unknown kind of record {kind}"),
            Self::UnknownLength(bytes) => {
                write!(f, "a record of {bytes} bytes, which is above the limit")
            }
        }
    }
}

impl RecordHeader {
    /// Checks what can be checked without the payload.
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES], tag: u64) -> Result<Self, Stop> {
        if u64_at(bytes, 0) != tag {
            let zeros = bytes.iter().all(|&byte| byte == 0);
            return Err(if zeros { Stop::Zeros } else { Stop::Foreign });
        }
        if crc32c(&bytes[..RECORD_SUM_AT]) != u32_at(bytes, RECORD_SUM_AT) {
            return Err(Stop::HeaderChecksum);
        }
        let payload_bytes = u32_at(bytes, 8);
        let kind = match u32_at(bytes, 12) {
            KIND_ENTRY => Kind::Entry,
            KIND_END => Kind::End,
            kind => return Err(Stop::UnknownKind(kind)),
        };
        let known = match kind {
            Kind::Entry => payload_bytes as usize <= ENTRY_BYTES_MAX,
            Kind::End => payload_bytes as usize == END_PAYLOAD_BYTES,
        };
        if !known {
            return Err(Stop::UnknownLength(payload_bytes));
        }
        Ok(Self {
            kind,
            payload_bytes,
            offset: Offset(u64_at(bytes, 16)),
            term: Term(u64_at(bytes, 24)),
            synced: Offset(u64_at(bytes, 32)),
            chain: Chain(u64_at(bytes, 40)),
            sum: u32_at(bytes, CHAINED_SUM_AT),
        })
    }

    /// Length of the whole record with its padding.
    pub(crate) const fn record_bytes(&self) -> usize {
        record_bytes(self.payload_bytes as usize)
    }

    /// The last offset that this record proves to have been on disk.
    pub(crate) fn proves(&self) -> Offset {
        self.synced.min(Offset(self.offset.0.saturating_sub(1)))
    }

    pub(crate) fn point(&self) -> LogPoint {
        LogPoint {
            offset: self.offset,
            term: self.term,
            chain: self.chain,
        }
    }
}

/// The generation that an end record's payload names.
pub(crate) fn next_generation(payload: &[u8]) -> u64 {
    u64_at(payload, 0)
}

/// Length of a record with a payload of `payload_bytes`.
pub(crate) const fn record_bytes(payload_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(RECORD_ALIGN_BYTES)
}

/// The sum of a whole record that follows one with `previous`.
pub(crate) fn sum_of(previous: u32, record: &[u8]) -> u32 {
    let sum = crc32c_append(previous, &record[..RECORD_SUM_AT]);
    crc32c_append(sum, &record[RECORD_HEADER_BYTES..])
}

/// What a write knows of its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRecord {
    pub(crate) tag: u64,
    pub(crate) previous_sum: u32,
    pub(crate) kind: Kind,
    pub(crate) point: LogPoint,
    pub(crate) synced: Offset,
}

/// Appends the record to `buffer` and returns its sum.
pub(crate) fn encode_record(buffer: &mut Vec<u8>, new: NewRecord, payload: &[u8]) -> u32 {
    let start = buffer.len();
    let kind = match new.kind {
        Kind::Entry => KIND_ENTRY,
        Kind::End => KIND_END,
    };
    let mut header = [0; RECORD_HEADER_BYTES];
    header[0..8].copy_from_slice(&new.tag.to_le_bytes());
    header[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[12..16].copy_from_slice(&kind.to_le_bytes());
    header[16..24].copy_from_slice(&new.point.offset.0.to_le_bytes());
    header[24..32].copy_from_slice(&new.point.term.0.to_le_bytes());
    header[32..40].copy_from_slice(&new.synced.0.to_le_bytes());
    header[40..48].copy_from_slice(&new.point.chain.0.to_le_bytes());
    let sum = crc32c(&header[..RECORD_SUM_AT]);
    header[RECORD_SUM_AT..CHAINED_SUM_AT].copy_from_slice(&sum.to_le_bytes());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(payload);
    buffer.resize(start + record_bytes(payload.len()), 0);
    let sum = sum_of(new.previous_sum, &buffer[start..]);
    buffer[start + CHAINED_SUM_AT..start + RECORD_HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    sum
}

/// The end record of a segment whose last entry is `last` with `previous_sum`.
pub(crate) fn encode_end(
    tag: u64,
    previous_sum: u32,
    last: LogPoint,
    next_generation: u64,
) -> Vec<u8> {
    let new = NewRecord {
        tag,
        previous_sum,
        kind: Kind::End,
        point: LogPoint {
            offset: last.offset.next(),
            ..last
        },
        synced: last.offset,
    };
    let mut buffer = Vec::with_capacity(END_RECORD_BYTES as usize);
    encode_record(&mut buffer, new, &next_generation.to_le_bytes());
    buffer
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests;
