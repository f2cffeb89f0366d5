//! The head of a block: its directory of streams, and where the columns lie.

use super::bytes::{Cursor, size, unseal};
use super::{BlockError, MAX_ENTRIES, MAX_TEXT_BYTES};

pub(super) const VERSION: u8 = 1;
pub(super) const FLAG_NON_ASCII: u8 = 1;
pub(super) const FLAG_METADATA: u8 = 2;

/// What the directory tells of a stream without a look at its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStat {
    /// As it was given to the encoder; ascending within a block.
    pub number: u32,
    /// At least one.
    pub entries: u32,
    /// Both inclusive.
    pub first_ns: i64,
    pub last_ns: i64,
    /// Bytes of the lines.
    pub text_bytes: u32,
    /// Bytes of names and values of structured metadata, for each entry that has it.
    pub metadata_bytes: u64,
}

impl StreamStat {
    /// Whether an entry may lie in `start_ns <= t < end_ns`.
    pub fn overlaps(&self, start_ns: i64, end_ns: i64) -> bool {
        self.first_ns < end_ns && self.last_ns >= start_ns
    }
}

/// A piece of the body that is decompressed at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) streams: usize,
    pub(super) text_bytes: usize,
    pub(super) packed_bytes: usize,
}

/// The decoded directory, and the columns as they lie. Nothing is decompressed yet.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    pub min_ns: i64,
    pub max_ns: i64,
    pub entries: u32,
    pub text_bytes: u32,
    /// Some line has bytes above 127.
    pub non_ascii: bool,
    pub streams: Vec<StreamStat>,
    pub(super) parts: Vec<Part>,
    /// Distinct sets of metadata; zero if no entry has any.
    pub(super) sets: usize,
    pub(super) unit_ns: i64,
    pub(super) times: &'a [u8],
    pub(super) lengths: &'a [u8],
    pub(super) set_numbers: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads the directory and checks that its sums agree.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BlockError> {
        let mut cursor = Cursor(unseal(bytes, "head")?);
        let version = cursor.byte()?;
        if version != VERSION {
            return Err(BlockError::Version(version));
        }
        let (flags, exponent) = (cursor.byte()?, cursor.byte()?);
        if flags & !(FLAG_NON_ASCII | FLAG_METADATA) != 0 || exponent > 9 {
            return Err(BlockError::Malformed("header"));
        }
        let unit_ns = 10i64.pow(u32::from(exponent));
        let min_ns = cursor.signed()?;
        let max_ns = after(min_ns, cursor.varint()?, unit_ns)?;
        let entries = size(&mut cursor, MAX_ENTRIES)?;
        let streams = cursor.count()?;
        let parts = read_parts(&mut cursor)?;
        let has_metadata = flags & FLAG_METADATA != 0;
        let sets = if has_metadata { size(&mut cursor, entries)? } else { 0 };
        let streams = read_directory(&mut cursor, streams, (min_ns, max_ns, unit_ns), has_metadata)?;
        let times = cursor.slice()?;
        let lengths = cursor.slice()?;
        let set_numbers = if has_metadata { cursor.slice()? } else { &[] };
        let head = Self {
            min_ns,
            max_ns,
            entries: entries as u32,
            text_bytes: parts.iter().map(|part| part.text_bytes as u32).sum(),
            non_ascii: flags & FLAG_NON_ASCII != 0,
            streams,
            parts,
            sets,
            unit_ns,
            times,
            lengths,
            set_numbers,
        };
        if cursor.0.is_empty() && head.adds_up() { Ok(head) } else { Err(BlockError::Malformed("directory")) }
    }

    fn adds_up(&self) -> bool {
        let entries: u64 = self.streams.iter().map(|s| u64::from(s.entries)).sum();
        let mut streams = self.streams.iter();
        let parts_agree = self.parts.iter().all(|part| {
            let bytes: u64 = streams.by_ref().take(part.streams).map(|s| u64::from(s.text_bytes)).sum();
            bytes == part.text_bytes as u64
        });
        let of_parts: usize = self.parts.iter().map(|part| part.streams).sum();
        entries == u64::from(self.entries) && parts_agree && of_parts == self.streams.len()
    }
}

fn read_parts(cursor: &mut Cursor<'_>) -> Result<Vec<Part>, BlockError> {
    let n = cursor.count()?;
    let mut parts = Vec::with_capacity(n);
    let mut text_bytes = 0;
    for _ in 0..n {
        let part = Part {
            streams: size(cursor, MAX_ENTRIES)?,
            text_bytes: size(cursor, MAX_TEXT_BYTES - text_bytes)?,
            packed_bytes: size(cursor, 2 * MAX_TEXT_BYTES)?,
        };
        text_bytes += part.text_bytes;
        parts.push(part);
    }
    Ok(parts)
}

fn read_directory(
    cursor: &mut Cursor<'_>,
    n: usize,
    (min_ns, max_ns, unit_ns): (i64, i64, i64),
    has_metadata: bool,
) -> Result<Vec<StreamStat>, BlockError> {
    let mut streams = Vec::with_capacity(n.min(cursor.0.len() / 5));
    let mut next = Some(0u32);
    for _ in 0..n {
        let gap = cursor.u32()?;
        let number = next.and_then(|next| next.checked_add(gap)).ok_or(BlockError::Malformed("stream"))?;
        let entries = size(cursor, MAX_ENTRIES)? as u32;
        let first_ns = after(min_ns, cursor.varint()?, unit_ns)?;
        let last_ns = after(first_ns, cursor.varint()?, unit_ns)?;
        let text_bytes = size(cursor, MAX_TEXT_BYTES)? as u32;
        let metadata_bytes = if has_metadata { cursor.varint()? } else { 0 };
        if entries == 0 || last_ns > max_ns {
            return Err(BlockError::Malformed("stream"));
        }
        streams.push(StreamStat { number, entries, first_ns, last_ns, text_bytes, metadata_bytes });
        next = number.checked_add(1);
    }
    Ok(streams)
}

/// A time some units after another.
fn after(t_ns: i64, units: u64, unit_ns: i64) -> Result<i64, BlockError> {
    let distance = units.checked_mul(unit_ns as u64);
    let t = distance.and_then(|distance| t_ns.checked_add_unsigned(distance));
    t.ok_or(BlockError::Malformed("time"))
}
