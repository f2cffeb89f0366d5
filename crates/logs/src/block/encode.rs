//! Making a block of sorted entries.

use std::fmt;

use pilothouse_model::Labels;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::bytes::{begin_sealed, push_signed, push_slice, push_varint, seal};
use super::columns::{PADDING, compress_onto, novelty, push_distances, push_planes};
use super::grams::GramBuilder;
use super::head::{FLAG_METADATA, FLAG_NON_ASCII, VERSION};
use super::metadata::{MetadataNames, SetTable};
use super::slab::BlockFilter;
use super::words::WordCollector;
use super::{BlockError, MAX_ENTRIES, MAX_TEXT_BYTES};

/// For lines. Level 1 is 5 % larger and no faster to read.
const BODY_LEVEL: i32 = 3;
/// What that level takes for inputs up to 256 KiB is not best for lines: matches of five bytes and
/// more, found in larger tables as for longer inputs, make such a part 3.6 % smaller, and writing and
/// reading it 9 % faster. Parts of all lengths together are 1.2 % smaller.
const BODY_PARAMETERS: [CParameter; 3] =
    [CParameter::MinMatch(5), CParameter::HashLog(17), CParameter::ChainLog(17)];
const COLUMN_LEVEL: i32 = 3;
/// A part of the body is cut behind the stream that fills it, so that blocks of several times
/// this size can be read in pieces.
const PART_BYTES: usize = 256 << 10;

/// A finished block.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// Empty if no entry has structured metadata.
    pub metadata: Vec<u8>,
    pub filter: BlockFilter,
    /// Both inclusive.
    pub min_ns: i64,
    pub max_ns: i64,
    pub entries: u32,
    pub streams: u32,
    /// Bytes of all lines.
    pub text_bytes: u32,
    /// Bytes of names and values of structured metadata, for each entry that has it.
    pub metadata_bytes: u64,
    pub metadata_names: MetadataNames,
}

#[derive(Debug, Clone, Copy)]
struct StreamRun {
    number: u32,
    entries: u32,
    text_bytes: u32,
    metadata_bytes: u64,
}

/// Takes entries, stream after stream, and makes blocks of them. Keeps its buffers, so that one
/// is worth keeping for each thread that writes.
pub struct Encoder {
    text: Vec<u8>,
    times: Vec<i64>,
    lengths: Vec<u32>,
    set_numbers: Vec<u32>,
    runs: Vec<StreamRun>,
    sets: SetTable,
    lower: Vec<u8>,
    grams: GramBuilder,
    words: WordCollector,
    numbers: Vec<u32>,
    distances: Vec<u64>,
    column: Vec<u8>,
    scratch: Vec<u8>,
    body_zstd: Compressor<'static>,
    column_zstd: Compressor<'static>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("entries", &self.times.len()).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Fails only if zstd gets no memory.
    pub fn new() -> Result<Self, BlockError> {
        let zstd = |level| Compressor::new(level).map_err(|_| BlockError::Compression);
        let mut body_zstd = zstd(BODY_LEVEL)?;
        for parameter in BODY_PARAMETERS {
            body_zstd.set_parameter(parameter).map_err(|_| BlockError::Compression)?;
        }
        Ok(Self {
            text: Vec::new(),
            times: Vec::new(),
            lengths: Vec::new(),
            set_numbers: Vec::new(),
            runs: Vec::new(),
            sets: SetTable::default(),
            lower: Vec::new(),
            grams: GramBuilder::default(),
            words: WordCollector::default(),
            numbers: Vec::new(),
            distances: Vec::new(),
            column: Vec::new(),
            scratch: Vec::new(),
            body_zstd,
            column_zstd: zstd(COLUMN_LEVEL)?,
        })
    }

    /// Begins a stream. Numbers must ascend; a stream without entries leaves no trace.
    pub fn stream(&mut self, number: u32) -> Result<(), BlockError> {
        self.runs.pop_if(|run| run.entries == 0);
        if self.runs.last().is_some_and(|run| run.number >= number) {
            return Err(BlockError::Order);
        }
        self.runs.push(StreamRun { number, entries: 0, text_bytes: 0, metadata_bytes: 0 });
        Ok(())
    }

