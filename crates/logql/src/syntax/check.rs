//! What a grammatical query must still fulfil.

use pilothouse_model::Matcher;

use super::ast::*;
use crate::LogqlError;

const EMPTY_COMPATIBLE: &str = "queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will";

pub(crate) fn expression(expr: &Expr) -> Result<(), LogqlError> {
    match expr {
        Expr::Log(log) => self::log(log),
        Expr::Metric(metric) => self::metric(metric),
    }
}

pub(crate) fn log(log: &LogExpr) -> Result<(), LogqlError> {
    matchers(&log.matchers)
}

/// At least one matcher must refuse the empty text, or the query would touch every stream.
fn matchers(matchers: &[Matcher]) -> Result<(), LogqlError> {
    if matchers.iter().all(Matcher::matches_empty) {
        return Err(LogqlError::semantic(EMPTY_COMPATIBLE));
    }
    Ok(())
}

fn metric(expr: &MetricExpr) -> Result<(), LogqlError> {
    match expr {
        MetricExpr::Invalid(why) => Err(LogqlError::semantic(why.clone())),
        MetricExpr::Range(aggregation) => log(&aggregation.range.log),
        MetricExpr::Aggregate(aggregation) => {
            let sorts = matches!(aggregation.op, VectorOp::Sort | VectorOp::SortDesc);
            if sorts && !aggregation.grouping.labels.is_empty() {
                return Err(LogqlError::semantic("sort and sort_desc doesn't allow grouping by "));
            }
            metric(&aggregation.inner)
        }
        MetricExpr::Binary(binary) => {
            metric(&binary.left)?;
            metric(&binary.right)
        }
        MetricExpr::Replace(inner, _) => metric(inner),
        MetricExpr::Literal(_) | MetricExpr::Vector(_) => Ok(()),
    }
}

/// What can be read and printed, but not run. Loki splits sums, averages and counts over shards by their
/// selectors, and a number has none.
pub(crate) fn runnable(expr: &MetricExpr) -> Result<(), LogqlError> {
    match expr {
        MetricExpr::Aggregate(aggregation) => {
            let splits = matches!(aggregation.op, VectorOp::Sum | VectorOp::Avg | VectorOp::Count);
            match *aggregation.inner {
                MetricExpr::Literal(_) if splits => Err(LogqlError::semantic(EMPTY_COMPATIBLE)),
                ref inner => runnable(inner),
            }
        }
        MetricExpr::Binary(binary) => {
            runnable(&binary.left)?;
            runnable(&binary.right)
        }
        MetricExpr::Replace(inner, _) => runnable(inner),
        MetricExpr::Invalid(_) | MetricExpr::Literal(_) | MetricExpr::Range(_) | MetricExpr::Vector(_) => {
            Ok(())
        }
    }
}

/// What is wrong with a range aggregation as a whole, if anything.
pub(crate) fn range_aggregation(op: RangeOp, unwrapped: bool, grouped: bool) -> Option<String> {
    use RangeOp as R;
    let name = op.as_str();
    let groups =
        matches!(op, R::Avg | R::Stddev | R::Stdvar | R::Quantile | R::Max | R::Min | R::First | R::Last);
    if grouped && !groups {
        return Some(format!("grouping not allowed for {name} aggregation"));
    }
    let fits = match unwrapped {
        true => !matches!(op, R::Count | R::Bytes | R::BytesRate),
        false => matches!(op, R::Count | R::Rate | R::Bytes | R::BytesRate | R::Absent),
    };
    let how = if unwrapped { "with" } else { "without" };
    (!fits).then(|| format!("invalid aggregation {name} {how} unwrap"))
}
