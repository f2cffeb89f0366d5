//! LogQL: parse, check, plan and run over any source of entries.
//!
//! A query's text becomes a tree ([`parse`]), the tree a plan, and the plan runs over the batches
//! that an [`EntrySource`] hands out: [`query_range`] and [`query_instant`]. Log queries keep the
//! newest or oldest entries and stop early; metric queries walk every batch once over the whole
//! grid of steps. Texts of errors are Loki's.
//!
//! Nothing here knows a store or a protocol. What differs from Loki is listed in
//! `docs/compat/logql.md`.
//!
//! Reading order: [`syntax`], `pipeline`, `entry`, the stages (`line_filter`, `label_filter`,
//! `json`, `logfmt`, `parsers`, `format`), `logs`, `range`, `eval`.

mod binary;
mod columns;
mod detected;
mod entry;
mod error;
mod eval;
mod format;
mod hints;
mod ip;
mod json;
mod json_scan;
mod label_filter;
mod line_filter;
mod logfmt;
mod logs;
mod memory;
mod names;
mod parsers;
mod pattern;
mod patterns;
mod pipeline;
mod range;
mod reduce;
mod regex;
mod result;
mod simplify;
pub mod syntax;
mod tail;
mod tally;
mod vectors;

use std::time::Instant;

use pilothouse_model::{Budget, EntrySource};

pub use detected::{DetectedField, FieldQuery, FieldType, detected_field_values, detected_fields};
pub use error::LogqlError;
pub use memory::MemoryEntries;
pub use patterns::{PatternQuery, PatternSeries, patterns};
pub use result::{LabelPairs, LogqlValue, QueryResult, QueryStats, ResultStream, StreamEntry, pairs_of};
pub use syntax::duration::parse_range as parse_duration_ns;
pub use syntax::{Expr, LogExpr, MetricExpr, parse, parse_log, parse_matchers, pretty};
pub use tail::{LogPipeline, Processed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// A query over a range. Log queries read `[start, end)`; metric queries are evaluated at every
/// multiple of the step from `start` rounded down to `end` rounded up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeQuery {
    pub start_ns: i64,
    pub end_ns: i64,
    /// Above zero; log queries do not look at it.
    pub step_ns: i64,
    /// Log queries: at most this many entries over all streams, and their order.
    pub limit: usize,
    pub direction: Direction,
    /// Log queries: entries closer to the last kept one than this are left out; 0 keeps all.
    pub interval_ns: i64,
    /// Log queries: streams are keyed by stream labels alone, entries carry the rest.
    pub categorize: bool,
    /// Metric queries: more series than this are an error.
    pub max_series: usize,
}

/// Runs a query over a range of time. Blocks; belongs on rayon or a blocking thread.
pub fn query_range(
    source: &dyn EntrySource,
    expr: &Expr,
    query: &RangeQuery,
    budget: &Budget,
) -> Result<QueryResult, LogqlError> {
    let began = Instant::now();
    let mut result = match expr {
        Expr::Log(log) => logs::run(source, log, query, budget)?,
        Expr::Metric(metric) => {
            let grid = columns::Grid::range(query.start_ns, query.end_ns, query.step_ns);
            eval::run(source, metric, grid, false, query.max_series, budget)?
        }
    };
    result.stats.exec_ns = elapsed_ns(began);
    Ok(result)
}

/// Runs a metric query at one time. A log query is an error.
pub fn query_instant(
    source: &dyn EntrySource,
    expr: &Expr,
    t_ns: i64,
    max_series: usize,
    budget: &Budget,
) -> Result<QueryResult, LogqlError> {
    let began = Instant::now();
    let Expr::Metric(metric) = expr else { return Err(LogqlError::InstantLogs) };
    let mut result = eval::run(source, metric, columns::Grid::instant(t_ns), true, max_series, budget)?;
    result.stats.exec_ns = elapsed_ns(began);
    Ok(result)
}

fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
