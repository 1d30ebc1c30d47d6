//! What is in the folder: which files are the log, where it ends, and whether it is whole.
//!
//! The naive rule, "the log ends at the first record that does not check", loses
//! acknowledged entries when a sector in the middle goes bad. The rule here:
//!
//! - A segment that is followed by another must reach that one's base with that one's sum, because
//!   a segment is started only when the one before is durable.
//! - In the last segment the log ends at zeros. If it ends anyhow else, or if records of the
//!   same generation stand behind the zeros, it is *cut* there.
//! - A cut is *plain* if nothing that is left shows the cut part to have been on disk: no record behind it
//!   that names it as synced, no later segment, no end record. Only a plain cut can be the torn tail
//!   that a crash leaves: records that were never synced, of which the crash may have kept the later and lost the
//!   earlier. Everything else is damage.
//! - A record that is whole but not understood is neither: a later version may have written it.
//!
//! What cannot be told: a bad sector in the records of the very last sync looks like a torn write.
//! So every cut is reported, and a replica must compare its end with its peers' before it counts.
//!
//! Nothing here writes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use oxkeeper_model::Offset;

use crate::chain::LogPoint;
use crate::cursor::{Cursor, Place};
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::format::{
    BadHeader, END_RECORD_BYTES, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader,
    SEGMENT_HEADER_BYTES, SEGMENT_SUFFIX, SPARE_SUFFIX, SegmentHeader, Stop, TEMPORARY_SUFFIX,
    file_name, file_number, record_bytes, u64_at,
};
use crate::limits::SEARCH_BYTES;
use crate::terms::TermIndex;
use crate::view::Segment;

/// Where a log was found to end before its time, and what that loses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub file: String,
    /// Where in the file the log ends.
    pub position: u64,
    /// From there to the end of the last thing that was recognised as part of the log.
    pub bytes: u64,
    /// The first entry that is cut. It may be one that was never written.
    pub first: Offset,
    /// Nothing that is left shows that the cut part was on disk: a crash can explain it.
    pub plain: bool,
    pub reason: String,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            position,
            bytes,
            first,
            reason,
            ..
        } = self;
        write!(
            f,
            "{file} is cut at byte {position}, {bytes} bytes from entry {first} on: {reason}"
        )
    }
}

/// The log as it was found.
#[derive(Debug)]
pub(crate) struct Found<F> {
    /// Oldest first; each `end` is behind its last record.
    pub(crate) segments: VecDeque<Segment<F>>,
    /// The entry before the first one, and the last one, which is the same in an empty log.
    pub(crate) start: LogPoint,
    pub(crate) last: LogPoint,
    /// Of the last record. Not `end.sum`, which in an empty segment is its header's.
    pub(crate) last_sum: u32,
    pub(crate) terms: TermIndex,
    /// Behind the last record.
    pub(crate) end: Place,
    /// If there is one, nothing may be appended to the last segment: what stands there must never
    /// become part of the log.
    pub(crate) cut: Option<Cut>,
    /// The last offset that was certainly durable before.
    pub(crate) proven: Offset,
    /// Segments that were left and do not say so: the place of their end record.
    pub(crate) unclosed: Vec<(u64, Place, LogPoint)>,
    pub(crate) files: Files,
    /// Segments that are not part of the log any more.
    pub(crate) retired: Vec<u64>,
}

pub(crate) const LACK_SEGMENTS: &str = "all segments of the log are missing";

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

    /// The first segment is made before any spare, and the last one never goes.
    pub(crate) fn lack_segments(&self) -> bool {
        self.segments.is_empty() && !self.spares.is_empty()
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
    pub(crate) header: SegmentHeader,
    /// The sum that its first record continues.
    pub(crate) sum: u32,
}

