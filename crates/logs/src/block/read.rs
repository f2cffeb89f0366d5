//! Reading the entries of a block, as far as they are wanted.

use std::fmt;
use std::ops::Range;

use pilothouse_model::Labels;
use pilothouse_model::logs::{EntryBatch, LineNeed, MetadataNeed};
use zstd::bulk::Decompressor;

use super::bytes::{Cursor, unseal};
use super::columns::{Planes, decompress_into, read_distances, skip_distances, undo_novelty};
use super::head::{Head, StreamStat};
use super::metadata::Sets;
use super::{BlockError, MAX_TEXT_BYTES};

/// What is wanted of a block: streams, a range of time (start inclusive, end exclusive), and how
/// much of each entry.
pub struct Want<'a> {
    pub streams: &'a dyn Fn(u32) -> bool,
    pub start_ns: i64,
    pub end_ns: i64,
    pub lines: LineNeed,
    pub metadata: &'a MetadataNeed,
}

impl fmt::Debug for Want<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Want")
            .field("start_ns", &self.start_ns)
            .field("end_ns", &self.end_ns)
            .field("lines", &self.lines)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// The wanted entries of one stream, borrowed from the reader.
#[derive(Debug, Clone, Copy)]
pub struct StreamEntries<'a> {
    pub number: u32,
    pub times_ns: &'a [i64],
    /// Exactly the lines of these entries; empty unless text was wanted.
    pub text: &'a str,
    /// From zero on; empty if lines were not wanted at all.
    pub bounds: &'a [u32],
    /// Distinct sets that occur in these entries; empty together with `metadata`.
    pub metadata_sets: &'a [Labels],
    pub metadata: &'a [u32],
}

impl<'a> StreamEntries<'a> {
    /// As visitors take it.
    pub fn batch(&self, labels: &'a Labels, stream: u64) -> EntryBatch<'a> {
        EntryBatch {
            labels,
            stream,
            times_ns: self.times_ns,
            text: self.text,
            bounds: self.bounds,
            metadata_sets: self.metadata_sets,
            metadata: self.metadata,
        }
    }
}

/// Where the entries of one stream lie in the reader's columns.
#[derive(Debug, Clone, Default)]
struct Slice {
    number: u32,
    /// In the block: the wanted entries, and all of the stream.
    entries: Range<usize>,
    stream: Range<usize>,
    times: Range<usize>,
    bounds: Range<usize>,
    text: Range<usize>,
    sets: Range<usize>,
    metadata: Range<usize>,
}

/// A part of the body: where it lies there, and where its text goes in the buffer.
struct PlacedPart {
    packed: Range<usize>,
    text: Range<usize>,
}

/// Reads blocks into buffers that it keeps; one for each thread that reads.
pub struct Reader {
    slices: Vec<Slice>,
    times: Vec<i64>,
    lengths: Vec<u32>,
    bounds: Vec<u32>,
    text: String,
    set_numbers: Vec<u32>,
    local_sets: Vec<Labels>,
    metadata: Vec<u32>,
    sets: Sets,
    planes: Planes,
    decompressed_bytes: u64,
    zstd: Decompressor<'static>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("slices", &self.slices).finish_non_exhaustive()
    }
}

impl Reader {
    /// Fails only if zstd gets no memory.
    pub fn new() -> Result<Self, BlockError> {
        Ok(Self {
            slices: Vec::new(),
            times: Vec::new(),
            lengths: Vec::new(),
            bounds: Vec::new(),
            text: String::new(),
            set_numbers: Vec::new(),
            local_sets: Vec::new(),
            metadata: Vec::new(),
            sets: Sets::default(),
            planes: Planes::default(),
            decompressed_bytes: 0,
            zstd: Decompressor::new().map_err(|_| BlockError::Compression)?,
        })
    }

    /// Reads what is wanted; [`Reader::streams`] then shows it. `body` is looked at only if text
    /// is wanted and some entry lies in range, `metadata` only if that is wanted and the block
    /// has any. After an error there is nothing to show.
    pub fn read(
        &mut self,
        head: &Head<'_>,
        body: &[u8],
        metadata: &[u8],
        want: &Want<'_>,
    ) -> Result<(), BlockError> {
        self.clear();
        let result = self.read_parts(head, body, metadata, want);
        if result.is_err() {
            self.clear();
        }
        result
    }

    fn read_parts(
        &mut self,
        head: &Head<'_>,
        body: &[u8],
        metadata: &[u8],
        want: &Want<'_>,
    ) -> Result<(), BlockError> {
        self.read_times(head, want)?;
        if self.slices.is_empty() {
            return Ok(());
        }
        if want.lines != LineNeed::Nothing {
            self.read_lengths(head)?;
        }
        if want.lines == LineNeed::Text {
            self.read_text(head, body)?;
        }
        if head.sets > 0 && *want.metadata != MetadataNeed::Nothing {
            self.read_metadata(head, metadata, want.metadata)?;
        }
        Ok(())
    }

