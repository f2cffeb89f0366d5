//! Which streams there are: labels, their values, series, and how much they hold.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use pilothouse_logql as logql;
use pilothouse_model::{Budget, EntrySource, Matcher, StreamQuery};
use pilothouse_wire::logs;

use crate::App;
use crate::client::Client;
use crate::error::ApiError;
use crate::json::{push_labels, push_list, push_string};
use crate::logs::answer::{json, texts_reply};
use crate::logs::errors::from_source;
use crate::logs::params::{self, Span};
use crate::logs::protobuf;
use crate::params::Params;
use crate::reply::Reply;
use crate::service::Call;

pub(crate) async fn labels(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let as_protobuf = protobuf::is_wanted(&call);
    let asked = ask(app, call.client, move |app, source, budget| {
        let query = stream_query(app, &call.params)?;
        source.label_names(&query, budget).map_err(from_source)
    });
    Ok(texts_answer(&asked.await?, as_protobuf))
}

pub(crate) async fn label_values(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let as_protobuf = protobuf::is_wanted(&call);
    let asked = ask(app, call.client, move |app, source, budget| {
        let query = stream_query(app, &call.params)?;
        source.label_values(call.segment("name"), &query, budget).map_err(from_source)
    });
    Ok(texts_answer(&asked.await?, as_protobuf))
}

fn texts_answer(texts: &[String], as_protobuf: bool) -> Reply {
    if as_protobuf { protobuf::reply(logs::labels_answer(texts)) } else { texts_reply(texts) }
}

/// Asks the source on the pool, in its turn, and stops when the client goes away. Queries are
/// read there too: they may hold regular expressions that take a while to compile.
pub(crate) async fn ask<T: Send + 'static>(
    app: &Arc<App>,
    client: Client,
    work: impl FnOnce(&App, &dyn EntrySource, &Budget) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let source = Arc::clone(&app.logs_backend()?.source);
    app.in_turn(client, None, move |app, asked| work(app, &*source, &asked.budget)).await
}

/// The streams of `query`, a bare selector that may be left out, within the range.
fn stream_query(app: &App, params: &Params) -> Result<StreamQuery, ApiError> {
    let span = Span::read(params, app.now_ns())?;
    span.check_length(app.limits().max_log_query_range_ms)?;
    let matcher_sets = match params.text("query") {
        "" => Vec::new(),
        text => vec![logql::parse_matchers(text, true)?],
    };
    Ok(StreamQuery { matcher_sets, start_ns: span.start_ns, end_ns: span.end_ns })
}

pub(crate) async fn series(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let asked = ask(app, call.client, move |app, source, budget| {
        let span = Span::read(&call.params, app.now_ns())?;
        span.check_length(app.limits().max_log_query_range_ms)?;
        let matcher_sets = selectors(&call.params)?;
        let query = StreamQuery { matcher_sets, start_ns: span.start_ns, end_ns: span.end_ns };
        let streams = source.streams(&query, budget).map_err(from_source)?;
        if protobuf::is_wanted(&call) {
            return Ok(protobuf::reply(logs::series_answer(&streams)));
        }
        let mut out = String::from("{\"status\":\"success\",\"data\":");
        push_list(&mut out, &streams, push_labels);
        out.push('}');
        Ok(json(out))
    });
    asked.await
}

/// Every selector once; none, or `{}` alone, means all streams.
fn selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let texts: BTreeSet<&str> = params.all("match").chain(params.all("match[]")).collect();
    let everything = texts.len() == 1 && texts.iter().all(|text| text.replace(' ', "") == "{}");
    if everything {
        return Ok(Vec::new());
    }
    texts.into_iter().map(|text| Ok(logql::parse_matchers(text, true)?)).collect()
}

