//! What a Prometheus keeps on its disk: blocks, each with an index, segments of chunks and
//! tombstones; and what is in no block yet, the log and the chunks beside it (`tsdb/docs/format` in
//! Prometheus).
//!
//! Nothing is read as a whole: an [`Index`] walks its series in the order in which they stand and
//! looks symbols up where they are, a [`Segment`] reads one chunk at a time. Postings are not read
//! at all, since whoever takes a block over takes all of it.
//!
//! Every part has a checksum, and damage to one is an error of that part alone: after an error
//! that is not of the disk, the walk goes on with the next series that is whole.

mod chunks;
mod head_chunks;
mod index;
mod log;
mod meta;
mod record;
mod symbols;
#[cfg(test)]
mod tests;
mod tombstones;

use std::io::{self, BufRead, Read};

pub use chunks::{RawChunk, Segment};
pub use head_chunks::{HeadChunk, HeadChunks};
pub use index::{ChunkPlace, Index, IndexedSeries};
pub use log::LogSegment;
pub use meta::BlockMeta;
pub use record::{LogEntry, is_of_series, read_record};
pub use tombstones::Tombstones;

use crate::body::BodyError;
use crate::chunk::ChunkError;
use crate::proto::ProtoError;

/// Why a part of a block or log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TsdbError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it begins with none of the marks of {0}")]
    Kind(&'static str),
    #[error("it is of version {0}, which is not known here")]
    Version(u64),
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it ends early")]
    Truncated,
    #[error("it takes {bytes} bytes, and {limit} are the most")]
    TooLarge { bytes: u64, limit: u64 },
    #[error("it names what is not there")]
    Reference,
    #[error("a text is not UTF-8")]
    Text,
    #[error("its numbers make no sense")]
    Numbers,
    #[error("it is no description of a block: {0}")]
    Meta(#[from] serde_json::Error),
    #[error("chunks of encoding {0} are not known here")]
    Encoding(u8),
    #[error("records of kind {0} are not known here")]
    Record(u8),
    #[error(transparent)]
    Compression(BodyError),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

impl TsdbError {
    /// Whether the disk failed, and not what is on it.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io(_))
    }

    /// The end of a file where there should be more is damage.
    fn of_read(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

impl From<ProtoError> for TsdbError {
    fn from(error: ProtoError) -> Self {
        match error {
            ProtoError::Truncated => Self::Truncated,
            _ => Self::Numbers,
        }
    }
}

fn read_array<const N: usize>(from: &mut impl Read) -> Result<[u8; N], TsdbError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(TsdbError::of_read)?;
    Ok(bytes)
}

/// As Go's `binary.ReadUvarint`.
fn read_uvarint(from: &mut impl BufRead) -> Result<u64, TsdbError> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let [byte] = read_array(from)?;
        if shift == 63 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(TsdbError::Numbers)
}

/// Reads `length` bytes into a buffer, whose old content goes. Memory grows with what is there,
/// not with what is claimed.
fn read_into(buffer: &mut Vec<u8>, from: &mut impl Read, length: u64) -> Result<(), TsdbError> {
    buffer.clear();
    let read = from.by_ref().take(length).read_to_end(buffer)?;
    if read as u64 == length { Ok(()) } else { Err(TsdbError::Truncated) }
}
