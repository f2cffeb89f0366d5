//! The tenant of the request.

use pilothouse_probes::registry::{StatusUpdate, TenantSettings, TenantUpdate};
use pilothouse_probes::words::{LabelMode, Remote, Tenant};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Refused, Request, ok};
use crate::reply::Reply;

/// In the audit trail.
const TENANT: &str = "synthetic_tenant";

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
    label_mode: Option<WantedMode>,
    cost_attribution_labels: Option<Vec<String>>,
}

/// A number, or the name that the protocol gives it.
#[derive(Deserialize)]
#[serde(untagged)]
enum WantedMode {
    Number(i32),
    Name(String),
}

impl WantedMode {
    /// A name that there is not becomes a number that there is not.
    fn number(self) -> i32 {
        match self {
            Self::Number(number) => number,
            Self::Name(name) => match name.trim_start_matches("LABEL_MODE_").to_ascii_uppercase().as_str() {
                "PREFIXED" => LabelMode::Prefixed as i32,
                "DUAL_WRITE" => LabelMode::DualWrite as i32,
                "UNPREFIXED" => LabelMode::Unprefixed as i32,
                _ => -1,
            },
        }
    }
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
        label_mode: wanted.label_mode.map(WantedMode::number),
        cost_attribution_labels: wanted.cost_attribution_labels,
    };
    let tenant = masked(request.registry.update_tenant(request.caller.tenant, update)?);
    request.note("update", TENANT, tenant.id, &tenant.reason);
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
    request.note("delete", TENANT, id, "");
    ok(&json!({"msg": "tenant deleted", "tenantId": id}))
}

pub(super) fn limits(request: &Request<'_>) -> Result<Reply, Refused> {
    let limits = request.registry.settings().limits.now();
    ok(&json!({
        "MaxChecks": limits.max_checks,
        "MaxScriptedChecks": 0,
        "MaxBrowserChecks": 0,
        "MaxMetricLabels": limits.max_check_labels,
        "MaxLogLabels": limits.max_check_labels,
        "maxAllowedMetricLabels": limits.max_check_labels,
        "maxAllowedLogLabels": limits.max_check_labels,
    }))
}

/// Names of labels by which costs are told apart. Nothing here costs anything; private probes
/// count by them.
pub(super) fn cals(request: &Request<'_>) -> Result<Reply, Refused> {
    let tenant = request.registry.tenant(request.caller.tenant).ok_or_else(Refused::not_found)?;
    ok(&json!({"names": tenant.cost_attribution_labels}))
}

pub(super) fn settings(request: &Request<'_>) -> Result<Reply, Refused> {
    ok(&request.registry.tenant_settings(request.caller.tenant))
}

/// Members that are not said stay as they are.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WantedSettings {
    remote_validation_disabled: Option<bool>,
    thresholds: Option<Map<String, Value>>,
}

pub(super) fn update_settings(request: &Request<'_>) -> Result<Reply, Refused> {
    let wanted: WantedSettings = request.body()?;
    let before = request.registry.tenant_settings(request.caller.tenant);
    let settings = TenantSettings {
        remote_validation_disabled: wanted
            .remote_validation_disabled
            .unwrap_or(before.remote_validation_disabled),
        thresholds: wanted.thresholds.unwrap_or(before.thresholds),
    };
    request.registry.set_tenant_settings(request.caller.tenant, settings)?;
    ok(&json!({"msg": "tenant settings updated"}))
}
