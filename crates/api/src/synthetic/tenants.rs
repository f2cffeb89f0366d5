//! The tenant of the request.

use pilothouse_probes::registry::{StatusUpdate, TenantUpdate};
use pilothouse_probes::words::{Remote, Tenant};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refused, Request, ok};
use crate::reply::Reply;

pub(super) fn get(request: &Request<'_>) -> Result<Reply, Refused> {
    let tenant = request.registry.tenant(request.caller.tenant).ok_or_else(Refused::not_found)?;
    ok(&masked(tenant))
}

fn masked(tenant: Tenant) -> Tenant {
    Tenant {
        metrics_remote: tenant.metrics_remote.as_ref().map(Remote::masked),
        events_remote: tenant.events_remote.as_ref().map(Remote::masked),
        ..tenant
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wanted {
    id: i64,
    metrics_remote: Option<Remote>,
    events_remote: Option<Remote>,
    status: Option<WantedStatus>,
    reason: String,
}

/// The page wraps the status in an object, the published client sends the number.
#[derive(Deserialize)]
#[serde(untagged)]
enum WantedStatus {
    Number(i32),
    Object {
        #[serde(default)]
        code: i32,
        #[serde(default)]
        reason: String,
    },
}

pub(super) fn update(request: &Request<'_>) -> Result<Reply, Refused> {
    let wanted: Wanted = request.body()?;
    if wanted.id != 0 && wanted.id != request.caller.tenant {
        return Err(Refused::not_found());
    }
    let reason = wanted.reason;
    let update = TenantUpdate {
        metrics_remote: wanted.metrics_remote,
        events_remote: wanted.events_remote,
        status: wanted.status.map(|status| match status {
            WantedStatus::Number(code) => StatusUpdate { code, reason },
            WantedStatus::Object { code, reason } => StatusUpdate { code, reason },
        }),
    };
    let tenant = masked(request.registry.update_tenant(request.caller.tenant, update)?);
    // The page reads the member, the published client the top level.
    let mut answer = json!(tenant);
    if let Value::Object(members) = &mut answer {
        members.insert("msg".to_owned(), "tenant updated".into());
        members.insert("tenant".to_owned(), json!(tenant));
    }
    ok(&answer)
}

pub(super) fn delete(request: &Request<'_>) -> Result<Reply, Refused> {
    let id = request.id()?;
    if id != request.caller.tenant {
        return Err(Refused::not_found());
    }
    request.registry.delete_tenant(id)?;
    ok(&json!({"msg": "tenant deleted", "tenantId": id}))
}

pub(super) fn limits(request: &Request<'_>) -> Result<Reply, Refused> {
    let settings = request.registry.settings();
    ok(&json!({
        "MaxChecks": settings.max_checks,
        "MaxScriptedChecks": 0,
        "MaxBrowserChecks": 0,
        "MaxMetricLabels": settings.labels.max_labels,
        "MaxLogLabels": settings.labels.max_labels,
        "maxAllowedMetricLabels": settings.labels.max_labels,
        "maxAllowedLogLabels": settings.labels.max_labels,
    }))
}

/// The settings are those of the web app's own checks; none of them has an effect here.
pub(super) fn update_settings(request: &Request<'_>) -> Result<Reply, Refused> {
    let _: Value = request.body()?;
    ok(&json!({"msg": "tenant settings updated"}))
}
