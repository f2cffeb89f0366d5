//! What the server says of itself in Loki's words.

use http::StatusCode;
use pilothouse_model::time::format_duration_ms;

use crate::App;
use crate::json::{push_list, push_string};
use crate::logs::answer::json;
use crate::reply::Reply;

/// Grafana decides by it which features to use.
const LOKI_VERSION: &str = "3.7.0";

pub(crate) fn build_info(app: &App) -> Reply {
    let build = &app.settings.build;
    let mut out = String::from("{\"version\":");
    push_string(&mut out, LOKI_VERSION);
    for (name, value) in [
        ("revision", build.revision),
        ("branch", "main"),
        ("buildUser", "pilothouse"),
        ("buildDate", build.date),
        ("goVersion", ""),
        ("pilothouseVersion", build.version),
    ] {
        out.push_str(&format!(",\"{name}\":"));
        push_string(&mut out, value);
    }
    out.push('}');
    json(out)
}

/// The parts of the server and how they are, a line each.
pub(crate) fn services(app: &App) -> Reply {
    let state = if app.serving.get().is_some() { "Running" } else { "Starting" };
    let parts = ["server", "metrics-store", "logs-store", "ruler", "alertmanager", "synthetic-monitoring"];
    Reply::text(StatusCode::OK, parts.map(|part| format!("{part} => {state}\n")).concat())
}

/// The limits that Grafana's Logs Drilldown asks for before it shows anything.
pub(crate) fn drilldown_limits(app: &App) -> Reply {
    let limits = app.limits();
    let duration = |ms: u64| format!("\"{}\"", format_duration_ms(i64::try_from(ms).unwrap_or(i64::MAX)));
    let list = |items: &[String]| {
        let mut out = String::new();
        push_list(&mut out, items, |out, item| push_string(out, item));
        out
    };
    let enrichment = &app.settings.enrichment;
    let members = [
        ("discover_log_levels", enrichment.detect_levels.to_string()),
        ("discover_service_name", list(&enrichment.service_names)),
        ("log_level_fields", list(&enrichment.level_fields)),
        ("max_entries_limit_per_query", limits.max_log_query_entries.to_string()),
        ("max_line_size_truncate", "false".to_owned()),
        ("max_query_bytes_read", "\"0B\"".to_owned()),
        ("max_query_length", duration(limits.max_log_query_range_ms)),
        ("max_query_lookback", duration(0)),
        ("max_query_range", duration(0)),
        ("max_query_series", limits.max_log_query_series.to_string()),
        ("metric_aggregation_enabled", "false".to_owned()),
        ("pattern_persistence_enabled", "false".to_owned()),
        ("query_timeout", duration(limits.query_timeout_ms)),
        ("retention_period", duration(app.settings.configuration.retention_ms().unsigned_abs())),
        ("retention_stream", "null".to_owned()),
        ("volume_enabled", "true".to_owned()),
        ("volume_max_series", limits.max_volume_series.to_string()),
    ];
    let members: Vec<String> = members.into_iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
    json(format!(
        "{{\"limits\":{{{}}},\"pattern_ingester_enabled\":true,\"version\":\"{LOKI_VERSION}\"}}",
        members.join(",")
    ))
}
