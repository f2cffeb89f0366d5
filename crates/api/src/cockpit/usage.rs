//! What a project has stored.
//!
//! What clients push counts as external, as it does for the hosted service; nothing here is
//! pushed by products of Scaleway, so their two rows are empty.

use pilothouse_control::{DataSource, ProjectId, SourceFilter, SourceKind, UsageQuery};
use pilothouse_model::time::parse_duration_ms;
use serde_json::{Value, json};

use super::error::Refusal;
use super::input::{Input, malformed};
use super::shapes::duration_s;
use super::{Answer, Context};

pub(super) fn overview(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let now_ms = context.app.now_ms();
    let since_ms = match input.text("interval")? {
        None => month_start_ms(now_ms),
        Some(text) => now_ms.saturating_sub(interval_ms(text)?),
    };
    let project = input.project()?;
    let of = |kind| usage(context, input, project, kind, since_ms);
    Ok(Answer::Object(json!({
        "scaleway_metrics_usage": null,
        "scaleway_logs_usage": null,
        "external_metrics_usage": of(SourceKind::Metrics),
        "external_logs_usage": of(SourceKind::Logs),
        "external_traces_usage": null,
    })))
}

/// Seconds with a suffix and perhaps a fraction, as protobuf has them, or any duration.
fn interval_ms(text: &str) -> Result<i64, Refusal> {
    let seconds = text.strip_suffix('s').and_then(|s| s.parse::<f64>().ok()).map(|s| (s * 1000.0) as i64);
    let parsed = seconds.or_else(|| parse_duration_ms(text).ok());
    parsed.filter(|ms| *ms >= 0).ok_or_else(|| malformed("interval", "a duration such as \"3600s\""))
}

/// Midnight of the first day of the month, in UTC.
pub(super) fn month_start_ms(now_ms: i64) -> i64 {
    let start = || {
        let now = jiff::Timestamp::from_millisecond(now_ms).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
        let first = now.date().first_of_month().to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(first.timestamp().as_millisecond())
    };
    start().unwrap_or(0)
}

fn usage(context: &Context<'_>, input: &Input, project: ProjectId, kind: SourceKind, since_ms: i64) -> Value {
    let query = UsageQuery { project: Some(project), source: None, kind, since_ms };
    let used = context.control().usage_of(&query);
    let (unit, quantity) = match kind {
        SourceKind::Metrics => ("samples", used.samples),
        _ => ("bytes", used.bytes),
    };
    json!({
        "data_source_id": only_source(context, input, project, kind).map(|s| s.id.to_string()),
        "project_id": project.to_string(),
        "data_source_origin": "external",
        "data_source_type": kind.as_str(),
        "unit": unit,
        "interval": duration_s((context.app.now_ms() - since_ms).max(0) / 1000),
        "quantity_over_interval": quantity,
        "region": input.region.as_str(),
    })
}

/// The project's source of a kind where it has one alone; else the one that all share.
fn only_source(
    context: &Context<'_>,
    input: &Input,
    project: ProjectId,
    kind: SourceKind,
) -> Option<DataSource> {
    let filter = SourceFilter {
        region: input.region,
        project: Some(project),
        kinds: vec![kind],
        ..SourceFilter::default()
    };
    let mut own = context.control().sources(&filter);
    match own.total {
        1 => own.items.pop(),
        _ => context.control().default_source(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_at_midnight() {
        assert_eq!(month_start_ms(1_700_000_000_000), 1_698_796_800_000);
        assert_eq!(month_start_ms(1_698_796_800_000), 1_698_796_800_000);
    }

    #[test]
    fn intervals_are_durations() {
        for (text, ms) in [("3600s", 3_600_000), ("1.5s", 1_500), ("0s", 0), ("2h", 7_200_000)] {
            assert_eq!(interval_ms(text).ok(), Some(ms), "{text}");
        }
        assert!(["", "s", "-1s", "soon"].iter().all(|bad| interval_ms(bad).is_err()));
    }
}
