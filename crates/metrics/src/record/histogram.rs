//! One native histogram in a record, whole and exact.

use std::sync::Arc;

use pilothouse_model::{Histogram, ResetHint, Span};

use pilothouse_model::bytes::{Malformed, Reader, push_f64, push_signed, push_varint};

const INTEGER: u8 = 0x04;
const HINT: u8 = 0x03;

pub(crate) fn push_histogram(out: &mut Vec<u8>, h: &Histogram) {
    let hint = match h.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    out.push(hint | if h.integer { INTEGER } else { 0 });
    push_signed(out, i64::from(h.schema));
    for value in [h.zero_threshold, h.zero_count, h.count, h.sum] {
        push_f64(out, value);
    }
    for (spans, counts) in [(&h.positive_spans, &h.positive_counts), (&h.negative_spans, &h.negative_counts)]
    {
        push_varint(out, spans.len() as u64);
        for span in spans {
            push_signed(out, i64::from(span.offset));
            push_varint(out, u64::from(span.length));
        }
        push_floats(out, counts);
    }
    push_floats(out, &h.custom_bounds);
}

fn push_floats(out: &mut Vec<u8>, values: &[f64]) {
    push_varint(out, values.len() as u64);
    for value in values {
        push_f64(out, *value);
    }
}

pub(crate) fn read_histogram(from: &mut Reader<'_>) -> Result<Histogram, Malformed> {
    let flags = from.byte()?;
    let reset_hint = match flags & HINT {
        0 => ResetHint::Unknown,
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        _ => ResetHint::Gauge,
    };
    let schema = from.i32()?;
    let (zero_threshold, zero_count, count, sum) = (from.f64()?, from.f64()?, from.f64()?, from.f64()?);
    let (positive_spans, positive_counts) = (read_spans(from)?, read_floats(from)?);
    let (negative_spans, negative_counts) = (read_spans(from)?, read_floats(from)?);
    Ok(Histogram {
        schema,
        reset_hint,
        integer: flags & INTEGER != 0,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        custom_bounds: Arc::from(read_floats(from)?),
    })
}

fn read_spans(from: &mut Reader<'_>) -> Result<Vec<Span>, Malformed> {
    (0..from.count()?).map(|_| Ok(Span { offset: from.i32()?, length: from.u32()? })).collect()
}

fn read_floats(from: &mut Reader<'_>) -> Result<Vec<f64>, Malformed> {
    (0..from.count()?).map(|_| from.f64()).collect()
}
