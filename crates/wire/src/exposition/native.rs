//! The message `Histogram` of the protobuf exposition: both forms in one.

use pilothouse_model::histogram::{Histogram, Span};

use crate::proto::{Cursor, ProtoError, bytes_key, fixed64_key, varint_key};
use crate::remote_write::histogram::{Bounded, absolute, read_deltas, read_doubles, read_span};

/// A histogram as it came. Numbers in floats win over those in integers where they are above zero.
#[derive(Debug, Default)]
pub(super) struct Native<'a> {
    count: u64,
    count_float: f64,
    pub(super) sum: f64,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    positive: Side,
    negative: Side,
    /// The classic buckets.
    pub(super) buckets: Vec<Bucket<'a>>,
    pub(super) exemplars: Vec<Cursor<'a>>,
    items: usize,
}

#[derive(Debug, Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

#[derive(Debug)]
pub(super) struct Bucket<'a> {
    cumulative: u64,
    cumulative_float: f64,
    pub(super) upper_bound: f64,
    pub(super) exemplar: Option<Cursor<'a>>,
}

fn float_or(float: f64, integer: u64) -> f64 {
    if float == 0.0 { integer as f64 } else { float }
}

impl Bucket<'_> {
    pub(super) fn count(&self) -> f64 {
        float_or(self.cumulative_float, self.cumulative)
    }
}

/// Reads the message; each list keeps at most `max` entries.
pub(super) fn read<'a>(mut message: Cursor<'a>, max: usize) -> Result<Native<'a>, ProtoError> {
    let mut read = Native::default();
    let mut bounded = Bounded::new(max);
    while let Some(key) = message.key()? {
        match key {
            COUNT => read.count = message.varint()?,
            SUM => read.sum = message.double()?,
            BUCKET => bounded.push(&mut read.buckets, read_bucket(message.message()?)?),
            COUNT_FLOAT => read.count_float = message.double()?,
            SCHEMA => read.schema = message.sint32()?,
            ZERO_THRESHOLD => read.zero_threshold = message.double()?,
            ZERO_COUNT => read.zero_count = message.varint()?,
            ZERO_COUNT_FLOAT => read.zero_count_float = message.double()?,
            EXEMPLARS => bounded.push(&mut read.exemplars, message.message()?),
            _ => match key >> 3 {
                9 => read_span(&mut message, key, &mut bounded, &mut read.negative.spans)?,
                10 => read_deltas(&mut message, key, &mut bounded, &mut read.negative.deltas)?,
                11 => read_doubles(&mut message, key, &mut bounded, &mut read.negative.counts)?,
                12 => read_span(&mut message, key, &mut bounded, &mut read.positive.spans)?,
                13 => read_deltas(&mut message, key, &mut bounded, &mut read.positive.deltas)?,
                14 => read_doubles(&mut message, key, &mut bounded, &mut read.positive.counts)?,
                _ => message.skip(key)?,
            },
        }
    }
    read.items = bounded.items();
    Ok(read)
}

fn read_bucket(mut message: Cursor<'_>) -> Result<Bucket<'_>, ProtoError> {
    let mut bucket = Bucket { cumulative: 0, cumulative_float: 0.0, upper_bound: 0.0, exemplar: None };
    while let Some(key) = message.key()? {
        match key {
            COUNT => bucket.cumulative = message.varint()?,
            SUM => bucket.upper_bound = message.double()?,
            BUCKET => bucket.exemplar = Some(message.message()?),
            COUNT_FLOAT => bucket.cumulative_float = message.double()?,
            _ => message.skip(key)?,
        }
    }
    Ok(bucket)
}

impl Native<'_> {
    /// Spans, buckets, counts and exemplars that the message held, also those beyond the bound.
    pub(super) fn items(&self) -> usize {
        self.items
    }

    pub(super) fn count(&self) -> f64 {
        float_or(self.count_float, self.count)
    }

    /// A histogram without spans, and with nothing about zero, is a classic one.
    pub(super) fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
    }

    fn is_float(&self) -> bool {
        self.count_float > 0.0 || self.zero_count_float > 0.0
    }

    /// The native form.
    pub(super) fn histogram(&self) -> Histogram {
        let float = self.is_float();
        let counts = |side: &Side| if float { side.counts.clone() } else { absolute(&side.deltas) };
        Histogram {
            schema: self.schema,
            integer: !float,
            zero_threshold: self.zero_threshold,
            zero_count: if float { self.zero_count_float } else { self.zero_count as f64 },
            count: if float { self.count_float } else { self.count as f64 },
            sum: self.sum,
            positive_counts: counts(&self.positive),
            positive_spans: self.positive.spans.clone(),
            negative_counts: counts(&self.negative),
            negative_spans: self.negative.spans.clone(),
            ..Histogram::default()
        }
    }

    /// Whether the spans have as many buckets as there are; the text says on which side not.
    pub(super) fn check(&self, histogram: &Histogram) -> Result<(), String> {
        for (side, spans, counts) in [
            ("positive", &histogram.positive_spans, &histogram.positive_counts),
            ("negative", &histogram.negative_spans, &histogram.negative_counts),
        ] {
            let total: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
            let have = counts.len();
            if total != have as u64 {
                return Err(format!("{side} side: spans require {total} buckets, have {have}"));
            }
        }
        Ok(())
    }
}

const COUNT: u32 = varint_key(1);
const SUM: u32 = fixed64_key(2);
const BUCKET: u32 = bytes_key(3);
const COUNT_FLOAT: u32 = fixed64_key(4);
const SCHEMA: u32 = varint_key(5);
const ZERO_THRESHOLD: u32 = fixed64_key(6);
const ZERO_COUNT: u32 = varint_key(7);
const ZERO_COUNT_FLOAT: u32 = fixed64_key(8);
const EXEMPLARS: u32 = bytes_key(16);
