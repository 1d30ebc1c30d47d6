//! Goes over the records of one segment and checks that they continue the log.

use std::io;

use oxkeeper_model::Offset;

use crate::chain::LogPoint;
use crate::cursor::{Cursor, Place};
use crate::disk::DiskFile;
use crate::format::{END_RECORD_BYTES, RecordHeader, Stop};

use super::files::Opened;

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Step {
    Record(RecordHeader),
    /// The bytes here are not the next record.
    Stop(Stop),
    /// The next segment takes over here.
    Done,
}

#[derive(Debug)]
pub(crate) struct Walk {
    cursor: Cursor,
    /// The last record, or what the segment continues.
    last: LogPoint,
    /// Length of the file.
    bytes: u64,
    /// The next segment's base.
    until: Option<Offset>,
}

impl Walk {
    pub(crate) fn new<F>(opened: &Opened<F>, until: Option<Offset>) -> Self {
        Self {
            cursor: Cursor::new(opened.header.tag, opened.start()),
            last: opened.header.before,
            bytes: opened.header.bytes,
            until,
        }
    }

    /// Where the next record is expected.
    pub(crate) fn place(&self) -> Place {
        self.cursor.place()
    }

    pub(crate) fn last(&self) -> LogPoint {
        self.last
    }

    pub(crate) fn next<F: DiskFile>(&mut self, file: &F) -> io::Result<Step> {
        let place = self.place();
        if self.until.is_some_and(|until| place.offset >= until) {
            return Ok(Step::Done);
        }
        let record = match self.cursor.peek(file, self.bytes)? {
            Ok(record) => record,
            Err(stop) => return Ok(Step::Stop(stop)),
        };
        if let Some(stop) = self.breaks(&record) {
            return Ok(Step::Stop(stop));
        }
        self.cursor.skip(&record);
        self.last = record.point();
        Ok(Step::Record(record))
    }

    /// Why a record whose sums are right does not continue the log all the same.
    fn breaks(&self, record: &RecordHeader) -> Option<Stop> {
        let room = self.bytes - self.place().position;
        if record.record_bytes() as u64 + END_RECORD_BYTES > room {
            return Some(Stop::Overlong(record.payload_bytes));
        }
        if record.term < self.last.term {
            return Some(Stop::Term(record.term));
        }
        let payload = self.cursor.payload(record);
        let expected = self.last.chain.after(record.offset, record.term, payload);
        (record.chain != expected).then_some(Stop::Chain)
    }
}
