//! The door to PromQL: reading queries and selectors with the errors of the HTTP API.

use pilothouse_model::limits::Limits;
use pilothouse_model::Matcher;
use pilothouse_promql::{self as promql, Expr, ParseContext, ParseError, ValueType};

use crate::error::{ApiError, Kind};

/// A whole query.
pub(crate) fn query(text: &str, limits: &Limits) -> Result<Expr, ApiError> {
    if text.len() as u64 > limits.max_query_length_bytes {
        let text = format!(
            "the query expression size in bytes exceeds the limit (query size: {}, limit: {}) \
             (err-mimir-max-query-expression-size-bytes). To adjust the related per-tenant limit, configure \
             -query-frontend.max-query-expression-size-bytes, or contact your service administrator.",
            text.len(),
            limits.max_query_length_bytes
        );
        return Err(ApiError::new(Kind::Execution, text));
    }
    promql::parse(text, &ParseContext::from(limits)).map_err(|e| ApiError::parameter("query", e))
}

/// A series selector, as `match[]` has it.
pub(crate) fn selector(text: &str, limits: &Limits) -> Result<Vec<Matcher>, ParseError> {
    promql::parse_selector(text, &ParseContext::from(limits))
}

/// The matchers of every selector of a query.
pub(crate) fn selectors(text: &str, limits: &Limits) -> Result<Vec<Vec<Matcher>>, ParseError> {
    let expr = promql::parse(text, &ParseContext::from(limits))?;
    Ok(expr.selectors().into_iter().map(<[Matcher]>::to_vec).collect())
}

/// A range query answers a matrix, which only scalars and instant vectors can make.
pub(crate) fn fits_range(expr: &Expr) -> Result<(), ApiError> {
    match expr.value_type() {
        ValueType::Scalar | ValueType::Vector => Ok(()),
        other => Err(ApiError::parameter(
            "query",
            format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                other.documented()
            ),
        )),
    }
}

pub(crate) fn check_grid(expr: &Expr, grid: crate::query::Grid) -> Result<(), ApiError> {
    match grid { crate::query::Grid::Range { .. } => fits_range(expr), _ => Ok(()) }
}
pub(crate) fn evaluate(_: &Expr, _: crate::query::Grid, _: Option<i64>, _: &dyn pilothouse_model::SeriesSource, _: &pilothouse_model::Budget) -> Result<(pilothouse_model::QueryValue, pilothouse_model::Annotations), ApiError> {
    Err(ApiError::bad_data("soon"))
}
