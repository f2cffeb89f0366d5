//! The walk over a plan: each node becomes values over the grid.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use pilothouse_model::{Budget, Labels, SeriesSource};
use pilothouse_query::steps::Steps;

use crate::ast::{Extended, Span, ValueType};
use crate::changes::{changed_node, negation};
use crate::elements;
use crate::error::{EvalError, execution};
use crate::notes::{Note, Notes};
use crate::pipeline::{Pipeline, Producer, RowChange};
use crate::plan::{BinaryPlan, Plan, PlanKind, RangePlan, RangeSource, SelectorPlan};
use crate::rows::{Row, is_absent};
use crate::scalars;
use crate::selectors::{InstantProducer, RangeSpec, Reads, SmoothedProducer};

/// What a node is worth over a grid.
#[derive(Debug)]
pub(crate) enum Value {
    /// A number at every step.
    Scalar(Vec<f64>),
    Vector(Vec<Row>),
    Text(String),
}

impl Value {
    pub(crate) fn into_rows(self) -> Vec<Row> {
        match self {
            Self::Vector(rows) => rows,
            Self::Scalar(floats) => vec![Row::of_floats(Labels::empty(), floats)],
            Self::Text(_) => Vec::new(),
        }
    }
}

/// Looks at the budget now and then during a walk over many rows, from the first on: somebody
/// who has gone shall not go on costing a second.
pub(crate) struct Pace<'b> {
    budget: &'b Budget,
    rows: usize,
}

impl<'b> Pace<'b> {
    const ROWS: usize = 256;

    pub(crate) fn new(budget: &'b Budget) -> Self {
        Self { budget, rows: 0 }
    }

    #[inline]
    pub(crate) fn step(&mut self) -> Evaluated<()> {
        if self.rows.is_multiple_of(Self::ROWS) {
            self.budget.check("expression evaluation")?;
        }
        self.rows += 1;
        Ok(())
    }
}

/// Samples looked at, as Prometheus' `totalQueryableSamples`.
#[derive(Debug, Default)]
pub(crate) struct SampleCounts {
    total: AtomicU64,
    peak: AtomicU64,
    /// By step of the query's grid; empty unless asked for.
    per_step: Vec<AtomicU64>,
}

impl SampleCounts {
    pub(crate) fn new(steps: usize) -> Self {
        Self { per_step: (0..steps).map(|_| AtomicU64::new(0)).collect(), ..Self::default() }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }

    pub(crate) fn per_step(&self) -> Vec<u64> {
        self.per_step.iter().map(|n| n.load(Relaxed)).collect()
    }
}

/// How samples that a node looks at are counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counting {
    /// Each at its step of the query's grid.
    Steps,
    /// Looked at once, counted at every step.
    EveryStep { steps: usize },
    /// Inside a subquery, whose windows are counted instead.
    No,
}

/// Counts for one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counter<'e> {
    counts: &'e SampleCounts,
    counting: Counting,
}

impl Counter<'_> {
    #[inline]
    pub(crate) fn at_step(&self, step: usize, samples: u64) {
        if self.counts.per_step.is_empty() {
            return;
        }
        match self.counting {
            Counting::Steps => {
                if let Some(cell) = self.counts.per_step.get(step) {
                    cell.fetch_add(samples, Relaxed);
                }
            }
            Counting::EveryStep { .. } => self.counts.per_step.iter().for_each(|cell| {
                cell.fetch_add(samples, Relaxed);
            }),
            Counting::No => {}
        }
    }

    pub(crate) fn add(&self, samples: u64) {
        let times = match self.counting {
            Counting::Steps => 1,
            Counting::EveryStep { steps } => steps as u64,
            Counting::No => 0,
        };
        self.counts.total.fetch_add(samples * times, Relaxed);
    }
}

/// Where a node is evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) steps: Steps,
    pub(crate) counting: Counting,
}

impl Grid {
    pub(crate) fn len(&self) -> usize {
        self.steps.count
    }
}

pub(crate) struct Evaluator<'e> {
    pub(crate) source: &'e dyn SeriesSource,
    pub(crate) budget: &'e Budget,
    pub(crate) lookback_ms: i64,
    pub(crate) default_subquery_step_ms: i64,
    pub(crate) counts: SampleCounts,
    notes: Mutex<Notes>,
    /// Memory taken from the budget, given back when the query ends.
    held_bytes: AtomicU64,
}

impl Drop for Evaluator<'_> {
    fn drop(&mut self) {
        self.budget.release_bytes(self.held_bytes.load(Relaxed));
    }
}

pub(crate) type Evaluated<T> = Result<T, EvalError>;

