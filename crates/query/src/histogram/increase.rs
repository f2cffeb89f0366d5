//! By how much a native histogram grew over a range: what `rate`, `increase` and `delta` begin
//! with, before they extrapolate.

use pilothouse_model::{Histogram, ResetHint};

use super::arithmetic::{add, compact, reduce_to, subtract};
use super::combine::{CustomBounds, MixedSchemas};
use super::reset::has_reset;

/// How the samples are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Resets are added back: `rate`, `increase`.
    Counter,
    /// `delta`.
    Gauge,
}

/// Whether the samples were of the kind that the function is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KindNote {
    #[default]
    AsExpected,
    /// A counter was asked for, and some sample is a gauge.
    NotCounter,
    /// A gauge was asked for, and the first or the last sample is none.
    NotGauge,
}

/// The growth and what there is to tell of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Increase {
    /// Marked as a gauge, without empty buckets.
    pub histogram: Result<Histogram, MixedSchemas>,
    pub kind: KindNote,
    /// Bounds reconciled while subtracting the first sample from the last.
    pub subtracted: CustomBounds,
    /// Bounds reconciled while adding back what resets took away.
    pub added: CustomBounds,
}

/// The growth from the first to the last of the samples of one series, in order of time; `None`
/// of fewer than two. As Prometheus' `histogramRate` without start timestamps.
pub fn increase(samples: &[&Histogram], range: Range) -> Option<Increase> {
    let ([first, .., last], second) = (samples, samples.get(1)?) else { return None };
    let mut outcome = Increase {
        histogram: Err(MixedSchemas),
        kind: KindNote::AsExpected,
        subtracted: CustomBounds::Same,
        added: CustomBounds::Same,
    };
    let gauge = |h: &Histogram| h.reset_hint == ResetHint::Gauge;
    if range == Range::Counter && (gauge(first) || gauge(last)) {
        outcome.kind = KindNote::NotCounter;
    }
    // Before a reset right after it the first sample does not matter, so neither does its layout.
    let blank = (range == Range::Counter && has_reset(second, first)).then(|| blank_like(second));
    let base = blank.as_ref().unwrap_or(first);
    if base.has_custom_buckets() != last.has_custom_buckets() {
        return Some(outcome);
    }
    let inner = &samples[1..samples.len() - 1];
    if range == Range::Counter {
        if inner.iter().any(|h| h.has_custom_buckets() != base.has_custom_buckets()) {
            return Some(Increase { kind: KindNote::AsExpected, ..outcome });
        }
        if inner.iter().any(|h| gauge(h)) {
            outcome.kind = KindNote::NotCounter;
        }
    } else if !gauge(first) || !gauge(last) {
        outcome.kind = KindNote::NotGauge;
    }
    let mut grown = (*last).clone();
    let result = grow(&mut grown, base, &samples[1..], range, &mut outcome);
    outcome.histogram = result.map(|()| {
        grown.reset_hint = ResetHint::Gauge;
        compact(&mut grown);
        grown
    });
    Some(outcome)
}

fn grow(
    grown: &mut Histogram,
    base: &Histogram,
    later: &[&Histogram],
    range: Range,
    notes: &mut Increase,
) -> Result<(), MixedSchemas> {
    if range == Range::Counter
        && let Some(coarsest) = later.iter().map(|h| h.schema).min()
    {
        reduce_to(grown, coarsest);
    }
    notes.subtracted = subtract(grown, base)?.bounds;
    let mut previous = base;
    for &current in later.iter().filter(|_| range == Range::Counter) {
        if has_reset(current, previous) {
            notes.added = notes.added.max(add(grown, previous)?.bounds);
        }
        previous = current;
    }
    Ok(())
}

/// A histogram of the same layout that counted nothing.
fn blank_like(h: &Histogram) -> Histogram {
    Histogram { schema: h.schema, custom_bounds: h.custom_bounds.clone(), ..Histogram::default() }
}
