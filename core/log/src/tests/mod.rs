//! The log as a whole, on the memory disk and on the real one.

mod chains;
mod contract;
mod crashes;
mod cuts;
mod full_disk;
mod fuzz;
mod jobs;
mod readers;
mod schedules;

use std::sync::Arc;

use oxkeeper_model::{Offset, Term};

use crate::{Class, Cut, Disk, LogRecord, MemoryDisk, Wal, WalError, WalOptions};

pub(crate) fn small() -> WalOptions {
    WalOptions {
        segment_bytes: 8192,
        recycle_segments: 2,
        prepare_segments: 1,
        reserve_bytes: 0,
        ..WalOptions::default()
    }
}

pub(crate) fn open(disk: &MemoryDisk) -> Wal<MemoryDisk> {
    try_open(disk).expect("the log opens").0
}

type Opened = (Wal<MemoryDisk>, Option<Cut>);

pub(crate) fn try_open(disk: &MemoryDisk) -> Result<Opened, WalError> {
    Wal::open(Arc::new(disk.clone()), small())
}

/// What opening says was cut.
pub(crate) fn cut_of(disk: &MemoryDisk) -> Option<Cut> {
    try_open(disk).expect("the log opens").1
}

/// A payload that tells which entry it is of.
pub(crate) fn payload(offset: u64, term: u64, bytes: usize) -> Vec<u8> {
    let mut payload = format!("{offset}/{term}/").into_bytes();
    payload.resize(bytes.max(payload.len()), (offset % 251) as u8);
    payload
}

/// Appends `offsets` in one term, without sync.
pub(crate) fn fill<D: Disk>(
    wal: &mut Wal<D>,
    offsets: std::ops::RangeInclusive<u64>,
    term: u64,
    bytes: usize,
) {
    for offset in offsets {
        let payload = payload(offset, term, bytes);
        wal.append(Offset(offset), Term(term), &payload, Class::Client)
            .expect("the entry follows");
    }
}

pub(crate) fn read_all<D: Disk>(wal: &Wal<D>) -> Vec<LogRecord> {
    let Some(first) = wal.first() else {
        return Vec::new();
    };
    let mut reader = wal.reader(first).expect("the first entry is there");
    let mut records = Vec::new();
    while let Some(record) = reader.next().expect("the log is whole") {
        records.push(record);
    }
    records
}

/// The offsets that a reader sees, after checking each payload.
pub(crate) fn offsets<D: Disk>(wal: &Wal<D>) -> Vec<u64> {
    let check = |record: LogRecord| {
        let head = format!("{}/{}/", record.offset, record.term);
        assert!(record.payload.starts_with(head.as_bytes()), "{record:?}");
        record.offset.0
    };
    read_all(wal).into_iter().map(check).collect()
}
