//! `query` and `query_range`: parameters in, evaluation on the pool, answer out.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use pilothouse_logql::{self as logql, Direction, Expr, LogqlValue, QueryResult, RangeQuery, ResultStream};
use pilothouse_model::Budget;

use crate::App;
use crate::admission::InTurn;
use crate::client::Client;
use crate::error::ApiError;
use crate::logs::Endpoint;
use crate::logs::answer::{self, Shape};
use crate::logs::errors::from_source;
use crate::logs::params::{self, Rest, Span};
use crate::logs::protobuf;
use crate::logs::stats::stats_json;
use crate::params::Params;
use crate::reply::Reply;
use crate::service::Call;

/// As Loki's header of the same name, in small letters.
const ENCODING_FLAGS: &str = "x-loki-response-encoding-flags";

/// When a query is evaluated.
enum When {
    Instant { t_ns: i64 },
    Range { span: Span, step_ns: i64, interval_ns: i64 },
}

struct Question {
    query: String,
    /// A line filter that the oldest clients send apart from the query.
    regexp: String,
    when: When,
    limit: usize,
    direction: Direction,
    shape: Shape,
    as_protobuf: bool,
}

/// Whether the labels of entries are wanted by where they come from.
pub(crate) fn categorizes(call: &Call) -> bool {
    let flags = call.parts.headers.get(ENCODING_FLAGS).and_then(|v| v.to_str().ok()).unwrap_or("");
    flags.split(',').any(|flag| flag.trim() == "categorize-labels")
}

pub(crate) async fn instant(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    refuse_parquet(&call)?;
    let params = &call.params;
    let limit = params::limit(params)?;
    let t_ns = params::instant_ns(params, app.now_ns())?;
    let question = Question {
        query: params.text("query").to_owned(),
        regexp: String::new(),
        when: When::Instant { t_ns },
        limit,
        direction: params::direction(params)?,
        shape: Shape::V1 { categorize: categorizes(&call) },
        as_protobuf: protobuf::is_wanted(&call),
    };
    answer(app, call.client, question).await
}

/// Loki has another format of answers that is off by default.
fn refuse_parquet(call: &Call) -> Result<(), ApiError> {
    if call.header(header::ACCEPT).contains("application/vnd.apache.parquet") {
        let text = "support for Parquet encoded responses is disabled. Enable with \
                    -frontend.support-parquet-encoding=true";
        return Err(ApiError::bad_data(text));
    }
    Ok(())
}

pub(crate) async fn range(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    refuse_parquet(&call)?;
    let shape = Shape::V1 { categorize: categorizes(&call) };
    ranged(app, &call, shape).await
}

/// `/api/prom/query`: log queries alone, in the older shape.
pub(crate) async fn legacy(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    ranged(app, &call, Shape::Legacy).await
}

async fn ranged(app: &Arc<App>, call: &Call, shape: Shape) -> Result<Reply, ApiError> {
    let params = &call.params;
    let span = Span::ordered(params, app.now_ns())?;
    let Rest { limit, direction, step_ns, interval_ns } = Rest::read(params, span)?;
    let regexp = if shape == Shape::Legacy { params.text("regexp") } else { "" };
    let question = Question {
        query: params.text("query").to_owned(),
        regexp: regexp.to_owned(),
        when: When::Range { span, step_ns, interval_ns },
        limit,
        direction,
        shape,
        as_protobuf: protobuf::is_wanted(call),
    };
    answer(app, call.client, question).await
}

async fn answer(app: &Arc<App>, client: Client, question: Question) -> Result<Reply, ApiError> {
    let work = move |app: &App, asked: &InTurn| evaluate(app, &question, asked.waited, &asked.budget);
    app.in_turn(client, None, work).await.inspect_err(|_| app.logs.telemetry.query_failures.add(1))
}

