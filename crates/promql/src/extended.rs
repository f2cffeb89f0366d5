//! Windows that look beyond their bounds: `anchored` takes the last sample before the window as
//! its beginning, `smoothed` interpolates at both bounds.

use std::sync::Arc;

use pilothouse_model::{Histogram, ResetHint};
use pilothouse_query::histogram::{self as native, MixedSchemas};
use pilothouse_query::window::{Bounds, Growth};

use crate::ast::Extended;
use crate::notes::{Note, Notes, Operation};
use crate::range_functions::{RangeContext, Window};
use crate::rows::Sample;

type HistogramPoint = (i64, Arc<Histogram>);

/// The samples at the edges of a window, as indexes: the last at or before its start (else the
/// first of all), and the last of all, or for smoothing the first at or after its end.
fn edges(len: usize, time: impl Fn(usize) -> i64, bounds: Bounds, smoothed: bool) -> Option<(usize, usize)> {
    let mut last = len.checked_sub(1)?;
    let search = |until: usize, before: &dyn Fn(i64) -> bool| {
        let (mut low, mut high) = (0, until);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(time(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    };
    let first = search(last, &|t| t <= bounds.start_ms).saturating_sub(1);
    if smoothed {
        last = search(last, &|t| t < bounds.end_ms);
    }
    let outside = time(last) <= bounds.start_ms || (smoothed && time(first) > bounds.end_ms);
    (!outside).then_some((first, last))
}

/// `rate`, `increase` and `delta` of an extended window, floats or histograms.
pub(crate) fn growth(
    window: Window<'_>,
    growth: Growth,
    how: Extended,
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Option<Sample> {
    if window.histograms.is_empty() {
        float_growth(window, growth, how).map(Sample::Float)
    } else {
        histogram_growth(window, growth, how, context, notes).map(Sample::histogram)
    }
}

/// A value on the line between two samples. A counter that fell between them began at zero.
pub(crate) fn interpolate(before: (i64, f64), after: (i64, f64), t_ms: i64, of_counter: bool) -> f64 {
    let from = if of_counter && after.1 < before.1 { 0.0 } else { before.1 };
    from + (after.1 - from) * (t_ms - before.0) as f64 / (after.0 - before.0) as f64
}

/// The values at both bounds of a window of floats.
fn float_bounds(
    window: Window<'_>,
    (first, last): (usize, usize),
    smoothed: bool,
    of_counter: bool,
) -> (f64, f64) {
    let point = |i: usize| (window.times_ms[i], window.values[i]);
    let Bounds { start_ms, end_ms } = window.bounds;
    let left = if smoothed && window.times_ms[first] < start_ms && first + 1 < window.values.len() {
        interpolate(point(first), point(first + 1), start_ms, of_counter)
    } else {
        window.values[first]
    };
    let right = if smoothed && last > 0 && window.times_ms[last] > end_ms {
        interpolate(point(last - 1), point(last), end_ms, of_counter)
    } else {
        window.values[last]
    };
    (left, right)
}

/// The samples strictly inside the bounds.
fn inner(window: Window<'_>, (first, last): (usize, usize)) -> std::ops::Range<usize> {
    let from = first + usize::from(window.times_ms[first] <= window.bounds.start_ms);
    let to = last + usize::from(window.times_ms[last] < window.bounds.end_ms);
    from..to.max(from)
}

fn float_growth(window: Window<'_>, growth: Growth, how: Extended) -> Option<f64> {
    let smoothed = how == Extended::Smoothed;
    let at = edges(window.values.len(), |i| window.times_ms[i], window.bounds, smoothed)?;
    let (left, right) = float_bounds(window, at, smoothed, growth.of_counter());
    let mut change = right - left;
    if growth.of_counter() {
        let (mut lost, mut before) = (0.0, left);
        for value in window.values[inner(window, at)].iter().copied().chain([right]) {
            if value < before {
                lost += before;
            }
            before = value;
        }
        change += lost;
    }
    Some(if growth == Growth::Rate { change / window.bounds.seconds() } else { change })
}

/// The floats of a window with one put at each bound, as an extended range vector shows them.
pub(crate) fn floats_with_bounds(window: Window<'_>, how: Extended) -> Vec<(i64, f64)> {
    let smoothed = how == Extended::Smoothed;
    let bounds = window.bounds;
    let Some(at) = edges(window.values.len(), |i| window.times_ms[i], bounds, smoothed) else {
        return Vec::new();
    };
    let (left, right) = float_bounds(window, at, smoothed, false);
    let inside = inner(window, at).map(|i| (window.times_ms[i], window.values[i]));
    std::iter::once((bounds.start_ms, left)).chain(inside).chain([(bounds.end_ms, right)]).collect()
}

/// Where the samples of an anchored window begin, floats and histograms: at the last sample of
/// either kind at or before the start. `None` without a sample inside.
pub(crate) fn anchor(window: Window<'_>) -> Option<(usize, usize)> {
    let start_ms = window.bounds.start_ms;
    let floats = window.times_ms.partition_point(|t| *t <= start_ms);
    let histograms = window.histograms.partition_point(|(t, _)| *t <= start_ms);
    if floats >= window.times_ms.len() && histograms >= window.histograms.len() {
        return None;
    }
    let last_float = floats.checked_sub(1).map(|i| window.times_ms[i]);
    let last_histogram = histograms.checked_sub(1).map(|i| window.histograms[i].0);
    Some(match (last_float, last_histogram) {
        (None, None) => (0, 0),
        (Some(_), None) => (floats - 1, histograms),
        (Some(f), Some(h)) if f >= h => (floats - 1, histograms),
        _ => (floats, histograms - 1),
    })
}

/// A histogram between two samples. A counter that was reset between them began at nothing.
pub(crate) fn interpolate_histograms(
    before: &HistogramPoint,
    after: &HistogramPoint,
    t_ms: i64,
    of_counter: bool,
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Result<Histogram, MixedSchemas> {
    if t_ms == before.0 {
        return Ok((*before.1).clone());
    }
    let mut between = (*after.1).clone();
    if t_ms == after.0 {
        return Ok(between);
    }
    let share = (t_ms - before.0) as f64 / (after.0 - before.0) as f64;
    if of_counter && native::has_reset(&after.1, &before.1) {
        native::scale(&mut between, share);
        return Ok(between);
    }
    let joined = native::subtract(&mut between, &before.1)?;
    context.reconciled(notes, joined.bounds, Operation::Subtraction);
    native::scale(&mut between, share);
    let joined = native::add(&mut between, &before.1)?;
    context.reconciled(notes, joined.bounds, Operation::Addition);
    Ok(between)
}

fn histogram_growth(
    window: Window<'_>,
    growth: Growth,
    how: Extended,
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Option<Histogram> {
    let smoothed = how == Extended::Smoothed;
    let points = window.histograms;
    let (first, last) = edges(points.len(), |i| points[i].0, window.bounds, smoothed)?;
    if !same_kind(&points[first..=last], growth.of_counter(), context, notes) {
        return None;
    }
    match between_bounds(window, (first, last), growth, smoothed, context, notes) {
        Ok(mut grown) => {
            if growth == Growth::Rate {
                native::divide(&mut grown, window.bounds.seconds());
            }
            grown.reset_hint = ResetHint::Gauge;
            native::compact(&mut grown);
            Some(grown)
        }
        Err(MixedSchemas) => {
            context.note(notes, Note::MixedSchemas);
            None
        }
    }
}

/// Whether all samples have the same kind of buckets; tells of gauges among counters.
fn same_kind(
    points: &[HistogramPoint],
    of_counter: bool,
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> bool {
    let Some((_, first)) = points.first() else { return false };
    for (_, h) in points {
        if h.has_custom_buckets() != first.has_custom_buckets() {
            context.note(notes, Note::MixedSchemas);
            return false;
        }
        if of_counter && h.reset_hint == ResetHint::Gauge {
            context.note(notes, Note::NotCounter);
        }
    }
    true
}

fn between_bounds(
    window: Window<'_>,
    (first, last): (usize, usize),
    growth: Growth,
    smoothed: bool,
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Result<Histogram, MixedSchemas> {
    let (points, bounds, of_counter) = (window.histograms, window.bounds, growth.of_counter());
    let left = if smoothed && points[first].0 < bounds.start_ms && first + 1 < points.len() {
        let (before, after) = (&points[first], &points[first + 1]);
        interpolate_histograms(before, after, bounds.start_ms, of_counter, context, notes)?
    } else {
        (*points[first].1).clone()
    };
    let right = if smoothed && last > 0 && points[last].0 > bounds.end_ms {
        let (before, after) = (&points[last - 1], &points[last]);
        interpolate_histograms(before, after, bounds.end_ms, of_counter, context, notes)?
    } else {
        (*points[last].1).clone()
    };
    let gauge = |h: &Histogram| h.reset_hint == ResetHint::Gauge;
    let gauges = gauge(&left) && gauge(&right);
    if !of_counter && !gauges {
        context.note(notes, Note::NotGauge);
    }
    let mut grown = right.clone();
    let joined = native::subtract(&mut grown, &left)?;
    context.reconciled(notes, joined.bounds, Operation::Subtraction);
    if of_counter
        && let Some(lost) = lost_to_resets(window, (first, last), &left, &right, smoothed, context, notes)?
    {
        let joined = native::add(&mut grown, &lost)?;
        context.reconciled(notes, joined.bounds, Operation::Addition);
    }
    Ok(grown)
}

/// What resets between the bounds took away.
fn lost_to_resets(
    window: Window<'_>,
    (first, last): (usize, usize),
    left: &Histogram,
    right: &Histogram,
    smoothed: bool,
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Result<Option<Histogram>, MixedSchemas> {
    let points = window.histograms;
    let (mut from, mut before) = (first + 1, left);
    // A reset right after the first sample is in the interpolated left bound already.
    if smoothed
        && points[first].0 < window.bounds.start_ms
        && let Some((_, next)) = points.get(first + 1)
        && native::has_reset(next, &points[first].1)
    {
        before = next;
        from += 1;
    }
    // The right bound stands for the last sample, whose hint it has.
    if from > last {
        return Ok(None);
    }
    let mut lost: Option<Histogram> = None;
    for current in points[from..last].iter().map(|(_, h)| &**h).chain([right]) {
        if native::has_reset(current, before) {
            match &mut lost {
                None => lost = Some(before.clone()),
                Some(sum) => {
                    let joined = native::add(sum, before)?;
                    context.reconciled(notes, joined.bounds, Operation::Addition);
                }
            }
        }
        before = current;
    }
    Ok(lost)
}
