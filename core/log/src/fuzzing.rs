//! One entry point for every fuzz run: any bytes as a folder of segment files.
//!
//! Checks that opening, dumping, reading and appending never panic, that memory stays within
//! what the files have, and that what opens is a log: offsets without gaps, one more
//! entry can be added, and the result opens again with it.

use std::sync::Arc;

use oxkeeper_model::{Offset, Term};

use crate::format::{
    CHAINED_SUM_AT, END_RECORD_BYTES, HEADER_SUM_AT, MAGIC, RECORD_HEADER_BYTES, RECORD_SUM_AT,
    SEGMENT_HEADER_BYTES, SEGMENT_SUFFIX, VERSION, file_name, record_bytes, sum_of, u32_at, u64_at,
};
use crate::limits::{OFFSET_MAX, SEGMENT_BYTES_MIN};
use crate::{Chain, Class, LogPoint, MemoryDisk, Recovery, Wal, WalError, WalOptions, dump_disk};

/// Reading ahead may take this much above the length of the files.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// The part of a segment's header that is not always zero.
const HEADER_FIELDS_BYTES: usize = HEADER_SUM_AT + 4;

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

/// Opens what is there and, if it is a log, hands each entry to `entry`. Returns why it is not one, or
/// what was cut that no crash explains.
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
    let recovery = match Recovery::look(Arc::new(disk.clone()), options()) {
        Ok(recovery) => recovery,
        Err(error) => {
            let shown = !dumped.damage.is_empty() || matches!(error, WalError::OtherShard { .. });
            assert!(shown, "the dump does not show: {error}");
            return Some(error);
        }
    };
    let error = recovery.cut().filter(|cut| !cut.plain).map(|cut| {
        assert!(!dumped.damage.is_empty(), "the dump does not show: {cut}");
        Wal::open(Arc::new(disk.clone()), options()).expect_err("no crash explains the cut")
    });
    let wal = recovery.repair().expect("a healthy disk");
    if error.is_none() {
        assert_eq!(dumped.last, wal.last(), "the dump shows another log");
    }
    let mut point = match wal.first() {
        Some(first) => wal.point_at(Offset(first.0 - 1)).expect("it is known"),
        None => wal.last_point(),
    };
    let mut reader = wal.reader(point.offset.next()).expect("it can be read");
    while let Some(record) = reader.next().expect("an open log can be read") {
        assert_eq!(record.offset, point.offset.next(), "a gap");
        point = point.after(record.offset, record.term, &record.payload);
        assert_eq!(record.chain, point.chain, "another chain");
        assert!(reader.memory_bytes() <= bytes + READ_AHEAD_BYTES);
        entry(record.offset, record.term, &record.payload);
    }
    assert_eq!(wal.last_point(), point, "the reader stops before the end");
    go_on(disk, wal);
    error
}

/// One more entry, and it opens again with it.
fn go_on(disk: &MemoryDisk, mut wal: Wal<MemoryDisk>) {
    let last = wal.last_point();
    if last.offset >= OFFSET_MAX {
        return;
    }
    let next = last.after(last.offset.next(), last.term, b"one more");
    let chain = wal.append(next.offset, next.term, b"one more", Class::Client);
    assert_eq!(chain.expect("an open log takes an entry"), next.chain);
    wal.sync().expect("a healthy disk");
    drop(wal);
    let (wal, cut) = Wal::open(Arc::new(disk.clone()), options()).expect("it was just open");
    assert_eq!((wal.last_point(), cut), (next, None));
}

fn options() -> WalOptions {
    WalOptions {
        segment_bytes: SEGMENT_BYTES_MIN,
        ..WalOptions::default()
    }
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
    content[16..32].fill(0);
    content[32..40].copy_from_slice(&number.to_le_bytes());
    let bytes = content.len() as u64;
    content[48..56].copy_from_slice(&bytes.to_le_bytes());
    if choice & 8 != 0 {
        content[57..64].fill(0);
    }
    let sum = crc32c::crc32c(&content[..HEADER_SUM_AT]);
    content[HEADER_SUM_AT..HEADER_SUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
    content[HEADER_SUM_AT + 4..SEGMENT_HEADER_BYTES as usize].fill(0);
    if choice & 16 != 0 {
        repair_records(content, sum, choice);
    }
}

fn repair_records(content: &mut [u8], sum: u32, choice: u8) {
    let mut at = SEGMENT_HEADER_BYTES as usize;
    let mut previous = sum;
    let tag = u64_at(content, 40);
    let mut last = LogPoint {
        offset: Offset(u64_at(content, 56)),
        term: Term(u64_at(content, 64)),
        chain: Chain(u64_at(content, 72)),
    };
    let end = content.len().saturating_sub(END_RECORD_BYTES as usize);
    while at + RECORD_HEADER_BYTES <= end {
        let payload_bytes = u32_at(content, at + 8) as usize & 0xffff;
        let until = at + record_bytes(payload_bytes);
        content[at..at + 8].copy_from_slice(&tag.to_le_bytes());
        if choice & 32 != 0 && until <= end {
            let term = Term(last.term.0.saturating_add(u64::from(content[at + 24] & 1)));
            let payload = &content[at + RECORD_HEADER_BYTES..][..payload_bytes];
            last = last.after(Offset(last.offset.0.wrapping_add(1)), term, payload);
            content[at + 10..at + 16].fill(0);
            content[at + 16..at + 24].copy_from_slice(&last.offset.0.to_le_bytes());
            content[at + 24..at + 32].copy_from_slice(&term.0.to_le_bytes());
            content[at + 40..at + 48].copy_from_slice(&last.chain.0.to_le_bytes());
        }
        let sum = crc32c::crc32c(&content[at..at + RECORD_SUM_AT]);
        content[at + RECORD_SUM_AT..at + CHAINED_SUM_AT].copy_from_slice(&sum.to_le_bytes());
        if until > end {
            break;
        }
        if choice & 64 != 0 {
            previous = sum_of(previous, &content[at..until]);
            let place = at + CHAINED_SUM_AT..at + RECORD_HEADER_BYTES;
            content[place].copy_from_slice(&previous.to_le_bytes());
        }
        at = until;
    }
}
