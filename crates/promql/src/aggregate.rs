//! Aggregations that fold: each value goes into the cell of its group and step and is forgotten.

use pilothouse_model::Labels;
use pilothouse_query::histogram::{CustomBounds, HistogramMean, HistogramSum, ResetHints, compact};
use pilothouse_query::kahan;
use pilothouse_query::vectors::Groups;

use crate::ast::{AggregateOp, Span};
use crate::error::EvalError;
use crate::evaluator::{Evaluated, Evaluator, Grid, Pace};
use crate::notes::{Note, Notes, Operation};
use crate::plan::AggregatePlan;
use crate::rows::{Row, Sample, absent, is_absent};

impl Evaluator<'_> {
    pub(crate) fn aggregate(&self, span: Span, plan: &AggregatePlan, grid: Grid) -> Evaluated<Vec<Row>> {
        match plan.op {
            AggregateOp::CountValues => self.count_values(plan, grid),
            AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio => {
                self.choose(span, plan, grid)
            }
            AggregateOp::Quantile => self.quantiles(plan, grid),
            _ => self.fold(plan, grid),
        }
    }

    fn fold(&self, plan: &AggregatePlan, grid: Grid) -> Evaluated<Vec<Row>> {
        let folding = match self.pipeline(&plan.inner, grid)? {
            Some(pipeline) => {
                let parts = pipeline.fold(
                    self,
                    || Part { folding: Folding::new(plan, grid.len()), aside: Vec::new() },
                    |part, row, notes| part.add(self, row, notes),
                )?;
                self.join_parts(parts, plan, grid)
            }
            None => {
                let rows = self.rows(&plan.inner, grid)?;
                let (mut folding, mut notes) = (Folding::new(plan, grid.len()), Notes::default());
                let mut pace = self.pace();
                for row in &rows {
                    pace.step()?;
                    folding.add(row, &mut notes);
                }
                self.note(notes);
                folding
            }
        };
        let mut notes = Notes::default();
        let rows = folding.finish(&mut notes);
        self.note(notes);
        self.hold(&rows)?;
        Ok(rows)
    }

    fn join_parts(&self, parts: Vec<Part>, plan: &AggregatePlan, grid: Grid) -> Folding {
        let mut aside = Vec::new();
        let mut joined: Option<Folding> = None;
        for part in parts {
            aside.extend(part.aside);
            match &mut joined {
                None => joined = Some(part.folding),
                Some(joined) => joined.absorb(part.folding),
            }
        }
        let mut joined = joined.unwrap_or_else(|| Folding::new(plan, grid.len()));
        let mut notes = Notes::default();
        aside.iter().for_each(|row| joined.add(row, &mut notes));
        self.note(notes);
        joined
    }
}

/// What one thread has folded. Rows with histograms wait: how their sums come out depends on
/// their order.
struct Part {
    folding: Folding,
    aside: Vec<Row>,
}

impl Part {
    fn add(&mut self, evaluator: &Evaluator<'_>, row: &mut Row, notes: &mut Notes) -> Evaluated<()> {
        if row.has_histograms() {
            self.aside.push(std::mem::take(row));
            return evaluator.hold(self.aside.get(self.aside.len() - 1..).unwrap_or(&[]));
        }
        let groups = self.folding.cells.len();
        self.folding.add(row, notes);
        if self.folding.cells.len() > groups {
            evaluator.hold_bytes(self.folding.bytes_of_group())?;
        }
        Ok(())
    }
}

struct Folding {
    op: AggregateOp,
    /// Where remarks point to.
    span: Span,
    steps: usize,
    groups: Groups,
    cells: Vec<GroupCells>,
}

/// One group over the grid.
struct GroupCells {
    drop_name: bool,
    floats: FloatCells,
    /// Empty until the first histogram comes.
    histograms: Vec<HistogramCell>,
}

enum FloatCells {
    Sum(Vec<Option<kahan::Sum>>),
    Mean(Vec<Option<kahan::Mean>>),
    /// Values of either kind; 0 where there is none.
    Count(Vec<f64>),
    /// The least or greatest so far, absent where there is none.
    Extreme(Vec<f64>),
    Variance(Vec<Option<Variance>>),
}

