//! The table of texts of an index: walked once, with the place of every so-manieth noted; a text is
//! then read where it stands.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use pilothouse_model::limits::{TSDB_SYMBOL_BYTES, TSDB_SYMBOL_CACHE_BYTES};

use super::{TsdbError, read_array, read_into, read_uvarint};

/// Of how many texts one has its place noted, as in Prometheus.
const EVERY: u64 = 32;
/// What an entry of the cache takes besides its text.
const CACHED_BYTES: usize = 48;

#[derive(Debug)]
pub(super) struct Symbols<R> {
    from: BufReader<R>,
    places: Places,
    /// Emptied when it is full: series stand in order, so that what is needed together is near.
    cache: HashMap<u32, Arc<str>>,
    cache_bytes: usize,
    text: Vec<u8>,
}

/// What the number in a series means.
#[derive(Debug)]
enum Places {
    /// Version 1: the offset of the text, within these.
    Offsets { start: u64, end: u64 },
    /// Later: which text it is.
    Ordinals { count: u64, noted: Vec<u64> },
}

impl<R: Read + Seek> Symbols<R> {
    /// Reads the table through, comparing its checksum. `end` is that of the sections.
    pub(super) fn open(from: R, start: u64, end: u64, by_offset: bool) -> Result<Self, TsdbError> {
        let mut from = BufReader::with_capacity(4 << 10, from);
        from.seek(SeekFrom::Start(start))?;
        let length = u64::from(u32::from_be_bytes(read_array(&mut from)?));
        let table = start.saturating_add(4);
        if table.saturating_add(length).saturating_add(4) > end {
            return Err(TsdbError::Truncated);
        }
        let mut walk = Walk { from: &mut from, at: table, end: table + length, crc: 0 };
        let count = u64::from(u32::from_be_bytes(walk.array()?));
        let mut noted = Vec::new();
        for n in 0..count {
            if n % EVERY == 0 && !by_offset {
                noted.push(walk.at);
            }
            walk.skip_text()?;
        }
        let (at, crc) = (walk.at, walk.crc);
        if at != table + length {
            return Err(TsdbError::Numbers);
        }
        if crc != u32::from_be_bytes(read_array(&mut from)?) {
            return Err(TsdbError::Checksum);
        }
        let places = match by_offset {
            true => Places::Offsets { start: table + 4, end: at },
            false => Places::Ordinals { count, noted },
        };
        Ok(Self { from, places, cache: HashMap::new(), cache_bytes: 0, text: Vec::new() })
    }

    pub(super) fn get(&mut self, symbol: u32) -> Result<Arc<str>, TsdbError> {
        if let Some(text) = self.cache.get(&symbol) {
            return Ok(Arc::clone(text));
        }
        let text = self.read(symbol)?;
        if self.cache_bytes > TSDB_SYMBOL_CACHE_BYTES {
            self.cache.clear();
            self.cache_bytes = 0;
        }
        self.cache_bytes += text.len() + CACHED_BYTES;
        self.cache.insert(symbol, Arc::clone(&text));
        Ok(text)
    }

    fn read(&mut self, symbol: u32) -> Result<Arc<str>, TsdbError> {
        let symbol = u64::from(symbol);
        let (at, skipped) = match &self.places {
            Places::Offsets { start, end } if (*start..*end).contains(&symbol) => (symbol, 0),
            Places::Ordinals { count, noted } if symbol < *count => {
                let noted = usize::try_from(symbol / EVERY).ok().and_then(|n| noted.get(n));
                (*noted.ok_or(TsdbError::Reference)?, symbol % EVERY)
            }
            _ => return Err(TsdbError::Reference),
        };
        self.from.seek(SeekFrom::Start(at))?;
        for _ in 0..skipped {
            let length = read_uvarint(&mut self.from)?;
            self.from.seek_relative(i64::try_from(length).map_err(|_| TsdbError::Numbers)?)?;
        }
        let length = read_uvarint(&mut self.from)?;
        if length > TSDB_SYMBOL_BYTES {
            return Err(TsdbError::TooLarge { bytes: length, limit: TSDB_SYMBOL_BYTES });
        }
        read_into(&mut self.text, &mut self.from, length)?;
        std::str::from_utf8(&self.text).map(Arc::from).map_err(|_| TsdbError::Text)
    }
}

/// Reading on while the checksum is counted.
struct Walk<'a, R> {
    from: &'a mut BufReader<R>,
    at: u64,
    end: u64,
    crc: u32,
}

impl<R: Read> Walk<'_, R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], TsdbError> {
        if self.at + N as u64 > self.end {
            return Err(TsdbError::Truncated);
        }
        let bytes = read_array(self.from)?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        self.at += N as u64;
        Ok(bytes)
    }

    fn skip_text(&mut self) -> Result<(), TsdbError> {
        let (mut length, mut shift) = (0u64, 0);
        loop {
            let [byte] = self.array()?;
            length |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            match byte {
                0..0x80 => break,
                // No text is longer than what 35 bits say, since a table is not.
                _ if shift > 28 => return Err(TsdbError::Numbers),
                _ => {}
            }
        }
        if length > self.end - self.at {
            return Err(TsdbError::Truncated);
        }
        self.at += length;
        while length > 0 {
            let buffered = self.from.fill_buf()?;
            let taken = buffered.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            if taken == 0 {
                return Err(TsdbError::Truncated);
            }
            self.crc = crc32c::crc32c_append(self.crc, buffered.get(..taken).unwrap_or_default());
            self.from.consume(taken);
            length -= taken as u64;
        }
        Ok(())
    }
}
