//! The sealed block of one series' native histograms.
//!
//! Histograms of one layout (schema, spans, bounds) stand together in a run, and a run is stored
//! by column: all counts, all sums, then each bucket over time. Each column is a block of float
//! values, which finds by itself that integer counts are integers and that most buckets hardly
//! change. A new layout starts a new run.

use std::sync::Arc;

use pilothouse_model::histogram::Histogram;
use pilothouse_model::{ResetHint, Span};

use super::bits::{Input, put_signed, put_varint};
use super::block::{decode_values, encode_values};
use super::{CodecError, Effort, MAX_BLOCK_SAMPLES};

/// First byte of a block of histograms; float blocks stay below it.
const KIND: u8 = 8 << 4;
/// Most spans, bounds or buckets on one side that a block may claim.
const MAX_BUCKETS: usize = 1 << 16;
/// Most buckets and spans of all histograms of one block together: columns that do not change
/// take two bytes, so it is not bytes that bound what a block decodes to.
pub const MAX_BLOCK_CELLS: usize = 1 << 22;
const INTEGER: u8 = 1;

/// Whether a block holds histograms and not floats.
pub fn holds_histograms(block: &[u8]) -> bool {
    block.first().is_some_and(|kind| *kind >= KIND)
}

fn cells(histogram: &Histogram) -> usize {
    histogram.positive_spans.len()
        + histogram.positive_counts.len()
        + histogram.negative_spans.len()
        + histogram.negative_counts.len()
}

/// How many of these histograms, from the first on, one block may hold; at least one.
pub fn histogram_rows_per_block(rows: &[Arc<Histogram>]) -> usize {
    let mut total = 0;
    let within = rows.iter().take(MAX_BLOCK_SAMPLES).take_while(|h| {
        total += cells(h);
        total <= MAX_BLOCK_CELLS
    });
    within.count().max(1)
}

/// Appends a block of histograms, of which there may be [`histogram_rows_per_block`]; none write
/// nothing.
pub fn encode_histograms(rows: &[Arc<Histogram>], effort: Effort, out: &mut Vec<u8>) {
    if rows.is_empty() {
        return;
    }
    out.push(KIND);
    put_hints(rows, out);
    for run in rows.chunk_by(|a, b| same_layout(a, b)) {
        put_run(run, effort, out);
    }
}

fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    a.schema == b.schema
        && a.integer == b.integer
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive_counts.len() == b.positive_counts.len()
        && a.negative_counts.len() == b.negative_counts.len()
        && same_bounds(&a.custom_bounds, &b.custom_bounds)
}

fn same_bounds(a: &Arc<[f64]>, b: &Arc<[f64]>) -> bool {
    Arc::ptr_eq(a, b)
        || (a.len() == b.len() && a.iter().zip(b.iter()).all(|(x, y)| x.to_bits() == y.to_bits()))
}

/// Reset hints as runs of (length, hint).
fn put_hints(rows: &[Arc<Histogram>], out: &mut Vec<u8>) {
    for run in rows.chunk_by(|a, b| a.reset_hint == b.reset_hint) {
        let hint = match run[0].reset_hint {
            ResetHint::Unknown => 0,
            ResetHint::Reset => 1,
            ResetHint::NotReset => 2,
            ResetHint::Gauge => 3,
        };
        put_varint(out, (run.len() as u64) << 2 | hint);
    }
}

fn put_run(run: &[Arc<Histogram>], effort: Effort, out: &mut Vec<u8>) {
    let layout = &run[0];
    put_varint(out, run.len() as u64);
    out.push(if layout.integer { INTEGER } else { 0 });
    put_signed(out, i64::from(layout.schema));
    put_column(&[layout.zero_threshold], effort, out);
    for (spans, counts) in
        [(&layout.positive_spans, &layout.positive_counts), (&layout.negative_spans, &layout.negative_counts)]
    {
        put_varint(out, spans.len() as u64);
        for span in spans {
            put_signed(out, i64::from(span.offset));
            put_varint(out, u64::from(span.length));
        }
        put_varint(out, counts.len() as u64);
    }
    put_varint(out, layout.custom_bounds.len() as u64);
    put_column(&layout.custom_bounds, effort, out);
    let mut column = Vec::with_capacity(run.len());
    let mut put = |pick: &dyn Fn(&Histogram) -> f64| {
        column.clear();
        column.extend(run.iter().map(|h| pick(h)));
        put_column(&column, effort, out);
    };
    put(&|h| h.count);
    put(&|h| h.sum);
    put(&|h| h.zero_count);
    for i in 0..layout.positive_counts.len() {
        put(&|h| h.positive_counts[i]);
    }
    for i in 0..layout.negative_counts.len() {
        put(&|h| h.negative_counts[i]);
    }
}

