//! Prometheus' chunks as remote read hands them out: one type of sample, delta against the
//! sample before, written bit by bit (`tsdb/chunkenc` in Prometheus).
//!
//! The store has its own chunks; these are made when a reader asks for them. The three newer
//! encodings, which no reader has to know, are read only.

mod bits;
mod histogram;
mod starts;
mod xor;
mod xor2;

use std::sync::Arc;

use pilothouse_model::{Histogram, SampleColumns};

pub use bits::ChunkError;

/// Samples of a chunk, as Prometheus cuts them.
pub const SAMPLES_PER_CHUNK: usize = 120;

/// How the data of a chunk is written; the numbers are those of `prometheus.Chunk.Encoding` and of
/// the chunks of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkEncoding {
    Xor = 1,
    Histogram = 2,
    FloatHistogram = 3,
    /// The last three may hold start times.
    Xor2 = 4,
    HistogramWithStarts = 5,
    FloatHistogramWithStarts = 6,
}

impl ChunkEncoding {
    pub const ALL: [Self; 6] = [
        Self::Xor,
        Self::Histogram,
        Self::FloatHistogram,
        Self::Xor2,
        Self::HistogramWithStarts,
        Self::FloatHistogramWithStarts,
    ];

    pub fn from_wire(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|e| *e as i32 == number)
    }
}

/// A finished chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub min_t_ms: i64,
    pub max_t_ms: i64,
    pub encoding: ChunkEncoding,
    pub data: Vec<u8>,
}

/// Cuts the samples of one series into chunks, in order of time, and hands each to `emit`.
///
/// A chunk holds one type of sample. Histograms share one only while their buckets are laid out
/// the same and nothing decreases, since readers take the inside of a chunk as free of resets.
pub fn encode_chunks(columns: &SampleColumns, mut emit: impl FnMut(Chunk)) {
    let (mut floats, mut histograms) = (0, columns.histograms.as_slice());
    loop {
        let until = histograms.first().map_or(i64::MAX, |(t, _)| *t);
        let run = float_run(columns, floats, until);
        if run > floats {
            let (times, values) = (columns.times_ms.get(floats..run), columns.values.get(floats..run));
            emit(xor::encode(times.unwrap_or(&[]), values.unwrap_or(&[])));
            floats = run;
            continue;
        }
        let until = columns.times_ms.get(floats).copied();
        let run = histogram::run(histograms, until);
        if run == 0 {
            return;
        }
        let (chunk, rest) = histograms.split_at(run);
        emit(histogram::encode(chunk));
        histograms = rest;
    }
}

/// The end of the next chunk of floats that starts at `from` and stays before a time.
fn float_run(columns: &SampleColumns, from: usize, until: i64) -> usize {
    let end = columns.times_ms.len().min(columns.values.len()).min(from + SAMPLES_PER_CHUNK);
    let times = columns.times_ms.get(from..end).unwrap_or(&[]);
    // With no histogram left, also a float at the end of time belongs to the run.
    from + times.iter().take_while(|t| **t < until || until == i64::MAX).count()
}

/// Appends the samples of a chunk. Fails on data that ends early or makes no sense; never takes
/// more memory than a fixed multiple of the data's length.
pub fn decode_chunk(encoding: ChunkEncoding, data: &[u8], out: &mut SampleColumns) -> Result<(), ChunkError> {
    match encoding {
        ChunkEncoding::Xor => xor::decode(data, |t, v| out.push_float(t, v)),
        ChunkEncoding::Xor2 => xor2::decode(data, |t, v| out.push_float(t, v)),
        ChunkEncoding::Histogram | ChunkEncoding::HistogramWithStarts => {
            let with_starts = encoding == ChunkEncoding::HistogramWithStarts;
            histogram::decode_integer(data, with_starts, &mut |t, h| push(out, t, h))
        }
        ChunkEncoding::FloatHistogram | ChunkEncoding::FloatHistogramWithStarts => {
            let with_starts = encoding == ChunkEncoding::FloatHistogramWithStarts;
            histogram::decode_float(data, with_starts, &mut |t, h| push(out, t, h))
        }
    }
}

fn push(out: &mut SampleColumns, t_ms: i64, histogram: Histogram) {
    out.histograms.push((t_ms, Arc::new(histogram)));
}
