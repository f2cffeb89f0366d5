//! Alerts and their groups.

use http::StatusCode;
use pilothouse_alertmanager::Alertmanager;
use pilothouse_alertmanager::engine::{AlertFilter, AlertView, GroupView};
use pilothouse_model::{Alert, Labels};
use serde_json::{Map, Value as Json, json};

use super::shapes::{Body, filters, flag, json_body, labels, receiver, time, unreadable};
use super::{bad_request, ok};
use crate::reply::Reply;
use crate::service::Call;

fn filter(call: &Call) -> Result<AlertFilter, Reply> {
    Ok(AlertFilter {
        matchers: filters(call, "filter")?,
        receiver: receiver(call)?,
        active: flag(call, "active"),
        silenced: flag(call, "silenced"),
        inhibited: flag(call, "inhibited"),
        muted: flag(call, "muted"),
    })
}

fn alert(view: &AlertView) -> Json {
    let alert = &view.alert;
    let annotations: Map<String, Json> =
        alert.annotations.iter().map(|(n, v)| (n.clone(), Json::from(v.as_str()))).collect();
    let mut shown = json!({
        "annotations": annotations,
        "endsAt": time(alert.ends_at_ms),
        "fingerprint": format!("{:016x}", alert.fingerprint),
        "receivers": view.receivers.iter().map(|name| json!({"name": name})).collect::<Json>(),
        "startsAt": time(alert.starts_at_ms),
        "status": {
            "inhibitedBy": view.inhibited_by,
            "mutedBy": view.muted_by,
            "silencedBy": view.silenced_by,
            "state": view.state.name(),
        },
        "updatedAt": time(alert.updated_at_ms),
        "labels": labels(&alert.labels),
    });
    if !alert.generator_url.is_empty() {
        shown["generatorURL"] = alert.generator_url.as_str().into();
    }
    shown
}

pub(super) fn list(am: &Alertmanager, call: &Call) -> Reply {
    let filter = match filter(call) {
        Ok(filter) => filter,
        Err(reply) => return reply,
    };
    let views = am.engine().alerts(&filter, am.now_ms());
    ok(&views.iter().map(alert).collect())
}

pub(super) fn groups(am: &Alertmanager, call: &Call) -> Reply {
    let filter = match filter(call) {
        Ok(filter) => filter,
        Err(reply) => return reply,
    };
    let views = am.engine().groups(&filter, am.now_ms());
    let group = |view: &GroupView| {
        json!({
            "alerts": view.alerts.iter().map(alert).collect::<Json>(),
            "labels": labels(&view.labels),
            "receiver": {"name": view.receiver},
        })
    };
    ok(&views.iter().map(group).collect())
}

/// Good alerts are taken even where others are bad.
pub(super) fn post(am: &Alertmanager, call: &Call) -> Reply {
    let (alerts, mut errors) = match json_body(call, "alerts").and_then(|body| read(&body)) {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    errors.extend(am.put(&alerts));
    if errors.is_empty() { Reply::empty(StatusCode::OK) } else { bad_request(errors.join("\n")) }
}

/// The alerts of a body, and those that have labels which no label set can hold.
fn read(body: &Json) -> Result<(Vec<Alert>, Vec<String>), Reply> {
    let items = match body {
        Json::Array(items) => items.as_slice(),
        Json::Null => &[],
        _ => {
            let why = "json: cannot unmarshal object into Go value of type models.PostableAlerts";
            return Err(unreadable("alerts", why));
        }
    };
    let (mut alerts, mut errors) = (Vec::with_capacity(items.len()), Vec::new());
    for (i, item) in items.iter().enumerate() {
        let body = Body::new("alerts", item, format!("{i}."))?;
        body.required("labels")?;
        let pairs = body.pairs("labels")?;
        if pairs.iter().any(|(name, value)| name.is_empty() && !value.is_empty()) {
            errors.push("invalid label set: invalid name \"\"".to_owned());
            continue;
        }
        alerts.push(Alert {
            labels: Labels::from_pairs(pairs),
            annotations: body.pairs("annotations")?.into_iter().collect(),
            starts_at_ms: body.time("startsAt")?,
            ends_at_ms: body.time("endsAt")?,
            generator_url: body.uri("generatorURL")?,
        });
    }
    Ok((alerts, errors))
}
