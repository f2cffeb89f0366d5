//! What the records of a log say (`tsdb/record` in Prometheus).

use std::sync::Arc;

use pilothouse_model::write::BatchExemplar;
use pilothouse_model::{Histogram, Labels, Span};

use super::TsdbError;
use crate::proto::Cursor;
use crate::remote_write::histogram::{absolute, hint_from_wire};

const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const DELETIONS: u8 = 3;
const EXEMPLARS: u8 = 4;
/// Where chunks were put that are in files of their own.
const MARKERS: u8 = 5;
const METADATA: u8 = 6;
const HISTOGRAMS: u8 = 7;
const FLOAT_HISTOGRAMS: u8 = 8;
const CUSTOM_HISTOGRAMS: u8 = 9;
const CUSTOM_FLOAT_HISTOGRAMS: u8 = 10;
/// The last three may hold start times.
const SAMPLES_V2: u8 = 11;
const HISTOGRAMS_V2: u8 = 12;
const FLOAT_HISTOGRAMS_V2: u8 = 13;

/// Whether a start time is there, in a byte of its own.
const NO_START: u8 = 0;
const SAME_START: u8 = 1;

/// One thing that a log says; series are meant by a number that an entry before has named.
#[derive(Debug, Clone, PartialEq)]
pub enum LogEntry {
    Series {
        id: u64,
        labels: Labels,
    },
    Float {
        id: u64,
        t_ms: i64,
        value: f64,
    },
    Histogram {
        id: u64,
        t_ms: i64,
        histogram: Histogram,
    },
    Exemplar {
        id: u64,
        exemplar: BatchExemplar,
    },
    /// Both ends are inclusive. From the first to the last time there is, it says that a series has
    /// gone to a block.
    Deleted {
        id: u64,
        from_ms: i64,
        to_ms: i64,
    },
}

/// Whether a record names series or says what of them was deleted.
pub fn is_of_series(record: &[u8]) -> bool {
    matches!(record.first(), Some(&(SERIES | DELETIONS)))
}

/// Hands on what a record says. Metadata and places of chunks say nothing here. After an error,
/// what stands before it has been handed on.
pub fn read_record(record: &[u8], mut each: impl FnMut(LogEntry)) -> Result<(), TsdbError> {
    let (kind, rest) = record.split_first().ok_or(TsdbError::Truncated)?;
    let from = &mut Cursor::new(rest);
    let each = &mut each;
    match *kind {
        SERIES => each_of(from, each, |from| {
            let id = be64(from)?;
            Ok(LogEntry::Series { id, labels: Labels::from_pairs(read_pairs(from)?) })
        }),
        DELETIONS => each_of(from, each, |from| {
            let id = be64(from)?;
            Ok(LogEntry::Deleted { id, from_ms: from.sint64()?, to_ms: from.sint64()? })
        }),
        EXEMPLARS => each_of_base(from, each, |from, id, t_ms| {
            let value = float(from)?;
            let labels = read_pairs(from)?.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            Ok(LogEntry::Exemplar { id, exemplar: BatchExemplar { t_ms, value, labels } })
        }),
        SAMPLES => each_of_base(from, each, read_float),
        SAMPLES_V2 => each_of_last(from, each, read_float),
        HISTOGRAMS | CUSTOM_HISTOGRAMS => each_of_base(from, each, |from, id, t_ms| {
            Ok(LogEntry::Histogram { id, t_ms, histogram: read_histogram(from, true)? })
        }),
        FLOAT_HISTOGRAMS | CUSTOM_FLOAT_HISTOGRAMS => each_of_base(from, each, |from, id, t_ms| {
            Ok(LogEntry::Histogram { id, t_ms, histogram: read_histogram(from, false)? })
        }),
        HISTOGRAMS_V2 | FLOAT_HISTOGRAMS_V2 => each_of_last(from, each, |from, id, t_ms| {
            let histogram = read_histogram(from, *kind == HISTOGRAMS_V2)?;
            Ok(LogEntry::Histogram { id, t_ms, histogram })
        }),
        MARKERS | METADATA => Ok(()),
        other => Err(TsdbError::Record(other)),
    }
}