fn evaluate(app: &App, question: &Question, queued: Duration, budget: &Budget) -> Result<Reply, ApiError> {
    let expr = logql::parse(&with_regexp(&question.query, &question.regexp))?;
    check(app, question, &expr)?;
    let result = run(app, question, &expr, budget)?;
    let telemetry = &app.logs.telemetry;
    telemetry.query_seconds.add(Duration::from_nanos(result.stats.exec_ns));
    telemetry.query_lines.add(result.stats.lines);
    telemetry.query_bytes.add(result.stats.bytes);
    if question.as_protobuf {
        let body = protobuf::result(&result, question.direction, question.limit, queued);
        return protobuf::reply(body).holding(budget, 0).map_err(|e| from_source(e.into()));
    }
    let stats = stats_json(&result.stats, queued);
    // Entries are taken from the budget as they are kept.
    let bytes = match &result.value {
        LogqlValue::Matrix(series) => series.iter().map(|s| s.floats.len() as u64 * 16).sum(),
        _ => 0,
    };
    let reply = answer::reply(result, question.shape, &stats).holding(budget, bytes);
    reply.map_err(|e| from_source(e.into()))
}

/// What this server's limits say of a query that another system answers. Its expression is not
/// read, so an entries' limit counts for metric queries too where one is asked for.
pub(crate) fn check_forwarded(app: &App, params: &Params, endpoint: Endpoint) -> Result<(), ApiError> {
    if !matches!(endpoint, Endpoint::Query | Endpoint::QueryRange | Endpoint::LegacyQuery) {
        return Ok(());
    }
    check_entries(app, params::limit(params)?)?;
    match endpoint {
        Endpoint::Query => Ok(()),
        _ => Span::ordered(params, app.now_ns())?.check_length(app.limits().max_log_query_range_ms),
    }
}

/// The query with the line filter that stands beside it.
pub(crate) fn with_regexp(query: &str, regexp: &str) -> String {
    match regexp {
        "" => query.to_owned(),
        regexp => format!("{query} |~ {}", pilothouse_model::labels::quote(regexp)),
    }
}

/// What Loki refuses of a query that reads well.
fn check(app: &App, question: &Question, expr: &Expr) -> Result<(), ApiError> {
    let limits = app.limits();
    match expr {
        Expr::Metric(_) if question.shape == Shape::Legacy => {
            return Err(ApiError::bad_data("legacy endpoints only support streams result type"));
        }
        Expr::Log(_) => check_entries(app, question.limit)?,
        Expr::Metric(_) => {}
    }
    let span = match question.when {
        When::Range { span, .. } => span,
        When::Instant { t_ns } => Span { start_ns: t_ns, end_ns: t_ns },
    };
    span.check_reach(expr.longest_range_ns(), limits.max_log_query_range_ms)
}

/// Refuses more entries than the limit (0: none).
pub(crate) fn check_entries(app: &App, asked: usize) -> Result<(), ApiError> {
    let limit = app.limits().max_log_query_entries;
    if limit > 0 && asked as u64 > limit {
        return Err(ApiError::bad_data(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({asked} > {limit})"
        )));
    }
    Ok(())
}

fn run(app: &App, question: &Question, expr: &Expr, budget: &Budget) -> Result<QueryResult, ApiError> {
    let source = &*app.logs_backend()?.source;
    let max_series = usize::try_from(app.limits().max_log_query_series).unwrap_or(usize::MAX);
    let (span, step_ns, interval_ns) = match question.when {
        When::Instant { t_ns } => {
            return Ok(logql::query_instant(source, expr, t_ns, max_series, budget)?);
        }
        When::Range { span, step_ns, interval_ns } => (span, step_ns, interval_ns),
    };
    let query = RangeQuery {
        start_ns: span.start_ns,
        end_ns: span.end_ns,
        step_ns,
        limit: question.limit,
        direction: question.direction,
        interval_ns,
        categorize: question.shape == Shape::V1 { categorize: true },
        max_series,
    };
    let mut result = logql::query_range(source, expr, &query, budget)?;
    if let LogqlValue::Streams(streams) = &mut result.value {
        // Clients show streams in the order they come: the one with the first entry goes first.
        let first = |s: &ResultStream| s.entries.first().map_or(0, |e| e.t_ns);
        match question.direction {
            Direction::Forward => streams.sort_by_key(first),
            Direction::Backward => streams.sort_by_key(|s| std::cmp::Reverse(first(s))),
        }
    }
    Ok(result)
}