fn put_column(values: &[f64], effort: Effort, out: &mut Vec<u8>) {
    let mut block = Vec::new();
    encode_values(values, effort, &mut block);
    put_varint(out, block.len() as u64);
    out.extend_from_slice(&block);
}

/// Appends the `n` histograms of a block to `out`. After an error `out` may hold some of them.
pub fn decode_histograms(bytes: &[u8], n: usize, out: &mut Vec<Arc<Histogram>>) -> Result<(), CodecError> {
    if n == 0 {
        return Ok(());
    }
    if n > MAX_BLOCK_SAMPLES {
        return Err(CodecError::Corrupt("length"));
    }
    let mut input = Input::new(bytes);
    if input.byte()? != KIND {
        return Err(CodecError::Corrupt("block kind"));
    }
    let hints = read_hints(&mut input, n)?;
    let mut done = 0;
    let mut cells_left = MAX_BLOCK_CELLS;
    while done < n {
        let run = input.varint_to(n - done, "run length")?;
        if run == 0 {
            return Err(CodecError::Corrupt("run length"));
        }
        read_run(&mut input, &hints[done..done + run], &mut cells_left, out)?;
        done += run;
    }
    Ok(())
}

fn read_hints(input: &mut Input<'_>, n: usize) -> Result<Vec<ResetHint>, CodecError> {
    let mut hints = Vec::with_capacity(n);
    while hints.len() < n {
        let head = input.varint()?;
        let length = usize::try_from(head >> 2).ok().filter(|l| *l > 0 && *l <= n - hints.len());
        let hint = match head & 3 {
            0 => ResetHint::Unknown,
            1 => ResetHint::Reset,
            2 => ResetHint::NotReset,
            _ => ResetHint::Gauge,
        };
        hints.extend(std::iter::repeat_n(hint, length.ok_or(CodecError::Corrupt("hints"))?));
    }
    Ok(hints)
}

fn read_run(
    input: &mut Input<'_>,
    hints: &[ResetHint],
    cells_left: &mut usize,
    out: &mut Vec<Arc<Histogram>>,
) -> Result<(), CodecError> {
    let run = hints.len();
    let integer = input.byte()? & INTEGER != 0;
    let schema = i32::try_from(input.signed()?).map_err(|_| CodecError::Corrupt("schema"))?;
    let zero_threshold = read_column(input, 1)?.first().copied().unwrap_or(0.0);
    let (positive_spans, positive) = read_side(input)?;
    let (negative_spans, negative) = read_side(input)?;
    let bounds = input.varint_to(MAX_BUCKETS, "bounds")?;
    let custom_bounds: Arc<[f64]> = read_column(input, bounds)?.into();
    let cells = (positive + negative + positive_spans.len() + negative_spans.len()).saturating_mul(run);
    *cells_left = cells_left.checked_sub(cells).ok_or(CodecError::Corrupt("histogram size"))?;
    let (counts, sums, zeros) =
        (read_column(input, run)?, read_column(input, run)?, read_column(input, run)?);
    let mut rows: Vec<Histogram> = Vec::with_capacity(run);
    for i in 0..run {
        rows.push(Histogram {
            schema,
            reset_hint: hints[i],
            integer,
            zero_threshold,
            zero_count: zeros[i],
            count: counts[i],
            sum: sums[i],
            positive_spans: positive_spans.clone(),
            positive_counts: Vec::with_capacity(positive),
            negative_spans: negative_spans.clone(),
            negative_counts: Vec::with_capacity(negative),
            custom_bounds: custom_bounds.clone(),
        });
    }
    for _ in 0..positive {
        for (row, value) in rows.iter_mut().zip(read_column(input, run)?) {
            row.positive_counts.push(value);
        }
    }
    for _ in 0..negative {
        for (row, value) in rows.iter_mut().zip(read_column(input, run)?) {
            row.negative_counts.push(value);
        }
    }
    out.extend(rows.into_iter().map(Arc::new));
    Ok(())
}

/// Spans of one side and the number of its buckets.
fn read_side(input: &mut Input<'_>) -> Result<(Vec<Span>, usize), CodecError> {
    let n = input.varint_to(MAX_BUCKETS.min(input.rest().len()), "spans")?;
    let mut spans = Vec::with_capacity(n);
    for _ in 0..n {
        let offset = i32::try_from(input.signed()?).map_err(|_| CodecError::Corrupt("span"))?;
        let length = u32::try_from(input.varint()?).map_err(|_| CodecError::Corrupt("span"))?;
        spans.push(Span { offset, length });
    }
    Ok((spans, input.varint_to(MAX_BUCKETS, "buckets")?))
}

fn read_column(input: &mut Input<'_>, n: usize) -> Result<Vec<f64>, CodecError> {
    let length = input.varint_to(input.rest().len(), "column")?;
    let mut values = Vec::new();
    decode_values(input.take(length)?, n, &mut values)?;
    Ok(values)
}
