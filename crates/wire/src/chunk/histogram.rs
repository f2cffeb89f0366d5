//! Native histograms: the layout of the buckets once in front, then per sample times as delta of
//! delta, and counts as delta of delta (integers) or exclusive or (floats).

use std::sync::Arc;

use pilothouse_model::histogram::{CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMAS};
use pilothouse_model::sample::is_stale;
use pilothouse_model::{Histogram, ResetHint, Span};

use super::bits::{BitReader, BitWriter, ChunkError};
use super::starts::StartTimes;
use super::xor::XorState;
use super::{Chunk, ChunkEncoding, SAMPLES_PER_CHUNK};
use crate::remote_write::histogram::deltas;

/// What a chunk says of resets, in the two high bits of its third byte, or with start times of its
/// first.
const RESET: u8 = 0b1000_0000;
const NOT_RESET: u8 = 0b0100_0000;
const GAUGE: u8 = 0b1100_0000;

/// Schemas up to this one are laid out as the exponential ones; newer Prometheus versions may
/// send them.
const MAX_RESERVED_SCHEMA: i64 = 52;

/// How many of the first histograms may share a chunk, staying before a time.
pub(super) fn run(histograms: &[(i64, Arc<Histogram>)], until: Option<i64>) -> usize {
    let Some((_, first)) = histograms.first() else { return 0 };
    let mut last: &Histogram = first;
    let mut n = 1;
    for (t, next) in histograms.iter().take(SAMPLES_PER_CHUNK).skip(1) {
        if until.is_some_and(|until| *t >= until) || !continues(last, next) {
            break;
        }
        (last, n) = (next, n + 1);
    }
    n
}

/// Whether `next` may stand behind `last` in a chunk. A stale marker has no buckets and stands
/// alone; that is rare enough.
fn continues(last: &Histogram, next: &Histogram) -> bool {
    let same_layout = last.schema == next.schema
        && last.integer == next.integer
        && last.zero_threshold.to_bits() == next.zero_threshold.to_bits()
        && last.positive_spans == next.positive_spans
        && last.negative_spans == next.negative_spans
        && last.positive_counts.len() == next.positive_counts.len()
        && last.negative_counts.len() == next.negative_counts.len()
        && last.custom_bounds == next.custom_bounds;
    let gauge = next.reset_hint == ResetHint::Gauge;
    same_layout
        && !last.is_stale()
        && !next.is_stale()
        && gauge == (last.reset_hint == ResetHint::Gauge)
        && (gauge || next.reset_hint != ResetHint::Reset && none_decreases(last, next))
}

fn none_decreases(last: &Histogram, next: &Histogram) -> bool {
    let grows = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| b >= a);
    next.count >= last.count
        && next.zero_count >= last.zero_count
        && grows(&last.positive_counts, &next.positive_counts)
        && grows(&last.negative_counts, &next.negative_counts)
}

/// A chunk of histograms that [`run`] has put together.
pub(super) fn encode(samples: &[(i64, Arc<Histogram>)]) -> Chunk {
    let integer = samples.first().is_none_or(|(_, h)| h.integer);
    let (min_t_ms, max_t_ms) =
        (samples.first().map_or(0, |(t, _)| *t), samples.last().map_or(0, |(t, _)| *t));
    let hint = samples.first().map_or(ResetHint::Unknown, |(_, h)| h.reset_hint);
    let mut header = (samples.len().min(usize::from(u16::MAX)) as u16).to_be_bytes().to_vec();
    header.push(match hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => RESET,
        ResetHint::NotReset => NOT_RESET,
        ResetHint::Gauge => GAUGE,
    });
    let mut out = BitWriter::after(header);
    if integer {
        encode_integer(&mut out, samples);
    } else {
        encode_float(&mut out, samples);
    }
    let encoding = if integer { ChunkEncoding::Histogram } else { ChunkEncoding::FloatHistogram };
    Chunk { min_t_ms, max_t_ms, encoding, data: out.finish() }
}

/// A stale marker is written without anything else.
fn bare_if_stale(histogram: &Histogram) -> Option<Histogram> {
    let bare = || Histogram { sum: histogram.sum, integer: histogram.integer, ..Histogram::default() };
    histogram.is_stale().then(bare)
}

