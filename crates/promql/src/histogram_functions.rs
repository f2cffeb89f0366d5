//! Quantiles and fractions of histograms, classic ones (a series a bucket) and native ones.

use hashbrown::{HashMap, HashSet};
use pilothouse_model::Labels;
use pilothouse_model::sample::format_float_general;
use pilothouse_query::histogram::{
    ClassicBucket, NanNote, classic_fraction, classic_quantile, fraction, quantile,
};
use pilothouse_query::vectors::{Grouping, Groups};

use crate::ast::Span;
use crate::evaluator::{Evaluated, Evaluator, Grid, Pace};
use crate::matching::merge_over_steps;
use crate::notes::{Note, Notes};
use crate::plan::Plan;
use crate::rows::{Row, is_absent};

const BUCKET_LABEL: &str = "le";

/// A vector sorted into histograms.
struct Sorted<'r> {
    rows: &'r [Row],
    /// Rows with native histograms.
    native: Vec<usize>,
    classic: Vec<Classic>,
    /// Buckets whose bound makes no sense.
    malformed: Vec<usize>,
}

/// One classic histogram: its labels without the bound, its buckets as rows.
struct Classic {
    labels: Labels,
    buckets: Vec<(f64, usize)>,
}

impl<'r> Sorted<'r> {
    fn new(rows: &'r [Row], pace: &mut Pace<'_>) -> Evaluated<Self> {
        let mut sorted = Self { rows, native: Vec::new(), classic: Vec::new(), malformed: Vec::new() };
        // The metric name is a label like any other here.
        let mut groups = Groups::new(Grouping::Without(vec![BUCKET_LABEL.to_owned()]));
        for (i, row) in rows.iter().enumerate() {
            pace.step()?;
            if row.has_histograms() {
                sorted.native.push(i);
            }
            if row.floats.iter().all(|cell| is_absent(*cell)) {
                continue;
            }
            let Ok(bound) = row.labels.value(BUCKET_LABEL).parse::<f64>() else {
                sorted.malformed.push(i);
                continue;
            };
            let number = groups.number(&row.labels);
            if number == sorted.classic.len() {
                let labels = row.labels.filter(|name| name != BUCKET_LABEL);
                sorted.classic.push(Classic { labels, buckets: Vec::new() });
            }
            sorted.classic[number].buckets.push((bound, i));
        }
        Ok(sorted)
    }

    fn note_malformed(&self, span: Span, notes: &mut Notes) {
        for row in self.malformed.iter().map(|i| &self.rows[*i]) {
            let name = row.labels.metric_name().unwrap_or("").to_owned();
            let label = row.labels.value(BUCKET_LABEL).to_owned();
            notes.add(Note::BadBucketLabel { name, label }, span);
        }
    }

    /// The buckets of a classic histogram at one step.
    fn buckets_at(&self, classic: &Classic, step: usize, out: &mut Vec<ClassicBucket>) {
        out.clear();
        for (upper_bound, row) in &classic.buckets {
            let count = self.rows[*row].floats[step];
            if !is_absent(count) {
                out.push(ClassicBucket { upper_bound: *upper_bound, count });
            }
        }
    }

    /// For each classic histogram the native rows with the same labels: at steps at which both
    /// have values neither is used.
    fn twins(&self) -> Vec<Vec<usize>> {
        let mut twins = vec![Vec::new(); self.classic.len()];
        if !self.native.is_empty() {
            let known: HashMap<&Labels, usize> =
                self.classic.iter().enumerate().map(|(i, classic)| (&classic.labels, i)).collect();
            for native in &self.native {
                if let Some(number) = known.get(&self.rows[*native].labels) {
                    twins[*number].push(*native);
                }
            }
        }
        twins
    }
}

/// What is read off a histogram, at one step.
trait Reading {
    fn classic(&self, step: usize, buckets: &mut Vec<ClassicBucket>, name: &str, notes: &mut Notes) -> f64;
    fn native(&self, step: usize, h: &pilothouse_model::Histogram, name: &str, notes: &mut Notes) -> f64;
}

struct QuantileReading<'p> {
    quantiles: &'p [f64],
    grid: Grid,
    span: Span,
}

impl Reading for QuantileReading<'_> {
    fn classic(&self, step: usize, buckets: &mut Vec<ClassicBucket>, name: &str, notes: &mut Notes) -> f64 {
        let quantile = classic_quantile(self.quantiles[step], buckets);
        if let Some(repair) = quantile.repair {
            notes.add_repair(name, self.span, self.grid.steps.time_ms(step), repair);
        }
        quantile.value
    }

    fn native(&self, step: usize, h: &pilothouse_model::Histogram, name: &str, notes: &mut Notes) -> f64 {
        let quantile = quantile(self.quantiles[step], h);
        match quantile.note {
            None => {}
            Some(NanNote::Result) => notes.add(Note::QuantileNanResult(name.to_owned()), self.span),
            Some(NanNote::Skew) => notes.add(Note::QuantileNanSkew(name.to_owned()), self.span),
        }
        quantile.value
    }
}

struct FractionReading<'p> {
    lower: &'p [f64],
    upper: &'p [f64],
    span: Span,
}

