//! Private probes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pilothouse_probes::words::Probe;
use serde_json::json;

use super::{Refused, Request, ok};
use crate::reply::Reply;

/// In the audit trail.
const PROBE: &str = "synthetic_probe";

pub(super) fn add(request: &Request<'_>) -> Result<Reply, Refused> {
    let (probe, token) = request.registry.add_probe(request.caller.tenant, request.body()?)?;
    request.note("create", PROBE, probe.id, &probe.name);
    ok(&json!({"probe": probe, "token": STANDARD.encode(token)}))
}

/// `reset-token` has no value: that it is there is enough.
pub(super) fn update(request: &Request<'_>) -> Result<Reply, Refused> {
    let wanted: Probe = request.body()?;
    let reset = request.call.params.all("reset-token").next().is_some();
    let (probe, token) = request.registry.update_probe(request.caller.tenant, wanted, reset)?;
    request.note("update", PROBE, probe.id, &probe.name);
    match token {
        Some(token) => ok(&json!({"probe": probe, "token": STANDARD.encode(token)})),
        None => ok(&json!({"probe": probe})),
    }
}

/// The page and the published client spell the id differently.
pub(super) fn delete(request: &Request<'_>) -> Result<Reply, Refused> {
    let id = request.id()?;
    let name = request.registry.probe(request.caller.tenant, id)?.name;
    request.registry.delete_probe(request.caller.tenant, id)?;
    request.note("delete", PROBE, id, &name);
    ok(&json!({"msg": "probe deleted", "probeID": id, "probeId": id}))
}
