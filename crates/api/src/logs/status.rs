//! What the server says of itself in Loki's words.

use http::StatusCode;
use pilothouse_model::time::format_duration_ms;

use crate::App;
use crate::json::{Object, push_integer, push_list, push_object, push_string};
use crate::logs::answer::json;
use crate::reply::Reply;

/// Grafana decides by it which features to use.
const LOKI_VERSION: &str = "3.7.0";

pub(crate) fn build_info(app: &App) -> Reply {
    object(|object| {
        object.text("version", LOKI_VERSION);
        object.texts(app.settings.build.members());
    })
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
    let enrichment = &app.settings.enrichment;
    let texts =
        |out: &mut String, items: &[String]| push_list(out, items, |out, item| push_string(out, item));
    let duration = |ms: u64| format_duration_ms(i64::try_from(ms).unwrap_or(i64::MAX));
    let retention_ms = app.settings.configuration.retention_ms().unsigned_abs();
    object(|object| {
        object.object("limits", |object| {
            object.flag("discover_log_levels", enrichment.detect_levels);
            object.member("discover_service_name", |out| texts(out, &enrichment.service_names));
            object.member("log_level_fields", |out| texts(out, &enrichment.level_fields));
            object.natural("max_entries_limit_per_query", limits.max_log_query_entries);
            object.flag("max_line_size_truncate", false);
            object.text("max_query_bytes_read", "0B");
            object.text("max_query_length", &duration(limits.max_log_query_range_ms));
            object.text("max_query_lookback", &duration(0));
            object.text("max_query_range", &duration(0));
            object.natural("max_query_series", limits.max_log_query_series);
            object.flag("metric_aggregation_enabled", false);
            object.flag("pattern_persistence_enabled", false);
            object.text("query_timeout", &duration(limits.query_timeout_ms));
            object.text("retention_period", &duration(retention_ms));
            object.optional("retention_stream", None::<i64>, push_integer);
            object.flag("volume_enabled", true);
            object.natural("volume_max_series", limits.max_volume_series);
        });
        object.flag("pattern_ingester_enabled", true);
        object.text("version", LOKI_VERSION);
    })
}

fn object(members: impl FnOnce(&mut Object<'_>)) -> Reply {
    let mut out = String::new();
    push_object(&mut out, members);
    json(out)
}
