//! The two ways to ask: at one time, or over a range of times.

use std::time::{Duration, Instant};

use pilothouse_model::{
    Annotations, Budget, MatrixSeries, QueryValue, SampleColumns, SampleValue, SeriesSource, VectorSample,
};
use pilothouse_query::steps::Steps;
use pilothouse_query::window::Bounds;
use rayon::prelude::*;

use crate::Expr;
use crate::ast::{Extended, ValueType};
use crate::error::{EvalError, execution};
use crate::evaluator::{Counting, Evaluated, Evaluator, Grid, SampleCounts, Value};
use crate::extended::floats_with_bounds;
use crate::matching::merge_equal_labels;
use crate::plan::{Plan, PlanKind, QueryTimes, Root, SelectorPlan, SubqueryPlan};
use crate::planner;
use crate::range_functions::Window;
use crate::rows::{Row, Sample};
use crate::selectors::drop_stale;

/// What one query may have its own way.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How old a sample may be to count at a step; 5 minutes by default.
    pub lookback_ms: i64,
    /// The step of subqueries that do not say theirs; 1 minute by default.
    pub default_subquery_step_ms: i64,
    /// Counts samples by step as well, for `stats=all`.
    pub per_step_stats: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { lookback_ms: 300_000, default_subquery_step_ms: 60_000, per_step_stats: false }
    }
}

/// What a query cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryStats {
    /// Samples looked at, those of overlapping windows each time; a histogram counts by its size.
    pub total_queryable_samples: u64,
    /// The most samples held at once, roughly.
    pub peak_samples: u64,
    /// By step, if asked for: the time in milliseconds and the samples looked at there.
    pub samples_per_step: Option<Vec<(i64, u64)>>,
    pub preparation: Duration,
    pub evaluation: Duration,
    pub sorting: Duration,
}

/// The answer to a query with what there is to say of it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryOutcome {
    pub value: QueryValue,
    pub annotations: Annotations,
    pub stats: QueryStats,
}

/// Evaluates queries. It has no state: everything comes with the call. Calls block and belong on
/// a blocking thread; their parallel parts run on rayon.
#[derive(Debug, Clone, Copy, Default)]
pub struct Engine;

impl Engine {
    /// Evaluates a query at one time.
    pub fn instant(
        source: &dyn SeriesSource,
        expr: &Expr,
        t_ms: i64,
        options: &Options,
        budget: &Budget,
    ) -> Result<QueryOutcome, EvalError> {
        let times = QueryTimes { start_ms: t_ms, end_ms: t_ms, step_ms: 0 };
        run(source, expr, times, Steps::instant(t_ms), options, budget)
    }

    /// Evaluates a query at every step from `start_ms` to `end_ms`. Only scalars and instant
    /// vectors have a value at each step; the answer is a matrix sorted by labels.
    pub fn range(
        source: &dyn SeriesSource,
        expr: &Expr,
        (start_ms, end_ms, step_ms): (i64, i64, i64),
        options: &Options,
        budget: &Budget,
    ) -> Result<QueryOutcome, EvalError> {
        let value_type = expr.value_type();
        if !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
            let got = value_type.documented();
            return execution(format!(
                "invalid expression type {got:?} for range query, must be Scalar or instant Vector"
            ));
        }
        let times = QueryTimes { start_ms, end_ms, step_ms };
        let steps = Steps::range(start_ms, end_ms, step_ms);
        run(source, expr, times, steps, options, budget)
    }
}

fn run(
    source: &dyn SeriesSource,
    expr: &Expr,
    times: QueryTimes,
    steps: Steps,
    options: &Options,
    budget: &Budget,
) -> Result<QueryOutcome, EvalError> {
    let begin = Instant::now();
    budget.check("query preparation")?;
    let root = planner::plan(expr.root(), times)?;
    let preparation = begin.elapsed();
    let counts = SampleCounts::new(if options.per_step_stats { steps.count } else { 0 });
    let lookback_ms = options.lookback_ms.max(1);
    let evaluator = Evaluator::new(source, budget, lookback_ms, options.default_subquery_step_ms, counts);
    let evaluating = Instant::now();
    let instant = times.step_ms == 0;
    let evaluated = evaluator.root(&root, expr.value_type(), steps, instant)?;
    let evaluation = evaluating.elapsed();
    let sorting = Instant::now();
    budget.check("sorting")?;
    let value = evaluated.sorted();
    let stats = QueryStats {
        total_queryable_samples: evaluator.counts.total(),
        peak_samples: evaluator.counts.peak(),
        samples_per_step: options
            .per_step_stats
            .then(|| steps.iter().zip(evaluator.counts.per_step()).collect()),
        preparation,
        evaluation,
        sorting: sorting.elapsed(),
    };
    let annotations = evaluator.take_notes().into_annotations(expr.text());
    Ok(QueryOutcome { value, annotations, stats })
}

/// A value before it is put in order.
struct Unsorted(QueryValue);

impl Unsorted {
    fn sorted(self) -> QueryValue {
        match self.0 {
            QueryValue::Matrix(mut series) => {
                sort_by_labels(&mut series);
                QueryValue::Matrix(series)
            }
            other => other,
        }
    }
}

/// Sorts by labels. Texts joined by NULs compare as the label sets do, and much faster, unless
/// some text has a NUL of its own.
fn sort_by_labels(series: &mut [MatrixSeries]) {
    const WORTH_KEYS: usize = 64;
    if series.len() < WORTH_KEYS || series.iter().any(|s| s.labels.as_encoded().contains('\0')) {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        return;
    }
    series.par_sort_by_cached_key(|s| {
        let mut key = String::with_capacity(s.labels.as_encoded().len() + 16);
        for text in s.labels.iter().flat_map(|(name, value)| [name, value]) {
            key.push_str(text);
            key.push('\0');
        }
        key
    });
}

