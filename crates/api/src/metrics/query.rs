//! `query` and `query_range`: parameters in, evaluation on the pool, answer out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilothouse_model::{Annotations, Budget, QueryValue};
use pilothouse_promql::{Options, QueryOutcome};

use crate::App;
use crate::admission::InTurn;
use crate::answer::{Numbers, query_reply};
use crate::error::ApiError;
use crate::metrics::Endpoint;
use crate::metrics::discover::TRUNCATED;
use crate::metrics::language::{self, Grid};
use crate::metrics::stats::stats_json;
use crate::params::{Params, parse_duration_ns};
use crate::reply::Reply;
use crate::service::Call;

/// A query with everything that was asked about it.
struct Question {
    query: String,
    grid: Grid,
    options: Options,
    limit: usize,
    stats: String,
}

pub(crate) async fn instant(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let params = &call.params;
    let limit = params.limit()?;
    let t_ms = params.time_or("time", app.now_ms())?;
    answer(app, &call, limit, Grid::Instant { t_ms }).await
}

pub(crate) async fn range(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let limit = call.params.limit()?;
    let grid = steps(app, &call.params)?;
    answer(app, &call, limit, grid).await
}

/// The steps of a range query, if there are not too many.
fn steps(app: &App, params: &Params) -> Result<Grid, ApiError> {
    let (start_ms, end_ms) = (params.time("start")?, params.time("end")?);
    if end_ms < start_ms {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ns = parse_duration_ns(params.text("step")).map_err(|e| ApiError::parameter("step", e))?;
    // Steps are whole milliseconds; one that is not even that is none.
    let step_ms = step_ns / 1_000_000;
    if step_ms <= 0 {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", reason));
    }
    let max_points = app.limits().max_query_points;
    if (end_ms.saturating_sub(start_ms) / step_ms).unsigned_abs() > max_points {
        return Err(ApiError::bad_data(format!(
            "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
            grouped(max_points)
        )));
    }
    Ok(Grid::Range { start_ms, end_ms, step_ms })
}

/// What this server's limits say of a query that another system answers. Its expression is not
/// read: the other system may know more functions.
pub(crate) fn check_forwarded(app: &App, call: &Call, endpoint: Endpoint) -> Result<(), ApiError> {
    language::check_length(call.params.text("query"), &app.limits())?;
    match endpoint {
        Endpoint::QueryRange => steps(app, &call.params).map(drop),
        _ => Ok(()),
    }
}

async fn answer(app: &Arc<App>, call: &Call, limit: usize, grid: Grid) -> Result<Reply, ApiError> {
    let params = &call.params;
    let timeout = params.duration_ns("timeout")?.map(|ns| Duration::from_nanos(ns.max(0).unsigned_abs()));
    let stats = params.text("stats").to_owned();
    let mut options = Options { per_step_stats: stats == "all", ..Options::default() };
    if let Some(lookback_ms) = lookback(params)? {
        options.lookback_ms = lookback_ms;
    }
    let question = Question { query: params.text("query").to_owned(), grid, options, limit, stats };

    let work = move |app: &App, asked: &InTurn| evaluate(app, &question, asked.waited, &asked.budget);
    app.in_turn(call.client, timeout, work).await.inspect_err(|_| app.telemetry.query_failures.add(1))
}

fn lookback(params: &Params) -> Result<Option<i64>, ApiError> {
    let text = params.text("lookback_delta");
    if text.is_empty() {
        return Ok(None);
    }
    let ns = parse_duration_ns(text)
        .map_err(|e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}")))?;
    // As Prometheus: what is not positive leaves the default.
    Ok(Some(ns / 1_000_000).filter(|ms| *ms > 0))
}

fn evaluate(app: &App, question: &Question, queued: Duration, budget: &Budget) -> Result<Reply, ApiError> {
    let expr = language::query(&question.query, &app.limits())?;
    language::check_grid(&expr, question.grid)?;
    let source = &app.backend()?.source;
    let started = Instant::now();
    let evaluated = language::evaluate(&**source, &expr, question.grid, &question.options, budget);
    app.telemetry.query_seconds.add(started.elapsed());
    let QueryOutcome { mut value, mut annotations, stats } = evaluated?;
    app.telemetry.query_samples.add(stats.total_queryable_samples);
    if question.limit > 0 && truncate(&mut value, question.limit) {
        annotations.warnings.insert(TRUNCATED.to_owned());
    }
    let shown = match question.stats.as_str() {
        "" => String::new(),
        asked => {
            warn_of_stats(asked, &mut annotations);
            stats_json(&stats, queued)
        }
    };
    let bytes = value.about_bytes();
    Ok(query_reply(value, &annotations, &shown, Numbers::Short).holding(budget, bytes)?)
}

fn truncate(value: &mut QueryValue, limit: usize) -> bool {
    match value {
        QueryValue::Vector(samples) if samples.len() > limit => samples.truncate(limit),
        QueryValue::Matrix(series) if series.len() > limit => series.truncate(limit),
        _ => return false,
    }
    true
}

/// As Prometheus: any value gives the statistics, but only two are here to stay.
fn warn_of_stats(asked: &str, annotations: &mut Annotations) {
    if !matches!(asked, "true" | "all") {
        annotations.warnings.insert(format!(
            "value {} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \
             \"true\" or \"all\"",
            pilothouse_model::labels::quote(asked)
        ));
    }
}

/// `11,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (11_000, "11,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
