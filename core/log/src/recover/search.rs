//! The search for records behind the end of the log.

use oxkeeper_model::Offset;

use super::files::read_fully;
use crate::disk::DiskFile;
use crate::format::{RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, record_bytes, u64_at};
use crate::limits::SEARCH_BYTES;

/// What stands behind the end of the log.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    pub(crate) records: u64,
    /// The highest offset that one of them shows to have been durable.
    pub(crate) durable: Offset,
    /// Behind the last of them, as far as can be told; and behind what has no right header at the end itself.
    pub(crate) end: u64,
}

/// Looks for headers of records of this generation from `position` on.
pub(crate) fn search<F: DiskFile>(
    file: &F,
    tag: u64,
    position: u64,
    limit: u64,
) -> std::io::Result<Behind> {
    let mut behind = Behind {
        end: position + RECORD_HEADER_BYTES as u64,
        ..Behind::default()
    };
    let mut piece = vec![0; SEARCH_BYTES.min(limit.saturating_sub(position) as usize)];
    let mut position = position.next_multiple_of(RECORD_ALIGN_BYTES as u64);
    while position + RECORD_HEADER_BYTES as u64 <= limit {
        let wanted = (limit - position).min(piece.len() as u64) as usize;
        let read = read_fully(file, position, &mut piece[..wanted])?;
        if read < RECORD_HEADER_BYTES {
            break;
        }
        let last = read - RECORD_HEADER_BYTES;
        for at in (0..=last).step_by(RECORD_ALIGN_BYTES) {
            let bytes = &piece[at..at + RECORD_HEADER_BYTES];
            if u64_at(bytes, 0) == tag {
                behind.see(bytes, tag, position + at as u64);
            }
        }
        position += (last / RECORD_ALIGN_BYTES * RECORD_ALIGN_BYTES + RECORD_ALIGN_BYTES) as u64;
    }
    Ok(behind)
}

impl Behind {
    fn see(&mut self, bytes: &[u8], tag: u64, position: u64) {
        let mut header = [0; RECORD_HEADER_BYTES];
        header.copy_from_slice(bytes);
        let record = match RecordHeader::decode(&header, tag) {
            Ok(record) => {
                self.durable = self.durable.max(record.proves());
                record.record_bytes()
            }
            Err(stop) if stop.is_unknown() => record_bytes(0),
            Err(_) => return,
        };
        self.records += 1;
        self.end = self.end.max(position + record as u64);
    }
}