    /// The streams of the last block that have wanted entries, in ascending order of number.
    pub fn streams(&self) -> impl Iterator<Item = StreamEntries<'_>> {
        self.slices.iter().map(|slice| StreamEntries {
            number: slice.number,
            times_ns: self.times.get(slice.times.clone()).unwrap_or(&[]),
            text: self.text.get(slice.text.clone()).unwrap_or(""),
            bounds: self.bounds.get(slice.bounds.clone()).unwrap_or(&[]),
            metadata_sets: self.local_sets.get(slice.sets.clone()).unwrap_or(&[]),
            metadata: self.metadata.get(slice.metadata.clone()).unwrap_or(&[]),
        })
    }

    /// What the last read decompressed.
    pub fn decompressed_bytes(&self) -> u64 {
        self.decompressed_bytes
    }

    fn clear(&mut self) {
        self.slices.clear();
        self.times.clear();
        self.bounds.clear();
        self.local_sets.clear();
        self.metadata.clear();
        self.decompressed_bytes = 0;
    }

    fn read_times(&mut self, head: &Head<'_>, want: &Want<'_>) -> Result<(), BlockError> {
        let mut cursor = Cursor(head.times);
        let mut at = 0;
        for stat in &head.streams {
            let all = at..at + stat.entries as usize;
            at = all.end;
            if !stat.overlaps(want.start_ns, want.end_ns) || !(want.streams)(stat.number) {
                skip_distances(&mut cursor, all.len() - 1)?;
                continue;
            }
            let start = self.times.len();
            read_stream_times(&mut cursor, stat, head.unit_ns, &mut self.times)?;
            let inside = self.cut_times(start, want);
            if !inside.is_empty() {
                let entries = all.start + inside.start..all.start + inside.end;
                let times = start..self.times.len();
                self.slices.push(Slice {
                    number: stat.number,
                    entries,
                    stream: all,
                    times,
                    ..Slice::default()
                });
            }
        }
        Ok(())
    }

    /// Keeps of the times from `start` on those in range; answers which ones they were.
    fn cut_times(&mut self, start: usize, want: &Want<'_>) -> Range<usize> {
        let times = self.times.get(start..).unwrap_or(&[]);
        let first = times.partition_point(|t| *t < want.start_ns);
        let end = times.partition_point(|t| *t < want.end_ns).max(first);
        self.times.truncate(start + end);
        self.times.drain(start..start + first);
        first..end
    }

    /// Lengths of all lines of the block, and the bounds of the wanted ones.
    fn read_lengths(&mut self, head: &Head<'_>) -> Result<(), BlockError> {
        let n = head.entries as usize;
        self.planes.read(head.lengths, n, &mut self.zstd)?;
        self.decompressed_bytes += head.lengths.len() as u64;
        for slice in &mut self.slices {
            self.lengths.resize(slice.entries.len(), 0);
            if !self.planes.copy(slice.entries.start, &mut self.lengths) {
                return Err(BlockError::Truncated);
            }
            let start = self.bounds.len();
            self.bounds.push(0);
            let mut end = 0u32;
            for length in &self.lengths {
                end = end.saturating_add(*length);
                self.bounds.push(end);
            }
            if end as usize > MAX_TEXT_BYTES {
                return Err(BlockError::Malformed("line length"));
            }
            slice.bounds = start..self.bounds.len();
        }
        Ok(())
    }

    fn read_text(&mut self, head: &Head<'_>, body: &[u8]) -> Result<(), BlockError> {
        let frames = unseal(body, "body")?;
        if frames.len() != head.parts.iter().map(|part| part.packed_bytes).sum::<usize>() {
            return Err(BlockError::Truncated);
        }
        let placed = self.place_streams(head)?;
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        bytes.resize(placed.last().map_or(0, |part| part.text.end), 0);
        for PlacedPart { packed, text } in placed {
            let frame = frames.get(packed).ok_or(BlockError::Truncated)?;
            let out = bytes.get_mut(text).ok_or(BlockError::Truncated)?;
            self.decompressed_bytes += out.len() as u64;
            decompress_into(frame, out, &mut self.zstd)?;
        }
        self.text = String::from_utf8(bytes).map_err(|_| BlockError::Malformed("text"))?;
        self.check_lines(head)
    }

    /// Finds the parts of the body that hold wanted streams, says where their text will lie in
    /// the buffer, and where in it the wanted lines of each stream begin and end.
    fn place_streams(&mut self, head: &Head<'_>) -> Result<Vec<PlacedPart>, BlockError> {
        let mut placed = Vec::new();
        let mut slices = self.slices.iter_mut().peekable();
        let mut stats = head.streams.iter();
        let (mut packed, mut free) = (0, 0);
        for part in &head.parts {
            let mut at = free;
            let mut wanted = false;
            for stat in stats.by_ref().take(part.streams) {
                if let Some(slice) = slices.next_if(|slice| slice.number == stat.number) {
                    wanted = true;
                    slice.text = line_range(&self.planes, slice, stat, &mut self.lengths)?;
                    slice.text = at + slice.text.start..at + slice.text.end;
                }
                at += stat.text_bytes as usize;
            }
            if wanted {
                placed.push(PlacedPart {
                    packed: packed..packed + part.packed_bytes,
                    text: free..free + part.text_bytes,
                });
                free += part.text_bytes;
            }
            packed += part.packed_bytes;
        }
        Ok(placed)
    }

    /// Every line must begin where a character does.
    fn check_lines(&self, head: &Head<'_>) -> Result<(), BlockError> {
        for slice in &self.slices {
            let text = self.text.get(slice.text.clone()).ok_or(BlockError::Malformed("line length"))?;
            let bounds = self.bounds.get(slice.bounds.clone()).unwrap_or(&[]);
            if bounds.last().is_none_or(|end| *end as usize != text.len()) {
                return Err(BlockError::Malformed("line length"));
            }
            // In ASCII every place will do; the flag may lie only in the harmless direction.
            let ascii = !head.non_ascii && text.is_ascii();
            if !ascii && !bounds.iter().all(|bound| text.is_char_boundary(*bound as usize)) {
                return Err(BlockError::Malformed("line length"));
            }
        }
        Ok(())
    }

    fn read_metadata(
        &mut self,
        head: &Head<'_>,
        frame: &[u8],
        need: &MetadataNeed,
    ) -> Result<(), BlockError> {
        let size = self.sets.read(frame, head.sets, need, &mut self.zstd)?;
        self.decompressed_bytes += size as u64;
        if self.sets.is_empty() {
            return Ok(());
        }
        let n = head.entries as usize;
        self.planes.read(head.set_numbers, n, &mut self.zstd)?;
        self.set_numbers.resize(n, 0);
        if !self.planes.copy(0, &mut self.set_numbers) {
            return Err(BlockError::Truncated);
        }
        undo_novelty(&mut self.set_numbers, head.sets)?;
        self.number_locally();
        Ok(())
    }

    /// Gives each stream its own short list of sets.
    fn number_locally(&mut self) {
        const NONE: u32 = u32::MAX;
        let mut local = vec![NONE; self.sets.distinct.len()];
        let mut touched: Vec<usize> = Vec::new();
        for slice in &mut self.slices {
            let (start, first_set) = (self.metadata.len(), self.local_sets.len());
            for number in self.set_numbers.get(slice.entries.clone()).unwrap_or(&[]) {
                let reduced = self.sets.reduced.get(*number as usize).copied().unwrap_or(0) as usize;
                let (Some(own), Some(set)) = (local.get_mut(reduced), self.sets.distinct.get(reduced)) else {
                    continue;
                };
                if *own == NONE {
                    *own = (self.local_sets.len() - first_set) as u32;
                    self.local_sets.push(set.clone());
                    touched.push(reduced);
                }
                self.metadata.push(*own);
            }
            for reduced in touched.drain(..) {
                if let Some(own) = local.get_mut(reduced) {
                    *own = NONE;
                }
            }
            slice.sets = first_set..self.local_sets.len();
            slice.metadata = start..self.metadata.len();
            // Entries without any metadata do not need to be told so one by one.
            if self.local_sets.get(slice.sets.clone()).is_none_or(|sets| sets.iter().all(Labels::is_empty)) {
                self.local_sets.truncate(first_set);
                self.metadata.truncate(start);
                (slice.sets, slice.metadata) = (0..0, 0..0);
            }
        }
    }
}