fn each_of(
    from: &mut Cursor<'_>,
    each: &mut impl FnMut(LogEntry),
    mut one: impl FnMut(&mut Cursor<'_>) -> Result<LogEntry, TsdbError>,
) -> Result<(), TsdbError> {
    while !from.is_at_end() {
        each(one(from)?);
    }
    Ok(())
}

/// Numbers of series and times as differences from one base, which stands in front.
fn each_of_base(
    from: &mut Cursor<'_>,
    each: &mut impl FnMut(LogEntry),
    mut one: impl FnMut(&mut Cursor<'_>, u64, i64) -> Result<LogEntry, TsdbError>,
) -> Result<(), TsdbError> {
    if from.is_at_end() {
        return Ok(());
    }
    let (id, t_ms) = (be64(from)?, be64(from)? as i64);
    each_of(from, each, |from| {
        let id = id.wrapping_add_signed(from.sint64()?);
        let t_ms = t_ms.wrapping_add(from.sint64()?);
        one(from, id, t_ms)
    })
}

/// The number of a series as the difference from the one before, its time from the first, and
/// behind them a start time, which nothing here stores.
fn each_of_last(
    from: &mut Cursor<'_>,
    each: &mut impl FnMut(LogEntry),
    mut one: impl FnMut(&mut Cursor<'_>, u64, i64) -> Result<LogEntry, TsdbError>,
) -> Result<(), TsdbError> {
    if from.is_at_end() {
        return Ok(());
    }
    let (mut id, first_ms) = (from.sint64()? as u64, from.sint64()?);
    from.sint64()?;
    each(one(from, id, first_ms)?);
    each_of(from, each, |from| {
        id = id.wrapping_add_signed(from.sint64()?);
        let t_ms = first_ms.wrapping_add(from.sint64()?);
        if !matches!(byte(from)?, NO_START | SAME_START) {
            from.sint64()?;
        }
        one(from, id, t_ms)
    })
}

fn read_float(from: &mut Cursor<'_>, id: u64, t_ms: i64) -> Result<LogEntry, TsdbError> {
    Ok(LogEntry::Float { id, t_ms, value: float(from)? })
}

fn read_pairs<'a>(from: &mut Cursor<'a>) -> Result<Vec<(&'a str, &'a str)>, TsdbError> {
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(|_| TsdbError::Text);
    let mut pairs = Vec::new();
    for _ in 0..from.varint()? {
        pairs.push((text(from.bytes()?)?, text(from.bytes()?)?));
    }
    Ok(pairs)
}

fn read_histogram(from: &mut Cursor<'_>, integer: bool) -> Result<Histogram, TsdbError> {
    let reset_hint = hint_from_wire(i32::from(byte(from)?));
    let schema = i32::try_from(from.sint64()?).map_err(|_| TsdbError::Numbers)?;
    let zero_threshold = float(from)?;
    let count = |from: &mut Cursor<'_>| -> Result<f64, TsdbError> {
        if integer { Ok(from.varint()? as f64) } else { float(from) }
    };
    let (zero_count, total, sum) = (count(from)?, count(from)?, float(from)?);
    let (positive_spans, negative_spans) = (read_spans(from)?, read_spans(from)?);
    let (positive_counts, negative_counts) = (read_counts(from, integer)?, read_counts(from, integer)?);
    let mut histogram = Histogram {
        schema,
        reset_hint,
        integer,
        zero_threshold,
        zero_count,
        count: total,
        sum,
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        ..Histogram::default()
    };
    if histogram.has_custom_buckets() {
        histogram.custom_bounds = Arc::from(read_counts(from, false)?);
    }
    Ok(histogram)
}

fn read_spans(from: &mut Cursor<'_>) -> Result<Vec<Span>, TsdbError> {
    let mut spans = Vec::new();
    for _ in 0..from.varint()? {
        spans.push(Span { offset: from.sint64()? as i32, length: from.varint()? as u32 });
    }
    Ok(spans)
}

/// Floats, or integers as differences between neighbours.
fn read_counts(from: &mut Cursor<'_>, integer: bool) -> Result<Vec<f64>, TsdbError> {
    let (mut deltas, mut counts) = (Vec::new(), Vec::new());
    for _ in 0..from.varint()? {
        match integer {
            true => deltas.push(from.sint64()?),
            false => counts.push(float(from)?),
        }
    }
    Ok(if integer { absolute(&deltas) } else { counts })
}

fn byte(from: &mut Cursor<'_>) -> Result<u8, TsdbError> {
    let byte = from.slice(from.at, from.at + 1).first().ok_or(TsdbError::Truncated)?;
    from.at += 1;
    Ok(*byte)
}

fn be64(from: &mut Cursor<'_>) -> Result<u64, TsdbError> {
    let bytes = from.slice(from.at, from.at + 8).first_chunk().ok_or(TsdbError::Truncated)?;
    from.at += 8;
    Ok(u64::from_be_bytes(*bytes))
}

fn float(from: &mut Cursor<'_>) -> Result<f64, TsdbError> {
    Ok(f64::from_bits(be64(from)?))
}
