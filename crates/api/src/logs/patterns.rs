//! `patterns`: what the lines of a selector have in common, and how often each kind came.

use std::fmt::Write as _;
use std::sync::Arc;

use pilothouse_logql::{self as logql, PatternQuery, PatternSeries};
use pilothouse_wire::logs;

use crate::App;
use crate::error::ApiError;
use crate::json::{push_list, push_string};
use crate::logs::answer::json;
use crate::logs::discover::ask;
use crate::logs::params::Span;
use crate::logs::protobuf;
use crate::reply::Reply;
use crate::service::Call;

pub(crate) async fn patterns(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let as_protobuf = protobuf::is_wanted(&call);
    let asked = ask(app, call.client, move |app, source, budget| {
        let span = Span::read(&call.params, app.now_ns())?;
        let step_ns = span.step_ns(&call.params)?;
        let limits = app.limits();
        span.check_length(limits.max_log_query_range_ms)?;
        let query = PatternQuery {
            matchers: logql::parse_matchers(call.params.text("query"), true)?,
            start_ns: span.start_ns,
            end_ns: span.end_ns,
            step_ns,
            max_lines: limits.max_pattern_lines,
            max_read_bytes: limits.max_pattern_read_bytes,
        };
        Ok(logql::patterns(source, &query, budget)?)
    });
    let found: Vec<PatternSeries> = asked.await?;
    if as_protobuf {
        let series = found.iter().map(|s| (s.pattern.as_str(), s.level.as_str(), s.samples.as_slice()));
        return Ok(protobuf::reply(logs::patterns_answer(series)));
    }
    let mut out = String::from("{\"status\":\"success\",\"data\":");
    push_list(&mut out, &found, push_series);
    out.push('}');
    Ok(json(out))
}

fn push_series(out: &mut String, series: &PatternSeries) {
    out.push_str("{\"pattern\":");
    push_string(out, &series.pattern);
    out.push_str(",\"level\":");
    push_string(out, &series.level);
    out.push_str(",\"samples\":");
    push_list(out, &series.samples, |out, (seconds, lines)| {
        let _ = write!(out, "[{seconds},{lines}]");
    });
    out.push('}');
}
