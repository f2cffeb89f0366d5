//! The door to PromQL: reading queries and selectors with the errors of the HTTP API.

use pilothouse_model::labels::quote;
use pilothouse_model::limits::Limits;
use pilothouse_model::{Budget, Matcher, SeriesSource};
use pilothouse_promql::{
    self as promql, Engine, EvalError, Expr, Options, ParseContext, ParseError, QueryOutcome, ValueType,
};

use crate::error::{ApiError, Kind};

/// A whole query.
pub(crate) fn query(text: &str, limits: &Limits) -> Result<Expr, ApiError> {
    check_length(text, limits)?;
    promql::parse(text, &ParseContext::from(limits)).map_err(|e| ApiError::parameter("query", e))
}

/// Whether a query's text is not too long.
pub(crate) fn check_length(text: &str, limits: &Limits) -> Result<(), ApiError> {
    if text.len() as u64 > limits.max_query_length_bytes {
        let text = format!(
            "the raw query size in bytes exceeds the limit (query size: {}, limit: {}) \
             (err-mimir-max-query-expression-size-bytes). To adjust the related per-tenant limit, configure \
             -query-frontend.max-query-expression-size-bytes, or contact your service administrator.",
            text.len(),
            limits.max_query_length_bytes
        );
        return Err(ApiError::new(Kind::Execution, text));
    }
    Ok(())
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

/// When a query is evaluated: once, or on every step of a grid whose ends are inclusive.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Grid {
    Instant { t_ms: i64 },
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

/// A range query answers a matrix, which only scalars and instant vectors can make.
pub(crate) fn check_grid(expr: &Expr, grid: Grid) -> Result<(), ApiError> {
    match (grid, expr.value_type()) {
        (Grid::Instant { .. }, _) | (_, ValueType::Scalar | ValueType::Vector) => Ok(()),
        (_, other) => Err(ApiError::parameter(
            "query",
            format!(
                "invalid expression type {} for range query, must be Scalar or instant Vector",
                quote(other.documented())
            ),
        )),
    }
}

/// Evaluates a query; blocks, and spreads over the query pool.
pub(crate) fn evaluate(
    source: &dyn SeriesSource,
    expr: &Expr,
    grid: Grid,
    options: &Options,
    budget: &Budget,
) -> Result<QueryOutcome, ApiError> {
    let outcome = match grid {
        Grid::Instant { t_ms } => Engine::instant(source, expr, t_ms, options, budget),
        Grid::Range { start_ms, end_ms, step_ms } => {
            Engine::range(source, expr, (start_ms, end_ms, step_ms), options, budget)
        }
    };
    outcome.map_err(ApiError::from)
}

impl From<EvalError> for ApiError {
    fn from(e: EvalError) -> Self {
        match e {
            EvalError::Execution(text) => Self::new(Kind::Execution, text),
            EvalError::Budget(e) => e.into(),
            EvalError::Source(e) => e.into(),
        }
    }
}
