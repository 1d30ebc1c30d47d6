//! One entry point for every fuzz run: any bytes as a folder of segment files.
//!
//! Checks that opening, dumping, reading and appending never panic, that memory stays within
//! what the files have, and that what opens is a log: offsets without gaps, one more
//! entry can be added, and the result opens again with it.

use std::sync::Arc;

use oxkeeper_model::{Offset, Term};

use crate::format::{
    MAGIC, OFFSET_MAX, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_SUFFIX, VERSION,
    file_name, record_bytes,
};
use crate::{MemoryDisk, SEGMENT_BYTES_MIN, Wal, WalError, WalOptions, dump_disk};

/// Reading ahead may take this much above the length of the files.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// The part of a segment's header that is not always zero.
const HEADER_FIELDS_BYTES: usize = 64;

/// Most files that an input makes.
const FILES_MAX: usize = 4;

/// Makes files of `data` and examines them. The first byte chooses how much of the
/// checksums is made right, since random bytes alone would never get past the first.
pub fn examine(data: &[u8]) {
    examine_disk(&disk_of(data), |_, _, _| ());
}

pub(crate) fn disk_of(data: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let Some((&choice, mut rest)) = data.split_first() else {
        return disk;
    };
    let files = usize::from(choice & 3) + 1;
    for number in 1..=files.min(FILES_MAX) as u64 {
        let take = match number as usize {
            number if number == files => rest.len(),
            _ => rest.len() / 2,
        };
        let (content, other) = rest.split_at(take);
        rest = other;
        let mut content = content.to_vec();
        if choice & 4 != 0 {
            // Short inputs must reach the records: only the fields of the header come from them.
            let fields = content.len().min(HEADER_FIELDS_BYTES);
            let zeros = SEGMENT_HEADER_BYTES as usize - fields;
            content.splice(fields..fields, std::iter::repeat_n(0, zeros));
            repair(&mut content, number, choice);
        }
        disk.put(&file_name(number, SEGMENT_SUFFIX), content);
    }
    disk
}

/// Opens what is there and, if it is a log, hands each entry to `entry`. Returns why it is not one.
pub fn examine_disk(
    disk: &MemoryDisk,
    mut entry: impl FnMut(Offset, Term, &[u8]),
) -> Option<WalError> {
    let dumped = dump_disk(disk, &mut std::io::sink()).expect("a dump goes past any damage");
    let bytes: usize = names_of(disk)
        .iter()
        .filter_map(|name| disk.content(name))
        .map(|content| content.len())
        .sum();
    let options = WalOptions {
        segment_bytes: SEGMENT_BYTES_MIN,
        ..WalOptions::default()
    };
    let mut wal = match Wal::open(Arc::new(disk.clone()), options.clone()) {
        Ok(wal) => wal,
        Err(error) => {
            let known = matches!(
                error,
                WalError::Damaged { .. } | WalError::UnknownVersion { .. }
            );
            assert!(known, "not an answer to bad bytes: {error}");
            assert!(!dumped.damage.is_empty(), "the dump does not show: {error}");
            return Some(error);
        }
    };
    assert_eq!(dumped.last, wal.last(), "the dump shows another log");
    let mut expected = wal.first();
    let mut term = Term(0);
    let from = wal.first().unwrap_or(Offset(1));
    let mut reader = wal.reader(from).expect("the first entry can be read");
    while let Some(record) = reader.next().expect("an open log can be read") {
        assert_eq!(Some(record.offset), expected, "a gap");
        assert!(reader.memory_bytes() <= bytes + READ_AHEAD_BYTES);
        entry(record.offset, record.term, &record.payload);
        expected = Some(record.offset.next());
        term = record.term;
    }
    let end = wal.last().map(|(last, _)| last.next());
    assert_eq!(expected, end, "the reader stops before the end");
    let next = end.unwrap_or(Offset(7));
    if next > OFFSET_MAX {
        return None;
    }
    wal.append(next, term, b"one more")
        .expect("an open log takes an entry");
    wal.sync().expect("a healthy disk");
    drop(wal);
    let wal = Wal::open(Arc::new(disk.clone()), options).expect("what was just open, opens");
    assert_eq!(wal.last(), Some((next, term)));
    None
}

fn names_of(disk: &MemoryDisk) -> Vec<String> {
    crate::Disk::list(disk).expect("a memory disk lists")
}

/// Makes the header right, and the sums of the records as far as `choice` says.
fn repair(content: &mut [u8], number: u64, choice: u8) {
    content[0..8].copy_from_slice(&MAGIC);
    content[8..12].copy_from_slice(&VERSION.to_le_bytes());
    content[13..16].fill(0);
    content[12] &= 1;
    content[16..24].copy_from_slice(&number.to_le_bytes());
    if choice & 8 != 0 {
        content[33..40].fill(0);
    }
    let tag = crc32c::crc32c(&content[..60]);
    content[60..64].copy_from_slice(&tag.to_le_bytes());
    content[64..SEGMENT_HEADER_BYTES as usize].fill(0);
    if choice & 16 != 0 {
        repair_records(content, tag, choice);
    }
}

fn repair_records(content: &mut [u8], tag: u32, choice: u8) {
    let mut at = SEGMENT_HEADER_BYTES as usize;
    let mut chain = tag;
    let mut offset = [0; 8];
    offset.copy_from_slice(&content[32..40]);
    let mut offset = u64::from_le_bytes(offset);
    while at + RECORD_HEADER_BYTES <= content.len() {
        content[at..at + 4].copy_from_slice(&tag.to_le_bytes());
        if choice & 32 != 0 {
            content[at + 6..at + 8].fill(0);
            content[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
            content[at + 28..at + 32].fill(0);
        }
        let sum = crc32c::crc32c(&content[at..at + 32]);
        content[at + 32..at + 36].copy_from_slice(&sum.to_le_bytes());
        let mut length = [0; 4];
        length.copy_from_slice(&content[at + 4..at + 8]);
        let until = at.saturating_add(record_bytes(u32::from_le_bytes(length) as usize));
        if until > content.len() {
            break;
        }
        if choice & 64 != 0 {
            chain = crate::format::chain_of(chain, &content[at..until]);
            content[at + 36..at + 40].copy_from_slice(&chain.to_le_bytes());
        }
        offset = offset.wrapping_add(1);
        at = until;
    }
}