/// A number with its last difference.
#[derive(Debug, Clone, Copy, Default)]
struct Dod {
    value: i64,
    delta: i64,
}

impl Dod {
    fn write(&mut self, out: &mut BitWriter, value: i64) {
        let delta = value.wrapping_sub(self.value);
        out.varbit(delta.wrapping_sub(self.delta));
        *self = Self { value, delta };
    }

    fn read(&mut self, from: &mut BitReader<'_>) -> Result<i64, ChunkError> {
        self.delta = self.delta.wrapping_add(from.varbit()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(self.value)
    }

    /// A number that stands whole; the next difference counts from none.
    fn whole(value: i64) -> Self {
        Self { value, delta: 0 }
    }
}

fn encode_integer(out: &mut BitWriter, samples: &[(i64, Arc<Histogram>)]) {
    let (mut t, mut count, mut zero) = (Dod::default(), Dod::default(), Dod::default());
    let mut sum = XorState::new(0.0);
    let mut buckets: Vec<Dod> = Vec::new();
    for (i, (time, histogram)) in samples.iter().enumerate() {
        let bare = bare_if_stale(histogram);
        let h = bare.as_ref().unwrap_or(histogram);
        // Both sides one behind the other, each in differences between neighbours.
        let columns = deltas(&h.positive_counts).chain(deltas(&h.negative_counts));
        let (n, z) = (h.count as u64, h.zero_count as u64);
        if i == 0 {
            write_layout(out, h);
            out.varbit(*time);
            out.varbit_unsigned(n);
            out.varbit_unsigned(z);
            out.bits(h.sum.to_bits(), 64);
            (t, count, zero) = (Dod::whole(*time), Dod::whole(n as i64), Dod::whole(z as i64));
            sum = XorState::new(h.sum);
            buckets = columns.map(Dod::whole).collect();
            buckets.iter().for_each(|b| out.varbit(b.value));
        } else {
            t.write(out, *time);
            count.write(out, n as i64);
            zero.write(out, z as i64);
            sum.write(out, h.sum);
            buckets.iter_mut().zip(columns).for_each(|(bucket, value)| bucket.write(out, value));
        }
    }
}

fn encode_float(out: &mut BitWriter, samples: &[(i64, Arc<Histogram>)]) {
    let mut t = Dod::default();
    // Count, zero count, sum, then both sides' buckets.
    let mut states: Vec<XorState> = Vec::new();
    for (i, (time, histogram)) in samples.iter().enumerate() {
        let bare = bare_if_stale(histogram);
        let h = bare.as_ref().unwrap_or(histogram);
        let columns = [h.count, h.zero_count, h.sum]
            .into_iter()
            .chain(h.positive_counts.iter().copied())
            .chain(h.negative_counts.iter().copied());
        if i == 0 {
            write_layout(out, h);
            out.varbit(*time);
            t = Dod::whole(*time);
            states = columns.map(XorState::new).collect();
            states.iter().for_each(|state| out.bits(state.value().to_bits(), 64));
        } else {
            t.write(out, *time);
            states.iter_mut().zip(columns).for_each(|(state, value)| state.write(out, value));
        }
    }
}

fn write_layout(out: &mut BitWriter, h: &Histogram) {
    write_zero_threshold(out, h.zero_threshold);
    out.varbit(i64::from(h.schema));
    for spans in [&h.positive_spans, &h.negative_spans] {
        out.varbit_unsigned(spans.len() as u64);
        for span in spans {
            out.varbit_unsigned(u64::from(span.length));
            out.varbit(i64::from(span.offset));
        }
    }
    if h.has_custom_buckets() {
        out.varbit_unsigned(h.custom_bounds.len() as u64);
        h.custom_bounds.iter().for_each(|bound| write_bound(out, *bound));
    }
}

/// One byte for zero and for powers of two from 2^-243 to 2^10, else a byte and the float.
fn write_zero_threshold(out: &mut BitWriter, threshold: f64) {
    let bits = threshold.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let power_of_two = bits & ((1 << 52) - 1) == 0 && (-243..=10).contains(&exponent);
    if bits == 0 {
        out.bits(0, 8);
    } else if power_of_two {
        out.bits((exponent + 244) as u64, 8);
    } else {
        out.bits(255, 8);
        out.bits(bits, 64);
    }
}

fn read_zero_threshold(from: &mut BitReader<'_>) -> Result<f64, ChunkError> {
    Ok(match from.bits(8)? {
        0 => 0.0,
        255 => from.float()?,
        n => f64::from_bits((n + 1023 - 244) << 52),
    })
}

/// Thousandths up to 33554.430 as a short number, else a zero bit and the float.
fn write_bound(out: &mut BitWriter, bound: f64) {
    let thousandths = bound * 1000.0;
    let whole = thousandths.round();
    if (0.0..=33_554_430.0).contains(&thousandths) && whole / 1000.0 == bound {
        return out.varbit_unsigned(whole as u64 + 1);
    }
    out.bit(false);
    out.bits(bound.to_bits(), 64);
}

fn read_bound(from: &mut BitReader<'_>) -> Result<f64, ChunkError> {
    Ok(match from.varbit_unsigned()? {
        0 => from.float()?,
        n => (n - 1) as f64 / 1000.0,
    })
}

/// The layout of a chunk, as a histogram without counts.
struct Layout {
    empty: Histogram,
    positive: usize,
    negative: usize,
}

fn read_layout(from: &mut BitReader<'_>, hint: ResetHint, integer: bool) -> Result<Layout, ChunkError> {
    let zero_threshold = read_zero_threshold(from)?;
    let schema = from.varbit()?;
    let known = i64::from(*EXPONENTIAL_SCHEMAS.start())..=MAX_RESERVED_SCHEMA;
    if schema != i64::from(CUSTOM_BUCKETS_SCHEMA) && !known.contains(&schema) {
        return Err(ChunkError::Schema(schema));
    }
    let (positive_spans, positive) = read_spans(from)?;
    let (negative_spans, negative) = read_spans(from)?;
    let mut bounds = Vec::new();
    if schema == i64::from(CUSTOM_BUCKETS_SCHEMA) {
        for _ in 0..from.varbit_unsigned()? {
            bounds.push(read_bound(from)?);
        }
    }
    // Each bucket takes a bit at least, so more buckets than bits are a lie.
    if positive + negative > from.remaining_bits() as u64 {
        return Err(ChunkError::Truncated);
    }
    let empty = Histogram {
        schema: schema as i32,
        reset_hint: hint,
        integer,
        zero_threshold,
        positive_spans,
        negative_spans,
        custom_bounds: Arc::from(bounds),
        ..Histogram::default()
    };
    Ok(Layout { empty, positive: positive as usize, negative: negative as usize })
}

fn read_spans(from: &mut BitReader<'_>) -> Result<(Vec<Span>, u64), ChunkError> {
    let (mut spans, mut buckets) = (Vec::new(), 0u64);
    for _ in 0..from.varbit_unsigned()? {
        let length = from.varbit_unsigned()? as u32;
        let offset = from.varbit()? as i32;
        buckets += u64::from(length);
        spans.push(Span { offset, length });
    }
    Ok((spans, buckets))
}

/// What stands in front of the bits of a chunk.
struct Header {
    samples: u16,
    hint: ResetHint,
    starts: StartTimes,
}

/// Reads the header of a chunk; with start times it holds the same in other places.
fn header(data: &[u8], with_starts: bool) -> Result<(Header, BitReader<'_>), ChunkError> {
    let ([high, low, third], body) = data.split_first_chunk::<3>().ok_or(ChunkError::Truncated)?;
    let flags = if with_starts { *high } else { *third };
    let hint = match flags & GAUGE {
        GAUGE => ResetHint::Gauge,
        RESET => ResetHint::Reset,
        NOT_RESET => ResetHint::NotReset,
        _ => ResetHint::Unknown,
    };
    let header = match with_starts {
        false => Header { samples: u16::from_be_bytes([*high, *low]), hint, starts: StartTimes::default() },
        true => {
            Header { samples: u16::from_be_bytes([*high & !GAUGE, *low]), hint, starts: StartTimes(*third) }
        }
    };
    Ok((header, BitReader::new(body)))
}

/// Behind the first sample of a chunk there is no reset, unless the chunk is of gauges.
fn hint_at(i: u16, hint: ResetHint) -> ResetHint {
    if i > 0 && hint != ResetHint::Gauge { ResetHint::NotReset } else { hint }
}

type Emit<'e> = &'e mut dyn FnMut(i64, Histogram);

pub(super) fn decode_integer(data: &[u8], with_starts: bool, emit: Emit<'_>) -> Result<(), ChunkError> {
    let (Header { samples, hint, starts }, mut from) = header(data, with_starts)?;
    if samples == 0 {
        return Ok(());
    }
    let layout = read_layout(&mut from, hint, true)?;
    let (mut t, mut count, mut zero) = (Dod::default(), Dod::default(), Dod::default());
    let mut sum = XorState::new(0.0);
    let mut buckets = vec![Dod::default(); layout.positive + layout.negative];
    for i in 0..samples {
        if i == 0 {
            t = Dod::whole(from.varbit()?);
            count = Dod::whole(from.varbit_unsigned()? as i64);
            zero = Dod::whole(from.varbit_unsigned()? as i64);
            sum = XorState::new(from.float()?);
            for bucket in &mut buckets {
                *bucket = Dod::whole(from.varbit()?);
            }
        } else {
            t.read(&mut from)?;
            count.read(&mut from)?;
            zero.read(&mut from)?;
            sum.read(&mut from)?;
            if !is_stale(sum.value()) {
                for bucket in &mut buckets {
                    bucket.read(&mut from)?;
                }
            }
        }
        starts.skip(i, &mut from)?;
        let (positive, negative) = buckets.split_at(layout.positive);
        let absolute = |side: &[Dod]| {
            let mut sum = 0i64;
            let add = |d: &Dod| {
                sum = sum.wrapping_add(d.value);
                sum as f64
            };
            side.iter().map(add).collect::<Vec<f64>>()
        };
        let columns = Columns {
            count: count.value as u64 as f64,
            zero_count: zero.value as u64 as f64,
            sum: sum.value(),
            positive: absolute(positive),
            negative: absolute(negative),
        };
        emit(t.value, layout.fill(hint_at(i, hint), columns));
    }
    Ok(())
}

pub(super) fn decode_float(data: &[u8], with_starts: bool, emit: Emit<'_>) -> Result<(), ChunkError> {
    let (Header { samples, hint, starts }, mut from) = header(data, with_starts)?;
    if samples == 0 {
        return Ok(());
    }
    let layout = read_layout(&mut from, hint, false)?;
    let mut t = Dod::default();
    let mut states = vec![XorState::new(0.0); 3 + layout.positive + layout.negative];
    for i in 0..samples {
        if i == 0 {
            t = Dod::whole(from.varbit()?);
            for state in &mut states {
                *state = XorState::new(from.float()?);
            }
        } else {
            t.read(&mut from)?;
            for n in 0..states.len() {
                // Behind the sum of a stale marker there are no buckets.
                if n == 3 && is_stale(states[2].value()) {
                    break;
                }
                states[n].read(&mut from)?;
            }
        }
        starts.skip(i, &mut from)?;
        let values = |from: usize, n: usize| states[from..from + n].iter().map(XorState::value).collect();
        let columns = Columns {
            count: states[0].value(),
            zero_count: states[1].value(),
            sum: states[2].value(),
            positive: values(3, layout.positive),
            negative: values(3 + layout.positive, layout.negative),
        };
        emit(t.value, layout.fill(hint_at(i, hint), columns));
    }
    Ok(())
}

struct Columns {
    count: f64,
    zero_count: f64,
    sum: f64,
    positive: Vec<f64>,
    negative: Vec<f64>,
}

impl Layout {
    fn fill(&self, reset_hint: ResetHint, columns: Columns) -> Histogram {
        if is_stale(columns.sum) {
            return Histogram { sum: columns.sum, integer: self.empty.integer, ..Histogram::default() };
        }
        Histogram {
            reset_hint,
            count: columns.count,
            zero_count: columns.zero_count,
            sum: columns.sum,
            positive_counts: columns.positive,
            negative_counts: columns.negative,
            ..self.empty.clone()
        }
    }
}
