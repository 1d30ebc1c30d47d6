//! What is in the folder: which files are the log, where it ends, and whether it is whole.
//!
//! The naive rule, "the log ends at the first record that does not check", loses
//! acknowledged entries when a sector in the middle goes bad. The rule here:
//!
//! - A segment that is followed by another must reach that one's base with that one's seed, because
//!   a segment is started only when the one before is durable. Otherwise it is damaged.
//! - In the last segment the first bad place is the end of the log, unless a record behind it,
//!   of the same generation, says that the bad place was durable when it was written: then it is damaged.
//!   Records behind it that do not say so were never synced, and a crash may have kept the later one
//!   and lost the earlier.
//!
//! What cannot be told: a bad sector in the records of the very last sync looks like a torn write.
//! Such a tail is cut, so a replica must compare its end with its peers' before it counts.
//!
//! Nothing here writes.

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_model::{Offset, Term};

use crate::cursor::{Cursor, Place};
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::format::{
    BadHeader, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES,
    SEGMENT_SUFFIX, SPARE_SUFFIX, SegmentHeader, Stop, TEMPORARY_SUFFIX, file_name, file_number,
};
use crate::view::Segment;

/// Bytes read at once in the search behind the end.
const SEARCH_BYTES: usize = 256 << 10;

/// The log as it was found.
#[derive(Debug)]
pub(crate) struct Found<F> {
    /// Oldest first; each `end` is behind its last record.
    pub(crate) segments: VecDeque<Segment<F>>,
    pub(crate) last: Option<(Offset, Term)>,
    /// The chain value of the last record.
    pub(crate) last_chain: u32,
    /// Behind the last record.
    pub(crate) end: Place,
    /// Why the log ends there; `None` if there is no segment.
    pub(crate) stop: Option<Stop>,
    /// Records of the last segment's generation stand behind the end. They must never become part of the
    /// log, so nothing may be appended to that segment.
    pub(crate) leftovers: bool,
    /// The last offset that was certainly durable before.
    pub(crate) proven: Offset,
    pub(crate) files: Files,
    /// Segments that are not part of the log any more.
    pub(crate) retired: Vec<u64>,
}

/// The folder by kinds of files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Rising.
    pub(crate) segments: Vec<u64>,
    pub(crate) spares: Vec<u64>,
    pub(crate) temporaries: Vec<u64>,
}

impl Files {
    pub(crate) fn list<D: Disk>(disk: &D) -> Result<Self, WalError> {
        let names = disk
            .list()
            .map_err(WalError::io("list", &disk.describe("")))?;
        let mut files = Self::default();
        for name in &names {
            if let Some(number) = file_number(name, SEGMENT_SUFFIX) {
                files.segments.push(number);
            } else if let Some(number) = file_number(name, SPARE_SUFFIX) {
                files.spares.push(number);
            } else if let Some(number) = file_number(name, TEMPORARY_SUFFIX) {
                files.temporaries.push(number);
            }
        }
        files.segments.sort_unstable();
        files.spares.sort_unstable();
        files.temporaries.sort_unstable();
        Ok(files)
    }

    /// The lowest number above all that are in use.
    pub(crate) fn next_number(&self) -> u64 {
        let all = [&self.segments, &self.spares, &self.temporaries];
        let highest = all.iter().filter_map(|numbers| numbers.last()).max();
        highest.map_or(1, |number| number + 1)
    }
}

/// A segment whose header was read.
#[derive(Debug)]
pub(crate) struct Opened<F> {
    pub(crate) name: String,
    pub(crate) file: F,
    pub(crate) bytes: u64,
    pub(crate) header: SegmentHeader,
    pub(crate) tag: u32,
}

impl<F> Opened<F> {
    /// Where its first record stands.
    pub(crate) fn start(&self) -> Place {
        Place {
            offset: self.header.base,
            position: SEGMENT_HEADER_BYTES,
            chain: self.tag,
        }
    }
}

/// Opens a segment and reads its header. The file name in the result is for messages.
pub(crate) fn open_segment<D: Disk>(
    disk: &D,
    generation: u64,
    write: bool,
) -> Result<Opened<D::File>, WalError> {
    let name = file_name(generation, SEGMENT_SUFFIX);
    let described = disk.describe(&name);
    let file = if write {
        disk.open(&name)
    } else {
        disk.open_to_read(&name)
    };
    let file = file.map_err(WalError::io("open", &described))?;
    let bytes = file.len().map_err(WalError::io("read", &described))?;
    let mut block = vec![0; SEGMENT_HEADER_BYTES.min(bytes) as usize];
    let read = read_fully(&file, 0, &mut block).map_err(WalError::io("read", &described))?;
    block.truncate(read);
    let (header, tag) = SegmentHeader::decode(&block).map_err(|bad| match bad {
        BadHeader::Version(version) => WalError::UnknownVersion {
            file: described.clone(),
            version,
        },
        BadHeader::Reason(reason) => WalError::damaged(&described, 0, reason),
    })?;
    if header.generation != generation {
        let reason = format!("the header belongs to generation {:x}", header.generation);
        return Err(WalError::damaged(&described, 0, reason));
    }
    Ok(Opened {
        name: described,
        file,
        bytes,
        header,
        tag,
    })
}

fn read_fully<F: DiskFile>(file: &F, start: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        let read = file.read_at(start + done as u64, &mut buffer[done..])?;
        if read == 0 {
            break;
        }
        done += read;
    }
    Ok(done)
}

