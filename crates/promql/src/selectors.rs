//! Instant selectors and range functions over selected series.

use std::sync::Arc;

use pilothouse_model::sample::is_stale;
use pilothouse_model::{
    Histogram, Labels, ResetHint, SampleColumns, SampleValue, SelectedSeries, SeriesSamples, SourceError,
};
use pilothouse_query::histogram::has_reset;
use pilothouse_query::steps::Steps;
use pilothouse_query::window::{Bounds, Cursor, SlidingExtreme, extrapolated};

use crate::ast::{Extended, Span};
use crate::error::{EvalError, execution};
use crate::evaluator::{Counter, Evaluator};
use crate::extended;
use crate::notes::{Note, Notes};
use crate::pipeline::Producer;
use crate::range_functions::{RangeContext, RangeFunction, Window, evaluate};
use crate::rows::{Row, Sample, histogram_weight};

/// What is read off the selected samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Values,
    /// Their times in seconds.
    Times,
    /// Their times, of series that must not have histograms.
    InfoTimes,
}

impl Reads {
    fn read(self, labels: &Labels, t_ms: i64, sample: Sample) -> Result<Sample, EvalError> {
        match (self, sample) {
            (Self::Values, sample) => Ok(sample),
            (Self::InfoTimes, Sample::Histogram(_)) => {
                execution(format!("this should be an info metric, with float samples: {labels}"))
            }
            _ => Ok(Sample::Float(t_ms as f64 / 1000.0)),
        }
    }
}

/// The newest sample at each step, no older than the lookback.
pub(crate) struct InstantProducer<'e> {
    /// The times looked at, offset and `@` applied: one for a selector with `@`.
    pub(crate) references: Steps,
    /// The grid's length.
    pub(crate) steps: usize,
    pub(crate) lookback_ms: i64,
    pub(crate) reads: Reads,
    pub(crate) counter: Counter<'e>,
}

impl Producer for InstantProducer<'_> {
    fn produce(
        &self,
        series: &SelectedSeries,
        scratch: &mut SampleColumns,
        row: &mut Row,
        _notes: &mut Notes,
    ) -> Result<bool, EvalError> {
        let any = if self.references.count == 1 {
            self.one(series, row)?
        } else {
            self.walk(series, scratch, row)?
        };
        Ok(any)
    }
}

impl InstantProducer<'_> {
    fn one(&self, series: &SelectedSeries, row: &mut Row) -> Result<bool, EvalError> {
        let at_ms = self.references.start_ms;
        let latest = series.samples.latest(at_ms.saturating_sub(self.lookback_ms), at_ms)?;
        let Some((t_ms, value)) = latest else { return Ok(false) };
        let sample = match value {
            SampleValue::Float(value) if is_stale(value) => return Ok(false),
            SampleValue::Histogram(h) if h.is_stale() => return Ok(false),
            SampleValue::Float(value) => Sample::Float(value),
            SampleValue::Histogram(h) => Sample::Histogram(h),
        };
        let sample = self.reads.read(&series.labels, t_ms, sample)?;
        let weight = weight(&sample);
        for step in 0..self.steps {
            self.counter.at_step(step, weight);
            row.set(step, sample.clone());
        }
        self.counter.add(weight * self.steps as u64);
        Ok(true)
    }

    fn walk(
        &self,
        series: &SelectedSeries,
        scratch: &mut SampleColumns,
        row: &mut Row,
    ) -> Result<bool, EvalError> {
        let (first, last) = (self.references.start_ms, self.references.last_ms());
        series.samples.read(first.saturating_sub(self.lookback_ms).saturating_add(1), last, scratch)?;
        let columns: &SampleColumns = scratch;
        if columns.is_empty() {
            return Ok(false);
        }
        let (mut f, mut h, mut seen) = (0, 0, 0);
        for (step, at_ms) in self.references.iter().enumerate() {
            while columns.times_ms.get(f).is_some_and(|t| *t <= at_ms) {
                f += 1;
            }
            while columns.histograms.get(h).is_some_and(|(t, _)| *t <= at_ms) {
                h += 1;
            }
            let oldest_ms = at_ms.saturating_sub(self.lookback_ms);
            if let Some((t_ms, sample)) = newest(columns, f, h).filter(|(t, _)| *t > oldest_ms) {
                let weight = weight(&sample);
                self.counter.at_step(step, weight);
                seen += weight;
                row.set(step, self.reads.read(&series.labels, t_ms, sample)?);
            }
        }
        self.counter.add(seen);
        Ok(seen > 0)
    }
}

