//! Registration and access tokens.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Refused, Request, Synthetic, bearer, ok};
use crate::App;
use crate::reply::Reply;
use crate::service::Call;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Registration {
    stack_id: i64,
    metrics_instance_id: i64,
    logs_instance_id: i64,
}

/// The publisher's token is the root token; with authentication off any will do, save one that
/// is an access token.
pub(super) fn install(app: &App, synthetic: &Synthetic, call: &Call) -> Result<Reply, Refused> {
    let token = bearer(call).ok_or_else(Refused::unauthorized)?;
    if synthetic.registry.authenticate(token).is_some() || !app.settings.auth.is_publisher(token) {
        return Err(Refused::unauthorized());
    }
    let wanted: Registration = pilothouse_probes::words::read_json(&call.body)
        .map_err(|e| Refused::bad("Invalid request body", e.to_string()))?;
    let address = app.address(&call.parts.headers);
    let installed = synthetic.registry.install(
        wanted.stack_id,
        wanted.metrics_instance_id,
        wanted.logs_instance_id,
        || synthetic.remotes.for_tenant(&address),
    )?;
    ok(&json!({
        "accessToken": installed.access_token,
        "tenantInfo": {
            "id": installed.tenant,
            "metricInstance": instance(wanted.metrics_instance_id, "prometheus", &format!("{address}/prometheus")),
            "logInstance": instance(wanted.logs_instance_id, "logs", &address),
        },
    }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HostedInstance<'a> {
    id: i64,
    org_slug: &'a str,
    org_name: &'a str,
    cluster_slug: &'a str,
    cluster_name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    name: &'a str,
    url: &'a str,
    description: &'a str,
    status: &'a str,
    current_active_series: i64,
    current_dpm: i64,
    current_usage: i64,
}

fn instance(id: i64, kind: &str, url: &str) -> Value {
    let instance = HostedInstance {
        id,
        org_slug: "pilothouse",
        org_name: "pilothouse",
        cluster_slug: "pilothouse",
        cluster_name: "pilothouse",
        kind,
        name: "pilothouse",
        url,
        description: "",
        status: "active",
        current_active_series: 0,
        current_dpm: 0,
        current_usage: 0,
    };
    json!(instance)
}

pub(super) fn create(request: &Request<'_>) -> Result<Reply, Refused> {
    let token = request.registry.create_token(&request.caller)?;
    ok(&json!({"msg": "token created", "accessToken": token}))
}

pub(super) fn delete(request: &Request<'_>) -> Result<Reply, Refused> {
    request.registry.delete_token(&request.caller)?;
    ok(&json!({"msg": "token deleted"}))
}

pub(super) fn refresh(request: &Request<'_>) -> Result<Reply, Refused> {
    let token = request.registry.refresh_token(&request.caller)?;
    ok(&json!({"msg": "token refreshed", "accessToken": token}))
}