impl Evaluator<'_> {
    fn root(&self, root: &Root, value_type: ValueType, steps: Steps, instant: bool) -> Evaluated<Unsorted> {
        let grid = Grid { steps, counting: Counting::Steps };
        let value = match root {
            Root::Expression(plan) if instant => self.instant_value(plan, value_type, grid)?,
            Root::Expression(plan) => {
                let rows = if steps.is_empty() { Vec::new() } else { self.rows(plan, grid)? };
                QueryValue::Matrix(matrix(finish(rows, self.budget)?, steps))
            }
            Root::Matrix { selector, range_ms } => {
                self.matrix_selector(selector, *range_ms, steps.start_ms)?
            }
            Root::Subquery { subquery, range_ms } => self.matrix_of_subquery(subquery, *range_ms, grid)?,
        };
        Ok(Unsorted(value))
    }

    fn instant_value(&self, plan: &Plan, value_type: ValueType, grid: Grid) -> Evaluated<QueryValue> {
        let t_ms = grid.steps.start_ms;
        Ok(match self.eval(plan, grid)? {
            Value::Text(text) => QueryValue::String { t_ms, text },
            Value::Scalar(floats) if value_type == ValueType::Scalar => {
                QueryValue::Scalar { t_ms, value: floats.first().copied().unwrap_or(f64::NAN) }
            }
            value => {
                let rows = value.into_rows();
                // Series of a selector are different as they are.
                let rows = if matches!(plan.kind, PlanKind::Selector(_)) {
                    rows
                } else {
                    finish(rows, self.budget)?
                };
                let samples = rows.into_iter().filter_map(|row| {
                    let value = match row.sample(0)? {
                        Sample::Float(value) => SampleValue::Float(value),
                        Sample::Histogram(h) => SampleValue::Histogram(h),
                    };
                    Some(VectorSample { labels: row.labels, t_ms, value })
                });
                QueryValue::Vector(samples.collect())
            }
        })
    }

    /// A range vector as the answer of an instant query.
    fn matrix_selector(&self, selector: &SelectorPlan, range_ms: i64, t_ms: i64) -> Evaluated<QueryValue> {
        let end_ms = selector.at_ms.unwrap_or(t_ms).saturating_sub(selector.offset_ms);
        let bounds = Bounds { start_ms: end_ms.saturating_sub(range_ms), end_ms };
        let (before, behind) = match selector.extended {
            None => (0, 0),
            Some(Extended::Anchored) => (self.lookback_ms, 0),
            Some(Extended::Smoothed) => (self.lookback_ms, self.lookback_ms),
        };
        let first = bounds.start_ms.saturating_sub(before).saturating_add(1);
        let last = end_ms.saturating_add(behind);
        let mut matrix = Vec::new();
        let mut columns = SampleColumns::default();
        for series in self.select(selector, first, last)? {
            self.budget.check("expression evaluation")?;
            series.samples.read(first, last, &mut columns)?;
            drop_stale(&mut columns);
            self.budget.add_samples(columns.len() as u64)?;
            self.hold_bytes(columns.len() as u64 * 16)?;
            let floats = match selector.extended {
                None => columns.times_ms.iter().copied().zip(columns.values.iter().copied()).collect(),
                Some(how) => extended_floats(&columns, bounds, t_ms, how)?,
            };
            let histograms = columns.histograms.clone();
            if !floats.is_empty() || !histograms.is_empty() {
                matrix.push(MatrixSeries { labels: series.labels, floats, histograms });
            }
        }
        Ok(QueryValue::Matrix(matrix))
    }

    fn matrix_of_subquery(
        &self,
        subquery: &SubqueryPlan,
        range_ms: i64,
        grid: Grid,
    ) -> Evaluated<QueryValue> {
        let (rows, steps) = self.subquery(subquery, range_ms, grid)?;
        Ok(QueryValue::Matrix(matrix(finish(rows, self.budget)?, steps)))
    }
}

fn extended_floats(
    columns: &SampleColumns,
    bounds: Bounds,
    step_ms: i64,
    how: Extended,
) -> Evaluated<Vec<(i64, f64)>> {
    if !columns.histograms.is_empty() {
        return execution(format!("{} modifier is not supported with histograms", how.as_str()));
    }
    let window = Window {
        times_ms: &columns.times_ms,
        values: &columns.values,
        histograms: &[],
        bounds,
        step_ms,
        may_reset: false,
    };
    Ok(floats_with_bounds(window, how))
}

/// Drops the names that are to go. Rows that become equal by that are one, if they can be.
fn finish(mut rows: Vec<Row>, budget: &Budget) -> Evaluated<Vec<Row>> {
    rows.par_iter_mut().with_min_len(256).filter(|row| row.drop_name).for_each(|row| {
        row.labels = row.final_labels();
    });
    merge_equal_labels(rows, budget)
}

fn matrix(rows: Vec<Row>, steps: Steps) -> Vec<MatrixSeries> {
    let series = rows.into_par_iter().with_min_len(256).map(|row| {
        let mut series = MatrixSeries { labels: row.labels.clone(), ..MatrixSeries::default() };
        series.floats.reserve_exact(if row.has_histograms() { 0 } else { row.count() });
        for (step, t_ms) in steps.iter().enumerate() {
            match row.sample(step) {
                Some(Sample::Float(value)) => series.floats.push((t_ms, value)),
                Some(Sample::Histogram(h)) => series.histograms.push((t_ms, h)),
                None => {}
            }
        }
        series
    });
    series.filter(|series| !series.floats.is_empty() || !series.histograms.is_empty()).collect()
}