    /// Adds an entry to the stream begun last. Times must not descend within a stream.
    #[inline]
    pub fn push(&mut self, t_ns: i64, line: &str, metadata: &Labels) -> Result<(), BlockError> {
        let run = self.runs.last_mut().ok_or(BlockError::Order)?;
        if run.entries > 0 && self.times.last().is_some_and(|last| *last > t_ns) {
            return Err(BlockError::Order);
        }
        if self.text.len() + line.len() > MAX_TEXT_BYTES || self.times.len() >= MAX_ENTRIES {
            return Err(BlockError::TooLarge);
        }
        let (set, metadata_bytes) = self.sets.number(metadata)?;
        run.entries += 1;
        run.text_bytes += line.len() as u32;
        run.metadata_bytes += u64::from(metadata_bytes);
        self.text.extend_from_slice(line.as_bytes());
        self.times.push(t_ns);
        self.lengths.push(line.len() as u32);
        self.set_numbers.push(set);
        Ok(())
    }

    /// Bytes of lines pushed since the last block.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Makes the block and begins anew, also after an error.
    pub fn finish(&mut self) -> Result<Encoded, BlockError> {
        self.runs.pop_if(|run| run.entries == 0);
        let encoded = self.encode();
        self.clear();
        encoded
    }

    /// Drops what was pushed since the last block.
    pub fn clear(&mut self) {
        self.text.clear();
        self.times.clear();
        self.lengths.clear();
        self.set_numbers.clear();
        self.runs.clear();
        self.sets.clear();
    }

    fn encode(&mut self) -> Result<Encoded, BlockError> {
        let (Some(min_ns), Some(max_ns)) = (self.times.iter().min(), self.times.iter().max()) else {
            return Err(BlockError::Order);
        };
        let (min_ns, max_ns) = (*min_ns, *max_ns);
        let non_ascii = !self.text.is_ascii();
        let filter = self.filter(non_ascii);
        let (body, parts) = self.body()?;
        let metadata = self.sets.encode(&mut self.scratch, &mut self.column_zstd)?;
        let head = self.head(min_ns, max_ns, non_ascii, &parts)?;
        Ok(Encoded {
            head,
            body,
            metadata,
            filter,
            min_ns,
            max_ns,
            entries: self.times.len() as u32,
            streams: self.runs.len() as u32,
            text_bytes: self.text.len() as u32,
            metadata_bytes: self.runs.iter().map(|run| run.metadata_bytes).sum(),
            metadata_names: self.sets.names(),
        })
    }

    fn filter(&mut self, non_ascii: bool) -> BlockFilter {
        self.lower.clear();
        self.lower.extend_from_slice(&self.text);
        self.lower.make_ascii_lowercase();
        let words = self.words.collect(&mut self.lower, &self.lengths);
        let mut rest = self.lower.as_slice();
        for length in &self.lengths {
            let Some((line, after)) = rest.split_at_checked(*length as usize) else { break };
            self.grams.line(line, !words.complete);
            rest = after;
        }
        BlockFilter { grams: self.grams.take(non_ascii), words }
    }

    /// The body and its parts: streams, bytes before and after compression.
    fn body(&mut self) -> Result<(Vec<u8>, Vec<[usize; 3]>), BlockError> {
        let mut parts: Vec<[usize; 3]> = Vec::new();
        for run in &self.runs {
            let left = parts.iter().map(|part| part[1]).sum::<usize>();
            match parts.last_mut() {
                // What remains joins the part before it if it would be a small one.
                Some(part) if part[1] < PART_BYTES || self.text.len() - left < PART_BYTES / 2 => {
                    part[0] += 1;
                    part[1] += run.text_bytes as usize;
                }
                _ => parts.push([1, run.text_bytes as usize, 0]),
            }
        }
        let mut body = Vec::with_capacity(self.text.len() / 3);
        begin_sealed(&mut body);
        let mut start = 0;
        for part in &mut parts {
            let text = self.text.get(start..start + part[1]).unwrap_or(&[]);
            part[2] = compress_onto(&mut body, text, &mut self.body_zstd)?;
            start += part[1];
        }
        seal(&mut body);
        body.shrink_to_fit();
        Ok((body, parts))
    }

