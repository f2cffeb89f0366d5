//! Counter resets between two histograms.

use pilothouse_model::{Histogram, ResetHint};

use super::bound::{bucket_bound, exponential_bound};
use super::buckets::{Indexed, coarse_run, negative_run, positive_run};
use super::combine::{schema_steps, shared_bounds, zero_bucket_of};

/// Whether a counter was reset between two samples of it: the hint of the later one says so, or
/// some count went down, a populated bucket went missing, or the layout became finer. The sum does
/// not matter, since observations may be negative.
///
/// A gauge is examined like a counter of which nothing is known, as in Prometheus.
pub fn has_reset(current: &Histogram, previous: &Histogram) -> bool {
    match current.reset_hint {
        ResetHint::Reset => return true,
        ResetHint::NotReset => return false,
        ResetHint::Unknown | ResetHint::Gauge => {}
    }
    if current.count < previous.count || current.has_custom_buckets() != previous.has_custom_buckets() {
        return true;
    }
    if current.has_custom_buckets() {
        return custom_counts_fell(current, previous);
    }
    exponential_counts_fell(current, previous)
}

fn exponential_counts_fell(current: &Histogram, previous: &Histogram) -> bool {
    let threshold = current.zero_threshold;
    if current.schema > previous.schema || threshold < previous.zero_threshold {
        return true;
    }
    let (zero_count, widened) = if threshold == previous.zero_threshold {
        (previous.zero_count, threshold)
    } else {
        zero_bucket_of(previous, threshold)
    };
    // Had no reset happened, the edge could not cut a bucket that held something before.
    if widened != threshold || current.zero_count < zero_count {
        return true;
    }
    let steps = schema_steps(previous.schema, current.schema);
    let side_fell = |now: Indexed<'_, f64>, before: Indexed<'_, f64>| {
        let all_outside = now.clone().next().is_some_and(|(i, _)| !is_inside(i, threshold, current.schema));
        if steps == 0
            && all_outside
            && let Some(mut pairs) = now.side_by_side(&before)
        {
            return pairs.any(|(now, before)| now < before);
        }
        run_fell(
            outside(threshold, current.schema, now, 0),
            outside(threshold, previous.schema, before, steps),
        )
    };
    side_fell(positive_run(current), positive_run(previous))
        || side_fell(negative_run(current), negative_run(previous))
}

/// Whether a bucket lies within a zero bucket.
fn is_inside(index: i64, threshold: f64, schema: i32) -> bool {
    threshold > 0.0 && exponential_bound(index, schema) <= threshold
}

/// The buckets beyond a zero bucket, after `steps` halvings of their resolution. The finer ones
/// within the zero bucket have been counted there.
fn outside(
    threshold: f64,
    schema: i32,
    run: Indexed<'_, f64>,
    steps: u32,
) -> impl Iterator<Item = (i64, f64)> {
    coarse_run(run.skip_while(move |(index, _)| is_inside(*index, threshold, schema)), steps)
}

/// Whether any bucket of `previous` holds less in `current`, where it may be missing if empty.
fn run_fell(current: impl Iterator<Item = (i64, f64)>, previous: impl Iterator<Item = (i64, f64)>) -> bool {
    let mut current = current.peekable();
    for (index, before) in previous {
        while current.next_if(|(i, _)| *i < index).is_some() {}
        let fell = match current.peek() {
            Some((i, now)) if *i == index => *now < before,
            _ => before != 0.0,
        };
        if fell {
            return true;
        }
    }
    false
}

/// With custom buckets of different bounds the counts up to each shared bound are compared.
fn custom_counts_fell(current: &Histogram, previous: &Histogram) -> bool {
    if current.custom_bounds == previous.custom_bounds {
        return run_fell(positive_run(current), positive_run(previous));
    }
    let shared = shared_bounds(&current.custom_bounds, &previous.custom_bounds);
    let cells = |h: &Histogram| {
        let mut cells = vec![0.0; shared.len() + 1];
        for (index, count) in positive_run(h) {
            let bound = bucket_bound(index, h.schema, &h.custom_bounds);
            let cell = shared.partition_point(|s| *s < bound);
            cells[cell] += count;
        }
        cells
    };
    cells(current).iter().zip(cells(previous)).any(|(now, before)| *now < before)
}
