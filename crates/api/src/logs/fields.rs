//! Which fields the newest entries of a query have, and the values of one field.

use std::fmt::Write as _;
use std::sync::Arc;

use pilothouse_logql::{self as logql, DetectedField, FieldQuery, LogExpr};
use pilothouse_wire::logs::{self, FieldAnswer};

use crate::App;
use crate::error::ApiError;
use crate::json::{push_list, push_string};
use crate::logs::answer::json;
use crate::logs::discover::ask;
use crate::logs::params::{self, Span};
use crate::logs::protobuf;
use crate::logs::query::check_entries;
use crate::params::Params;
use crate::reply::Reply;
use crate::service::Call;

const DEFAULT_LINES: usize = 100;
const DEFAULT_LIMIT: usize = 1_000;

pub(crate) async fn fields(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let as_protobuf = protobuf::is_wanted(&call);
    let asked = ask(app, call.client, move |app, source, budget| {
        let (log, query) = read(app, &call.params)?;
        Ok((logql::detected_fields(source, &log, &query, budget)?, query.limit))
    });
    let (fields, limit) = asked.await?;
    if as_protobuf {
        let fields = fields.iter().map(|field| FieldAnswer {
            label: &field.label,
            kind: field.field_type.as_str(),
            cardinality: field.cardinality,
            parsers: &field.parsers,
            json_path: &field.json_path,
        });
        return Ok(protobuf::reply(logs::fields_answer(fields, &[], limit)));
    }
    let mut out = String::new();
    push_list(&mut out, &fields, push_field);
    Ok(answer("fields", &out, fields.is_empty(), limit))
}

pub(crate) async fn values(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let as_protobuf = protobuf::is_wanted(&call);
    let asked = ask(app, call.client, move |app, source, budget| {
        let (log, query) = read(app, &call.params)?;
        let name = call.segment("name");
        Ok((logql::detected_field_values(source, &log, name, &query, budget)?, query.limit))
    });
    let (values, limit) = asked.await?;
    if as_protobuf {
        return Ok(protobuf::reply(logs::fields_answer([], &values, limit)));
    }
    let mut out = String::new();
    push_list(&mut out, &values, |out, value| push_string(out, value));
    Ok(answer("values", &out, values.is_empty(), limit))
}

fn read(app: &App, params: &Params) -> Result<(LogExpr, FieldQuery), ApiError> {
    let span = Span::ordered(params, app.now_ns())?;
    let line_limit = params::positive("line_limit", params.text("line_limit"), DEFAULT_LINES)?;
    let limit = match params.text("limit") {
        "" => params.text("field_limit"),
        text => text,
    };
    let limit = params::positive("limit", limit, DEFAULT_LIMIT)?;
    span.step_ns(params)?;
    let log = logql::parse_log(params.text("query"))?;
    check_entries(app, line_limit)?;
    span.check_length(app.limits().max_log_query_range_ms)?;
    Ok((log, FieldQuery { start_ns: span.start_ns, end_ns: span.end_ns, line_limit, limit }))
}

/// As Loki: what is empty is left out, and the limit with it.
fn answer(name: &str, list: &str, is_empty: bool, limit: usize) -> Reply {
    json(if is_empty { "{}".to_owned() } else { format!("{{\"{name}\":{list},\"limit\":{limit}}}") })
}

fn push_field(out: &mut String, field: &DetectedField) {
    out.push_str("{\"label\":");
    push_string(out, &field.label);
    let _ = write!(
        out,
        ",\"type\":\"{}\",\"cardinality\":{},\"parsers\":",
        field.field_type.as_str(),
        field.cardinality
    );
    match field.parsers.as_slice() {
        [] => out.push_str("null"),
        parsers => push_list(out, parsers, |out, parser| push_string(out, parser)),
    }
    if !field.json_path.is_empty() {
        out.push_str(",\"jsonPath\":");
        push_list(out, &field.json_path, |out, key| push_string(out, key));
    }
    out.push('}');
}
