//! `chunks_head`: chunks that are full and belong to no block yet, in the order in which they were
//! filled. They hold nothing that the log does not hold too, but stay whole where that is damaged
//! (`tsdb/docs/format/head_chunks.md` in Prometheus).

use std::io::{BufReader, Read};

use pilothouse_model::limits::TSDB_CHUNK_BYTES;

use super::{RawChunk, TsdbError, read_array, read_into};
use crate::proto::push_varint;

const MAGIC: u32 = 0x0130_bc91;
const VERSION: u8 = 1;
/// In front of the data: number of the series, first and last time, encoding.
const FIXED_BYTES: usize = 25;
/// A bit of the encoding.
const OUT_OF_ORDER: u8 = 1 << 7;

/// One such file.
#[derive(Debug)]
pub struct HeadChunks<R> {
    from: BufReader<R>,
    data: Vec<u8>,
    is_at_end: bool,
}

/// A chunk whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadChunk<'a> {
    /// The series, as the log numbers them.
    pub id: u64,
    pub min_t_ms: i64,
    pub max_t_ms: i64,
    /// Of samples that came later than others behind them.
    pub is_out_of_order: bool,
    pub chunk: RawChunk<'a>,
}

impl<R: Read> HeadChunks<R> {
    /// Fails on what is no such file, or one of an unknown version.
    pub fn open(from: R) -> Result<Self, TsdbError> {
        let mut from = BufReader::with_capacity(64 << 10, from);
        let [a, b, c, d, version, ..]: [u8; 8] = read_array(&mut from)?;
        if u32::from_be_bytes([a, b, c, d]) != MAGIC {
            return Err(TsdbError::Kind("a file of head chunks"));
        }
        if version != VERSION {
            return Err(TsdbError::Version(u64::from(version)));
        }
        Ok(Self { from, data: Vec::new(), is_at_end: false })
    }

    /// The next chunk; `None` at the end, which zeros may stand behind. A checksum that is wrong costs
    /// its chunk, a length that cannot be the rest of the file.
    pub fn next_chunk(&mut self) -> Result<Option<HeadChunk<'_>>, TsdbError> {
        if self.is_at_end {
            return Ok(None);
        }
        self.is_at_end = true;
        let mut first = [0; 1];
        if self.from.read(&mut first)? == 0 {
            return Ok(None);
        }
        let mut fixed = [0; FIXED_BYTES];
        fixed[0] = first[0];
        self.from.read_exact(&mut fixed[1..]).map_err(TsdbError::of_read)?;
        let ([id, min_t, max_t], encoding) = numbers(&fixed);
        if (id, min_t, max_t) == (0, 0, 0) {
            return Ok(None);
        }
        let length = super::read_uvarint(&mut self.from)?;
        if length > TSDB_CHUNK_BYTES {
            return Err(TsdbError::TooLarge { bytes: length, limit: TSDB_CHUNK_BYTES });
        }
        read_into(&mut self.data, &mut self.from, length + 4)?;
        self.is_at_end = false;
        let (data, checksum) = self.data.split_last_chunk::<4>().ok_or(TsdbError::Truncated)?;
        let mut front = fixed.to_vec();
        push_varint(&mut front, length);
        if crc32c::crc32c_append(crc32c::crc32c(&front), data) != u32::from_be_bytes(*checksum) {
            return Err(TsdbError::Checksum);
        }
        Ok(Some(HeadChunk {
            id,
            min_t_ms: min_t as i64,
            max_t_ms: max_t as i64,
            is_out_of_order: encoding & OUT_OF_ORDER != 0,
            chunk: RawChunk { encoding: encoding & !OUT_OF_ORDER, data },
        }))
    }
}

/// Three numbers of eight bytes and one of one.
fn numbers(fixed: &[u8; FIXED_BYTES]) -> ([u64; 3], u8) {
    let mut numbers = [0; 3];
    let (words, rest) = fixed.as_chunks::<8>();
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = u64::from_be_bytes(*word);
    }
    (numbers, rest.first().copied().unwrap_or_default())
}
