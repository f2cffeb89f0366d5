//! Blocks of native histograms.
//!
//! Strategy: the first byte chooses between bytes read as a block, and histograms made from the
//! bytes: a walk of counts under a layout that changes now and then.
//! Invariants: never a panic; a block that is read gives exactly the histograms asked for; what
//! was written is read back to the bit, whatever its layout.

use std::sync::Arc;

use pilothouse_metrics::codec::{Effort, decode_histograms, encode_histograms};
use pilothouse_model::{Histogram, ResetHint, Span};

use crate::choices::Choices;

pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut rows = Vec::new();
    if choices.byte().is_multiple_of(2) {
        let n = choices.below(3_000);
        if decode_histograms(choices.rest(), n, &mut rows).is_err() {
            return;
        }
        assert_eq!(rows.len(), n);
    } else {
        rows = made(&mut choices);
    }
    let mut block = Vec::new();
    encode_histograms(&rows, Effort::Flush, &mut block);
    let mut read = Vec::new();
    decode_histograms(&block, rows.len(), &mut read).expect("what was written can be read");
    assert_same(&read, &rows);
}

fn made(choices: &mut Choices<'_>) -> Vec<Arc<Histogram>> {
    let mut row = Histogram::default();
    let mut rows = Vec::new();
    while !choices.is_empty() && rows.len() < 500 {
        if choices.byte() < 24 || rows.is_empty() {
            row = layout(choices);
        }
        row.sum = choices.value(row.sum);
        row.count = choices.value(row.count);
        for count in row.positive_counts.iter_mut().chain(&mut row.negative_counts) {
            *count = choices.value(*count);
        }
        rows.push(Arc::new(row.clone()));
    }
    rows
}

fn layout(choices: &mut Choices<'_>) -> Histogram {
    let hints = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];
    let mut spans = || {
        let n = choices.below(4);
        let span =
            |_| Span { offset: i32::from_le_bytes(choices.array()), length: u32::from(choices.byte()) };
        (0..n).map(span).collect::<Vec<_>>()
    };
    let (positive_spans, negative_spans) = (spans(), spans());
    let bounds = choices.below(4);
    Histogram {
        schema: i32::from(choices.byte() as i8),
        reset_hint: hints[choices.below(4)],
        integer: choices.byte().is_multiple_of(2),
        zero_threshold: choices.value(1e-128),
        zero_count: choices.value(0.0),
        positive_counts: vec![0.0; choices.below(12)],
        negative_counts: vec![0.0; choices.below(12)],
        custom_bounds: (0..bounds).map(|_| choices.value(1.0)).collect(),
        positive_spans,
        negative_spans,
        ..Histogram::default()
    }
}

/// Float for float by bits, the rest by equality.
fn assert_same(read: &[Arc<Histogram>], wanted: &[Arc<Histogram>]) {
    assert_eq!(read.len(), wanted.len());
    for (r, w) in read.iter().zip(wanted) {
        assert_eq!(bits(r), bits(w));
        assert_eq!((r.schema, r.reset_hint, r.integer), (w.schema, w.reset_hint, w.integer));
        assert_eq!((&r.positive_spans, &r.negative_spans), (&w.positive_spans, &w.negative_spans));
    }
}

fn bits(h: &Histogram) -> Vec<Vec<u64>> {
    let scalars = [h.zero_threshold, h.zero_count, h.count, h.sum];
    let lists = [&scalars[..], &h.positive_counts, &h.negative_counts, &h.custom_bounds];
    lists.iter().map(|list| list.iter().map(|v| v.to_bits()).collect()).collect()
}
