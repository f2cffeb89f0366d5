//! Remote read: `prometheus.ReadRequest` in, samples or streamed chunks out.
//!
//! The decoders of answers are here too: a test compares with what was sent, and a store's
//! history can be carried over from a remote system.

mod chunks;
mod samples;

use pilothouse_model::limits::Limits;
use pilothouse_model::{Labels, MatchOp, Matcher, SampleColumns};

use crate::DecodeError;
use crate::proto::{self, Cursor, ProtoError, bytes_key, varint_key};

pub use chunks::{ChunksWriter, FrameError, read_frame, read_frames};
pub(crate) use samples::push_series;
pub use samples::{SamplesWriter, read_response};

const MESSAGE: &str = "prometheus.ReadRequest";

/// What is asked for, and in which shape it is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadRequest {
    pub queries: Vec<ReadQuery>,
    pub response: ResponseType,
}

/// Series by matchers, with their samples between two times, both inclusive. The hints that a
/// request may carry say how the answer will be used; they change nothing in it and are dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadQuery {
    pub start_ms: i64,
    pub end_ms: i64,
    pub matchers: Vec<Matcher>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseType {
    /// One `prometheus.ReadResponse`, compressed as a snappy block.
    Samples,
    /// Frames of `prometheus.ChunkedReadResponse`, not compressed.
    StreamedXorChunks,
}

impl ResponseType {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Samples => "application/x-protobuf",
            Self::StreamedXorChunks => {
                "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
            }
        }
    }

    /// The first of the accepted types that there is; none asked for means samples.
    fn negotiate(accepted: &[i32]) -> Result<Self, DecodeError> {
        let supported = |number: &i32| match number {
            0 => Some(Self::Samples),
            1 => Some(Self::StreamedXorChunks),
            _ => None,
        };
        match accepted.iter().find_map(supported) {
            Some(response) => Ok(response),
            None if accepted.is_empty() => Ok(Self::Samples),
            None => Err(DecodeError::malformed(
                MESSAGE,
                format!("server does not support any of the requested response types: {accepted:?}"),
            )),
        }
    }
}

/// One series of an answer.
#[derive(Debug, Clone)]
pub struct ReadSeries {
    pub labels: Labels,
    pub samples: SampleColumns,
}

/// Takes a decompressed request apart.
pub fn decode_request(body: &[u8], limits: &Limits) -> Result<ReadRequest, DecodeError> {
    if body.len() as u64 > limits.max_query_length_bytes {
        return Err(DecodeError::TooMany { what: "bytes", limit: limits.max_query_length_bytes });
    }
    let mut cursor = Cursor::new(body);
    let parts = read_parts(&mut cursor);
    let (queries, accepted) =
        parts.map_err(|cause| DecodeError::Protobuf { message: MESSAGE, at: cursor.at, cause })?;
    let response = ResponseType::negotiate(&accepted)?;
    let asked = queries.iter().map(|q| 1 + q.matchers.len() as u64).sum::<u64>();
    if asked > limits.max_read_matchers {
        return Err(DecodeError::TooMany {
            what: "queries and matchers together",
            limit: limits.max_read_matchers,
        });
    }
    let queries = queries.into_iter().map(WireQuery::compile).collect::<Result<_, _>>()?;
    Ok(ReadRequest { queries, response })
}

/// A query before its regexes are compiled, which waits until their number is known.
#[derive(Debug, Default)]
struct WireQuery<'a> {
    start_ms: i64,
    end_ms: i64,
    matchers: Vec<WireMatcher<'a>>,
}

#[derive(Debug, Default)]
struct WireMatcher<'a> {
    op: i32,
    name: &'a [u8],
    value: &'a [u8],
}

const QUERIES: u32 = bytes_key(1);
const ACCEPTED: u32 = varint_key(2);
const ACCEPTED_PACKED: u32 = bytes_key(2);

