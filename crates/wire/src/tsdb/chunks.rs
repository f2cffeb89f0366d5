//! Segments: files of chunks, one behind the other.

use std::io::{BufReader, Read, Seek, SeekFrom};

use pilothouse_model::SampleColumns;
use pilothouse_model::limits::TSDB_CHUNK_BYTES;

use super::{TsdbError, read_array, read_into, read_uvarint};
use crate::chunk::{ChunkEncoding, decode_chunk};

const MAGIC: u32 = 0x85bd_40dd;
const VERSION: u8 = 1;
const HEADER_BYTES: u64 = 8;

/// One file of chunks.
#[derive(Debug)]
pub struct Segment<R> {
    from: BufReader<R>,
    /// Encoding, data and checksum of the chunk read last.
    chunk: Vec<u8>,
}

/// A chunk whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawChunk<'a> {
    pub encoding: u8,
    pub data: &'a [u8],
}

impl<R: Read + Seek> Segment<R> {
    /// Fails on what is no segment, or one of an unknown version.
    pub fn open(from: R) -> Result<Self, TsdbError> {
        let mut from = BufReader::with_capacity(64 << 10, from);
        from.rewind()?;
        let header: [u8; HEADER_BYTES as usize] = read_array(&mut from)?;
        let [a, b, c, d, version, ..] = header;
        if u32::from_be_bytes([a, b, c, d]) != MAGIC {
            return Err(TsdbError::Kind("a segment of chunks"));
        }
        if version != VERSION {
            return Err(TsdbError::Version(u64::from(version)));
        }
        Ok(Self { from, chunk: Vec::new() })
    }

    /// The chunk at an offset, which an index says.
    pub fn chunk(&mut self, at: u32) -> Result<RawChunk<'_>, TsdbError> {
        self.go_to(u64::from(at))?;
        let length = read_uvarint(&mut self.from)?;
        if length > TSDB_CHUNK_BYTES {
            return Err(TsdbError::TooLarge { bytes: length, limit: TSDB_CHUNK_BYTES });
        }
        // The encoding is in front of the data, the checksum behind.
        read_into(&mut self.chunk, &mut self.from, length + 5)?;
        let (whole, checksum) = self.chunk.split_last_chunk::<4>().ok_or(TsdbError::Truncated)?;
        if crc32c::crc32c(whole) != u32::from_be_bytes(*checksum) {
            return Err(TsdbError::Checksum);
        }
        let (encoding, data) = whole.split_first().ok_or(TsdbError::Truncated)?;
        Ok(RawChunk { encoding: *encoding, data })
    }

    /// Within what is buffered already where that is possible: chunks are read in the order in
    /// which they stand.
    fn go_to(&mut self, at: u64) -> Result<(), TsdbError> {
        let here = self.from.stream_position()?;
        match i64::try_from(i128::from(at) - i128::from(here)) {
            Ok(distance) => self.from.seek_relative(distance)?,
            Err(_) => drop(self.from.seek(SeekFrom::Start(at))?),
        }
        Ok(())
    }
}

impl RawChunk<'_> {
    /// Appends the samples.
    pub fn decode(&self, out: &mut SampleColumns) -> Result<(), TsdbError> {
        let encoding = ChunkEncoding::from_wire(i32::from(self.encoding));
        let encoding = encoding.ok_or(TsdbError::Encoding(self.encoding))?;
        Ok(decode_chunk(encoding, self.data, out)?)
    }
}
