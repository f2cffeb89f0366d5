//! `prometheus.ChunkedReadResponse`: chunks of one series a frame, each frame with its length in
//! front and a checksum.

use pilothouse_model::{Labels, SampleColumns};

use super::{ReadSeries, read_labels};
use crate::chunk::{Chunk, ChunkEncoding, ChunkError, decode_chunk, encode_chunks};
use crate::labels::{self, LABELS_KEY};
use crate::proto::{self, Cursor, ProtoError, bytes_key, varint_key};

/// Writes the frames of an answer, series by series.
#[derive(Debug)]
pub struct ChunksWriter {
    max_frame_bytes: usize,
}

impl ChunksWriter {
    /// Frames stay below `max_frame_bytes` unless one chunk and the labels alone are larger;
    /// Prometheus uses 1 MiB.
    pub fn new(max_frame_bytes: usize) -> Self {
        Self { max_frame_bytes }
    }

    /// Appends the frames of one series; none if it has no samples. `query_index` says which
    /// query of the request it answers. Callers add series sorted by labels within a query.
    pub fn series(&self, query_index: i64, labels: &Labels, samples: &SampleColumns, out: &mut Vec<u8>) {
        let mut head = Vec::new();
        for (name, value) in labels {
            labels::push_pair(&mut head, name.as_bytes(), value.as_bytes());
        }
        // The keys and lengths around the series, and the index of the query.
        let around = 32;
        let mut series = head.clone();
        encode_chunks(samples, |chunk| {
            let at = series.len();
            proto::push_message(&mut series, 2, |out| push_chunk(out, &chunk));
            if series.len() + around > self.max_frame_bytes && at > head.len() {
                push_frame(out, query_index, &series[..at]);
                series.copy_within(at.., head.len());
                series.truncate(series.len() - (at - head.len()));
            }
        });
        if series.len() > head.len() {
            push_frame(out, query_index, &series);
        }
    }
}

fn push_chunk(out: &mut Vec<u8>, chunk: &Chunk) {
    proto::push_int(out, 1, chunk.min_t_ms);
    proto::push_int(out, 2, chunk.max_t_ms);
    proto::push_int(out, 3, chunk.encoding as i64);
    proto::push_bytes(out, 4, &chunk.data);
}

fn push_frame(out: &mut Vec<u8>, query_index: i64, series: &[u8]) {
    let mut message = Vec::with_capacity(series.len() + 24);
    proto::push_bytes(&mut message, 1, series);
    proto::push_int(&mut message, 2, query_index);
    proto::push_varint(out, message.len() as u64);
    out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
}

/// Why a stream of frames cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame ends early")]
    Truncated,
    #[error("a frame is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("a frame does not have the checksum that it says")]
    Checksum,
    #[error("a frame does not hold a ChunkedReadResponse: {0}")]
    Message(#[from] ProtoError),
    #[error("a frame holds a chunk of the unknown type {0}")]
    ChunkType(i32),
    #[error("a frame holds a chunk that cannot be read: {0}")]
    Chunk(#[from] ChunkError),
}

/// Takes a stream of frames apart: for each series of a frame the index of its query and its
/// samples. A series that goes on over several frames comes several times.
pub fn read_frames(
    mut stream: &[u8],
    max_frame_bytes: usize,
    mut each: impl FnMut(i64, ReadSeries),
) -> Result<(), FrameError> {
    while !stream.is_empty() {
        read_frame(&mut stream, max_frame_bytes, &mut each)?;
    }
    Ok(())
}

/// Takes the first frame of a stream apart and leaves what is behind it, for callers that do not
/// want the samples of a whole answer in memory.
pub fn read_frame(
    stream: &mut &[u8],
    max_frame_bytes: usize,
    mut each: impl FnMut(i64, ReadSeries),
) -> Result<(), FrameError> {
    let mut prefix = Cursor::new(stream);
    let length = usize::try_from(prefix.varint()?).unwrap_or(usize::MAX);
    if length > max_frame_bytes {
        return Err(FrameError::TooLarge { limit: max_frame_bytes });
    }
    let rest = stream.get(prefix.at..).unwrap_or(&[]);
    let (checksum, rest) = rest.split_first_chunk::<4>().ok_or(FrameError::Truncated)?;
    let (message, rest) = rest.split_at_checked(length).ok_or(FrameError::Truncated)?;
    if crc32c::crc32c(message) != u32::from_be_bytes(*checksum) {
        return Err(FrameError::Checksum);
    }
    *stream = rest;
    read_message(message, &mut each)
}

const SERIES: u32 = bytes_key(1);
const QUERY_INDEX: u32 = varint_key(2);
const CHUNKS: u32 = bytes_key(2);

fn read_message(message: &[u8], each: &mut impl FnMut(i64, ReadSeries)) -> Result<(), FrameError> {
    let (mut series, mut query_index) = (Vec::new(), 0);
    let mut cursor = Cursor::new(message);
    while let Some(key) = cursor.key()? {
        match key {
            SERIES => series.push(read_series(cursor.message()?)?),
            QUERY_INDEX => query_index = cursor.int64()?,
            _ => cursor.skip_unknown(key, 1..=2)?,
        }
    }
    series.into_iter().for_each(|s| each(query_index, s));
    Ok(())
}

fn read_series(mut series: Cursor<'_>) -> Result<ReadSeries, FrameError> {
    let (mut pairs, mut samples) = (Vec::new(), SampleColumns::default());
    while let Some(key) = series.key()? {
        match key {
            LABELS_KEY => pairs.push(labels::read_pair(series.message()?)?),
            CHUNKS => {
                let (number, data) = read_chunk(series.message()?)?;
                let encoding = ChunkEncoding::from_wire(number).ok_or(FrameError::ChunkType(number))?;
                decode_chunk(encoding, data, &mut samples)?;
            }
            _ => series.skip_unknown(key, 1..=2)?,
        }
    }
    Ok(ReadSeries { labels: read_labels(&pairs), samples })
}

/// Type and data of a chunk; its times are said by the data too.
fn read_chunk(mut chunk: Cursor<'_>) -> Result<(i32, &[u8]), ProtoError> {
    let (mut number, mut data) = (0, &[][..]);
    while let Some(key) = chunk.key()? {
        match (key >> 3, key & 7) {
            (1 | 2, 0) => drop(chunk.varint()?),
            (3, 0) => number = chunk.int32()?,
            (4, 2) => data = chunk.bytes()?,
            _ => chunk.skip_unknown(key, 1..=4)?,
        }
    }
    Ok((number, data))
}
