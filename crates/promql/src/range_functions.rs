//! Functions of the samples in one window of one series.

use std::sync::Arc;

use pilothouse_model::{Histogram, ResetHint};
use pilothouse_query::arithmetic::quantile;
use pilothouse_query::histogram::{
    self as native, CustomBounds, HistogramMean, HistogramSum, KindNote, MixedSchemas, ResetHints,
};
use pilothouse_query::window::{self, Bounds, Growth, Sampled};

use crate::ast::{Extended, Span};
use crate::error::{EvalError, execution};
use crate::extended;
use crate::notes::{Note, Notes, Operation};
use crate::rows::Sample;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeFunction {
    Average,
    Changes,
    Count,
    Delta,
    Derivative,
    DoubleExponential,
    First,
    InstantDelta,
    InstantRate,
    Increase,
    Last,
    MedianDeviation,
    Max,
    Min,
    PredictLinear,
    Present,
    Quantile,
    Rate,
    Resets,
    Stddev,
    Stdvar,
    Sum,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMax,
    TimeOfMin,
}

impl RangeFunction {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "avg_over_time" => Self::Average,
            "changes" => Self::Changes,
            "count_over_time" => Self::Count,
            "delta" => Self::Delta,
            "deriv" => Self::Derivative,
            "double_exponential_smoothing" => Self::DoubleExponential,
            "first_over_time" => Self::First,
            "idelta" => Self::InstantDelta,
            "irate" => Self::InstantRate,
            "increase" => Self::Increase,
            "last_over_time" => Self::Last,
            "mad_over_time" => Self::MedianDeviation,
            "max_over_time" => Self::Max,
            "min_over_time" => Self::Min,
            "predict_linear" => Self::PredictLinear,
            "present_over_time" | "absent_over_time" => Self::Present,
            "quantile_over_time" => Self::Quantile,
            "rate" => Self::Rate,
            "resets" => Self::Resets,
            "stddev_over_time" => Self::Stddev,
            "stdvar_over_time" => Self::Stdvar,
            "sum_over_time" => Self::Sum,
            "ts_of_first_over_time" => Self::TimeOfFirst,
            "ts_of_last_over_time" => Self::TimeOfLast,
            "ts_of_max_over_time" => Self::TimeOfMax,
            "ts_of_min_over_time" => Self::TimeOfMin,
            _ => return None,
        })
    }

    /// Whether the value stands for the same thing as the samples do.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Self::First | Self::Last)
    }

    pub(crate) fn growth(self) -> Option<Growth> {
        Some(match self {
            Self::Rate => Growth::Rate,
            Self::Increase => Growth::Increase,
            Self::Delta => Growth::Delta,
            _ => return None,
        })
    }

    /// Whether it is meant for counters, judged by their names.
    pub(crate) fn wants_counter_name(self) -> bool {
        matches!(self, Self::Rate | Self::Increase)
    }
}

/// The samples of one window, stale markers left out, ascending in time. With an extended
/// selector there are samples from beyond the bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) times_ms: &'a [i64],
    pub(crate) values: &'a [f64],
    pub(crate) histograms: &'a [(i64, Arc<Histogram>)],
    pub(crate) bounds: Bounds,
    /// The time of the step.
    pub(crate) step_ms: i64,
    /// Whether some value of the series is below the one before it.
    pub(crate) may_reset: bool,
}

/// What a function knows beside the samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeContext<'a> {
    pub(crate) function: RangeFunction,
    pub(crate) extended: Option<Extended>,
    /// The metric name for remarks, empty if there is none.
    pub(crate) name: &'a str,
    /// Where remarks point to.
    pub(crate) span: Span,
}

impl RangeContext<'_> {
    pub(crate) fn note(&self, notes: &mut Notes, note: impl FnOnce(String) -> Note) {
        notes.add(note(self.name.to_owned()), self.span);
    }

    pub(crate) fn reconciled(&self, notes: &mut Notes, bounds: CustomBounds, operation: Operation) {
        if bounds == CustomBounds::Intersected {
            notes.add(Note::BoundsReconciled(operation), self.span);
        }
    }
}

type Evaluated = Result<Option<Sample>, EvalError>;