/// The newer of the last float before index `f` and the last histogram before `h`, unless it is
/// a stale marker.
fn newest(columns: &SampleColumns, f: usize, h: usize) -> Option<(i64, Sample)> {
    let float = f.checked_sub(1).map(|i| (columns.times_ms[i], columns.values[i]));
    let histogram = h.checked_sub(1).map(|i| &columns.histograms[i]);
    match (float, histogram) {
        (Some((t, value)), other) if other.is_none_or(|(ht, _)| *ht < t) => {
            (!is_stale(value)).then_some((t, Sample::Float(value)))
        }
        (_, Some((t, h))) => (!h.is_stale()).then(|| (*t, Sample::Histogram(h.clone()))),
        _ => None,
    }
}

fn weight(sample: &Sample) -> u64 {
    match sample {
        Sample::Float(_) => 1,
        Sample::Histogram(h) => histogram_weight(h),
    }
}

/// A smoothed instant selector: the value on the line between the samples around each step.
pub(crate) struct SmoothedProducer<'e> {
    pub(crate) references: Steps,
    pub(crate) steps: usize,
    pub(crate) lookback_ms: i64,
    pub(crate) span: Span,
    pub(crate) fixed_name: Option<&'e str>,
}

impl Producer for SmoothedProducer<'_> {
    fn produce(
        &self,
        series: &SelectedSeries,
        scratch: &mut SampleColumns,
        row: &mut Row,
        notes: &mut Notes,
    ) -> Result<bool, EvalError> {
        let from = self.references.start_ms.saturating_sub(self.lookback_ms).saturating_add(1);
        let to = self.references.last_ms().saturating_add(self.lookback_ms);
        series.samples.read(from, to, scratch)?;
        drop_stale(scratch);
        let name = series.labels.metric_name().or(self.fixed_name).unwrap_or("");
        let context = RangeContext {
            function: RangeFunction::Last,
            extended: Some(Extended::Smoothed),
            name,
            span: self.span,
        };
        let (mut floats, mut histograms, mut any) = (Cursor::default(), Cursor::default(), false);
        for (step, at_ms) in self.references.iter().enumerate() {
            let (after, until) =
                (at_ms.saturating_sub(self.lookback_ms), at_ms.saturating_add(self.lookback_ms));
            let f = floats.advance(scratch.times_ms.len(), |i| scratch.times_ms[i], after, until);
            let h = histograms.advance(scratch.histograms.len(), |i| scratch.histograms[i].0, after, until);
            if !f.is_empty() && !h.is_empty() {
                context.note(notes, Note::MixedFloatsHistograms);
                continue;
            }
            let sample = if h.is_empty() {
                smoothed_float(&scratch.times_ms[f.clone()], &scratch.values[f], at_ms).map(Sample::Float)
            } else {
                smoothed_histogram(&scratch.histograms[h], at_ms, context, notes)
            };
            if let Some(sample) = sample {
                row.set(step, sample);
                any = true;
            }
        }
        if any && self.references.count < self.steps {
            *row = std::mem::take(row).spread(self.steps);
        }
        Ok(any)
    }
}

fn smoothed_float(times_ms: &[i64], values: &[f64], at_ms: i64) -> Option<f64> {
    let i = times_ms.partition_point(|t| *t < at_ms);
    if times_ms.get(i) == Some(&at_ms) {
        return Some(values[i]);
    }
    let before = i.checked_sub(1)?;
    Some(match (times_ms.get(i), values.get(i)) {
        (Some(t), Some(v)) => {
            extended::interpolate((times_ms[before], values[before]), (*t, *v), at_ms, false)
        }
        // Nothing comes after it yet.
        _ => values[before],
    })
}

fn smoothed_histogram(
    points: &[(i64, Arc<Histogram>)],
    at_ms: i64,
    context: RangeContext<'_>,
    notes: &mut Notes,
) -> Option<Sample> {
    use pilothouse_model::ResetHint::{Gauge, Unknown};
    let i = points.partition_point(|(t, _)| *t < at_ms);
    if let Some((_, h)) = points.get(i).filter(|(t, _)| *t == at_ms) {
        return Some(Sample::Histogram(h.clone()));
    }
    let before = points.get(i.checked_sub(1)?)?;
    let Some(after) = points.get(i) else {
        // The hint was about the sample, not about the value that is carried on.
        return Some(Sample::histogram(Histogram { reset_hint: Unknown, ..(*before.1).clone() }));
    };
    let of_counter = before.1.reset_hint != Gauge || after.1.reset_hint != Gauge;
    match extended::interpolate_histograms(before, after, at_ms, of_counter, context, notes) {
        Ok(h) => Some(Sample::histogram(h)),
        Err(_) => {
            context.note(notes, Note::MixedSchemas);
            None
        }
    }
}