impl Reading for FractionReading<'_> {
    fn classic(&self, step: usize, buckets: &mut Vec<ClassicBucket>, _: &str, _: &mut Notes) -> f64 {
        classic_fraction(self.lower[step], self.upper[step], buckets)
    }

    fn native(&self, step: usize, h: &pilothouse_model::Histogram, name: &str, notes: &mut Notes) -> f64 {
        let fraction = fraction(self.lower[step], self.upper[step], h);
        if fraction.has_nans {
            notes.add(Note::FractionNans(name.to_owned()), self.span);
        }
        fraction.value
    }
}

/// Applies a reading to all histograms of a vector.
fn read(
    sorted: &Sorted<'_>,
    reading: &impl Reading,
    span: Span,
    steps: usize,
    notes: &mut Notes,
    pace: &mut Pace<'_>,
) -> Evaluated<Vec<Row>> {
    let mut out = Vec::with_capacity(sorted.native.len() + sorted.classic.len());
    let mut buckets = Vec::new();
    // Native rows and steps at which a classic histogram stands beside them.
    let mut crossed: HashSet<(usize, usize)> = HashSet::new();
    for (classic, twins) in sorted.classic.iter().zip(sorted.twins()) {
        pace.step()?;
        let name = classic.labels.metric_name().unwrap_or("");
        let mut result = Row { drop_name: true, ..Row::empty(classic.labels.clone(), steps) };
        for step in 0..steps {
            sorted.buckets_at(classic, step, &mut buckets);
            if buckets.is_empty() {
                continue;
            }
            let natives = twins.iter().filter(|native| sorted.rows[**native].histogram(step).is_some());
            let before = crossed.len();
            crossed.extend(natives.map(|native| (*native, step)));
            if crossed.len() > before {
                notes.add(Note::MixedClassicNative(name.to_owned()), span);
            } else {
                result.floats[step] = reading.classic(step, &mut buckets, name, notes);
            }
        }
        out.push(result);
    }
    for native in &sorted.native {
        pace.step()?;
        let row = &sorted.rows[*native];
        let name = row.labels.metric_name().unwrap_or("");
        let mut result = Row { drop_name: true, ..Row::empty(row.labels.clone(), steps) };
        for step in 0..steps {
            if let Some(h) = row.histogram(step).filter(|_| !crossed.contains(&(*native, step))) {
                result.floats[step] = reading.native(step, h, name, notes);
            }
        }
        out.push(result);
    }
    out.retain(Row::any);
    Ok(out)
}

impl Evaluator<'_> {
    pub(crate) fn histogram_quantile(
        &self,
        quantiles: &[Plan],
        label: Option<&str>,
        inner: &Plan,
        grid: Grid,
    ) -> Evaluated<Vec<Row>> {
        let mut columns = Vec::with_capacity(quantiles.len());
        for plan in quantiles {
            columns.push((plan.span, self.scalar(plan, grid)?));
        }
        let rows = self.rows(inner, grid)?;
        let sorted = Sorted::new(&rows, &mut self.pace())?;
        let mut notes = Notes::default();
        sorted.note_malformed(inner.span, &mut notes);
        let mut out = Vec::new();
        for (span, column) in &columns {
            for q in column.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                notes.add(Note::InvalidQuantile { bits: q.to_bits() }, *span);
            }
            let reading = QuantileReading { quantiles: column, grid, span: inner.span };
            let read = read(&sorted, &reading, inner.span, grid.len(), &mut notes, &mut self.pace())?;
            match label {
                None => out = read,
                Some(label) => out.extend(labelled(read, label, column)),
            }
        }
        self.note(notes);
        self.hold(&out)?;
        merge_over_steps(out, grid, self.budget)
    }

    pub(crate) fn histogram_fraction(
        &self,
        lower: &Plan,
        upper: &Plan,
        inner: &Plan,
        grid: Grid,
    ) -> Evaluated<Vec<Row>> {
        let (lower, upper) = (self.scalar(lower, grid)?, self.scalar(upper, grid)?);
        let rows = self.rows(inner, grid)?;
        let sorted = Sorted::new(&rows, &mut self.pace())?;
        let mut notes = Notes::default();
        sorted.note_malformed(inner.span, &mut notes);
        let reading = FractionReading { lower: &lower, upper: &upper, span: inner.span };
        let out = read(&sorted, &reading, inner.span, grid.len(), &mut notes, &mut self.pace())?;
        self.note(notes);
        self.hold(&out)?;
        merge_over_steps(out, grid, self.budget)
    }
}

/// Rows with the quantile as a label. It may change from step to step, and the row with it.
fn labelled(rows: Vec<Row>, label: &str, quantiles: &[f64]) -> Vec<Row> {
    let mut distinct: Vec<f64> = Vec::new();
    for q in quantiles {
        if !distinct.iter().any(|known| known.to_bits() == q.to_bits()) {
            distinct.push(*q);
        }
    }
    let mut out = Vec::with_capacity(rows.len() * distinct.len());
    for row in rows {
        for q in &distinct {
            let mut own = Row { labels: row.labels.with(label, &open_metrics_float(*q)), ..row.clone() };
            for (step, at) in quantiles.iter().enumerate() {
                if at.to_bits() != q.to_bits() {
                    own.clear(step);
                }
            }
            out.push(own);
        }
    }
    out.retain(Row::any);
    out
}

/// A float as OpenMetrics writes it in labels: always with a point or an exponent.
fn open_metrics_float(value: f64) -> String {
    let mut text = format_float_general(value);
    if value.is_finite() && !text.contains(['e', '.']) {
        text.push_str(".0");
    }
    text
}