/// The value of a function over a window that has at least one sample; `params` are its scalar
/// arguments at this step.
pub(crate) fn evaluate(
    window: Window<'_>,
    params: &[f64],
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Evaluated {
    use RangeFunction as F;
    let float = |value: f64| Ok(Some(Sample::Float(value)));
    match context.function {
        F::Rate | F::Increase | F::Delta => Ok(growth(window, context, notes)),
        F::InstantRate | F::InstantDelta => Ok(instant_growth(window, context, notes)),
        F::Sum => Ok(sum(window, context, notes)),
        F::Average => Ok(average(window, context, notes)),
        F::Count => float((window.values.len() + window.histograms.len()) as f64),
        F::Present => float(1.0),
        F::First | F::Last => Ok(edge(window, context.function == F::First)),
        F::TimeOfFirst | F::TimeOfLast => float(edge_time(window, context.function == F::TimeOfFirst)),
        F::Changes | F::Resets => Ok(count_steps(window, context)),
        F::Derivative | F::PredictLinear => Ok(trend(window, params, context, notes)),
        F::DoubleExponential => double_exponential(window, params, context, notes),
        _ => Ok(of_floats(window, params, context, notes)),
    }
}

/// Functions that look at floats only, and say so of histograms beside them.
fn of_floats(
    window: Window<'_>,
    params: &[f64],
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Option<Sample> {
    use RangeFunction as F;
    let values = window.values;
    if values.is_empty() {
        return None;
    }
    let first_param = params.first().copied().unwrap_or(f64::NAN);
    if context.function == F::Quantile && !(0.0..=1.0).contains(&first_param) {
        notes.add(Note::InvalidQuantile { bits: first_param.to_bits() }, context.span);
    }
    if !window.histograms.is_empty() {
        context.note(notes, Note::IgnoredInMixedRange);
    }
    let seconds_at = |index: Option<usize>| index.map(|i| window.times_ms[i] as f64 / 1000.0);
    let value = match context.function {
        F::Max => values[window::max_index(values, false)?],
        F::Min => values[window::min_index(values, false)?],
        F::TimeOfMax => seconds_at(window::max_index(values, true))?,
        F::TimeOfMin => seconds_at(window::min_index(values, true))?,
        F::Stdvar => window::variance(values),
        F::Stddev => window::variance(values).sqrt(),
        F::MedianDeviation => window::median_deviation(values),
        F::Quantile => quantile(first_param, &mut values.to_vec()),
        _ => return None,
    };
    Some(Sample::Float(value))
}

fn is_mixed(window: Window<'_>, context: RangeContext<'_>, notes: &mut Notes) -> bool {
    let mixed = !window.values.is_empty() && !window.histograms.is_empty();
    if mixed {
        context.note(notes, Note::MixedFloatsHistograms);
    }
    mixed
}

fn growth(window: Window<'_>, context: RangeContext<'_>, notes: &mut Notes) -> Option<Sample> {
    let growth = context.function.growth()?;
    if is_mixed(window, context, notes) {
        return None;
    }
    if let Some(how) = context.extended {
        return extended::growth(window, growth, how, context, notes);
    }
    if window.histograms.is_empty() {
        let Window { times_ms, values, bounds, may_reset, .. } = window;
        return window::extrapolated(times_ms, values, bounds, growth, may_reset).map(Sample::Float);
    }
    histogram_growth(window, growth, context, notes).map(Sample::histogram)
}

fn histogram_growth(
    window: Window<'_>,
    growth: Growth,
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Option<Histogram> {
    let samples: Vec<&Histogram> = window.histograms.iter().map(|(_, h)| &**h).collect();
    let range = if growth.of_counter() { native::Range::Counter } else { native::Range::Gauge };
    let outcome = native::increase(&samples, range)?;
    match outcome.kind {
        KindNote::AsExpected => {}
        KindNote::NotCounter => context.note(notes, Note::NotCounter),
        KindNote::NotGauge => context.note(notes, Note::NotGauge),
    }
    context.reconciled(notes, outcome.subtracted, Operation::Subtraction);
    context.reconciled(notes, outcome.added, Operation::Addition);
    let Ok(mut grown) = outcome.histogram else {
        context.note(notes, Note::MixedSchemas);
        return None;
    };
    let [(first_ms, first), .., (last_ms, _)] = window.histograms else { return None };
    let zero_at =
        (growth.of_counter() && grown.count > 0.0 && first.count >= 0.0).then(|| first.count / grown.count);
    let sampled = Sampled { first_ms: *first_ms, last_ms: *last_ms, count: samples.len() };
    native::scale(&mut grown, sampled.extrapolation(window.bounds, growth, zero_at));
    Some(grown)
}

/// The last two samples of a window, of whichever kind.
fn last_two(window: Window<'_>) -> Option<[(i64, Sample); 2]> {
    let tail = |len: usize| len.saturating_sub(2)..len;
    let floats = tail(window.values.len()).map(|i| (window.times_ms[i], Sample::Float(window.values[i])));
    let histograms = tail(window.histograms.len())
        .map(|i| (window.histograms[i].0, Sample::Histogram(window.histograms[i].1.clone())));
    let mut last: Vec<(i64, Sample)> = floats.chain(histograms).collect();
    last.sort_by_key(|(t, _)| *t);
    let start = last.len().checked_sub(2)?;
    last.drain(..start);
    last.try_into().ok()
}

fn instant_growth(window: Window<'_>, context: RangeContext<'_>, notes: &mut Notes) -> Option<Sample> {
    let per_second = context.function == RangeFunction::InstantRate;
    let [(before_ms, before), (last_ms, last)] = last_two(window)?;
    if before_ms == last_ms {
        return None;
    }
    let seconds = (last_ms - before_ms) as f64 / 1000.0;
    match (before, last) {
        (Sample::Float(before), Sample::Float(last)) => {
            let change = if per_second && last < before { last } else { last - before };
            Some(Sample::Float(if per_second { change / seconds } else { change }))
        }
        (Sample::Histogram(before), Sample::Histogram(last)) => {
            let mut change = instant_histogram(&before, &last, per_second, context, notes)?;
            if per_second {
                native::divide(&mut change, seconds);
            }
            Some(Sample::histogram(change))
        }
        _ => {
            context.note(notes, Note::MixedFloatsHistograms);
            None
        }
    }
}

fn instant_histogram(
    before: &Histogram,
    last: &Histogram,
    of_counter: bool,
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Option<Histogram> {
    let gauge = |h: &Histogram| h.reset_hint == ResetHint::Gauge;
    if of_counter && (gauge(last) || gauge(before)) {
        context.note(notes, Note::NotCounter);
    }
    let gauges = gauge(last) && gauge(before);
    if !of_counter && !gauges {
        context.note(notes, Note::NotGauge);
    }
    let mut change = last.clone();
    if !of_counter || !native::has_reset(last, before) {
        match native::subtract(&mut change, before) {
            Ok(joined) => context.reconciled(notes, joined.bounds, Operation::Subtraction),
            Err(MixedSchemas) => {
                context.note(notes, Note::MixedSchemas);
                return None;
            }
        }
    }
    change.reset_hint = ResetHint::Gauge;
    native::compact(&mut change);
    Some(change)
}

fn sum(window: Window<'_>, context: RangeContext<'_>, notes: &mut Notes) -> Option<Sample> {
    if is_mixed(window, context, notes) {
        return None;
    }
    let Some(((_, first), rest)) = window.histograms.split_first() else {
        return Some(Sample::Float(window::sum(window.values)));
    };
    let mut sum = HistogramSum::new(first);
    let added = rest.iter().try_for_each(|(_, h)| sum.add(h));
    let joined = sum.joined();
    finish_histogram(added.map(|()| sum.finish()), joined, context, notes)
}

fn average(window: Window<'_>, context: RangeContext<'_>, notes: &mut Notes) -> Option<Sample> {
    if is_mixed(window, context, notes) {
        return None;
    }
    let Some(((_, first), rest)) = window.histograms.split_first() else {
        return window::mean(window.values).map(Sample::Float);
    };
    let mut mean = HistogramMean::new(first);
    let added = rest.iter().try_for_each(|(_, h)| mean.add(h));
    let joined = mean.joined();
    finish_histogram(added.map(|()| mean.finish()), joined, context, notes)
}

fn finish_histogram(
    outcome: Result<Histogram, MixedSchemas>,
    joined: native::Joined,
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Option<Sample> {
    let Ok(h) = outcome else {
        context.note(notes, Note::MixedSchemas);
        return None;
    };
    if joined.hints == ResetHints::Colliding {
        notes.add(Note::ResetCollision(Operation::Aggregation), context.span);
    }
    context.reconciled(notes, joined.bounds, Operation::Aggregation);
    Some(Sample::histogram(h))
}

fn edge(window: Window<'_>, first: bool) -> Option<Sample> {
    let pick = |len: usize| if first { (len > 0).then_some(0) } else { len.checked_sub(1) };
    let float = pick(window.values.len()).map(|i| (window.times_ms[i], window.values[i]));
    let histogram = pick(window.histograms.len()).map(|i| &window.histograms[i]);
    match (float, histogram) {
        (Some((_, value)), None) => Some(Sample::Float(value)),
        (Some((t, value)), Some((other, _))) if (first && t < *other) || (!first && *other < t) => {
            Some(Sample::Float(value))
        }
        (_, histogram) => histogram.map(|(_, h)| Sample::Histogram(h.clone())),
    }
}

fn edge_time(window: Window<'_>, first: bool) -> f64 {
    let times = window.times_ms.iter().copied().chain(window.histograms.iter().map(|(t, _)| *t));
    let time = if first { times.min() } else { times.max() };
    time.unwrap_or(0) as f64 / 1000.0
}

/// How often the value changed, or was reset, from one sample to the next.
fn count_steps(window: Window<'_>, context: RangeContext<'_>) -> Option<Sample> {
    let (first_float, first_histogram) = match context.extended {
        Some(Extended::Anchored) => extended::anchor(window)?,
        _ => (0, 0),
    };
    let resets = context.function == RangeFunction::Resets;
    if window.histograms.is_empty() {
        let pairs = window.values[first_float..].windows(2);
        let counted = |pair: &&[f64]| float_step(pair[0], pair[1], resets);
        return Some(Sample::Float(pairs.filter(counted).count() as f64));
    }
    let (mut f, mut h, mut count) = (first_float, first_histogram, 0u32);
    let mut previous: Option<Sample> = None;
    loop {
        let float_ms = window.times_ms.get(f).copied();
        let histogram_ms = window.histograms.get(h).map(|(t, _)| *t);
        let current = match (float_ms, histogram_ms) {
            (None, None) => break,
            (Some(ft), ht) if ht.is_none_or(|ht| ft < ht) => {
                f += 1;
                Sample::Float(window.values[f - 1])
            }
            _ => {
                h += 1;
                Sample::Histogram(window.histograms[h - 1].1.clone())
            }
        };
        if let Some(previous) = &previous {
            count += u32::from(sample_step(previous, &current, resets));
        }
        previous = Some(current);
    }
    Some(Sample::Float(f64::from(count)))
}

fn float_step(before: f64, after: f64, resets: bool) -> bool {
    if resets { after < before } else { after != before && !(after.is_nan() && before.is_nan()) }
}

fn sample_step(before: &Sample, after: &Sample, resets: bool) -> bool {
    match (before, after) {
        (Sample::Float(before), Sample::Float(after)) => float_step(*before, *after, resets),
        (Sample::Histogram(before), Sample::Histogram(after)) if resets => native::has_reset(after, before),
        (Sample::Histogram(before), Sample::Histogram(after)) => !native::equal(after, before),
        _ => true,
    }
}

/// Two floats at least, or none, with a remark if histograms stand beside the floats there are.
fn two_floats(window: Window<'_>, context: RangeContext<'_>, notes: &mut Notes) -> bool {
    if !window.values.is_empty() && !window.histograms.is_empty() {
        context.note(notes, Note::IgnoredInMixedRange);
    }
    window.values.len() >= 2
}

fn trend(window: Window<'_>, params: &[f64], context: RangeContext<'_>, notes: &mut Notes) -> Option<Sample> {
    if !two_floats(window, context, notes) {
        return None;
    }
    let (times_ms, values) = (window.times_ms, window.values);
    let value = match context.function {
        // A time near the samples keeps the sums small.
        RangeFunction::Derivative => window::regression(times_ms, values, times_ms[0]).slope,
        _ => {
            let line = window::regression(times_ms, values, window.step_ms);
            line.slope * params.first().copied().unwrap_or(f64::NAN) + line.intercept
        }
    };
    Some(Sample::Float(value))
}

fn double_exponential(
    window: Window<'_>,
    params: &[f64],
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Evaluated {
    let [smoothing, trend] = params else { return Ok(None) };
    for (what, short, factor) in [("smoothing", "sf", *smoothing), ("trend", "tf", *trend)] {
        if factor <= 0.0 || factor >= 1.0 {
            return execution(format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {factor:.6}"));
        }
    }
    if !two_floats(window, context, notes) {
        return Ok(None);
    }
    Ok(window::double_exponential(window.values, *smoothing, *trend).map(Sample::Float))
}
