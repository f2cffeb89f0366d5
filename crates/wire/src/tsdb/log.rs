//! Segments of a write-ahead log, of which a checkpoint and the log of what came out of order are
//! made too: pages of 32 KiB, in which a record lies in one piece or in several
//! (`tsdb/docs/format/wal.md` in Prometheus).

use std::io::Read;

use pilothouse_model::limits::TSDB_RECORD_BYTES;

use super::TsdbError;
use crate::body::{BodyError, Encoding, decompress_into};

const PAGE_BYTES: u64 = 32 << 10;
/// Of a piece: its kind, length and checksum.
const HEADER_BYTES: usize = 7;
const SNAPPY: u8 = 1 << 3;
const ZSTD: u8 = 1 << 4;

/// What a piece is to its record, the low bits of its first byte.
const PADDING: u8 = 0;
const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// One file of a log, read record by record.
#[derive(Debug)]
pub struct LogSegment<R> {
    from: R,
    /// The last one of a file that is being written is shorter.
    page: Vec<u8>,
    at: usize,
    /// The pieces of the record that is being put together; nothing between records.
    pieces: Option<Vec<u8>>,
    /// Behind damage: pieces are passed over up to the first of a record.
    is_lost: bool,
    record: Vec<u8>,
    read_bytes: u64,
}

impl<R: Read> LogSegment<R> {
    pub fn new(from: R) -> Self {
        let page = Vec::with_capacity(PAGE_BYTES as usize);
        Self { from, page, at: 0, pieces: None, is_lost: false, record: Vec::new(), read_bytes: 0 }
    }

    /// Of the file.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The next record, decompressed; `None` at the end. A stretch that cannot be read is one error,
    /// and the next call finds what comes behind it. A record that the file breaks off in is an
    /// error too, [`TsdbError::Truncated`]: it is how a log ends whose writer was killed.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, TsdbError> {
        loop {
            if self.at >= self.page.len() && !self.next_page()? {
                self.is_lost = false;
                return match self.pieces.take() {
                    Some(_) => Err(TsdbError::Truncated),
                    None => Ok(None),
                };
            }
            match self.next_piece() {
                Ok(false) => {}
                Ok(true) => {
                    self.is_lost = false;
                    return Ok(Some(&self.record));
                }
                Err(e) => {
                    self.pieces = None;
                    if !std::mem::replace(&mut self.is_lost, true) {
                        return Err(e);
                    }
                }
            }
        }
    }

    fn next_page(&mut self) -> Result<bool, TsdbError> {
        self.page.clear();
        self.at = 0;
        let read = self.from.by_ref().take(PAGE_BYTES).read_to_end(&mut self.page)?;
        self.read_bytes += read as u64;
        Ok(read > 0)
    }

    /// Takes a piece; true where it ends a record. After an error the page is left, or the record.
    fn next_piece(&mut self) -> Result<bool, TsdbError> {
        let rest = self.page.get(self.at..).unwrap_or_default();
        let Some((first, _)) = rest.split_first() else { return Ok(false) };
        let (kind, flags) = (first & 7, *first);
        if kind == PADDING {
            let is_padding = rest.iter().all(|byte| *byte == 0);
            self.at = self.page.len();
            return if is_padding { Ok(false) } else { Err(TsdbError::Numbers) };
        }
        let Some(data) = piece_data(rest) else {
            self.at = self.page.len();
            return Err(TsdbError::Truncated);
        };
        if crc32c::crc32c(data.0) != data.1 {
            self.at = self.page.len();
            return Err(TsdbError::Checksum);
        }
        let whole = HEADER_BYTES + data.0.len();
        if matches!(kind, WHOLE | FIRST) && self.pieces.take().is_some() {
            // The record before was never ended; this one is read by the next call.
            self.is_lost = false;
            return Err(TsdbError::Truncated);
        }
        let mut pieces = match (kind, self.pieces.take()) {
            (WHOLE | FIRST, _) => Vec::new(),
            (MIDDLE | LAST, Some(pieces)) => pieces,
            _ => {
                self.at += whole;
                return Err(TsdbError::Reference);
            }
        };
        pieces.extend_from_slice(data.0);
        self.at += whole;
        if pieces.len() as u64 > TSDB_RECORD_BYTES {
            return Err(TsdbError::TooLarge { bytes: pieces.len() as u64, limit: TSDB_RECORD_BYTES });
        }
        if matches!(kind, WHOLE | LAST) {
            decompress_record(flags, &pieces, &mut self.record)?;
            return Ok(true);
        }
        self.is_lost = false;
        self.pieces = Some(pieces);
        Ok(false)
    }
}

/// The data of the piece that bytes begin with, and its checksum; `None` where they end before.
fn piece_data(bytes: &[u8]) -> Option<(&[u8], u32)> {
    let ([_, high, low, a, b, c, d], rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let data = rest.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
    Some((data, u32::from_be_bytes([*a, *b, *c, *d])))
}

fn decompress_record(flags: u8, bytes: &[u8], record: &mut Vec<u8>) -> Result<(), TsdbError> {
    let encoding = match flags {
        _ if flags & SNAPPY != 0 => Encoding::Snappy,
        _ if flags & ZSTD != 0 => Encoding::Zstd,
        _ => Encoding::Identity,
    };
    decompress_into(encoding, bytes, TSDB_RECORD_BYTES, record).map_err(|e| match e {
        BodyError::TooLarge { limit } => TsdbError::TooLarge { bytes: limit + 1, limit },
        e => TsdbError::Compression(e),
    })
}