impl<'e> Evaluator<'e> {
    pub(crate) fn new(
        source: &'e dyn SeriesSource,
        budget: &'e Budget,
        lookback_ms: i64,
        default_subquery_step_ms: i64,
        counts: SampleCounts,
    ) -> Self {
        Self {
            source,
            budget,
            lookback_ms,
            default_subquery_step_ms,
            counts,
            notes: Mutex::new(Notes::default()),
            held_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn note(&self, notes: Notes) {
        self.notes.lock().merge(notes);
    }

    pub(crate) fn take_notes(&self) -> Notes {
        std::mem::take(&mut self.notes.lock())
    }

    /// Takes from the budget what some rows hold: their memory and their samples.
    pub(crate) fn hold(&self, rows: &[Row]) -> Evaluated<()> {
        let samples: u64 = rows.iter().map(|row| row.count() as u64).sum();
        self.hold_bytes(rows.iter().map(Row::bytes).sum())?;
        self.counts.peak.fetch_max(self.budget.samples() + samples, Relaxed);
        Ok(self.budget.add_samples(samples)?)
    }

    pub(crate) fn hold_bytes(&self, bytes: u64) -> Evaluated<()> {
        self.held_bytes.fetch_add(bytes, Relaxed);
        Ok(self.budget.reserve_bytes(bytes)?)
    }

    pub(crate) fn pace(&self) -> Pace<'_> {
        Pace::new(self.budget)
    }

    fn counter(&self, grid: Grid) -> Counter<'_> {
        Counter { counts: &self.counts, counting: grid.counting }
    }

    // ── nodes ───────────────────────────────────────────────────────────────────────────

    pub(crate) fn eval(&self, plan: &Plan, grid: Grid) -> Evaluated<Value> {
        self.budget.check("expression evaluation")?;
        if let Some(pipeline) = self.pipeline(plan, grid)? {
            return pipeline.collect(self).map(Value::Vector);
        }
        let steps = grid.len();
        Ok(match &plan.kind {
            PlanKind::Number(value) => Value::Scalar(vec![*value; steps]),
            PlanKind::Text(text) => Value::Text(text.clone()),
            PlanKind::Time => Value::Scalar(grid.steps.iter().map(|t| t as f64 / 1000.0).collect()),
            PlanKind::ToScalar(inner) => Value::Scalar(to_scalar(&self.rows(inner, grid)?, steps)),
            PlanKind::ToVector(inner) => {
                Value::Vector(vec![Row::of_floats(Labels::empty(), self.scalar(inner, grid)?)])
            }
            PlanKind::Extreme { greater, lhs, rhs } => {
                let pick = if *greater { scalars::max } else { scalars::min };
                let (lhs, rhs) = (self.scalar(lhs, grid)?, self.scalar(rhs, grid)?);
                Value::Scalar(lhs.iter().zip(&rhs).map(|(l, r)| pick(*l, *r)).collect())
            }
            PlanKind::Invariant(inner) => self.invariant(inner, grid)?,
            PlanKind::Binary(binary) => self.binary(plan.span, binary, grid)?,
            PlanKind::Negate(inner) => self.negate(inner, grid)?,
            PlanKind::Date { part, inner: None } => {
                let floats = grid.steps.iter().map(|t| part.of(t.div_euclid(1000))).collect();
                Value::Vector(vec![Row::of_floats(Labels::empty(), floats)])
            }
            _ => Value::Vector(self.vector(plan, grid)?),
        })
    }

    /// Nodes that make vectors of vectors.
    fn vector(&self, plan: &Plan, grid: Grid) -> Evaluated<Vec<Row>> {
        match &plan.kind {
            PlanKind::Range(range) => self.range_over_subquery(range, grid),
            PlanKind::AbsentOverTime { labels, present } | PlanKind::Absent { labels, inner: present } => {
                let rows = self.rows(present, grid)?;
                let mut row = absent_row(labels.clone(), &rows, grid.len(), &mut self.pace())?;
                row.drop_name = matches!(plan.kind, PlanKind::AbsentOverTime { .. });
                Ok(if row.any() { vec![row] } else { Vec::new() })
            }
            PlanKind::Sort { .. } | PlanKind::SortByLabel { .. } => self.sort(plan, grid),
            PlanKind::LabelReplace(replace) => self.replace_label(replace, grid),
            PlanKind::LabelJoin(join) => self.join_labels(join, grid),
            PlanKind::Info(info) => self.info(info, grid),
            PlanKind::HistogramQuantile { quantiles, label, inner } => {
                self.histogram_quantile(quantiles, label.as_deref(), inner, grid)
            }
            PlanKind::HistogramFraction { lower, upper, inner } => {
                self.histogram_fraction(lower, upper, inner, grid)
            }
            PlanKind::Nothing(inner) => {
                self.rows(inner, grid)?;
                Ok(Vec::new())
            }
            PlanKind::Aggregate(aggregate) => self.aggregate(plan.span, aggregate, grid),
            _ => match self.change_of(plan, grid)? {
                Some((inner, change)) => {
                    let rows = self.rows(inner, grid)?;
                    self.change_rows(rows, &change)
                }
                None => execution("unexpected expression in evaluation"),
            },
        }
    }