fn read_parts<'a>(request: &mut Cursor<'a>) -> Result<(Vec<WireQuery<'a>>, Vec<i32>), ProtoError> {
    let (mut queries, mut accepted) = (Vec::new(), Vec::new());
    while let Some(key) = request.key()? {
        match key {
            QUERIES => queries.push(read_query(request.message()?)?),
            ACCEPTED => accepted.push(request.int32()?),
            ACCEPTED_PACKED => {
                let mut packed = request.message()?;
                while !packed.is_at_end() {
                    accepted.push(packed.int32()?);
                }
            }
            _ => request.skip_unknown(key, 1..=2)?,
        }
    }
    // Types beyond the few that exist cannot be meant, and would only lengthen a message.
    accepted.truncate(16);
    Ok((queries, accepted))
}

fn read_query(mut query: Cursor<'_>) -> Result<WireQuery<'_>, ProtoError> {
    let mut out = WireQuery::default();
    while let Some(key) = query.key()? {
        match (key >> 3, key & 7) {
            (1, 0) => out.start_ms = query.int64()?,
            (2, 0) => out.end_ms = query.int64()?,
            (3, 2) => out.matchers.push(read_matcher(query.message()?)?),
            _ => query.skip_unknown(key, 1..=3)?,
        }
    }
    Ok(out)
}

fn read_matcher(mut matcher: Cursor<'_>) -> Result<WireMatcher<'_>, ProtoError> {
    let mut out = WireMatcher::default();
    while let Some(key) = matcher.key()? {
        match (key >> 3, key & 7) {
            (1, 0) => out.op = matcher.int32()?,
            (2, 2) => out.name = matcher.bytes()?,
            (3, 2) => out.value = matcher.bytes()?,
            _ => matcher.skip_unknown(key, 1..=3)?,
        }
    }
    Ok(out)
}

impl WireQuery<'_> {
    fn compile(self) -> Result<ReadQuery, DecodeError> {
        let matchers = self.matchers.iter().map(WireMatcher::compile).collect::<Result<_, _>>()?;
        Ok(ReadQuery { start_ms: self.start_ms, end_ms: self.end_ms, matchers })
    }
}

impl WireMatcher<'_> {
    fn compile(&self) -> Result<Matcher, DecodeError> {
        let op = match self.op {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            n => return Err(DecodeError::malformed(MESSAGE, format!("invalid matcher type {n}"))),
        };
        let text = |bytes| {
            std::str::from_utf8(bytes).map_err(|_| DecodeError::malformed(MESSAGE, "a matcher is not UTF-8"))
        };
        let (name, value) = (text(self.name)?, text(self.value)?);
        Matcher::new(op, name, value)
            .map_err(|e| DecodeError::malformed(MESSAGE, format!("matcher of label {name:?}: {e}")))
    }
}

/// A request as a client sends it; not compressed. Asks for `accepted` in that order.
pub fn encode_request(queries: &[ReadQuery], accepted: &[ResponseType]) -> Vec<u8> {
    let mut out = Vec::new();
    for query in queries {
        proto::push_message(&mut out, 1, |out| {
            proto::push_int(out, 1, query.start_ms);
            proto::push_int(out, 2, query.end_ms);
            for matcher in &query.matchers {
                proto::push_message(out, 3, |out| push_matcher(out, matcher));
            }
        });
    }
    for response in accepted {
        // Also the zero is written: an entry of a list is there or not.
        proto::push_varint(&mut out, u64::from(ACCEPTED));
        proto::push_varint(&mut out, *response as u64);
    }
    out
}

fn push_matcher(out: &mut Vec<u8>, matcher: &Matcher) {
    let op = match matcher.op {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::Regex => 2,
        MatchOp::NotRegex => 3,
    };
    proto::push_uint(out, 1, op);
    proto::push_text(out, 2, &matcher.name);
    proto::push_text(out, 3, &matcher.value);
}

/// Labels of an answer; what is not UTF-8 is replaced.
fn read_labels(pairs: &[pilothouse_model::write::RawPair<'_>]) -> Labels {
    Labels::from_pairs(pairs.iter().map(|pair| crate::labels::lossy_pair(*pair)))
}
