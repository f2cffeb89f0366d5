//! The index of a block: which series there are, and where their chunks lie.

use std::io::{BufReader, Read, Seek, SeekFrom};

use pilothouse_model::Labels;
use pilothouse_model::limits::TSDB_SERIES_BYTES;

use super::symbols::Symbols;
use super::{TsdbError, read_array, read_into, read_uvarint};
use crate::proto::Cursor;

const MAGIC: u32 = 0xbaaa_d700;
const TOC_BYTES: usize = 52;
/// Of series, since version 2.
const ALIGNED_TO: u64 = 16;

/// The index of a block, gone through from its first series to its last.
#[derive(Debug)]
pub struct Index<R> {
    symbols: Symbols<R>,
    series: BufReader<R>,
    /// Of the section of series.
    start: u64,
    end: u64,
    /// Where the next series is looked for.
    at: u64,
    aligned_to: u64,
    /// Within a stretch that cannot be read, which has been told.
    is_lost: bool,
    entry: Vec<u8>,
}

/// A series as it stands in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedSeries {
    /// What tombstones call it.
    pub id: u64,
    /// Numbers of texts.
    labels: Vec<(u32, u32)>,
    /// In order of time.
    pub chunks: Vec<ChunkPlace>,
}

/// Where a chunk lies, and of which times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    pub min_t_ms: i64,
    /// Of its last sample.
    pub max_t_ms: i64,
    /// Which of the segments, counted from 0.
    pub segment: u32,
    pub offset: u32,
}

/// What stands where; 0 for what is not there.
struct Toc {
    symbols: u64,
    series: u64,
    /// Of the sections behind the series.
    others: [u64; 4],
}

impl Toc {
    fn parse(bytes: &[u8; TOC_BYTES]) -> Result<Self, TsdbError> {
        let (places, checksum) = bytes.split_last_chunk::<4>().ok_or(TsdbError::Truncated)?;
        if crc32c::crc32c(places) != u32::from_be_bytes(*checksum) {
            return Err(TsdbError::Checksum);
        }
        let mut numbers = [0; 6];
        for (number, bytes) in numbers.iter_mut().zip(places.as_chunks::<8>().0) {
            *number = u64::from_be_bytes(*bytes);
        }
        let [symbols, series, others @ ..] = numbers;
        Ok(Self { symbols, series, others })
    }
}

impl<R: Read + Seek> Index<R> {
    /// Reads what leads to the series, the table of texts included. Takes two handles on one file,
    /// since texts are looked up while the series are gone through.
    pub fn open(texts: R, mut series: R) -> Result<Self, TsdbError> {
        let toc_at = series.seek(SeekFrom::End(0))?;
        let toc_at = toc_at.checked_sub(TOC_BYTES as u64).ok_or(TsdbError::Truncated)?;
        series.rewind()?;
        let [a, b, c, d, version] = read_array(&mut series)?;
        if u32::from_be_bytes([a, b, c, d]) != MAGIC {
            return Err(TsdbError::Kind("an index"));
        }
        if !(1..=3).contains(&version) {
            return Err(TsdbError::Version(u64::from(version)));
        }
        series.seek(SeekFrom::Start(toc_at))?;
        let toc = Toc::parse(&read_array(&mut series)?)?;
        let behind = toc.others.into_iter().filter(|other| *other > toc.series).min();
        let (start, end) = (toc.series, behind.unwrap_or(toc_at).min(toc_at));
        Ok(Self {
            symbols: Symbols::open(texts, toc.symbols, toc_at, version == 1)?,
            series: BufReader::with_capacity(64 << 10, series),
            start,
            // A block without series has no section of them.
            end: if start == 0 { 0 } else { end },
            at: start,
            aligned_to: if version == 1 { 1 } else { ALIGNED_TO },
            is_lost: false,
            entry: Vec::new(),
        })
    }

