//! The page: blocks of many series in one value of the database, under one checksum.
//!
//! The database gives a value a run of bytes that is a power of two, so a page is filled to just
//! under one. In front stands a directory, in ascending series numbers; behind it the lists of
//! times that belong to the page alone, then the blocks.
//!
//! An entry says nothing of its first and last time: its list of times does, and four bytes more
//! a block would be three in a hundred. The page says the range of all its blocks.

use std::ops::Range;
use std::sync::Arc;

use pilothouse_model::Histogram;
use xxhash_rust::xxh3::xxh3_64;

use super::bits::{Input, put_signed, put_varint, varint_len};
use super::block::encode_values;
use super::histogram::{encode_histograms, histogram_rows_per_block};
use super::times::encode_times;
use super::{CodecError, Effort, MAX_BLOCK_SAMPLES};

/// The format this code writes, and the only one there has been.
pub const PAGE_VERSION: u8 = 1;
/// What is left free below a power of two for the database's own leaf header.
pub const LEAF_RESERVE: usize = 350;

const CHECKSUM_BYTES: usize = 8;
/// Most bytes of version, counts and time range.
const HEAD_BYTES: usize = 1 + 2 * 5 + 2 * 10;
/// A block is cut in two only when this much of the page would stay empty.
const CUT_FROM_BYTES: usize = 512;
/// Values of a piece: whole packed groups.
const CUT_STEP: usize = 64;

/// Where a block's times are found.
#[derive(Debug, Clone, Copy)]
pub enum Times<'a> {
    /// In the page itself; equal lists are stored once.
    Own(&'a [i64]),
    /// In a list that the caller keeps under a number below 2^31; here for the page's range.
    Shared(u32, &'a [i64]),
}

impl<'a> Times<'a> {
    fn slice(self) -> &'a [i64] {
        match self {
            Self::Own(times) | Self::Shared(_, times) => times,
        }
    }
}

