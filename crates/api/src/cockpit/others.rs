//! What the API has and this server has not: exporters, products, dashboards; and the object that
//! the older version calls the cockpit.

use pilothouse_control::{Listed, SourceKind};
use serde_json::{Value, json};

use super::error::Refusal;
use super::input::Input;
use super::shapes::{listed, time};
use super::{Answer, Context, plans};

pub(super) fn create_exporter(_: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    input.required("datasource_id")?;
    Err(Refusal::Quota { resource: "exporter", quota: 0, current: 0 })
}

pub(super) fn list_exporters(_: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    input.page()?;
    Ok(none("exporters"))
}

pub(super) fn one_exporter(_: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    Err(Refusal::not_found("exporter", input.segment("id")))
}

pub(super) fn list_products(_: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    input.page()?;
    Ok(none("products_list"))
}

pub(super) fn list_dashboards(_: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    input.page()?;
    Ok(none("dashboards"))
}

pub(super) fn get_dashboard(_: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    Err(Refusal::not_found("product_dashboard", input.segment("name")))
}

fn none(name: &str) -> Answer {
    listed(name, Listed { total: 0, items: Vec::new() }, |(): &()| Value::Null)
}

/// A cockpit is ready at once and never goes: activating and deactivating change nothing.
pub(super) fn cockpit(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let (control, project) = (context.control(), input.project()?);
    let stamp = control.project(project).map(|p| p.stamp).unwrap_or_default();
    let url = |kind| {
        let source = control.default_source(kind);
        source.map_or(Value::Null, |s| format!("{}/ds/{}", context.base, s.id).into())
    };
    Ok(Answer::Object(json!({
        "project_id": project.to_string(),
        "created_at": time(stamp.created_ms),
        "updated_at": time(stamp.updated_ms),
        "endpoints": {
            "metrics_url": url(SourceKind::Metrics),
            "logs_url": url(SourceKind::Logs),
            "traces_url": "",
            "alertmanager_url": format!("{}/alertmanager", context.base),
            "grafana_url": "",
        },
        "status": "ready",
        "managed_alerts_enabled": control.alert_settings(project, input.region).managed_alerts,
        "plan": plans::shape(context.version, control.plan(project)),
    })))
}
