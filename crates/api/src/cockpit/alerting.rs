//! The Alertmanager's switches, contact points, and the rules that alert.

use std::collections::{BTreeMap, BTreeSet};

use pilothouse_control::{AlertSettings, ContactPoint, Fault, SourceKind};
use pilothouse_model::{Alert, Labels};
use serde_json::{Value, json};

use super::error::Refusal;
use super::input::Input;
use super::managed::{MANAGED_RULES, ManagedRule};
use super::{Answer, Context, Version};
use crate::error::{ApiError, Kind};

// ---- switches ----

pub(super) fn get(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    Ok(shape(context, &context.control().alert_settings(input.project()?, input.region)))
}

pub(super) fn enable(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    switch(context, input, true)
}

pub(super) fn disable(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    switch(context, input, false)
}

fn switch(context: &Context<'_>, input: &Input, on: bool) -> Result<Answer, Refusal> {
    let (by, project) = (input.actor(), input.project()?);
    Ok(shape(context, &context.control().enable_alert_manager(&by, project, input.region, on)?))
}

pub(super) fn enable_managed(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    switch_managed(context, input, true)
}

pub(super) fn disable_managed(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    switch_managed(context, input, false)
}

fn switch_managed(context: &Context<'_>, input: &Input, on: bool) -> Result<Answer, Refusal> {
    let (by, project) = (input.actor(), input.project()?);
    let settings = context.control().enable_managed_alerts(&by, project, input.region, on)?;
    Ok(match context.version {
        Version::V1 => shape(context, &settings),
        Version::V1Beta1 => Answer::Object(json!({})),
    })
}

fn shape(context: &Context<'_>, settings: &AlertSettings) -> Answer {
    Answer::Object(json!({
        "alert_manager_url": format!("{}/alertmanager", context.base),
        "alert_manager_enabled": settings.enabled,
        "managed_alerts_enabled": settings.managed_alerts,
        "region": settings.region.as_str(),
    }))
}

/// An alert that a receiver can be tried with.
pub(super) fn trigger_test(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    const LASTS_MS: i64 = 5 * 60_000;
    let project = input.project()?.to_string();
    let absent = || ApiError::new(Kind::Unavailable, "the Alertmanager is not running");
    let sink = context.app.alerts.get().ok_or_else(absent)?;
    let labels =
        [("alertname", "TestAlert"), ("project_id", project.as_str()), ("region", input.region.as_str())];
    let now_ms = context.app.now_ms();
    let alert = Alert {
        labels: Labels::from_pairs(labels),
        annotations: BTreeMap::from([("summary".to_owned(), "A test: nothing is wrong.".to_owned())]),
        starts_at_ms: now_ms,
        ends_at_ms: now_ms + LASTS_MS,
        generator_url: context.base.clone(),
    };
    sink.send(&[alert]).map_err(ApiError::from)?;
    Ok(context.of_version(Answer::Nothing, Answer::Object(json!({}))))
}

// ---- rules ----

pub(super) fn enable_rules(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    switch_rules(context, input, true)
}

pub(super) fn disable_rules(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    switch_rules(context, input, false)
}

/// No ids mean all rules. The answer has those that were switched just now.
fn switch_rules(context: &Context<'_>, input: &Input, on: bool) -> Result<Answer, Refusal> {
    let asked: Vec<String> = input.list("rule_ids")?;
    let known: BTreeSet<&str> = MANAGED_RULES.iter().map(|rule| rule.id).collect();
    if let Some(unknown) = asked.iter().find(|id| !known.contains(id.as_str())) {
        return Err(Refusal::argument("rule_ids", Fault::Unknown, format!("there is no rule {unknown}")));
    }
    let rules = if asked.is_empty() { known.iter().map(|id| (*id).to_owned()).collect() } else { asked };
    let (by, project) = (input.actor(), input.project()?);
    let changed = context.control().enable_rules(&by, project, input.region, &rules, on)?;
    let name = if on { "enabled_rule_ids" } else { "disabled_rule_ids" };
    Ok(Answer::Object(json!({ name: changed })))
}

pub(super) fn count_rules(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let project = input.project()?;
    let mut custom = 0;
    let mut by_source = Vec::new();
    for (id, count) in context.app.rule_book().counts() {
        let Some(source) = context.control().source(id) else { continue };
        if source.project != project && source.kind != SourceKind::Metrics && source.kind != SourceKind::Logs
        {
            continue;
        }
        custom += count;
        by_source.push(json!({
            "data_source_id": id.to_string(),
            "data_source_name": source.name,
            "rules_count": count,
        }));
    }
    Ok(Answer::Object(json!({
        "rules_count_by_datasource": by_source,
        "preconfigured_rules_count": MANAGED_RULES.len(),
        "custom_rules_count": custom,
    })))
}