    pub(crate) fn rows(&self, plan: &Plan, grid: Grid) -> Evaluated<Vec<Row>> {
        self.eval(plan, grid).map(Value::into_rows)
    }

    pub(crate) fn scalar(&self, plan: &Plan, grid: Grid) -> Evaluated<Vec<f64>> {
        match self.eval(plan, grid)? {
            Value::Scalar(floats) => Ok(floats),
            _ => execution("expected a scalar"),
        }
    }

    fn invariant(&self, inner: &Plan, grid: Grid) -> Evaluated<Value> {
        let steps = grid.len();
        let counting = match grid.counting {
            Counting::Steps => Counting::EveryStep { steps },
            other => other,
        };
        let once = Grid { steps: Steps::instant(grid.steps.start_ms), counting };
        Ok(match self.eval(inner, once)? {
            Value::Scalar(floats) => Value::Scalar(vec![floats.first().copied().unwrap_or(f64::NAN); steps]),
            Value::Vector(rows) if steps > 1 => {
                self.hold_bytes((rows.len() * steps * 8) as u64)?;
                Value::Vector(rows.into_iter().map(|row| row.spread(steps)).collect())
            }
            other => other,
        })
    }

    fn negate(&self, inner: &Plan, grid: Grid) -> Evaluated<Value> {
        match self.eval(inner, grid)? {
            Value::Scalar(mut floats) => {
                floats.iter_mut().for_each(|v| *v = -*v);
                Ok(Value::Scalar(floats))
            }
            Value::Vector(rows) => Ok(Value::Vector(self.change_rows(rows, &negation())?)),
            other => Ok(other),
        }
    }

    fn binary(&self, span: Span, binary: &BinaryPlan, grid: Grid) -> Evaluated<Value> {
        if binary.types == (ValueType::Scalar, ValueType::Scalar) {
            let (lhs, rhs) = (self.scalar(&binary.lhs, grid)?, self.scalar(&binary.rhs, grid)?);
            let values = lhs.iter().zip(&rhs).map(|(l, r)| elements::scalars(binary.op, *l, *r));
            return Ok(Value::Scalar(values.collect()));
        }
        if binary.types == (ValueType::Vector, ValueType::Vector) {
            return self.match_vectors(span, binary, grid).map(Value::Vector);
        }
        let vector_left = binary.types.0 == ValueType::Vector;
        let (vector, scalar) =
            if vector_left { (&binary.lhs, &binary.rhs) } else { (&binary.rhs, &binary.lhs) };
        let change = self.scalar_operation(span, binary, scalar, grid)?;
        let rows = self.rows(vector, grid)?;
        Ok(Value::Vector(self.change_rows(rows, &change)?))
    }

