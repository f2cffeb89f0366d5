//! Status, receivers, metrics, and a page for people.

use http::{StatusCode, header};
use pilothouse_alertmanager::Alertmanager;
use pilothouse_alertmanager::engine::AlertFilter;
use pilothouse_alertmanager::telemetry::{Kind, SampleValue};
use pilothouse_model::limits::ALERT_PAGE_ROWS;
use pilothouse_wire::exposition::Exposition;
use serde_json::{Value as Json, json};

use super::ok;
use super::shapes::{receiver_matchers, time};
use crate::App;
use crate::reply::Reply;
use crate::service::Call;
use crate::telemetry::{self, Family, FamilyValue};

pub(super) fn status(app: &App, am: &Alertmanager) -> Reply {
    let build = &app.settings.build;
    let shown = am.engine().setup().map(|s| s.config.shown.clone()).unwrap_or_default();
    ok(&json!({
        "cluster": {"peers": [], "status": "disabled"},
        "config": {"original": shown},
        "uptime": time(am.started_ms()),
        "versionInfo": {
            "branch": "main",
            "buildDate": build.date,
            "buildUser": "pilothouse",
            "goVersion": "",
            "revision": build.revision,
            "version": build.version,
        },
    }))
}

pub(super) fn receivers(am: &Alertmanager, call: &Call) -> Reply {
    let wanted = match receiver_matchers(call) {
        Ok(wanted) => wanted,
        Err(reply) => return reply,
    };
    let setup = am.engine().setup().cloned();
    let receivers = setup.iter().flat_map(|s| &s.config.receivers);
    let matching = receivers.filter(|r| r.has_labels(&wanted));
    // Labels of one's own are shown, so that those who have none see what they always saw.
    let shown = matching.map(|r| {
        if r.labels.is_empty() {
            json!({"name": r.name})
        } else {
            json!({"name": r.name, "labels": r.all_labels()})
        }
    });
    ok(&shown.collect::<Json>())
}

pub(super) fn reload(am: &Alertmanager) -> Reply {
    match am.reload() {
        Ok(()) => Reply::empty(StatusCode::OK),
        Err(error) => {
            Reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error}\n"))
        }
    }
}

/// Alertmanager's families among the server's own.
pub(crate) fn families(am: &Alertmanager) -> Vec<Family> {
    let families = am.engine().families(am.now_ms());
    families.into_iter().map(family).collect()
}

fn family(from: pilothouse_alertmanager::telemetry::Family) -> Family {
    let empty = match from.kind {
        Kind::Counter => Family::counter(from.name, from.help),
        Kind::Gauge => Family::gauge(from.name, from.help),
        Kind::Histogram => Family::histogram(from.name, from.help),
    };
    from.samples.into_iter().fold(empty, |family, sample| {
        let labels: Vec<(&'static str, &str)> = sample.labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
        match sample.value {
            SampleValue::Number(value) => family.labelled(&labels, value),
            SampleValue::Histogram { bounds, counts, sum } => family.distribution(
                &labels,
                FamilyValue::Histogram { upper_bounds: bounds, cumulative_counts: counts, sum },
            ),
        }
    })
}

pub(super) fn metrics(am: &Alertmanager, call: &Call) -> Reply {
    let format = Exposition::negotiate(call.header(header::ACCEPT));
    Reply::new(StatusCode::OK, format.content_type(), telemetry::expose(&families(am), format))
}

/// What is firing and silenced, without a script.
pub(super) fn page(am: &Alertmanager) -> Reply {
    let (mut rows, mut left_out) = (String::new(), 0);
    for group in am.groups(&AlertFilter::default()).unwrap_or_default() {
        let room = ALERT_PAGE_ROWS.saturating_sub(rows.lines().count());
        left_out += group.alerts.len().saturating_sub(room);
        for view in group.alerts.iter().take(room) {
            rows.push_str(&format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                escaped(&group.receiver),
                view.state.name(),
                time(view.alert.starts_at_ms),
                escaped(&view.alert.labels.to_string()),
            ));
        }
    }
    if left_out > 0 {
        rows.push_str(&format!("<tr><td colspan=\"4\">and {left_out} more</td></tr>\n"));
    }
    let body = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Alertmanager</title></head>\n\
         <body style=\"font: 14px/1.5 sans-serif; margin: 2em\">\n<h1>Alertmanager</h1>\n\
         <p><a href=\"/alertmanager/api/v2/status\">status</a> · <a href=\"/alertmanager/api/v2/silences\">silences</a> · \
         <a href=\"/alertmanager/api/v2/history\">history</a></p>\n\
         <table><tr><th>receiver</th><th>state</th><th>since</th><th>labels</th></tr>\n{rows}</table>\n</body></html>\n"
    );
    Reply::new(StatusCode::OK, "text/html; charset=utf-8", body)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