pub(super) fn list_alerts(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let settings = context.control().alert_settings(input.project()?, input.region);
    let default = context.control().default_source(SourceKind::Metrics);
    let source = default.map(|s| s.id.to_string()).unwrap_or_default();
    let book = context.app.rule_book();
    let managed = MANAGED_RULES.iter().map(|rule| {
        let state = book.state_of(rule.name);
        managed_alert(rule, &settings, input.region.as_str(), &source, state)
    });
    let custom = book.alerts().into_iter().map(|rule| {
        json!({
            "region": input.region.as_str(),
            "preconfigured": false,
            "name": rule.name,
            "rule": rule.expr,
            "duration": rule.hold,
            "rule_status": "enabled",
            "state": rule.state,
            "annotations": rule.annotations,
            "preconfigured_data": null,
            "data_source_id": rule.source.to_string(),
        })
    });
    let wanted = Wanted::read(input)?;
    let alerts: Vec<Value> = managed.chain(custom).filter(|alert| wanted.takes(alert)).collect();
    Ok(Answer::Object(json!({"total_count": alerts.len(), "alerts": alerts})))
}

fn managed_alert(
    rule: &ManagedRule,
    settings: &AlertSettings,
    region: &str,
    source: &str,
    state: &str,
) -> Value {
    let is_on = settings.managed_alerts || settings.rules.contains(rule.id);
    json!({
        "region": region,
        "preconfigured": true,
        "name": rule.name,
        "rule": rule.expr,
        "duration": rule.hold,
        "rule_status": if is_on { "enabled" } else { "disabled" },
        "state": if is_on { state } else { "inactive" },
        "annotations": {"summary": rule.title, "description": rule.description},
        "preconfigured_data": {
            "preconfigured_rule_id": rule.id,
            "display_name": rule.title,
            "display_description": rule.description,
            "product_name": "pilothouse",
            "product_family": "observability",
        },
        "data_source_id": source,
    })
}

/// What a list of alerts is narrowed to.
struct Wanted<'a> {
    texts: Vec<(&'static str, &'a str)>,
    preconfigured: Option<bool>,
}

impl<'a> Wanted<'a> {
    fn read(input: &'a Input) -> Result<Self, Refusal> {
        let mut texts = Vec::new();
        let choices: [(&str, &[&str]); 3] = [
            ("rule_status", &["enabled", "disabled", "enabling", "disabling"]),
            ("state", &["inactive", "pending", "firing"]),
            ("data_source_id", &[]),
        ];
        for (name, known) in choices {
            let Some(text) = input.text(name)?.filter(|t| !t.starts_with("unknown_")) else { continue };
            if !known.is_empty() && !known.contains(&text) {
                return Err(Refusal::argument(name, Fault::Unknown, known.join(", ")));
            }
            texts.push((name, text));
        }
        Ok(Self { texts, preconfigured: input.flag("is_preconfigured")? })
    }

    fn takes(&self, alert: &Value) -> bool {
        self.texts.iter().all(|(name, text)| alert[*name] == *text)
            && self.preconfigured.is_none_or(|wanted| alert["preconfigured"] == wanted)
    }
}

// ---- contact points ----

/// Below which member of the body the address stands.
fn holder(context: &Context<'_>) -> Option<&'static str> {
    context.of_version(None, Some("contact_point"))
}

pub(super) fn create_contact(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let resolved = input.flag("send_resolved_notifications")?.unwrap_or(false);
    let email = input.email(holder(context))?;
    let by = input.actor();
    let made =
        context.control().create_contact_point(&by, input.project()?, input.region, &email, resolved)?;
    Ok(Answer::Object(contact(&made)))
}

pub(super) fn update_contact(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let resolved = input.flag("send_resolved_notifications")?;
    let email = input.email(holder(context))?;
    let by = input.actor();
    let changed =
        context.control().update_contact_point(&by, input.project()?, input.region, &email, resolved)?;
    Ok(Answer::Object(contact(&changed)))
}

pub(super) fn list_contacts(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let listed = context.control().contact_points(input.project_filter()?, input.region, input.page()?);
    let is_more = context.app.rule_book().has_other_receivers();
    Ok(Answer::Object(json!({
        "total_count": listed.total,
        "contact_points": listed.items.iter().map(contact).collect::<Vec<_>>(),
        "has_additional_receivers": is_more,
        "has_additional_contact_points": is_more,
    })))
}

pub(super) fn delete_contact(context: &Context<'_>, input: &Input) -> Result<Answer, Refusal> {
    let email = input.email(holder(context))?;
    context.control().delete_contact_point(&input.actor(), input.project()?, input.region, &email)?;
    Ok(context.of_version(Answer::Nothing, Answer::Object(json!({}))))
}

fn contact(point: &ContactPoint) -> Value {
    json!({
        "email": {"to": point.email},
        "region": point.region.as_str(),
        "send_resolved_notifications": point.send_resolved,
    })
}
