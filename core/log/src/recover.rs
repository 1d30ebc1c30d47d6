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

mod files;
mod search;
mod walk;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use oxkeeper_model::{Offset, ShardUuid};

use crate::chain::LogPoint;
use crate::cursor::{Cursor, Place};
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::format::{SEGMENT_HEADER_BYTES, Stop};
use crate::terms::TermIndex;
use crate::view::Segment;

pub(crate) use files::{Files, LACK_SEGMENTS, Opened, choose, open_segment};
pub(crate) use search::search;
pub(crate) use walk::{Step, Walk};

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

/// Reads and checks the whole log of the shard `uuid`.
pub(crate) fn inspect<D: Disk>(disk: &D, uuid: ShardUuid) -> Result<Found<D::File>, WalError> {
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
        let mut walk = Walk::new(&opened, until);
        let mut segment = Segment {
            generation: opened.header.generation,
            name: opened.name,
            file: Arc::new(opened.file),
            bytes: opened.header.bytes,
            tag: opened.header.tag,
            before: opened.header.before,
            end: SEGMENT_HEADER_BYTES,
            marks: vec![walk.place()],
        };
        self.last_sum = opened.header.seed;
        let stop = loop {
            segment.mark(walk.place());
            let step = walk.next(&*segment.file);
            match step.map_err(WalError::io("read", &segment.name))? {
                Step::Record(record) => {
                    (self.last, self.last_sum) = (record.point(), record.sum);
                    self.terms.push(record.offset, record.term);
                    self.proven = self.proven.max(record.proves());
                }
                Step::Stop(stop) => break Some(stop),
                Step::Done => break None,
            }
        };
        self.end = walk.place();
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
