//! Metric queries: the tree, evaluated column-wise over the whole grid at once.

use pilothouse_model::matcher::{Anchoring, CapturingPattern};
use pilothouse_model::{Budget, EntrySource, Labels, SampleValue, VectorSample};

use crate::LogqlError;
use crate::binary;
use crate::columns::{Column, Grid, with_values};
use crate::range;
use crate::result::{LogqlValue, QueryResult, QueryStats};
use crate::syntax::check::runnable;
use crate::syntax::{Binary, MetricExpr, RangeOp, Replacement, VectorAggregation, VectorOp};
use crate::vectors;

struct Evaluation<'q> {
    source: &'q dyn EntrySource,
    grid: Grid,
    budget: &'q Budget,
    stats: QueryStats,
}

/// Evaluates at one time (`instant`) or at every step of the grid.
pub(crate) fn run(
    source: &dyn EntrySource,
    expr: &MetricExpr,
    grid: Grid,
    instant: bool,
    max_series: usize,
    budget: &Budget,
) -> Result<QueryResult, LogqlError> {
    runnable(expr)?;
    let mut evaluation = Evaluation { source, grid, budget, stats: QueryStats::default() };
    let columns = match expr {
        MetricExpr::Literal(value) if instant => {
            let value = LogqlValue::Scalar { t_ms: grid.time_ms(0), value: *value };
            return Ok(QueryResult { value, stats: evaluation.stats });
        }
        MetricExpr::Literal(value) => vec![evaluation.constant(*value)],
        expr => evaluation.columns(expr)?,
    };
    let mut columns: Vec<Column> = columns.into_iter().filter(|column| !column.is_empty()).collect();
    if columns.len() > max_series {
        return Err(LogqlError::SeriesLimit { limit: max_series });
    }
    if !instant || !sorts(expr) {
        columns.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    let mut stats = evaluation.stats;
    stats.entries_returned = columns.len() as u64;
    let value = if instant {
        let sample = |column: Column| VectorSample {
            labels: column.labels,
            t_ms: grid.time_ms(0),
            value: SampleValue::Float(column.values.first().copied().unwrap_or(f64::NAN)),
        };
        LogqlValue::Vector(columns.into_iter().map(sample).collect())
    } else {
        LogqlValue::Matrix(columns.into_iter().map(|column| column.into_series(&grid)).collect())
    };
    Ok(QueryResult { value, stats })
}

/// Whether the query asks for an order anywhere.
fn sorts(expr: &MetricExpr) -> bool {
    match expr {
        MetricExpr::Aggregate(aggregation) => {
            matches!(aggregation.op, VectorOp::Sort | VectorOp::SortDesc) || sorts(&aggregation.inner)
        }
        MetricExpr::Binary(binary) => sorts(&binary.left) || sorts(&binary.right),
        MetricExpr::Replace(inner, _) => sorts(inner),
        _ => false,
    }
}

impl Evaluation<'_> {
    fn constant(&self, value: f64) -> Column {
        Column { labels: Labels::empty(), values: vec![value; self.grid.count] }
    }

    fn columns(&mut self, expr: &MetricExpr) -> Result<Vec<Column>, LogqlError> {
        self.budget.check("metric query")?;
        match expr {
            MetricExpr::Range(aggregation) => {
                range::evaluate(self.source, aggregation, None, &self.grid, self.budget, &mut self.stats)
            }
            MetricExpr::Aggregate(aggregation) => self.aggregate(aggregation),
            MetricExpr::Binary(binary) => self.binary(binary),
            MetricExpr::Replace(inner, replacement) => {
                let columns = self.columns(inner)?;
                replace(columns, replacement, self.budget)
            }
            MetricExpr::Vector(value) => Ok(vec![self.constant(*value)]),
            MetricExpr::Literal(_) => Err(LogqlError::Matching(
                "unexpected expr type (*syntax.LiteralExpr) for Evaluator type (*logql.DefaultEvaluator) "
                    .to_owned(),
            )),
            MetricExpr::Invalid(why) => Err(LogqlError::semantic(why.clone())),
        }
    }

    fn aggregate(&mut self, aggregation: &VectorAggregation) -> Result<Vec<Column>, LogqlError> {
        if aggregation.op == VectorOp::ApproxTopk {
            return Err(LogqlError::ApproxTopkOff);
        }
        // A sum of sums may group the entries themselves, which spares making series at all.
        let columns = match &*aggregation.inner {
            MetricExpr::Range(inner)
                if aggregation.op == VectorOp::Sum
                    && inner.grouping.is_none()
                    && matches!(
                        inner.op,
                        RangeOp::Bytes | RangeOp::BytesRate | RangeOp::Sum | RangeOp::Rate | RangeOp::Count
                    ) =>
            {
                let outer = Some(&aggregation.grouping);
                range::evaluate(self.source, inner, outer, &self.grid, self.budget, &mut self.stats)?
            }
            inner => self.columns(inner)?,
        };
        Ok(vectors::aggregate(aggregation, columns, self.grid.count))
    }

    fn binary(&mut self, binary: &Binary) -> Result<Vec<Column>, LogqlError> {
        let return_bool = binary.matching.return_bool;
        match (&*binary.left, &*binary.right) {
            (MetricExpr::Literal(number), right) => {
                let columns = self.columns(right)?;
                Ok(binary::with_number(binary.op, return_bool, columns, *number, true))
            }
            (left, MetricExpr::Literal(number)) => {
                let columns = self.columns(left)?;
                Ok(binary::with_number(binary.op, return_bool, columns, *number, false))
            }
            (left, right) => {
                let left = self.columns(left)?;
                let right = self.columns(right)?;
                let made = binary::vectors(binary.op, &binary.matching, &left, &right, self.grid.count)?;
                self.budget
                    .reserve_bytes(made.iter().map(|column| column.labels.as_encoded().len() as u64).sum())?;
                Ok(made)
            }
        }
    }
}

/// Labels are booked as they are made: a text of the query may be in each of them.
fn replace(
    mut columns: Vec<Column>,
    replacement: &Replacement,
    budget: &Budget,
) -> Result<Vec<Column>, LogqlError> {
    let regex = CapturingPattern::new(&replacement.regex, Anchoring::WholeLine)
        .map_err(|e| LogqlError::semantic(e.to_string()))?;
    for column in &mut columns {
        let source = column.labels.value(&replacement.source);
        if let Some(value) = regex.expand(source, &replacement.replacement) {
            column.labels = with_values(&column.labels).with(&replacement.target, &value);
            budget.reserve_bytes(column.labels.as_encoded().len() as u64)?;
        }
    }
    Ok(columns)
}