/// Collects blocks until a page is full.
#[derive(Debug)]
pub struct PageBuilder {
    capacity: usize,
    directory: Vec<u8>,
    entries: u32,
    last: Predicted,
    lists: Vec<OwnList>,
    list_bytes: Vec<u8>,
    /// Bytes of the lengths of the lists.
    list_head_bytes: usize,
    blocks: Vec<u8>,
    range_ms: Option<(i64, i64)>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct OwnList {
    hash: u64,
    times_ms: Vec<i64>,
    bytes: usize,
}

/// What the next entry is expected to say besides its series.
#[derive(Debug, Clone, Copy, Default)]
struct Predicted {
    series: u32,
    /// List number, doubled; odd when it is the caller's.
    list: u32,
    count: u32,
}

const OTHER_LIST: u64 = 1;
const OTHER_SPAN: u64 = 2;

impl PageBuilder {
    /// A builder of pages just under `2^size_bits` bytes; 12 to 24 make sense.
    pub fn new(size_bits: u32) -> Self {
        Self {
            capacity: (1usize << size_bits.clamp(12, 24)) - LEAF_RESERVE,
            directory: Vec::new(),
            entries: 0,
            last: Predicted::default(),
            lists: Vec::new(),
            list_bytes: Vec::new(),
            list_head_bytes: 0,
            blocks: Vec::new(),
            range_ms: None,
            scratch: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Blocks so far.
    pub fn len(&self) -> usize {
        self.entries as usize
    }

    /// Bytes that [`PageBuilder::finish`] would write, at most.
    pub fn size(&self) -> usize {
        CHECKSUM_BYTES
            + HEAD_BYTES
            + self.directory.len()
            + self.list_head_bytes
            + self.list_bytes.len()
            + self.blocks.len()
    }

    /// Adds values of a series, whose times are `times[start..]`, as one block, and answers how
    /// many of them it took. Fewer than all means that the page is full: finish it and go on with
    /// the rest. Series must come in ascending numbers, the parts of one series in order.
    ///
    /// An empty page always takes something.
    pub fn push_floats(
        &mut self,
        series: u32,
        times: Times<'_>,
        start: usize,
        values: &[f64],
        effort: Effort,
    ) -> usize {
        let mut n = values.len().min(MAX_BLOCK_SAMPLES);
        let mut block = std::mem::take(&mut self.scratch);
        for _attempt in 0..4 {
            block.clear();
            encode_values(&values[..n], effort, &mut block);
            if self.push_block(series, times, start..start + n, &block) {
                self.scratch = block;
                return n;
            }
            n = self.smaller_part(n, block.len(), times);
            if n == 0 {
                break;
            }
        }
        self.scratch = block;
        if self.is_empty() { self.push_one_value(series, times, start, values) } else { 0 }
    }

    /// How many of `n` values that took `bytes` may fit; 0 if cutting is not worth it.
    fn smaller_part(&self, n: usize, bytes: usize, times: Times<'_>) -> usize {
        let own = if matches!(times, Times::Own(_)) { times.slice().len() / 4 + 32 } else { 0 };
        let room = self.capacity.saturating_sub(self.size() + own + 32);
        if room < CUT_FROM_BYTES || bytes == 0 {
            return 0;
        }
        (n * room / bytes * 15 / 16).min(n - 1) / CUT_STEP * CUT_STEP
    }

    /// Adds histograms of a series as [`PageBuilder::push_floats`] adds values. A single histogram
    /// that is larger than a page gets a page of its own, of the size it needs.
    pub fn push_histograms(
        &mut self,
        series: u32,
        times: Times<'_>,
        start: usize,
        rows: &[Arc<Histogram>],
        effort: Effort,
    ) -> usize {
        let mut n = rows.len().min(histogram_rows_per_block(rows));
        let mut block = Vec::new();
        while n > 0 {
            block.clear();
            encode_histograms(&rows[..n], effort, &mut block);
            if self.push_block(series, times, start..start + n, &block) {
                return n;
            }
            if n == 1 && self.is_empty() && series >= self.last.series {
                let capacity = std::mem::replace(&mut self.capacity, usize::MAX);
                let part = times.slice().get(start..start + 1).unwrap_or(&[]);
                let (times, span) = match times {
                    Times::Own(_) => (Times::Own(part), 0..1),
                    Times::Shared(..) => (times, start..start + 1),
                };
                let pushed = self.push_block(series, times, span, &block);
                self.capacity = capacity;
                return usize::from(pushed);
            }
            if !self.is_empty() && block.len() < self.capacity {
                return 0;
            }
            n /= 2;
        }
        0
    }

    /// The last resort on an empty page: a piece that fits whatever it is.
    fn push_one_value(&mut self, series: u32, times: Times<'_>, start: usize, values: &[f64]) -> usize {
        let n = values.len().min(CUT_STEP);
        let mut block = Vec::new();
        encode_values(&values[..n], Effort::Flush, &mut block);
        let part = times.slice().get(start..start + n).unwrap_or(&[]);
        let pushed = match times {
            Times::Own(_) => self.push_block(series, Times::Own(part), 0..n, &block),
            Times::Shared(..) => self.push_block(series, times, start..start + n, &block),
        };
        if pushed { n } else { 0 }
    }

    /// Adds a block as it is, for the samples `span` of its list of times; `false` if there is no
    /// room for it.
    pub fn push_block(&mut self, series: u32, times: Times<'_>, span: Range<usize>, block: &[u8]) -> bool {
        let list = self.list_of(times);
        let (start, count) = (span.start as u64, span.len() as u32);
        let tagged = match (times, list) {
            (Times::Shared(number, _), _) => number << 1 | 1,
            (_, Some(at)) => (at as u32) << 1,
            (_, None) => (self.lists.len() as u32) << 1,
        };
        let new_list = if matches!(times, Times::Own(_)) && list.is_none() {
            let mut bytes = Vec::new();
            encode_times(times.slice(), &mut bytes);
            bytes
        } else {
            Vec::new()
        };
        let mut flags = 0;
        let mut entry = Vec::with_capacity(24);
        if tagged != self.last.list {
            flags |= OTHER_LIST;
        }
        if start != 0 || count != self.last.count {
            flags |= OTHER_SPAN;
        }
        put_varint(&mut entry, u64::from(series.wrapping_sub(self.last.series)) << 2 | flags);
        put_varint(&mut entry, block.len() as u64);
        if flags & OTHER_LIST != 0 {
            put_signed(&mut entry, i64::from(tagged) - i64::from(self.last.list));
        }
        if flags & OTHER_SPAN != 0 {
            put_varint(&mut entry, start);
            put_varint(&mut entry, u64::from(count));
        }
        let list_head = if new_list.is_empty() { 0 } else { varint_len(new_list.len() as u64) };
        let more = entry.len() + block.len() + new_list.len() + list_head;
        if self.size() + more > self.capacity || series < self.last.series {
            return false;
        }
        if !new_list.is_empty() {
            self.list_head_bytes += list_head;
            self.list_bytes.extend_from_slice(&new_list);
            let times_ms = times.slice().to_vec();
            self.lists.push(OwnList { hash: hash_times(&times_ms), times_ms, bytes: new_list.len() });
        }
        self.directory.extend_from_slice(&entry);
        self.blocks.extend_from_slice(block);
        self.entries += 1;
        self.last = Predicted { series, list: tagged, count };
        self.widen(times.slice().get(span).unwrap_or(&[]));
        true
    }

    /// The place of an equal list of the page's own.
    fn list_of(&self, times: Times<'_>) -> Option<usize> {
        let Times::Own(times_ms) = times else { return None };
        let hash = hash_times(times_ms);
        self.lists.iter().rposition(|l| l.hash == hash && l.times_ms == times_ms)
    }

    fn widen(&mut self, times_ms: &[i64]) {
        if let (Some(first), Some(last)) = (times_ms.first(), times_ms.last()) {
            let (min, max) = self.range_ms.unwrap_or((*first, *last));
            self.range_ms = Some((min.min(*first), max.max(*last)));
        }
    }

    /// Appends the page to `out` and begins a new one. An empty builder writes nothing.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        let begin = out.len();
        out.reserve(self.size());
        out.extend_from_slice(&[0; CHECKSUM_BYTES]);
        out.push(PAGE_VERSION);
        let (min, max) = self.range_ms.unwrap_or((0, 0));
        put_signed(out, min);
        put_varint(out, max.wrapping_sub(min) as u64);
        put_varint(out, u64::from(self.entries));
        put_varint(out, self.lists.len() as u64);
        out.extend_from_slice(&self.directory);
        for list in &self.lists {
            put_varint(out, list.bytes as u64);
        }
        out.extend_from_slice(&self.list_bytes);
        out.extend_from_slice(&self.blocks);
        let checksum = xxh3_64(&out[begin + CHECKSUM_BYTES..]);
        out[begin..begin + CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.clear();
    }

    fn clear(&mut self) {
        self.directory.clear();
        self.entries = 0;
        self.last = Predicted::default();
        self.lists.clear();
        self.list_bytes.clear();
        self.list_head_bytes = 0;
        self.blocks.clear();
        self.range_ms = None;
    }
}

/// Only sorts out lists that cannot be equal.
fn hash_times(times_ms: &[i64]) -> u64 {
    times_ms.iter().fold(times_ms.len() as u64, |hash, t| {
        (hash.rotate_left(5) ^ *t as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// One block of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub series: u32,
    /// Samples of the block.
    pub count: u32,
    /// Where its first sample stands in its list of times.
    pub start: u32,
    list: u32,
    at: u32,
    length: u32,
}

/// Where an entry's list of times is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimesRef {
    /// In the page: the number of [`Page::own_times`].
    Own(u32),
    /// The caller's own number.
    Shared(u32),
}

impl Entry {
    pub fn times(&self) -> TimesRef {
        if self.list & 1 == 0 { TimesRef::Own(self.list >> 1) } else { TimesRef::Shared(self.list >> 1) }
    }
}

/// A page that was read and found whole. Blocks are handed out without copying.
#[derive(Debug, Clone)]
pub struct Page<B> {
    bytes: B,
    entries: Box<[Entry]>,
    lists: Box<[Range<u32>]>,
    /// First and last time of all blocks.
    pub range_ms: (i64, i64),
}

impl<B: AsRef<[u8]>> Page<B> {
    /// Checks the checksum and reads the directory.
    pub fn open(bytes: B) -> Result<Self, CodecError> {
        let whole = bytes.as_ref();
        let (checksum, body) = whole.split_first_chunk::<CHECKSUM_BYTES>().ok_or(CodecError::Truncated)?;
        if u64::from_le_bytes(*checksum) != xxh3_64(body) {
            return Err(CodecError::Checksum);
        }
        let mut input = Input::new(body);
        let (entries, lists, range_ms) = read_directory(&mut input, whole.len())?;
        Ok(Self { entries, lists, range_ms, bytes })
    }

    /// All blocks, by series and within a series in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The blocks of one series.
    pub fn find(&self, series: u32) -> &[Entry] {
        let from = self.entries.partition_point(|e| e.series < series);
        let rest = &self.entries[from..];
        &rest[..rest.partition_point(|e| e.series == series)]
    }

    pub fn block(&self, entry: &Entry) -> &[u8] {
        self.slice(&(entry.at..entry.at.saturating_add(entry.length)))
    }

    /// An encoded list of times of the page's own; empty if there is none of that number.
    pub fn own_times(&self, number: u32) -> &[u8] {
        self.lists.get(number as usize).map_or(&[], |range| self.slice(range))
    }

    pub fn own_list_count(&self) -> usize {
        self.lists.len()
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        self.bytes.as_ref().get(range.start as usize..range.end as usize).unwrap_or(&[])
    }

    /// Bytes held: the page and its directory.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.as_ref().len() + size_of_val(&*self.entries) + size_of_val(&*self.lists)
    }
}

type Directory = (Box<[Entry]>, Box<[Range<u32>]>, (i64, i64));

fn read_directory(input: &mut Input<'_>, size: usize) -> Result<Directory, CodecError> {
    let version = input.byte()?;
    if version != PAGE_VERSION {
        return Err(CodecError::Version(version));
    }
    let min = input.signed()?;
    let max = min.wrapping_add(input.varint()? as i64);
    // An entry takes at least two bytes and a list one, so a page cannot ask for more than it has.
    let entry_count = input.varint_to(input.rest().len() / 2, "entry count")?;
    let list_count = input.varint_to(input.rest().len(), "list count")?;
    let mut entries = Vec::with_capacity(entry_count);
    let mut last = Predicted::default();
    let mut at = 0u32;
    for _ in 0..entry_count {
        let entry = read_entry(input, &mut last, at)?;
        at = at.checked_add(entry.length).ok_or(CodecError::Corrupt("block length"))?;
        entries.push(entry);
    }
    let mut lists = Vec::with_capacity(list_count);
    let mut list_end = 0u32;
    for _ in 0..list_count {
        let length = input.varint_to(size, "list length")? as u32;
        let end = list_end.checked_add(length).ok_or(CodecError::Corrupt("list length"))?;
        lists.push(list_end..end);
        list_end = end;
    }
    // Offsets so far count from the end of the directory.
    let lists_at = (size - input.rest().len()) as u32;
    let blocks_at = lists_at.checked_add(list_end).ok_or(CodecError::Corrupt("list length"))?;
    if blocks_at as usize > size || at as usize > size - blocks_at as usize {
        return Err(CodecError::Truncated);
    }
    for list in &mut lists {
        *list = list.start + lists_at..list.end + lists_at;
    }
    for entry in &mut entries {
        entry.at += blocks_at;
        if entry.list & 1 == 0 && (entry.list >> 1) as usize >= list_count {
            return Err(CodecError::Corrupt("list number"));
        }
    }
    Ok((entries.into(), lists.into(), (min, max)))
}

fn read_entry(input: &mut Input<'_>, last: &mut Predicted, at: u32) -> Result<Entry, CodecError> {
    let head = input.varint()?;
    let length = input.varint_to(u32::MAX as usize, "block length")? as u32;
    let series = u32::try_from(head >> 2)
        .ok()
        .and_then(|delta| last.series.checked_add(delta))
        .ok_or(CodecError::Corrupt("series number"))?;
    last.series = series;
    if head & OTHER_LIST != 0 {
        let list = i64::from(last.list).checked_add(input.signed()?).and_then(|l| u32::try_from(l).ok());
        last.list = list.ok_or(CodecError::Corrupt("list number"))?;
    }
    let mut start = 0;
    if head & OTHER_SPAN != 0 {
        start = input.varint_to(MAX_BLOCK_SAMPLES, "start")? as u32;
        last.count = input.varint_to(MAX_BLOCK_SAMPLES, "count")? as u32;
    }
    Ok(Entry { series, count: last.count, start, list: last.list, at, length })
}