    fn scalar_operation<'p>(
        &self,
        span: Span,
        binary: &'p BinaryPlan,
        scalar: &Plan,
        grid: Grid,
    ) -> Evaluated<RowChange<'p>> {
        let column = self.scalar(scalar, grid)?;
        let vector_left = binary.types.0 == ValueType::Vector;
        let (op, return_bool) = (binary.op, binary.return_bool);
        Ok(Box::new(move |row, notes| {
            elements::with_scalar(row, &column, op, vector_left, return_bool, span, notes);
        }))
    }

    // ── pipelines ───────────────────────────────────────────────────────────────────────

    /// The node as a pipeline, if it is a selector or range function with nothing but changes of
    /// single rows above it.
    pub(crate) fn pipeline<'p>(&'p self, plan: &'p Plan, grid: Grid) -> Evaluated<Option<Pipeline<'p>>> {
        match &plan.kind {
            PlanKind::Selector(selector) => self.instant(plan.span, selector, Reads::Values, grid).map(Some),
            PlanKind::SampleTimes(selector) => {
                let mut pipeline = self.instant(plan.span, selector, Reads::Times, grid)?;
                pipeline.changes.push(Box::new(|row, _| row.drop_name = true));
                Ok(Some(pipeline))
            }
            PlanKind::Range(range) => match &range.source {
                RangeSource::Selector(selector) => self.range(range, selector, grid).map(Some),
                RangeSource::Subquery(_) => Ok(None),
            },
            PlanKind::Negate(inner) => self.pipeline_with(inner, grid, || Ok(negation())),
            PlanKind::Binary(binary) => match binary.types {
                (ValueType::Vector, ValueType::Scalar) => self.pipeline_with(&binary.lhs, grid, || {
                    self.scalar_operation(plan.span, binary, &binary.rhs, grid)
                }),
                (ValueType::Scalar, ValueType::Vector) => self.pipeline_with(&binary.rhs, grid, || {
                    self.scalar_operation(plan.span, binary, &binary.lhs, grid)
                }),
                _ => Ok(None),
            },
            _ => {
                let Some(inner) = changed_node(plan) else { return Ok(None) };
                self.pipeline_with(inner, grid, || match self.change_of(plan, grid)? {
                    Some((_, change)) => Ok(change),
                    None => execution("unexpected expression in evaluation"),
                })
            }
        }
    }

    fn pipeline_with<'p>(
        &'p self,
        inner: &'p Plan,
        grid: Grid,
        change: impl FnOnce() -> Evaluated<RowChange<'p>>,
    ) -> Evaluated<Option<Pipeline<'p>>> {
        let Some(mut pipeline) = self.pipeline(inner, grid)? else { return Ok(None) };
        pipeline.changes.push(change()?);
        Ok(Some(pipeline))
    }

    pub(crate) fn instant<'p>(
        &'p self,
        span: Span,
        selector: &'p SelectorPlan,
        reads: Reads,
        grid: Grid,
    ) -> Evaluated<Pipeline<'p>> {
        let references = match selector.at_ms {
            Some(at_ms) => Steps::instant(at_ms.saturating_sub(selector.offset_ms)),
            None => Steps { start_ms: grid.steps.start_ms.saturating_sub(selector.offset_ms), ..grid.steps },
        };
        let (steps, lookback_ms) = (grid.len(), self.lookback_ms);
        let smoothed = selector.extended == Some(Extended::Smoothed) && reads == Reads::Values;
        let behind = if smoothed { lookback_ms } else { 0 };
        let first = references.start_ms.saturating_sub(lookback_ms).saturating_add(1);
        let series = self.select(selector, first, references.last_ms().saturating_add(behind))?;
        let producer: Box<dyn Producer + 'p> = if smoothed {
            let fixed_name = selector.fixed_name.as_deref();
            Box::new(SmoothedProducer { references, steps, lookback_ms, span, fixed_name })
        } else {
            let counter = self.counter(grid);
            Box::new(InstantProducer { references, steps, lookback_ms, reads, counter })
        };
        Ok(Pipeline { series, producer, changes: Vec::new(), steps })
    }

    pub(crate) fn range_spec<'p>(
        &'p self,
        range: &'p RangePlan,
        selector: Option<&'p SelectorPlan>,
        (offset_ms, at_ms): (i64, Option<i64>),
        grid: Grid,
    ) -> Evaluated<RangeSpec<'p>> {
        let params = range.params.iter().map(|param| self.scalar(param, grid));
        Ok(RangeSpec {
            function: range.function,
            extended: selector.and_then(|s| s.extended),
            steps: grid.steps,
            range_ms: range.range_ms,
            offset_ms,
            at_ms,
            lookback_ms: self.lookback_ms,
            params: params.collect::<Evaluated<_>>()?,
            span: range.first_argument,
            fixed_name: selector.and_then(|s| s.fixed_name.as_deref()),
            counter: self.counter(grid),
        })
    }

    fn range<'p>(
        &'p self,
        range: &'p RangePlan,
        selector: &'p SelectorPlan,
        grid: Grid,
    ) -> Evaluated<Pipeline<'p>> {
        let spec = self.range_spec(range, Some(selector), (selector.offset_ms, selector.at_ms), grid)?;
        let (first, last) = spec.reach();
        let series = self.select(selector, first, last)?;
        Ok(Pipeline { series, producer: Box::new(spec), changes: Vec::new(), steps: grid.len() })
    }

    /// Says that sorting is of no use where there is more than one step.
    pub(crate) fn note_useless_sort(&self, span: Span, grid: Grid) {
        if grid.len() > 1 {
            let mut notes = Notes::default();
            notes.add(Note::SortInRangeQuery, span);
            self.note(notes);
        }
    }
}

/// The one float at each step, NaN where there is none or more than one.
fn to_scalar(rows: &[Row], steps: usize) -> Vec<f64> {
    let one = |step: usize| {
        let mut floats = rows.iter().map(|row| row.floats[step]).filter(|cell| !is_absent(*cell));
        match (floats.next(), floats.next()) {
            (Some(value), None) => value,
            _ => f64::NAN,
        }
    };
    (0..steps).map(one).collect()
}

/// 1 at every step at which no row has a value.
fn absent_row(labels: Labels, rows: &[Row], steps: usize, pace: &mut Pace<'_>) -> Evaluated<Row> {
    let mut row = Row::of_floats(labels, vec![1.0; steps]);
    for other in rows {
        pace.step()?;
        for step in 0..steps {
            if other.is_present(step) {
                row.clear(step);
            }
        }
    }
    Ok(row)
}