/// A running variance by Welford's method.
#[derive(Clone, Copy)]
struct Variance {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Variance {
    fn new(value: f64) -> Self {
        let squares = if value.is_finite() { 0.0 } else { f64::NAN };
        Self { count: 1.0, mean: value, squares }
    }

    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn absorb(&mut self, other: Self) {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        self.squares += other.squares + delta * delta * self.count * other.count / count;
        self.mean += delta * other.count / count;
        self.count = count;
    }
}

#[derive(Default)]
enum HistogramCell {
    #[default]
    Empty,
    Sum(Box<HistogramSum>),
    Mean(Box<HistogramMean>),
    /// Histograms that do not go together.
    Incompatible,
}

impl Folding {
    fn new(plan: &AggregatePlan, steps: usize) -> Self {
        let groups = Groups::new(plan.grouping.clone());
        Self { op: plan.op, span: plan.inner.span, steps, groups, cells: Vec::new() }
    }

    fn bytes_of_group(&self) -> u64 {
        let cell = match self.op {
            AggregateOp::Sum => size_of::<Option<kahan::Sum>>(),
            AggregateOp::Avg => size_of::<Option<kahan::Mean>>(),
            AggregateOp::Stddev | AggregateOp::Stdvar => size_of::<Option<Variance>>(),
            _ => size_of::<f64>(),
        };
        (self.steps * cell) as u64
    }

    /// Takes in what was folded elsewhere of other rows.
    fn absorb(&mut self, other: Self) {
        for (labels, cells) in other.groups.into_labels().into_iter().zip(other.cells) {
            // A group's own labels fall into that group.
            let number = self.groups.number(&labels);
            match self.cells.get_mut(number) {
                None => self.cells.push(cells),
                Some(known) => known.absorb(cells, self.op),
            }
        }
    }

    fn add(&mut self, row: &Row, notes: &mut Notes) {
        let number = self.groups.number(&row.labels);
        if number == self.cells.len() {
            self.cells.push(GroupCells::new(self.op, self.steps));
        }
        let cells = &mut self.cells[number];
        cells.drop_name |= row.drop_name;
        cells.add_floats(row, self.op);
        if row.has_histograms() {
            cells.add_histograms(row, self.op, self.span, notes);
        }
    }