    fn head(
        &mut self,
        min_ns: i64,
        max_ns: i64,
        non_ascii: bool,
        parts: &[[usize; 3]],
    ) -> Result<Vec<u8>, BlockError> {
        let exponent = self.time_exponent(min_ns);
        let unit = 10u64.pow(exponent);
        let mut head = Vec::with_capacity(64 + 20 * self.runs.len() + 8 * self.times.len());
        begin_sealed(&mut head);
        let flags = if non_ascii { FLAG_NON_ASCII } else { 0 }
            | if self.sets.is_needed() { FLAG_METADATA } else { 0 };
        head.extend([VERSION, flags, exponent as u8]);
        push_signed(&mut head, min_ns);
        push_varint(&mut head, max_ns.abs_diff(min_ns) / unit);
        push_varint(&mut head, self.times.len() as u64);
        push_varint(&mut head, self.runs.len() as u64);
        push_varint(&mut head, parts.len() as u64);
        for part in parts {
            part.iter().for_each(|n| push_varint(&mut head, *n as u64));
        }
        if self.sets.is_needed() {
            push_varint(&mut head, self.sets.len() as u64);
        }
        self.directory(&mut head, min_ns, unit);
        self.columns(&mut head, unit)?;
        seal(&mut head);
        Ok(head)
    }

    /// The largest power of ten of which all distances from the first time are multiples.
    fn time_exponent(&self, min_ns: i64) -> u32 {
        let (mut exponent, mut unit) = (9, 1_000_000_000u64);
        for t in &self.times {
            while !t.abs_diff(min_ns).is_multiple_of(unit) {
                exponent -= 1;
                unit /= 10;
            }
            if exponent == 0 {
                break;
            }
        }
        exponent
    }

    fn directory(&self, head: &mut Vec<u8>, min_ns: i64, unit: u64) {
        let (mut at, mut next) = (0usize, 0u32);
        for run in &self.runs {
            let times = self.times.get(at..at + run.entries as usize).unwrap_or(&[]);
            let (first, last) = (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
            push_varint(head, u64::from(run.number - next));
            push_varint(head, u64::from(run.entries));
            push_varint(head, first.abs_diff(min_ns) / unit);
            push_varint(head, last.abs_diff(first) / unit);
            push_varint(head, u64::from(run.text_bytes));
            if self.sets.is_needed() {
                push_varint(head, run.metadata_bytes);
            }
            at += run.entries as usize;
            next = run.number.wrapping_add(1);
        }
    }

    fn columns(&mut self, head: &mut Vec<u8>, unit: u64) -> Result<(), BlockError> {
        self.column.clear();
        let mut at = 0;
        for run in &self.runs {
            let times = self.times.get(at..at + run.entries as usize).unwrap_or(&[]);
            self.distances.clear();
            self.distances.extend(times.windows(2).map(|pair| pair[1].abs_diff(pair[0]) / unit));
            push_distances(&mut self.column, &self.distances);
            at += run.entries as usize;
        }
        self.column.extend([0; PADDING]);
        push_slice(head, &self.column);

        self.column.clear();
        push_planes(&mut self.column, &self.lengths, &mut self.column_zstd, &mut self.scratch)?;
        push_slice(head, &self.column);

        if self.sets.is_needed() {
            novelty(&self.set_numbers, &mut self.numbers);
            self.column.clear();
            push_planes(&mut self.column, &self.numbers, &mut self.column_zstd, &mut self.scratch)?;
            push_slice(head, &self.column);
        }
        Ok(())
    }
}
