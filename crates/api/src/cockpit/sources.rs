//! Data sources, and the retention that they may have.

use pilothouse_control::{
    Amounts, DataSource, Fault, NewSource, Origin, RemoteSettings, SortKey, SourceChange, SourceFilter,
    SourceId, SourceKind, SourceLimits, UsageQuery,
};
use pilothouse_remote::{Kind as RemoteKind, Settings};
use serde_json::{Value, json};

use super::error::Refusal;
use super::input::{Input, malformed};
use super::shapes::{listed, members, stamped};
use super::usage::month_start_ms;
use super::{Answer, Context, Version};

const DAY_MS: i64 = 86_400_000;
const ORDERS: [SortKey; 3] = [SortKey::CreatedAt, SortKey::Name, SortKey::Type];

/// The span of retention that a source may ask for, and what it gets unasked.
pub(super) fn config(context: &Context<'_>, _: &Input) -> Result<Answer, Refusal> {
    let days = DataSource::RETENTION_DAYS;
    let record = json!({
        "min_days": days.start(),
        "max_days": days.end(),
        "default_days": default_days(context),
    });
    let names = [
        "custom_metrics_retention",
        "custom_logs_retention",
        "custom_traces_retention",
        "product_metrics_retention",
        "product_logs_retention",
    ];
    let records = names.into_iter().map(|name| (name.to_owned(), record.clone()));
    Ok(Answer::Object(Value::Object(records.collect())))
}

/// Begun days count as whole ones; 0 is for ever.
fn default_days(context: &Context<'_>) -> i64 {
    let retention_ms = context.app.settings.configuration.retention_ms();
    if retention_ms <= 0 { 0 } else { (retention_ms - 1) / DAY_MS + 1 }
}

pub(super) fn create(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let kind = kind(context, input.required_word("type")?)?;
    let new = NewSource {
        project: input.project()?,
        region: input.region,
        name: input.required("name")?.to_owned(),
        kind,
        retention_days: retention_days(input)?,
        limits: SourceLimits {
            max_active_series: input.number("max_active_series")?,
            max_log_streams: input.number("max_log_streams")?,
        },
        remote: remote(kind, None, input)?.flatten(),
    };
    let source = context.control().create_source(&input.actor(), new)?;
    Ok(Answer::Object(shape(context, &source)))
}

/// Sources of alerts are known to the older version alone.
fn kind(context: &Context<'_>, kind: SourceKind) -> Result<SourceKind, Refusal> {
    if kind == SourceKind::Alerts && context.version == Version::V1 {
        return Err(Refusal::argument("type", Fault::Unknown, "metrics, logs or traces"));
    }
    Ok(kind)
}

/// Where the data is kept: `backend` is `local` or `remote`, and `remote` says where that is, over what
/// is known of it before. It is kept as it was said, once it has been read without a fault.
fn remote(
    kind: SourceKind,
    before: Option<&RemoteSettings>,
    input: &Input,
) -> Result<Option<Option<RemoteSettings>>, Refusal> {
    let settings = input.optional_object("remote")?;
    let settings = match (input.text("backend")?, settings) {
        (None, settings) => settings,
        (Some("local"), None | Some(None)) => Some(None),
        (Some("remote"), Some(Some(settings))) => Some(Some(settings)),
        (Some("local"), _) => return Err(misplaced("remote", "stands with the backend remote alone")),
        (Some("remote"), _) => {
            return Err(Refusal::argument("remote", Fault::Required, "remote is required"));
        }
        (Some(_), _) => return Err(Refusal::argument("backend", Fault::Unknown, "local or remote")),
    };
    let Some(Some(settings)) = settings else { return Ok(settings.map(|_| None)) };
    let remote_kind = remote_kind(kind)
        .ok_or_else(|| misplaced("remote", "only data sources of metrics and logs can be remote"))?;
    let before = before.and_then(|before| serde_json::from_str(before.expose()).ok()).unwrap_or(Value::Null);
    let settings = Settings::changed(remote_kind, &before, settings)
        .map_err(|e| Refusal::argument(e.key, Fault::Constraint, e.why))?;
    Ok(Some(Some(RemoteSettings::new(settings.to_string()))))
}

fn misplaced(name: &str, why: &str) -> Refusal {
    Refusal::argument(name, Fault::Constraint, why)
}

fn remote_kind(kind: SourceKind) -> Option<RemoteKind> {
    match kind {
        SourceKind::Metrics => Some(RemoteKind::Metrics),
        SourceKind::Logs => Some(RemoteKind::Logs),
        _ => None,
    }
}