    fn finish(self, notes: &mut Notes) -> Vec<Row> {
        let (op, span, steps) = (self.op, self.span, self.steps);
        let mut rows = Vec::with_capacity(self.cells.len());
        for (cells, labels) in self.cells.into_iter().zip(self.groups.into_labels()) {
            let row = cells.finish(labels, op, span, steps, notes);
            if row.any() {
                rows.push(row);
            }
        }
        rows
    }
}

impl GroupCells {
    fn new(op: AggregateOp, steps: usize) -> Self {
        let floats = match op {
            AggregateOp::Sum => FloatCells::Sum(vec![None; steps]),
            AggregateOp::Avg => FloatCells::Mean(vec![None; steps]),
            AggregateOp::Min | AggregateOp::Max => FloatCells::Extreme(vec![absent(); steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => FloatCells::Variance(vec![None; steps]),
            _ => FloatCells::Count(vec![0.0; steps]),
        };
        Self { drop_name: false, floats, histograms: Vec::new() }
    }

    fn add_floats(&mut self, row: &Row, op: AggregateOp) {
        match &mut self.floats {
            FloatCells::Sum(cells) => {
                for (cell, value) in present(cells, row) {
                    match cell {
                        Some(sum) => sum.add(value),
                        None => *cell = Some(kahan::Sum::new(value)),
                    }
                }
            }
            FloatCells::Mean(cells) => {
                for (cell, value) in present(cells, row) {
                    match cell {
                        Some(mean) => mean.add(value),
                        None => *cell = Some(kahan::Mean::new(value)),
                    }
                }
            }
            FloatCells::Variance(cells) => {
                for (cell, value) in present(cells, row) {
                    match cell {
                        Some(variance) => variance.add(value),
                        None => *cell = Some(Variance::new(value)),
                    }
                }
            }
            FloatCells::Count(cells) => {
                for (cell, _) in present(cells, row) {
                    *cell += 1.0;
                }
            }
            FloatCells::Extreme(cells) => {
                let greatest = op == AggregateOp::Max;
                for (cell, value) in present(cells, row) {
                    keep_extreme(cell, value, greatest);
                }
            }
        }
    }

    /// Takes in the floats of the same group; histograms are never folded in parts.
    fn absorb(&mut self, other: Self, op: AggregateOp) {
        fn each<C>(cells: &mut [Option<C>], others: Vec<Option<C>>, join: impl Fn(&mut C, C)) {
            for (cell, other) in cells.iter_mut().zip(others) {
                match (cell.as_mut(), other) {
                    (Some(cell), Some(other)) => join(cell, other),
                    (None, other) => *cell = other,
                    _ => {}
                }
            }
        }
        self.drop_name |= other.drop_name;
        match (&mut self.floats, other.floats) {
            (FloatCells::Sum(cells), FloatCells::Sum(others)) => each(cells, others, kahan::Sum::absorb),
            (FloatCells::Mean(cells), FloatCells::Mean(others)) => each(cells, others, kahan::Mean::absorb),
            (FloatCells::Variance(cells), FloatCells::Variance(others)) => {
                each(cells, others, Variance::absorb);
            }
            (FloatCells::Count(cells), FloatCells::Count(others)) => {
                cells.iter_mut().zip(others).for_each(|(cell, other)| *cell += other);
            }
            (FloatCells::Extreme(cells), FloatCells::Extreme(others)) => {
                for (cell, other) in cells.iter_mut().zip(others).filter(|(_, other)| !is_absent(*other)) {
                    keep_extreme(cell, other, op == AggregateOp::Max);
                }
            }
            _ => {}
        }
    }

    fn add_histograms(&mut self, row: &Row, op: AggregateOp, span: Span, notes: &mut Notes) {
        let sums = matches!(op, AggregateOp::Sum | AggregateOp::Avg);
        if let FloatCells::Count(cells) = &mut self.floats {
            for (cell, h) in cells.iter_mut().zip(&row.histograms) {
                *cell += f64::from(u8::from(h.is_some()));
            }
        } else if !sums {
            if row.histograms.iter().any(Option::is_some) {
                notes.add(Note::IgnoredInAggregation(op.as_str()), span);
            }
        } else {
            if self.histograms.is_empty() {
                self.histograms.resize_with(row.floats.len(), HistogramCell::default);
            }
            for (cell, h) in self.histograms.iter_mut().zip(&row.histograms) {
                if let Some(h) = h {
                    let name = row.labels.metric_name().unwrap_or("");
                    cell.add(h, op == AggregateOp::Avg, name, span, notes);
                }
            }
        }
    }

    fn finish(self, labels: Labels, op: AggregateOp, span: Span, steps: usize, notes: &mut Notes) -> Row {
        let mut row = Row::of_floats(labels, self.floats.finish(op));
        row.drop_name = self.drop_name;
        debug_assert_eq!(row.floats.len(), steps);
        for (step, cell) in self.histograms.into_iter().enumerate() {
            if matches!(cell, HistogramCell::Empty) {
                continue;
            }
            if !is_absent(row.floats[step]) {
                notes.add(Note::MixedFloatsHistogramsInAggregation, span);
                row.clear(step);
            } else if let Some(sample) = cell.finish(span, notes) {
                row.set(step, sample);
            }
        }
        row
    }
}

/// Anything is better than NaN, and an absent cell is one, too.
fn keep_extreme(cell: &mut f64, value: f64, greatest: bool) {
    if cell.is_nan() || if greatest { *cell < value } else { *cell > value } {
        *cell = value;
    }
}

/// The cells of the steps at which a row has a float, with it.
fn present<'a, C>(cells: &'a mut [C], row: &'a Row) -> impl Iterator<Item = (&'a mut C, f64)> {
    cells.iter_mut().zip(row.floats.iter().copied()).filter(|(_, value)| !is_absent(*value))
}

impl FloatCells {
    fn finish(self, op: AggregateOp) -> Vec<f64> {
        fn each<C>(cells: Vec<Option<C>>, value: impl Fn(C) -> f64) -> Vec<f64> {
            cells.into_iter().map(|cell| cell.map_or_else(absent, &value)).collect()
        }
        match self {
            Self::Sum(cells) => each(cells, kahan::Sum::total),
            Self::Mean(cells) => each(cells, |mean| mean.mean()),
            Self::Extreme(cells) => cells,
            Self::Count(mut cells) => {
                for cell in &mut cells {
                    *cell = match *cell {
                        0.0 => absent(),
                        _ if op == AggregateOp::Group => 1.0,
                        count => count,
                    };
                }
                cells
            }
            Self::Variance(cells) => each(cells, |v| {
                let variance = v.squares / v.count;
                if op == AggregateOp::Stddev { variance.sqrt() } else { variance }
            }),
        }
    }
}

impl HistogramCell {
    fn add(
        &mut self,
        h: &pilothouse_model::Histogram,
        mean: bool,
        name: &str,
        span: Span,
        notes: &mut Notes,
    ) {
        let outcome = match self {
            Self::Incompatible => return,
            Self::Empty if mean => {
                *self = Self::Mean(Box::new(HistogramMean::new(h)));
                return;
            }
            Self::Empty => {
                *self = Self::Sum(Box::new(HistogramSum::new(h)));
                return;
            }
            Self::Sum(sum) => sum.add(h),
            Self::Mean(mean) => mean.add(h),
        };
        if outcome.is_err() {
            notes.add(Note::MixedSchemas(name.to_owned()), span);
            *self = Self::Incompatible;
        }
    }