/// Removes stale markers: a window holds values only.
pub(crate) fn drop_stale(columns: &mut SampleColumns) {
    if columns.values.iter().any(|v| is_stale(*v)) {
        let keep: Vec<bool> = columns.values.iter().map(|v| !is_stale(*v)).collect();
        let mut flags = keep.iter();
        columns.times_ms.retain(|_| flags.next().copied().unwrap_or(true));
        let mut flags = keep.iter();
        columns.values.retain(|_| flags.next().copied().unwrap_or(true));
    }
    columns.histograms.retain(|(_, h)| !h.is_stale());
}

/// A range function over the windows of a grid.
pub(crate) struct RangeSpec<'e> {
    pub(crate) function: RangeFunction,
    pub(crate) extended: Option<Extended>,
    pub(crate) steps: Steps,
    pub(crate) range_ms: i64,
    pub(crate) offset_ms: i64,
    pub(crate) at_ms: Option<i64>,
    pub(crate) lookback_ms: i64,
    /// The scalar arguments, each over the grid.
    pub(crate) params: Vec<Vec<f64>>,
    pub(crate) span: Span,
    pub(crate) fixed_name: Option<&'e str>,
    pub(crate) counter: Counter<'e>,
}

impl RangeSpec<'_> {
    /// How far before and behind its bounds a window looks.
    fn margins(&self) -> (i64, i64) {
        match self.extended {
            None => (0, 0),
            Some(Extended::Anchored) => (self.lookback_ms, 0),
            Some(Extended::Smoothed) => (self.lookback_ms, self.lookback_ms),
        }
    }

    fn bounds(&self, step_ms: i64) -> Bounds {
        let end_ms = self.at_ms.unwrap_or(step_ms).saturating_sub(self.offset_ms);
        Bounds { start_ms: end_ms.saturating_sub(self.range_ms), end_ms }
    }

    /// The first and last time of any sample that matters.
    pub(crate) fn reach(&self) -> (i64, i64) {
        let (before, behind) = self.margins();
        let first = self.bounds(self.steps.start_ms).start_ms.saturating_sub(before);
        let last = self.bounds(self.steps.last_ms()).end_ms.saturating_add(behind);
        (first.saturating_add(1), last)
    }

    /// Fills a row from samples without stale markers; `false` if nothing came of them.
    pub(crate) fn fill(
        &self,
        labels: &Labels,
        columns: &SampleColumns,
        row: &mut Row,
        notes: &mut Notes,
    ) -> Result<bool, EvalError> {
        let name = labels.metric_name().or(self.fixed_name).unwrap_or("");
        let context =
            RangeContext { function: self.function, extended: self.extended, name, span: self.span };
        let plain = columns.histograms.is_empty() && self.extended.is_none();
        let any = match self.function {
            _ if !plain => self.fill_any(columns, context, row, notes)?,
            RangeFunction::Max | RangeFunction::Min => self.fill_extreme(columns, row),
            function if function.growth().is_some() => self.fill_growth(columns, row),
            _ => self.fill_any(columns, context, row, notes)?,
        };
        if any && self.function.wants_counter_name() && !name.is_empty() && !is_counter_name(name) {
            let floats = row.floats.iter().any(|cell| !is_stale(*cell));
            if floats {
                context.note(notes, Note::PossiblyNoCounter);
            }
        }
        row.drop_name |= !self.function.keeps_name();
        Ok(any)
    }

    /// The common case, without a detour: growth of plain floats.
    fn fill_growth(&self, columns: &SampleColumns, row: &mut Row) -> bool {
        let Some(growth) = self.function.growth() else { return false };
        let (times, values) = (&columns.times_ms[..], &columns.values[..]);
        let may_reset = growth.of_counter() && values.windows(2).any(|pair| pair[1] < pair[0]);
        self.fill_floats(times, row, |at, bounds| {
            extrapolated(&times[at.clone()], &values[at], bounds, growth, may_reset)
        })
    }

    /// The greatest or least of plain floats.
    fn fill_extreme(&self, columns: &SampleColumns, row: &mut Row) -> bool {
        let (mut sliding, greatest) = (SlidingExtreme::default(), self.function == RangeFunction::Max);
        self.fill_floats(&columns.times_ms, row, |at, _| sliding.of(&columns.values, at, greatest))
    }

    /// Fills a row with what each window of floats gives.
    fn fill_floats(
        &self,
        times_ms: &[i64],
        row: &mut Row,
        mut value_of: impl FnMut(std::ops::Range<usize>, Bounds) -> Option<f64>,
    ) -> bool {
        let (mut cursor, mut any, mut seen) = (Cursor::default(), false, 0);
        for (step, cell) in row.floats.iter_mut().enumerate() {
            let bounds = self.bounds(self.steps.time_ms(step));
            let at = cursor.advance(times_ms.len(), |i| times_ms[i], bounds.start_ms, bounds.end_ms);
            self.counter.at_step(step, at.len() as u64);
            seen += at.len() as u64;
            if let Some(value) = value_of(at, bounds) {
                *cell = value;
                any = true;
            }
        }
        self.counter.add(seen);
        any
    }

    fn fill_any(
        &self,
        columns: &SampleColumns,
        context: RangeContext<'_>,
        row: &mut Row,
        notes: &mut Notes,
    ) -> Result<bool, EvalError> {
        let (before, behind) = self.margins();
        let (mut floats, mut histograms, mut any) = (Cursor::default(), Cursor::default(), false);
        let (mut params, mut seen) = (Vec::with_capacity(self.params.len()), 0);
        for (step, step_ms) in self.steps.iter().enumerate() {
            let bounds = self.bounds(step_ms);
            let (after, until) = (bounds.start_ms - before, bounds.end_ms + behind);
            let f = floats.advance(columns.times_ms.len(), |i| columns.times_ms[i], after, until);
            let h = histograms.advance(columns.histograms.len(), |i| columns.histograms[i].0, after, until);
            if f.is_empty() && h.is_empty() {
                continue;
            }
            let window = Window {
                times_ms: &columns.times_ms[f.clone()],
                values: &columns.values[f],
                histograms: &columns.histograms[h],
                bounds,
                step_ms,
                may_reset: true,
            };
            let weight = weight_of_window(window);
            self.counter.at_step(step, weight);
            seen += weight;
            params.clear();
            params.extend(self.params.iter().map(|column| column.get(step).copied().unwrap_or(f64::NAN)));
            if let Some(sample) = evaluate(window, &params, context, notes)? {
                row.set(step, sample);
                any = true;
            }
        }
        self.counter.add(seen);
        Ok(any)
    }
}