/// The settings without what is secret in them.
fn shown_remote(source: &DataSource) -> Option<Value> {
    let settings = serde_json::from_str(source.remote.as_ref()?.expose()).ok()?;
    Some(Settings::read(remote_kind(source.kind)?, &settings).ok()?.shown())
}

/// A number beyond what can be is left to the check of the range.
fn retention_days(input: &Input) -> Result<Option<u32>, Refusal> {
    Ok(input.number("retention_days")?.map(|days| u32::try_from(days).unwrap_or(u32::MAX)))
}

pub(super) fn list(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let mut kinds: Vec<SourceKind> = input.words("types")?;
    if context.version == Version::V1Beta1 && kinds.is_empty() {
        kinds = vec![SourceKind::Metrics, SourceKind::Logs, SourceKind::Traces, SourceKind::Alerts];
    }
    let filter = SourceFilter {
        region: input.region,
        project: input.project_filter()?,
        origin: input.word::<Origin>("origin")?,
        kinds,
        internal: input.flag("include_internal")?.unwrap_or(false),
        order: input.order(&ORDERS)?,
        page: input.page()?,
    };
    let name = context.of_version("data_sources", "datasources");
    Ok(listed(name, context.control().sources(&filter), |source| shape(context, source)))
}

pub(super) fn get(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let source = context.control().source_in(input.region, input.id("data_source")?)?;
    Ok(Answer::Object(shape(context, &source)))
}

pub(super) fn update(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let id: SourceId = input.id("data_source")?;
    let mut moves = false;
    let source = context.control().update_source(&input.actor(), input.region, id, |now| {
        let change = change(now, input)?;
        moves = change.remote.as_ref().is_some_and(|remote| *remote != now.remote);
        Ok::<_, Refusal>(change)
    })?;
    if let Ok(sources) = context.app.sources() {
        sources.update(id);
    }
    if moves {
        context.app.forget_root(id);
    }
    Ok(Answer::Object(shape(context, &source)))
}

/// What is said of a source; settings of a remote one are said over those that it has now.
fn change(now: &DataSource, input: &Input) -> Result<SourceChange, Refusal> {
    let name = input.present_text("name")?;
    if name.as_deref().is_some_and(|name| name.trim().is_empty()) {
        return Err(malformed("name", "a text that is not empty"));
    }
    Ok(SourceChange {
        remote: remote(now.kind, now.remote.as_ref(), input)?,
        name,
        retention_days: retention_days(input)?,
        max_active_series: input.optional_number("max_active_series")?,
        max_log_streams: input.optional_number("max_log_streams")?,
    })
}

/// The data goes with the source. Where the stores are not there yet it goes when they are.
pub(super) fn delete(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let id: SourceId = input.id("data_source")?;
    context.control().delete_source(&input.actor(), input.region, id)?;
    context.app.forget_root(id);
    if let Ok(sources) = context.app.sources() {
        // The source is gone all the same; the next start tries again.
        if let Err(e) = sources.remove_deleted() {
            tracing::error!(source = %id, "data of a deleted data source stays: {e}");
        }
    }
    Ok(Answer::Nothing)
}

fn shape(context: &Context<'_>, source: &DataSource) -> Value {
    let days = source.own_retention_days.map_or_else(|| default_days(context), i64::from);
    let mut object = json!({
        "id": source.id.to_string(),
        "project_id": source.project.to_string(),
        "name": source.name,
        "url": format!("{}/ds/{}", context.base, source.id),
        "type": source.kind.as_str(),
        "origin": source.origin.as_str(),
        "synchronized_with_grafana": source.synchronized,
        "retention_days": days,
        "region": source.region.as_str(),
        "current_month_usage": month_bytes(context, source),
    });
    if context.version == Version::V1Beta1 {
        object["is_managed_by_scaleway"] = (source.origin == Origin::Scaleway).into();
    }
    let own = [
        ("max_active_series", source.limits.max_active_series),
        ("max_log_streams", source.limits.max_log_streams),
    ];
    if source.remote.is_some() {
        object["backend"] = "remote".into();
        object["remote"] = shown_remote(source).unwrap_or(Value::Null);
    }
    if source.declared {
        object["declared"] = true.into();
    }
    for (name, limit) in own {
        if let Some(limit) = limit {
            object[name] = limit.into();
        }
    }
    Value::Object(stamped(members(object), source.stamp))
}

fn month_bytes(context: &Context<'_>, source: &DataSource) -> u64 {
    let since_ms = month_start_ms(context.app.now_ms());
    let query = UsageQuery { project: None, source: Some(source.id), kind: source.kind, since_ms };
    let Amounts { bytes, .. } = context.control().usage_of(&query);
    bytes
}
