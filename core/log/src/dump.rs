//! Prints a log for people. Reads only, and goes on after damage as far as there is something to say.

use std::io::{self, Write};
use std::path::Path;

use oxkeeper_model::{Offset, Term};

use crate::cursor::Place;
use crate::disk::{Disk, FileDisk};
use crate::error::WalError;
use crate::format::{RecordHeader, SEGMENT_SUFFIX, Stop, file_name};
use crate::recover::{self, Files, LACK_SEGMENTS, Opened, Step, Walk};

/// What a dump found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Segments that belong to the log.
    pub segments: usize,
    pub records: u64,
    pub last: Option<(Offset, Term)>,
    /// What is wrong, with file and position; a torn tail is not.
    pub damage: Vec<String>,
}

/// Prints every record of the log in `dir`, and where the log ends and why.
pub fn dump(dir: &Path, out: &mut dyn Write) -> Result<Dumped, WalError> {
    let disk = FileDisk::existing(dir);
    let disk = disk.map_err(WalError::io("open", &dir.display().to_string()))?;
    dump_disk(&disk, out)
}

/// [`dump`] for any folder.
pub fn dump_disk<D: Disk>(disk: &D, out: &mut dyn Write) -> Result<Dumped, WalError> {
    let files = Files::list(disk)?;
    let mut dump = Dump {
        out,
        dumped: Dumped::default(),
    };
    if files.lack_segments() {
        dump.damaged(format!("{}: {LACK_SEGMENTS}", disk.describe("")))?;
    }
    let live = dump.choose(disk, &files)?;
    let mut live = live.iter().peekable();
    while let Some(opened) = live.next() {
        if let Some(next) = dump.segment(opened, live.peek().copied())? {
            dump.closed(disk, opened, next)?;
        }
    }
    let spares = files.spares.len();
    dump.say(&format!("{spares} spare files"))?;
    Ok(dump.dumped)
}

struct Dump<'a> {
    out: &'a mut dyn Write,
    dumped: Dumped,
}

impl Dump<'_> {
    fn say(&mut self, line: &str) -> Result<(), WalError> {
        let written: io::Result<()> = writeln!(self.out, "{line}");
        written.map_err(WalError::io("write", "the output"))
    }

    fn damaged(&mut self, what: String) -> Result<(), WalError> {
        self.say(&format!("DAMAGED: {what}"))?;
        self.dumped.damage.push(what);
        Ok(())
    }

    /// The log's segments, as `recover::choose` has them, but past those whose header is bad.
    fn choose<D: Disk>(
        &mut self,
        disk: &D,
        files: &Files,
    ) -> Result<Vec<Opened<D::File>>, WalError> {
        let mut readable = Vec::new();
        for &generation in &files.segments {
            match recover::open_segment(disk, generation, false) {
                Ok(_) => readable.push(generation),
                Err(error @ WalError::Io { .. }) => return Err(error),
                Err(error) => self.damaged(error.to_string())?,
            }
        }
        let (live, retired) = recover::choose(disk, &readable, false)?;
        for generation in retired {
            let name = file_name(generation, SEGMENT_SUFFIX);
            self.say(&format!("segment {name}: replaced by a later one"))?;
        }
        self.dumped.segments = live.len();
        Ok(live)
    }

    /// Returns the generation in which the log goes on although no such segment was listed.
    fn segment<F: crate::DiskFile>(
        &mut self,
        opened: &Opened<F>,
        next: Option<&Opened<F>>,
    ) -> Result<Option<u64>, WalError> {
        let header = &opened.header;
        let origin = match header.starts_log {
            true => "starts the log".to_owned(),
            false => format!("continues {:08x}", header.seed),
        };
        self.say(&format!(
            "segment {}: shard {}, generation {}, base {}, chain {}, {origin}, {} bytes",
            opened.name,
            header.uuid,
            header.generation,
            header.base(),
            header.before.chain,
            header.bytes
        ))?;
        let mut walk = Walk::new(opened, next.map(|next| next.header.base()));
        let stop = loop {
            let position = walk.place().position;
            let step = walk.next(&opened.file);
            match step.map_err(WalError::io("read", &opened.name))? {
                Step::Record(record) => self.record(&record, position)?,
                Step::Stop(stop) => break Some(stop),
                Step::Done => break None,
            }
        };
        match (next, stop) {
            (Some(next), stop) => self.seam(opened, &walk, stop, next)?,
            (None, Some(Stop::Closed(next))) => return Ok(Some(next)),
            (None, stop) => self.end(opened, walk.place(), stop)?,
        }
        Ok(None)
    }

    fn record(&mut self, record: &RecordHeader, position: u64) -> Result<(), WalError> {
        self.say(&format!(
            "  offset {} term {} bytes {} at {position} synced {} chain {} ok",
            record.offset, record.term, record.payload_bytes, record.synced, record.chain
        ))?;
        self.dumped.records += 1;
        self.dumped.last = Some((record.offset, record.term));
        Ok(())
    }

    /// The last segment that was listed says that the log goes on. A running server may have started the
    /// next one meanwhile.
    fn closed<D: Disk>(
        &mut self,
        disk: &D,
        opened: &Opened<D::File>,
        next: u64,
    ) -> Result<(), WalError> {
        let name = file_name(next, SEGMENT_SUFFIX);
        if Files::list(disk)?.segments.contains(&next) {
            return self.say(&format!("the log goes on in {name}, which is new"));
        }
        self.damaged(format!("{}: {}", opened.name, Stop::Closed(next)))
    }

    /// Between two segments.
    fn seam<F>(
        &mut self,
        opened: &Opened<F>,
        walk: &Walk,
        stop: Option<Stop>,
        next: &Opened<F>,
    ) -> Result<(), WalError> {
        let place = walk.place();
        if let Some(stop) = stop {
            return self.damaged(format!(
                "{} at byte {}: {stop}; the log goes on in {} with offset {}",
                opened.name,
                place.position,
                next.name,
                next.header.base()
            ));
        }
        if place.sum != next.header.seed || walk.last() != next.header.before {
            return self.damaged(format!("{} does not continue {}", next.name, opened.name));
        }
        self.say(&format!("  ends at byte {}", place.position))
    }

    /// Behind the last segment.
    fn end<F: crate::DiskFile>(
        &mut self,
        opened: &Opened<F>,
        place: Place,
        stop: Option<Stop>,
    ) -> Result<(), WalError> {
        let stop = stop.unwrap_or(Stop::EndOfSegment);
        let limit = opened.header.bytes;
        let behind = recover::search(&opened.file, opened.header.tag, place.position, limit);
        let behind = behind.map_err(WalError::io("read", &opened.name))?;
        let at = format!("{} at byte {}", opened.name, place.position);
        if behind.durable >= place.offset {
            return self.damaged(format!(
                "{at}: {stop}; a later record shows that offsets up to {} were durable",
                behind.durable
            ));
        }
        if !stop.may_be_torn() {
            return self.damaged(format!("{at}: {stop}"));
        }
        self.say(&format!("the log ends in {at}: {stop}"))?;
        if behind.records > 0 {
            self.say(&format!(
                "  behind it are {} records that were never durable; they are cut",
                behind.records
            ))?;
        }
        Ok(())
    }
}