    fn finish(self, span: Span, notes: &mut Notes) -> Option<Sample> {
        let (joined, mut h) = match self {
            Self::Empty | Self::Incompatible => return None,
            Self::Sum(sum) => (sum.joined(), sum.finish()),
            Self::Mean(mean) => (mean.joined(), mean.finish()),
        };
        if joined.bounds == CustomBounds::Intersected {
            notes.add(Note::BoundsReconciled(Operation::Aggregation), span);
        }
        if joined.hints == ResetHints::Colliding {
            notes.add(Note::ResetCollision(Operation::Aggregation), span);
        }
        compact(&mut h);
        Some(Sample::histogram(h))
    }
}

/// Gathers rows by group, for aggregations that need all values of a step at once.
pub(crate) fn grouped(
    plan: &AggregatePlan,
    rows: &[Row],
    pace: &mut Pace<'_>,
) -> Evaluated<(Vec<Labels>, Vec<Vec<usize>>)> {
    let mut groups = Groups::new(plan.grouping.clone());
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        pace.step()?;
        let number = groups.number(&row.labels);
        if number == members.len() {
            members.push(Vec::new());
        }
        members[number].push(i);
    }
    Ok((groups.into_labels(), members))
}

/// A scalar parameter over the grid, judged as a whole.
pub(crate) struct Parameter {
    pub(crate) values: Vec<f64>,
}

impl Parameter {
    pub(crate) fn any_nan(&self) -> bool {
        self.values.iter().any(|v| v.is_nan())
    }

    /// NaN if one is.
    pub(crate) fn max(&self) -> f64 {
        self.values.iter().copied().fold(f64::MIN, crate::scalars::max)
    }

    pub(crate) fn min(&self) -> f64 {
        self.values.iter().copied().fold(f64::MAX, crate::scalars::min)
    }
}

impl Evaluator<'_> {
    pub(crate) fn parameter(&self, plan: &AggregatePlan, grid: Grid) -> Result<Parameter, EvalError> {
        let values = match &plan.param {
            Some(param) => self.scalar(param, grid)?,
            None => vec![0.0; grid.len()],
        };
        Ok(Parameter { values })
    }
}
