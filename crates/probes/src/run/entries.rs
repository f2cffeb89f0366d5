//! The log entries of a run.

use pilothouse_model::limits;
use pilothouse_model::{Labels, LogBatch};
use serde_json::json;

use super::outcome::{Gauge, Level, Line, Outcome, Verdict};
use super::{logfmt, outcome, user_labels};
use crate::words::{AdHocCheck, Check, LabelMode, Probe};

/// The lines of a run as one stream. Every entry carries the id of the run.
pub(super) fn of_run(
    check: &Check,
    probe: &Probe,
    mode: LabelMode,
    outcome: &Outcome,
    execution: &str,
) -> LogBatch {
    let pairs = stream_pairs(check, probe, mode);
    let room = limits::CHECK_STREAM_LABELS - 1;
    let kept = pairs.iter().take(room).map(|(n, v)| (n.as_str(), v.as_str()));
    // Of a run that was left out nobody can say.
    let success = match outcome.verdict {
        Verdict::Good => Some(("probe_success", "1")),
        Verdict::Failed => Some(("probe_success", "0")),
        Verdict::LeftOut => None,
    };
    let surplus = pairs.iter().skip(room).map(|(n, v)| (n.as_str(), v.as_str()));
    let metadata = Labels::from_pairs(surplus.chain([("execution_id", execution)]));
    let mut batch = LogBatch::default();
    batch.begin_stream(Labels::from_pairs(kept.chain(success)));
    for line in &outcome.lines {
        batch.push(line.t_ns, &text(check, &pairs, line), metadata.clone());
    }
    batch
}

/// In the order in which the lines carry them; empty values are left out.
fn stream_pairs(check: &Check, probe: &Probe, mode: LabelMode) -> Vec<(String, String)> {
    let kind = check.kind().map_or("", |kind| kind.name());
    let fixed = [
        ("probe", probe.name.as_str()),
        user_labels::region(probe, mode),
        ("instance", &check.target),
        ("job", &check.job),
        ("check_name", kind),
        ("source", "synthetic-monitoring-agent"),
    ];
    let fixed = fixed.into_iter().filter(|(_, v)| !v.is_empty());
    let fixed = fixed.map(|(n, v)| (n.to_owned(), v.to_owned()));
    fixed.chain(user_labels::of_check(check, probe, mode)).collect()
}

fn text(check: &Check, pairs: &[(String, String)], line: &Line) -> String {
    let mut text = String::with_capacity(256);
    logfmt::push(&mut text, "level", level(line.level));
    logfmt::push(&mut text, "target", &check.target);
    for (name, value) in pairs {
        logfmt::push(&mut text, name, value);
    }
    logfmt::push(&mut text, "msg", &line.message);
    for (name, value) in &line.fields {
        logfmt::push(&mut text, name, value);
    }
    text
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// The one entry of a check that ran once.
pub(super) fn of_adhoc(check: &AdHocCheck, kind: &str, probe: &Probe, outcome: &Outcome) -> LogBatch {
    let logs: Vec<_> = outcome.lines.iter().map(line_document).collect();
    let line = json!({
        "level": "warn",
        "id": check.id,
        "target": check.target,
        "probe": probe.name,
        "check_name": kind,
        "logs": logs,
        "timeseries": families(outcome),
        "message": "ad-hoc check done",
    });
    let labels = [("probe", probe.name.as_str()), ("source", "synthetic-monitoring"), ("type", "adhoc")];
    let mut batch = LogBatch::default();
    batch.begin_stream(Labels::from_pairs(labels));
    batch.push(outcome::now_ns(), &line.to_string(), Labels::empty());
    batch
}

fn line_document(line: &Line) -> serde_json::Value {
    let mut document = serde_json::Map::new();
    document.insert("level".to_owned(), level(line.level).into());
    document.insert("msg".to_owned(), line.message.as_str().into());
    for (name, value) in &line.fields {
        document.insert((*name).to_owned(), value.as_str().into());
    }
    document.into()
}

/// Metric families in the JSON that the web app reads: all gauges, type 1.
fn families(outcome: &Outcome) -> Vec<serde_json::Value> {
    let number = |name, help, value| Gauge { name, help, labels: Vec::new(), value };
    let success = f64::from(u8::from(outcome.success()));
    let mut gauges = vec![
        number("probe_success", "Displays whether or not the probe was a success", success),
        number(
            "probe_duration_seconds",
            "Returns how long the probe took to complete in seconds",
            outcome.duration.as_secs_f64(),
        ),
    ];
    gauges.extend(outcome.gauges.iter().cloned());
    let mut families: Vec<(&str, &str, Vec<serde_json::Value>)> = Vec::new();
    for gauge in &gauges {
        let labels: Vec<_> = gauge.labels.iter().map(|(n, v)| json!({"name": n, "value": v})).collect();
        let metric = json!({"label": labels, "gauge": {"value": gauge.value}});
        match families.iter_mut().find(|(name, _, _)| *name == gauge.name) {
            Some((_, _, metrics)) => metrics.push(metric),
            None => families.push((gauge.name, gauge.help, vec![metric])),
        }
    }
    let document = |(name, help, metrics)| json!({"name": name, "help": help, "type": 1, "metric": metrics});
    families.into_iter().map(document).collect()
}