    /// Goes back to the first series.
    pub fn rewind(&mut self) {
        self.at = self.start;
        self.is_lost = false;
    }

    /// The next series, or `None` behind the last. A stretch that cannot be read is one error, and
    /// what comes behind it is found by the next call.
    pub fn next_series(&mut self) -> Result<Option<IndexedSeries>, TsdbError> {
        loop {
            self.at = self.at.next_multiple_of(self.aligned_to);
            if self.at >= self.end {
                return Ok(None);
            }
            match self.read_at(self.at) {
                Ok(Some((series, length))) => {
                    self.at += length;
                    self.is_lost = false;
                    return Ok(Some(series));
                }
                Ok(None) => self.at += self.aligned_to,
                Err(e) if e.is_io() => return Err(e),
                Err(e) => {
                    self.at += self.aligned_to;
                    if !std::mem::replace(&mut self.is_lost, true) {
                        return Err(e);
                    }
                }
            }
        }
    }

    /// A series and the bytes that it takes; `None` where there is padding.
    fn read_at(&mut self, at: u64) -> Result<Option<(IndexedSeries, u64)>, TsdbError> {
        let here = self.series.stream_position()?;
        match i64::try_from(i128::from(at) - i128::from(here)) {
            Ok(distance) => self.series.seek_relative(distance)?,
            Err(_) => drop(self.series.seek(SeekFrom::Start(at))?),
        }
        let length = read_uvarint(&mut self.series)?;
        if length == 0 {
            return Ok(None);
        }
        if length > TSDB_SERIES_BYTES {
            return Err(TsdbError::TooLarge { bytes: length, limit: TSDB_SERIES_BYTES });
        }
        read_into(&mut self.entry, &mut self.series, length + 4)?;
        let (entry, checksum) = self.entry.split_last_chunk::<4>().ok_or(TsdbError::Truncated)?;
        if crc32c::crc32c(entry) != u32::from_be_bytes(*checksum) {
            return Err(TsdbError::Checksum);
        }
        let series = IndexedSeries::parse(at / self.aligned_to, entry)?;
        Ok(Some((series, self.series.stream_position()? - at)))
    }

    /// The labels of a series of this index.
    pub fn labels(&mut self, series: &IndexedSeries) -> Result<Labels, TsdbError> {
        let mut pairs = Vec::with_capacity(series.labels.len());
        for (name, value) in &series.labels {
            pairs.push((self.symbols.get(*name)?, self.symbols.get(*value)?));
        }
        Ok(Labels::from_pairs(pairs))
    }
}

impl IndexedSeries {
    fn parse(id: u64, entry: &[u8]) -> Result<Self, TsdbError> {
        let mut cursor = Cursor::new(entry);
        let mut labels = Vec::new();
        let number = |n: u64| u32::try_from(n).map_err(|_| TsdbError::Numbers);
        for _ in 0..cursor.varint()? {
            labels.push((number(cursor.varint()?)?, number(cursor.varint()?)?));
        }
        let mut chunks = Vec::new();
        let (mut last_t_ms, mut place) = (0i64, 0u64);
        for n in 0..cursor.varint()? {
            // The first stands whole, the others as differences.
            let after = |t: i64, by: u64| t.checked_add_unsigned(by).ok_or(TsdbError::Numbers);
            let min_t_ms = if n == 0 { cursor.sint64()? } else { after(last_t_ms, cursor.varint()?)? };
            let max_t_ms = after(min_t_ms, cursor.varint()?)?;
            place = match n {
                0 => cursor.varint()?,
                _ => place.checked_add_signed(cursor.sint64()?).ok_or(TsdbError::Numbers)?,
            };
            last_t_ms = max_t_ms;
            chunks.push(ChunkPlace {
                min_t_ms,
                max_t_ms,
                segment: (place >> 32) as u32,
                offset: place as u32,
            });
        }
        Ok(Self { id, labels, chunks })
    }
}