/// The segments of the log, and the generations of the files that are not.
pub(crate) type Chosen<F> = (Vec<Opened<F>>, Vec<u64>);

/// The segments that make up the log, oldest first, and the generations that do not.
///
/// A newer segment takes over from its base on, whatever older ones hold from there; and
/// one that starts the log makes all older ones void.
pub(crate) fn choose<D: Disk>(
    disk: &D,
    generations: &[u64],
    write: bool,
) -> Result<Chosen<D::File>, WalError> {
    let mut live: Vec<Opened<D::File>> = Vec::new();
    let mut retired = Vec::new();
    let mut started = false;
    for &generation in generations.iter().rev() {
        if started {
            retired.push(generation);
            continue;
        }
        let opened = open_segment(disk, generation, write)?;
        if live
            .last()
            .is_some_and(|newer| opened.header.base >= newer.header.base)
        {
            retired.push(generation);
            continue;
        }
        started = opened.header.starts_log;
        live.push(opened);
    }
    live.reverse();
    Ok((live, retired))
}

/// Reads and checks the whole log.
pub(crate) fn inspect<D: Disk>(disk: &D) -> Result<Found<D::File>, WalError> {
    let files = Files::list(disk)?;
    let (live, retired) = choose(disk, &files.segments, true)?;
    let mut found = Found {
        segments: VecDeque::with_capacity(live.len()),
        last: None,
        last_chain: 0,
        end: Place {
            offset: Offset(0),
            position: 0,
            chain: 0,
        },
        stop: None,
        leftovers: false,
        proven: Offset(0),
        files,
        retired,
    };
    let mut live = live.into_iter().peekable();
    while let Some(opened) = live.next() {
        match live.peek() {
            Some(next) => check_closed(&mut found, opened, next)?,
            None => check_last(&mut found, opened)?,
        }
    }
    Ok(found)
}

/// Goes over the records of a segment up to `until`, or to the first place that is not one.
fn walk<F: DiskFile>(
    found: &mut Found<F>,
    opened: Opened<F>,
    until: Option<Offset>,
) -> Result<(Segment<F>, Option<Stop>), WalError> {
    let mut cursor = Cursor::new(opened.tag, opened.start());
    let mut segment = Segment {
        generation: opened.header.generation,
        name: opened.name,
        file: Arc::new(opened.file),
        bytes: opened.bytes,
        tag: opened.tag,
        base: opened.header.base,
        end: SEGMENT_HEADER_BYTES,
        marks: vec![cursor.place()],
    };
    let mut stop = None;
    while until.is_none_or(|until| cursor.place().offset < until) {
        let peeked = cursor.peek(&*segment.file, segment.bytes);
        match peeked.map_err(WalError::io("read", &segment.name))? {
            Ok(record) => {
                segment.mark(cursor.place());
                cursor.skip(&record);
                found.last = Some((record.offset, record.term));
                found.last_chain = record.chain;
                found.proven = found.proven.max(record.durable_before());
            }
            Err(why) => {
                stop = Some(why);
                break;
            }
        }
    }
    found.end = cursor.place();
    segment.end = found.end.position;
    Ok((segment, stop))
}

fn check_closed<F: DiskFile>(
    found: &mut Found<F>,
    opened: Opened<F>,
    next: &Opened<F>,
) -> Result<(), WalError> {
    let (segment, stop) = walk(found, opened, Some(next.header.base))?;
    if let Some(stop) = stop {
        let reason = format!("{stop}; the log goes on in {}", next.name);
        return Err(WalError::damaged(&segment.name, segment.end, reason));
    }
    // A closed segment has a record at least, since its base is below the next one's.
    if found.last_chain != next.header.seed {
        let reason = format!("it does not continue {}", segment.name);
        return Err(WalError::damaged(&next.name, 0, reason));
    }
    found.segments.push_back(segment);
    Ok(())
}

fn check_last<F: DiskFile>(found: &mut Found<F>, opened: Opened<F>) -> Result<(), WalError> {
    found.proven = Offset(opened.header.base.0 - 1);
    let (segment, stop) = walk(found, opened, None)?;
    let behind = search(
        &*segment.file,
        segment.tag,
        found.end.position,
        segment.bytes,
    )
    .map_err(WalError::io("read", &segment.name))?;
    if behind.durable >= found.end.offset {
        let stop = stop.unwrap_or(Stop::EndOfSegment);
        let reason = format!("{stop}; a later record shows that it was durable");
        return Err(WalError::damaged(&segment.name, segment.end, reason));
    }
    found.stop = stop;
    found.leftovers = behind.records > 0;
    found.segments.push_back(segment);
    Ok(())
}

/// What stands behind the end of the log.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    pub(crate) records: u64,
    /// The highest offset that one of them shows to have been durable.
    pub(crate) durable: Offset,
}

/// Looks for headers of records of this generation from `position` on.
pub(crate) fn search<F: DiskFile>(
    file: &F,
    tag: u32,
    position: u64,
    limit: u64,
) -> std::io::Result<Behind> {
    let mut behind = Behind::default();
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
            if bytes[..4] != tag.to_le_bytes() {
                continue;
            }
            let mut header = [0; RECORD_HEADER_BYTES];
            header.copy_from_slice(bytes);
            if let Ok(record) = RecordHeader::decode(&header, tag) {
                behind.records += 1;
                behind.durable = behind.durable.max(record.durable_before());
            }
        }
        position += (last / RECORD_ALIGN_BYTES * RECORD_ALIGN_BYTES + RECORD_ALIGN_BYTES) as u64;
    }
    Ok(behind)
}