fn read_stream_times(
    cursor: &mut Cursor<'_>,
    stat: &StreamStat,
    unit_ns: i64,
    times: &mut Vec<i64>,
) -> Result<(), BlockError> {
    let mut t = stat.first_ns;
    times.push(t);
    // Sums wrap, so that damage is found by the last time instead of by a check of each.
    read_distances(cursor, stat.entries as usize - 1, |distance| {
        t = t.wrapping_add(distance.wrapping_mul(unit_ns as u64) as i64);
        times.push(t);
    })?;
    let ascends = times.get(times.len() - stat.entries as usize..).is_some_and(|t| t.is_sorted());
    if t == stat.last_ns && ascends { Ok(()) } else { Err(BlockError::Malformed("times")) }
}

/// Where the wanted lines lie in the text of their stream, whose lengths must add up.
fn line_range(
    planes: &Planes,
    slice: &Slice,
    stat: &StreamStat,
    lengths: &mut Vec<u32>,
) -> Result<Range<usize>, BlockError> {
    lengths.resize(slice.stream.len(), 0);
    if !planes.copy(slice.stream.start, lengths) {
        return Err(BlockError::Truncated);
    }
    let sum = |range: Range<usize>| -> u64 {
        lengths.get(range).unwrap_or(&[]).iter().map(|length| u64::from(*length)).sum()
    };
    let (before, inside) = (
        sum(0..slice.entries.start - slice.stream.start),
        sum(slice.entries.start - slice.stream.start..slice.entries.end - slice.stream.start),
    );
    if sum(0..slice.stream.len()) != u64::from(stat.text_bytes) {
        return Err(BlockError::Malformed("line length"));
    }
    Ok(before as usize..(before + inside) as usize)
}