fn weight_of_window(window: Window<'_>) -> u64 {
    window.values.len() as u64 + window.histograms.iter().map(|(_, h)| histogram_weight(h)).sum::<u64>()
}

/// Whether a metric's name says that it is a counter.
fn is_counter_name(name: &str) -> bool {
    ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix))
}

impl Producer for RangeSpec<'_> {
    fn produce(
        &self,
        series: &SelectedSeries,
        scratch: &mut SampleColumns,
        row: &mut Row,
        notes: &mut Notes,
    ) -> Result<bool, EvalError> {
        let (first, last) = self.reach();
        series.samples.read(first, last, scratch)?;
        if scratch.is_empty() {
            return Ok(false);
        }
        drop_stale(scratch);
        self.fill(&series.labels, scratch, row, notes)
    }
}

/// Samples whose native histograms come without buckets. Whether a counter was reset is found
/// out while the buckets are there, and left behind as the hint.
struct StatisticsOnly(Box<dyn SeriesSamples>);

impl SeriesSamples for StatisticsOnly {
    fn read(&self, start_ms: i64, end_ms: i64, out: &mut SampleColumns) -> Result<(), SourceError> {
        self.0.read(start_ms, end_ms, out)?;
        let mut before: Option<Arc<Histogram>> = None;
        for (_, h) in out.histograms.iter_mut().filter(|(_, h)| !h.is_stale()) {
            let reset_hint = match (h.reset_hint, &before) {
                (ResetHint::Unknown, Some(before)) if has_reset(h, before) => ResetHint::Reset,
                (ResetHint::Unknown, Some(_)) => ResetHint::NotReset,
                (hint, _) => hint,
            };
            let Histogram { schema, count, sum, .. } = **h;
            let bare = Histogram { schema, count, sum, reset_hint, ..Histogram::default() };
            before = Some(std::mem::replace(h, Arc::new(bare)));
        }
        Ok(())
    }
}

/// No samples at all.
struct Nothing;

impl SeriesSamples for Nothing {
    fn read(&self, _: i64, _: i64, out: &mut SampleColumns) -> Result<(), SourceError> {
        out.clear();
        Ok(())
    }
}

impl Evaluator<'_> {
    /// Asks the source for the series of a selector with samples in a range of time.
    pub(crate) fn select(
        &self,
        selector: &crate::plan::SelectorPlan,
        first_ms: i64,
        last_ms: i64,
    ) -> Result<Vec<SelectedSeries>, EvalError> {
        let selection = pilothouse_model::Selection {
            matchers: selector.matchers.clone(),
            start_ms: first_ms,
            end_ms: last_ms,
            needs: selector.needs.clone(),
        };
        let mut series = self.source.select(&selection, self.budget)?;
        if selector.statistics_only {
            for one in &mut series {
                let whole = std::mem::replace(&mut one.samples, Box::new(Nothing));
                one.samples = Box::new(StatisticsOnly(whole));
            }
        }
        Ok(series)
    }
}
