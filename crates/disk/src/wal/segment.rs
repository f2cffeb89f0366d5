//! Segment files: names, headers, and how they are written.
//!
//! A segment is named by the position of its first entry, in 20 digits, so that names sort as
//! positions do. Its header says the format version, that position again, and where the segment
//! before it ended; a gap between segments is thereby either said or a loss.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Position, WalError};
use crate::{files, os};

pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"phwal\r\n\x1a";
const EXTENSION: &str = "wal";
/// No log gets this far; a name beyond it is none of ours, and sums of positions cannot overflow.
const MAX_FIRST: u64 = 1 << 62;

/// A segment file as the log writes it.
pub trait SegmentFile: Send + fmt::Debug {
    /// Writes all of `bytes` at the end. After an error any part of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Brings everything to stable storage.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to a length; later appends go there.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;
}

/// Makes segment files; the other implementer is the tests' failing disk.
pub trait SegmentFiles: Send + fmt::Debug {
    /// Creates an empty file, replacing one of that name. Its directory entry is durable when
    /// this returns.
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
}

/// Segment files on the real disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFiles;

impl SegmentFiles for DiskFiles {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let _ = os::remove_file(path);
        let file = os::open(OpenOptions::new().append(true).create_new(true), path)?;
        if let Some(directory) = path.parent() {
            os::sync_directory(directory)?;
        }
        let file = Box::new(DiskFile(file));
        #[cfg(any(test, feature = "faults"))]
        return Ok(crate::faults::segment(path, file));
        #[cfg(not(any(test, feature = "faults")))]
        Ok(file)
    }
}

#[derive(Debug)]
struct DiskFile(File);

impl SegmentFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}

/// A segment that lies in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub first: Position,
    pub path: PathBuf,
    /// Length of the file, header included.
    pub bytes: u64,
}

impl Segment {
    /// Where the segment ends if all its bytes are entries.
    pub(super) fn end(&self) -> Position {
        Position(self.first.0.saturating_add(self.bytes.saturating_sub(HEADER_BYTES as u64)))
    }
}

pub(super) fn path_of(directory: &Path, first: Position) -> PathBuf {
    directory.join(format!("{:020}.{EXTENSION}", first.0))
}

fn first_of(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    let first = all_digits.then(|| digits.parse().ok())??;
    (first <= MAX_FIRST).then_some(Position(first))
}

/// All segments of a directory in order. Files of other names are none of ours.
pub(super) fn list(directory: &Path) -> Result<Vec<Segment>, WalError> {
    let mut segments = Vec::new();
    for name in files::file_names(directory)? {
        if let Some(first) = first_of(&name) {
            let path = directory.join(&name);
            let bytes = fs::metadata(&path).map_err(WalError::io("stat", &path))?.len();
            segments.push(Segment { first, path, bytes });
        }
    }
    Ok(segments)
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub first: Position,
    /// Where the segment before it ended; equal to `first` unless positions were skipped.
    pub previous_end: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    Newer(u32),
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..20].copy_from_slice(&self.first.0.to_le_bytes());
        out[20..28].copy_from_slice(&self.previous_end.0.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..28]);
        out[28..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The checksum covers the version, so a newer version is believed only where it is whole.
    /// Later versions must keep magic, version and checksum in place.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BadHeader> {
        let u64_at =
            |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let u32_at =
            |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        if bytes[..8] != MAGIC || u32_at(28) != crc32c::crc32c(&bytes[..28]) {
            return Err(BadHeader::Damaged);
        }
        match u32_at(8) {
            VERSION => Ok(Self { first: Position(u64_at(12)), previous_end: Position(u64_at(20)) }),
            newer => Err(BadHeader::Newer(newer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_sort_as_positions() {
        let directory = Path::new("/log");
        for position in [0, 1, 64 << 20, 1 << 62] {
            let path = path_of(directory, Position(position));
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(first_of(name), Some(Position(position)));
        }
        for bad in [
            "",
            "1.wal",
            "00000000000000000001.tmp",
            "99999999999999999999.wal",
            "18446744073709551615.wal",
            "+0000000000000000001.wal",
        ] {
            assert_eq!(first_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_header_reads_back_and_any_flipped_bit_is_seen() {
        let header = Header { first: Position(77), previous_end: Position(70) };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), Err(BadHeader::Damaged));
        }
        let mut newer = bytes;
        newer[8] = 2;
        let checksum = crc32c::crc32c(&newer[..28]);
        newer[28..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Header::decode(&newer), Err(BadHeader::Newer(2)));
    }
}
