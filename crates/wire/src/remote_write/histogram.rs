//! The message `Histogram`, which both versions and remote read share, both ways.

use std::sync::Arc;

use pilothouse_model::{Histogram, ResetHint, Span};

use crate::proto::{self, Cursor, ProtoError, fixed64_key, varint_key};

/// Integer counts stand as differences, float counts as they are; a message may mix them up, and
/// which of the two counts is known only at its end.
#[derive(Debug, Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

/// A histogram message as it came.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) t_ms: i64,
    pub(crate) histogram: Histogram,
    /// Counts, spans and bounds that the message held, also those beyond the bound.
    pub(crate) items: usize,
}

/// A list that counts on but keeps no more than a bound.
pub(crate) struct Bounded {
    max: usize,
    items: usize,
}

impl Bounded {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, items: 0 }
    }

    /// How many were pushed, kept or not.
    pub(crate) fn items(&self) -> usize {
        self.items
    }

    pub(crate) fn push<T>(&mut self, to: &mut Vec<T>, item: T) {
        self.items += 1;
        if to.len() < self.max {
            to.push(item);
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
enum Count {
    #[default]
    Absent,
    Integer(u64),
    Float(f64),
}

impl Count {
    fn as_float(self, integer: bool) -> f64 {
        match self {
            Self::Integer(n) if integer => n as f64,
            Self::Float(v) if !integer => v,
            _ => 0.0,
        }
    }
}

/// Reads a histogram. Its lists keep at most `max` entries each; a caller refuses it when
/// `items` shows that there were more. Whether it adds up is not asked.
pub(crate) fn read(mut message: Cursor<'_>, max: usize) -> Result<Wire, ProtoError> {
    let mut histogram = Histogram::default();
    let (mut count, mut zero, mut t_ms) = (Count::Absent, Count::Absent, 0);
    let (mut positive, mut negative, mut bounds) = (Side::default(), Side::default(), Vec::new());
    let mut bounded = Bounded::new(max);
    while let Some(key) = message.key()? {
        match key {
            KEY_COUNT_INT => count = Count::Integer(message.varint()?),
            KEY_COUNT_FLOAT => count = Count::Float(message.double()?),
            KEY_SUM => histogram.sum = message.double()?,
            KEY_SCHEMA => histogram.schema = message.sint32()?,
            KEY_ZERO_THRESHOLD => histogram.zero_threshold = message.double()?,
            KEY_ZERO_INT => zero = Count::Integer(message.varint()?),
            KEY_ZERO_FLOAT => zero = Count::Float(message.double()?),
            KEY_RESET_HINT => histogram.reset_hint = hint_from_wire(message.int32()?),
            KEY_TIMESTAMP => t_ms = message.int64()?,
            _ => match key >> 3 {
                8 => read_span(&mut message, key, &mut bounded, &mut negative.spans)?,
                9 => read_deltas(&mut message, key, &mut bounded, &mut negative.deltas)?,
                10 => read_doubles(&mut message, key, &mut bounded, &mut negative.counts)?,
                11 => read_span(&mut message, key, &mut bounded, &mut positive.spans)?,
                12 => read_deltas(&mut message, key, &mut bounded, &mut positive.deltas)?,
                13 => read_doubles(&mut message, key, &mut bounded, &mut positive.counts)?,
                16 => read_doubles(&mut message, key, &mut bounded, &mut bounds)?,
                _ => message.skip_unknown(key, 1..=16)?,
            },
        }
    }
    histogram.integer = !matches!(count, Count::Float(_));
    histogram.count = count.as_float(histogram.integer);
    histogram.zero_count = zero.as_float(histogram.integer);
    (histogram.positive_spans, histogram.positive_counts) = positive.finish(histogram.integer);
    (histogram.negative_spans, histogram.negative_counts) = negative.finish(histogram.integer);
    histogram.custom_bounds = Arc::from(bounds);
    Ok(Wire { t_ms, histogram, items: bounded.items })
}

impl Side {
    fn finish(self, integer: bool) -> (Vec<Span>, Vec<f64>) {
        let counts = if integer { absolute(&self.deltas) } else { self.counts };
        (self.spans, counts)
    }
}

/// Counts from differences. Sums wrap as they do in the peers; what comes out negative is then
/// refused as a negative count.
pub(crate) fn absolute(deltas: &[i64]) -> Vec<f64> {
    let mut count = 0i64;
    let add = |delta: &i64| {
        count = count.wrapping_add(*delta);
        count as f64
    };
    deltas.iter().map(add).collect()
}

/// Differences from counts; what is no integer is cut to one.
pub(crate) fn deltas(counts: &[f64]) -> impl Iterator<Item = i64> {
    let mut last = 0i64;
    counts.iter().map(move |count| {
        let delta = (*count as i64).wrapping_sub(last);
        last = *count as i64;
        delta
    })
}

pub(crate) fn read_span(
    message: &mut Cursor<'_>,
    key: u32,
    bounded: &mut Bounded,
    spans: &mut Vec<Span>,
) -> Result<(), ProtoError> {
    if key & 7 != 2 {
        return Err(ProtoError::WireType);
    }
    let mut nested = message.message()?;
    let mut span = Span { offset: 0, length: 0 };
    while let Some(key) = nested.key()? {
        match key {
            SPAN_OFFSET => span.offset = nested.sint32()?,
            SPAN_LENGTH => span.length = nested.varint()? as u32,
            _ => nested.skip_unknown(key, 1..=2)?,
        }
    }
    bounded.push(spans, span);
    Ok(())
}

pub(crate) fn read_deltas(
    message: &mut Cursor<'_>,
    key: u32,
    bounded: &mut Bounded,
    deltas: &mut Vec<i64>,
) -> Result<(), ProtoError> {
    match key & 7 {
        0 => bounded.push(deltas, message.sint64()?),
        2 => {
            let mut packed = message.message()?;
            while !packed.is_at_end() {
                bounded.push(deltas, packed.sint64()?);
            }
        }
        _ => return Err(ProtoError::WireType),
    }
    Ok(())
}

pub(crate) fn read_doubles(
    message: &mut Cursor<'_>,
    key: u32,
    bounded: &mut Bounded,
    values: &mut Vec<f64>,
) -> Result<(), ProtoError> {
    match key & 7 {
        1 => bounded.push(values, message.double()?),
        2 => {
            let mut packed = message.message()?;
            while !packed.is_at_end() {
                bounded.push(values, packed.double()?);
            }
        }
        _ => return Err(ProtoError::WireType),
    }
    Ok(())
}

/// Appends the fields of a histogram message. Counts of an integer histogram go as integers.
pub(crate) fn write(out: &mut Vec<u8>, t_ms: i64, histogram: &Histogram) {
    if histogram.integer {
        // The count decides the form, so it stands there also when it is zero.
        proto::push_varint(out, u64::from(KEY_COUNT_INT));
        proto::push_varint(out, histogram.count as u64);
    } else {
        proto::push_varint(out, u64::from(KEY_COUNT_FLOAT));
        out.extend_from_slice(&histogram.count.to_le_bytes());
    }
    proto::push_double(out, 3, histogram.sum);
    proto::push_sint(out, 4, i64::from(histogram.schema));
    proto::push_double(out, 5, histogram.zero_threshold);
    if histogram.integer {
        proto::push_uint(out, 6, histogram.zero_count as u64);
    } else {
        proto::push_double(out, 7, histogram.zero_count);
    }
    write_spans(out, 8, &histogram.negative_spans);
    write_counts(out, 9, histogram.integer, &histogram.negative_counts);
    write_spans(out, 11, &histogram.positive_spans);
    write_counts(out, 12, histogram.integer, &histogram.positive_counts);
    proto::push_int(out, 14, hint_to_wire(histogram.reset_hint));
    proto::push_int(out, 15, t_ms);
    proto::push_packed_doubles(out, 16, &histogram.custom_bounds);
}

/// Differences in `field` for an integer histogram, else counts in the field behind it.
fn write_counts(out: &mut Vec<u8>, field: u32, integer: bool, counts: &[f64]) {
    if integer {
        proto::push_packed_sint(out, field, deltas(counts));
    } else {
        proto::push_packed_doubles(out, field + 1, counts);
    }
}

fn write_spans(out: &mut Vec<u8>, field: u32, spans: &[Span]) {
    for span in spans {
        proto::push_message(out, field, |out| {
            proto::push_sint(out, 1, i64::from(span.offset));
            proto::push_uint(out, 2, u64::from(span.length));
        });
    }
}

pub(crate) fn hint_from_wire(number: i32) -> ResetHint {
    match number {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

fn hint_to_wire(hint: ResetHint) -> i64 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    }
}

const KEY_COUNT_INT: u32 = varint_key(1);
const KEY_COUNT_FLOAT: u32 = fixed64_key(2);
const KEY_SUM: u32 = fixed64_key(3);
const KEY_SCHEMA: u32 = varint_key(4);
const KEY_ZERO_THRESHOLD: u32 = fixed64_key(5);
const KEY_ZERO_INT: u32 = varint_key(6);
const KEY_ZERO_FLOAT: u32 = fixed64_key(7);
const KEY_RESET_HINT: u32 = varint_key(14);
const KEY_TIMESTAMP: u32 = varint_key(15);
const SPAN_OFFSET: u32 = varint_key(1);
const SPAN_LENGTH: u32 = varint_key(2);
