//! The folder by kinds of files, and which of them are the log.

use crate::cursor::Place;
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::format::{
    BadHeader, END_RECORD_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_SUFFIX, SPARE_SUFFIX, SegmentHeader,
    TEMPORARY_SUFFIX, file_name, file_number,
};

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

pub(super) fn read_fully<F: DiskFile>(
    file: &F,
    start: u64,
    buffer: &mut [u8],
) -> std::io::Result<usize> {
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
