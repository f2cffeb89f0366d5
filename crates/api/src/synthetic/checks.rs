//! Checks and their alerts.

use http::StatusCode;
use pilothouse_probes::registry::CheckAlert;
use pilothouse_probes::run::{AccountingClass, accounting_classes};
use pilothouse_probes::words::{AdHocCheck, Check};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Refused, Request, Synthetic, accepted, ok};
use crate::reply::Reply;

/// In the audit trail.
const CHECK: &str = "synthetic_check";

pub(super) fn add(request: &Request<'_>) -> Result<Reply, Refused> {
    let stored = request.registry.add_check(request.caller.tenant, request.body()?)?;
    request.note("create", CHECK, stored.id, &stored.job);
    ok(&stored)
}

/// `id` of the path, where it is there, stands over that of the body.
pub(super) fn update(request: &Request<'_>, id: Option<i64>) -> Result<Reply, Refused> {
    let mut check: Check = request.body()?;
    if let Some(id) = id {
        check.id = id;
    }
    let stored = request.registry.update_check(request.caller.tenant, check)?;
    request.note("update", CHECK, stored.id, &stored.job);
    ok(&stored)
}

pub(super) fn update_all(request: &Request<'_>) -> Result<Reply, Refused> {
    let wanted: Vec<Check> = request.body()?;
    let names: Vec<(i64, String)> = wanted.iter().map(|check| (check.id, check.job.clone())).collect();
    let updated = request.registry.update_checks(request.caller.tenant, wanted)?;
    names.iter().for_each(|(id, job)| request.note("update", CHECK, *id, job));
    ok(&json!({"msg": format!("{updated} checks updated")}))
}

pub(super) fn delete(request: &Request<'_>) -> Result<Reply, Refused> {
    let id = request.id()?;
    let job = request.registry.check(request.caller.tenant, id)?.job;
    request.registry.delete_check(request.caller.tenant, id)?;
    request.note("delete", CHECK, id, &job);
    ok(&json!({"msg": "check deleted", "checkId": id}))
}

/// A check as lists show it.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    check: Check,
    #[serde(skip_serializing_if = "Option::is_none")]
    alerts: Option<Vec<ShownAlert>>,
}

pub(super) fn list(request: &Request<'_>) -> Result<Reply, Refused> {
    let with_alerts = request.call.params.text("includeAlerts") == "true";
    let listed = request.registry.checks(request.caller.tenant).into_iter().map(|(check, alerts)| Listed {
        check,
        alerts: with_alerts.then(|| alerts.into_iter().map(ShownAlert::of).collect()),
    });
    ok(&listed.collect::<Vec<_>>())
}

pub(super) fn find(request: &Request<'_>) -> Result<Reply, Refused> {
    let params = &request.call.params;
    let (job, target) = (params.text("job"), params.text("target"));
    if job.is_empty() || target.is_empty() {
        return Err(Refused::bad("Invalid request", "job and target are required"));
    }
    let found = request.registry.find_check(request.caller.tenant, job, target);
    let query = request.call.parts.uri.query().unwrap_or("");
    // The published client sends targets as they are: one with parameters of its own would end
    // at the first of them.
    match (found, whole_target(query)) {
        (Err(e), Some(whole)) if whole != target => {
            ok(&request.registry.find_check(request.caller.tenant, job, &whole).map_err(|_| e)?)
        }
        (found, _) => ok(&found?),
    }
}

/// All that follows `target=`, where that is the last parameter.
fn whole_target(query: &str) -> Option<String> {
    let (before, target) = query.split_once("target=").filter(|(before, _)| before.starts_with("job="))?;
    let target = target.replace('&', "%26");
    let (name, value) = form_urlencoded::parse(target.as_bytes()).next()?;
    let text = if value.is_empty() { name.into_owned() } else { format!("{name}={value}") };
    before.ends_with('&').then_some(text)
}

pub(super) fn get(request: &Request<'_>) -> Result<Reply, Refused> {
    ok(&request.registry.check(request.caller.tenant, request.id()?)?)
}

/// An alert with what became of it. It is in force as soon as it is stored.
#[derive(Serialize)]
struct ShownAlert {
    #[serde(flatten)]
    alert: CheckAlert,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'static str,
}

impl ShownAlert {
    fn of(alert: CheckAlert) -> Self {
        Self { alert, status: "OK", error: "" }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WantedAlerts {
    alerts: Vec<CheckAlert>,
}

pub(super) fn alerts(request: &Request<'_>) -> Result<Reply, Refused> {
    let alerts = request.registry.alerts(request.caller.tenant, request.id()?)?;
    ok(&shown(alerts))
}

pub(super) fn set_alerts(request: &Request<'_>) -> Result<Reply, Refused> {
    let wanted: WantedAlerts = request.body()?;
    let stored = request.registry.set_alerts(request.caller.tenant, request.id()?, wanted.alerts)?;
    accepted(StatusCode::ACCEPTED, &shown(stored))
}

fn shown(alerts: Vec<CheckAlert>) -> Value {
    let alerts: Vec<ShownAlert> = alerts.into_iter().map(ShownAlert::of).collect();
    json!({"alerts": alerts})
}

pub(super) fn run_once(request: &Request<'_>, synthetic: &Synthetic) -> Result<Reply, Refused> {
    let wanted: AdHocCheck = request.body()?;
    let id = Uuid::new_v4().to_string();
    let check = request.registry.admit_adhoc(request.caller.tenant, id, wanted)?;
    synthetic.schedule.run_adhoc(check.clone());
    synthetic.registry.offer_adhoc(&check);
    ok(&check)
}

/// How many series a check of each class makes: what the web app multiplies.
pub(super) fn info() -> Result<Reply, Refused> {
    let document = |class: AccountingClass| {
        let document = json!({
            "CheckClass": class.check_class, "CheckType": class.check_type, "Series": class.series,
        });
        (class.name, document)
    };
    let classes: serde_json::Map<_, _> = accounting_classes().into_iter().map(document).collect();
    ok(&json!({"AccountingClasses": classes}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_may_have_parameters_of_its_own() {
        for (query, expected) in [
            ("job=a&target=http://x/?b=1&c=2", Some("http://x/?b=1&c=2")),
            ("job=a&target=http%3A%2F%2Fx%2F%3Fb&c", Some("http://x/?b&c")),
            ("job=a&target=x", Some("x")),
            ("target=x&job=a", None),
        ] {
            assert_eq!(whole_target(query).as_deref(), expected, "{query}");
        }
    }
}