pub(crate) async fn index_stats(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let as_protobuf = protobuf::is_wanted(&call);
    let asked = ask(app, call.client, move |app, source, budget| {
        let span = Span::ordered(&call.params, app.now_ns())?;
        params::Rest::read(&call.params, span)?;
        span.check_length(app.limits().max_log_query_range_ms)?;
        let matcher_sets = vec![logql::parse_matchers(call.params.text("query"), true)?];
        let query = StreamQuery { matcher_sets, start_ns: span.start_ns, end_ns: span.end_ns };
        source.stats(&query, budget).map_err(from_source)
    });
    let stats = asked.await?;
    if as_protobuf {
        let amounts = [stats.streams, stats.chunks, stats.bytes, stats.entries];
        return Ok(protobuf::reply(logs::index_stats_answer(amounts)));
    }
    Ok(json(format!(
        "{{\"streams\":{},\"chunks\":{},\"bytes\":{},\"entries\":{}}}",
        stats.streams, stats.chunks, stats.bytes, stats.entries
    )))
}

/// Labels worth showing to a person: those whose values say more than a number or an id.
pub(crate) async fn detected_labels(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let as_protobuf = protobuf::is_wanted(&call);
    let asked = ask(app, call.client, move |app, source, budget| {
        Span::ordered(&call.params, app.now_ns())?;
        let query = stream_query(app, &call.params)?;
        let mut found = Vec::new();
        for name in source.label_names(&query, budget).map_err(from_source)? {
            let values = source.label_values(&name, &query, budget).map_err(from_source)?;
            if is_telling(&name, &values) {
                found.push((name, values.len()));
            }
        }
        Ok(found)
    });
    let found: Vec<(String, usize)> = asked.await?;
    if as_protobuf {
        let labels = found.iter().map(|(name, cardinality)| (name.as_str(), *cardinality));
        return Ok(protobuf::reply(logs::detected_labels_answer(labels)));
    }
    let mut out = String::from("{");
    if !found.is_empty() {
        out.push_str("\"detectedLabels\":");
        push_list(&mut out, found, |out, (name, cardinality)| {
            out.push_str("{\"label\":");
            push_string(out, &name);
            let _ = write!(out, ",\"cardinality\":{cardinality}}}");
        });
    }
    out.push('}');
    Ok(json(out))
}

/// As Loki: labels of these names always, others unless all their values are numbers or UUIDs;
/// 0 and 1 count as yes and no.
fn is_telling(name: &str, values: &[String]) -> bool {
    if matches!(name, "cluster" | "namespace" | "instance" | "pod") {
        return true;
    }
    let is_flag = values.len() <= 2 && values.iter().all(|v| v == "0" || v == "1");
    !values.is_empty() && (is_flag || !values.iter().all(|v| is_number(v) || is_uuid(v)))
}

fn is_number(text: &str) -> bool {
    pilothouse_query::go_number::parse_float(text).is_ok()
}

/// Hexadecimal digits in groups of 8-4-4-4-12, or 32 of them; braces and the URN may be around.
fn is_uuid(text: &str) -> bool {
    let inner = match text.len() {
        38 => text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(""),
        45 => text.get(..9).filter(|p| p.eq_ignore_ascii_case("urn:uuid:")).and(text.get(9..)).unwrap_or(""),
        _ => text,
    };
    let is_hex = |t: &str| t.bytes().all(|b| b.is_ascii_hexdigit());
    match inner.len() {
        32 => is_hex(inner),
        36 => inner.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && inner.split('-').all(is_hex),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_numbers_and_ids_tell_nothing() {
        let uuid = "123e4567-e89b-12d3-a456-426614174000";
        for (name, values, telling) in [
            ("app", &["a", "b"][..], true),
            ("n", &["1", "2", "3"], false),
            ("n", &["1", "x"], true),
            ("flag", &["0", "1"], true),
            ("flag", &["0"], true),
            ("id", &[uuid], false),
            ("id", &["{123e4567-e89b-12d3-a456-426614174000}", "123e4567e89b12d3a456426614174000"], false),
            ("id", &["123e4567-e89b-12d3-a456-42661417400"], true),
            ("pod", &["1", "2"], true),
            ("none", &[], false),
        ] {
            let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
            assert_eq!(is_telling(name, &values), telling, "{name} {values:?}");
        }
    }
}