impl<F> Opened<F> {
    /// Where its first record stands.
    pub(crate) fn start(&self) -> Place {
        Place {
            offset: self.header.base(),
            position: SEGMENT_HEADER_BYTES,
            sum: self.sum,
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
    let file = match write {
        true => disk.open(&name),
        false => disk.open_to_read(&name),
    };
    let file = file.map_err(WalError::io("open", &described))?;
    let bytes = file.len().map_err(WalError::io("read", &described))?;
    let mut block = vec![0; SEGMENT_HEADER_BYTES.min(bytes) as usize];
    let read = read_fully(&file, 0, &mut block).map_err(WalError::io("read", &described))?;
    block.truncate(read);
    let (header, sum) = SegmentHeader::decode(&block).map_err(|bad| match bad {
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
    if header.bytes < SEGMENT_HEADER_BYTES + END_RECORD_BYTES {
        return Err(WalError::damaged(&described, 0, "impossible length"));
    }
    if header.bytes != bytes {
        let reason = format!("the file had {} bytes when it was made", header.bytes);
        return Err(WalError::damaged(&described, bytes, reason));
    }
    Ok(Opened {
        name: described,
        file,
        header,
        sum,
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
/// one that starts the log makes all older ones void. Those are not looked into.
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
            .is_some_and(|newer| opened.header.base() >= newer.header.base())
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

/// Reads and checks the whole log of the shard `uuid`.
pub(crate) fn inspect<D: Disk>(disk: &D, uuid: [u8; 16]) -> Result<Found<D::File>, WalError> {
    let files = Files::list(disk)?;
    if files.lack_segments() {
        return Err(WalError::damaged(&disk.describe(""), 0, LACK_SEGMENTS));
    }
    let (live, retired) = choose(disk, &files.segments, true)?;
    if let Some(other) = live.iter().find(|opened| opened.header.uuid != uuid) {
        return Err(WalError::OtherShard {
            file: other.name.clone(),
            found: other.header.uuid,
            expected: uuid,
        });
    }
    let start = live.first().map_or(LogPoint::START, |s| s.header.before);
    let mut found = Found {
        segments: VecDeque::with_capacity(live.len()),
        start,
        last: start,
        last_sum: 0,
        terms: TermIndex::default(),
        end: Place {
            offset: start.offset.next(),
            position: 0,
            sum: 0,
        },
        cut: None,
        proven: start.offset,
        unclosed: Vec::new(),
        files,
        retired,
    };
    let mut live = live.into_iter().peekable();
    while let Some(opened) = live.next() {
        match live.peek() {
            Some(next) => found.closed(opened, next)?,
            None => found.open(opened)?,
        }
        if found.cut.is_some() {
            break;
        }
    }
    Ok(found)
}

impl<F: DiskFile> Found<F> {
    /// Goes over the records of a segment up to `until`, or to the first place that is not one.
    fn walk(&mut self, opened: Opened<F>, until: Option<Offset>) -> Result<Option<Stop>, WalError> {
        let mut cursor = Cursor::new(opened.header.tag, opened.start());
        let mut segment = Segment {
            generation: opened.header.generation,
            name: opened.name,
            file: Arc::new(opened.file),
            bytes: opened.header.bytes,
            tag: opened.header.tag,
            before: opened.header.before,
            end: SEGMENT_HEADER_BYTES,
            marks: vec![cursor.place()],
        };
        self.last_sum = opened.header.seed;
        let mut stop = None;
        while until.is_none_or(|until| cursor.place().offset < until) {
            let peeked = cursor.peek(&*segment.file, segment.bytes);
            match peeked.map_err(WalError::io("read", &segment.name))? {
                Ok(record) => {
                    let room = segment.bytes - cursor.place().position;
                    let payload = cursor.payload(&record);
                    if let Some(why) = check_entry(self.last, &record, payload, room) {
                        stop = Some(why);
                        break;
                    }
                    segment.mark(cursor.place());
                    cursor.skip(&record);
                    (self.last, self.last_sum) = (record.point(), record.sum);
                    self.terms.push(record.offset, record.term);
                    self.proven = self.proven.max(record.proves());
                }
                Err(why) => {
                    stop = Some(why);
                    break;
                }
            }
        }
        self.end = cursor.place();
        segment.end = self.end.position;
        match stop {
            Some(why) if why.is_unknown() => Err(WalError::UnknownRecord {
                file: segment.name,
                position: segment.end,
                reason: why.to_string(),
            }),
            _ => {
                self.segments.push_back(segment);
                Ok(stop)
            }
        }
    }

    /// A segment that is followed by another.
    fn closed(&mut self, opened: Opened<F>, next: &Opened<F>) -> Result<(), WalError> {
        let stop = self.walk(opened, Some(next.header.base()))?;
        let Some(segment) = self.segments.back() else {
            return Ok(());
        };
        if let Some(stop) = stop {
            let reason = format!("{stop}; the log goes on in {}", next.name);
            self.cut = Some(self.cut_at(segment, segment.bytes, false, reason));
            return Ok(());
        }
        // A closed segment has a record at least, since its base is below the next one's.
        if self.last_sum != next.header.seed || self.last != next.header.before {
            let cut = Cut {
                file: next.name.clone(),
                position: 0,
                bytes: next.header.bytes,
                first: self.end.offset,
                plain: false,
                reason: format!("it does not continue {}", segment.name),
            };
            self.cut = Some(cut);
            return Ok(());
        }
        let mut cursor = Cursor::new(segment.tag, self.end);
        let end = cursor.peek(&*segment.file, segment.bytes);
        let end = end.map_err(WalError::io("read", &segment.name))?;
        if end != Err(Stop::Closed(next.header.generation)) {
            let unclosed = (segment.generation, self.end, self.last);
            self.unclosed.push(unclosed);
        }
        Ok(())
    }

    /// The last segment.
    fn open(&mut self, opened: Opened<F>) -> Result<(), WalError> {
        self.proven = self.proven.max(opened.header.before.offset);
        let stop = self.walk(opened, None)?.unwrap_or(Stop::EndOfSegment);
        let Some(segment) = self.segments.back() else {
            return Ok(());
        };
        let behind = search(&*segment.file, segment.tag, segment.end, segment.bytes)
            .map_err(WalError::io("read", &segment.name))?;
        let clean = matches!(stop, Stop::Zeros | Stop::EndOfSegment) && behind.records == 0;
        if clean {
            return Ok(());
        }
        let mut reason = stop.to_string();
        let proved = behind.durable >= self.end.offset;
        if proved {
            reason.push_str("; a later record shows that it was durable");
        }
        let plain = stop.may_be_torn() && !proved;
        let until = behind.end.min(segment.bytes).max(segment.end);
        self.cut = Some(self.cut_at(segment, until, plain, reason));
        Ok(())
    }

    fn cut_at(&self, segment: &Segment<F>, until: u64, plain: bool, reason: String) -> Cut {
        Cut {
            file: segment.name.clone(),
            position: segment.end,
            bytes: until - segment.end,
            first: self.end.offset,
            plain,
            reason,
        }
    }
}

/// Why a record whose sums are right does not continue the log all the same. `room` is what the file has from it on.
pub(crate) fn check_entry(
    last: LogPoint,
    record: &RecordHeader,
    payload: &[u8],
    room: u64,
) -> Option<Stop> {
    if record.record_bytes() as u64 + END_RECORD_BYTES > room {
        return Some(Stop::Overlong(record.payload_bytes));
    }
    if record.term < last.term {
        return Some(Stop::Term(record.term));
    }
    let expected = last.chain.after(record.offset, record.term, payload);
    (record.chain != expected).then_some(Stop::Chain)
}

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
