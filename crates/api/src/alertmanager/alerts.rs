//! Alerts and their groups.

use http::StatusCode;
use pilothouse_alertmanager::Alertmanager;
use pilothouse_alertmanager::engine::{AlertFilter, AlertView, GroupView};
use pilothouse_alertmanager::service::{PutError, TooLong};
use pilothouse_model::{Alert, Labels};
use serde_json::{Map, Value as Json, json};

use super::shapes::{Body, filters, flag, json_body, labels, receiver, receiver_matchers, time, unreadable};
use super::{array, bad_request, held, unavailable};
use crate::App;
use crate::error::{ApiError, Kind, SOON_S};
use crate::reply::Reply;
use crate::service::Call;

fn filter(call: &Call) -> Result<AlertFilter, Reply> {
    Ok(AlertFilter {
        matchers: filters(call, "filter")?,
        receiver: receiver(call)?,
        receiver_matchers: receiver_matchers(call)?,
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

pub(super) fn list(app: &App, am: &Alertmanager, call: &Call) -> Reply {
    let filter = match filter(call) {
        Ok(filter) => filter,
        Err(reply) => return reply,
    };
    match am.alerts(&filter) {
        Ok(views) => held(app, array(&views, |view, out| out.push_str(&alert(view).to_string()))),
        Err(late) => unavailable(too_long(late)),
    }
}

pub(super) fn groups(app: &App, am: &Alertmanager, call: &Call) -> Reply {
    let filter = match filter(call) {
        Ok(filter) => filter,
        Err(reply) => return reply,
    };
    match am.groups(&filter) {
        Ok(views) => held(app, array(&views, group)),
        Err(late) => unavailable(too_long(late)),
    }
}

fn group(view: &GroupView, out: &mut String) {
    let alerts = array(&view.alerts, |view, out| out.push_str(&alert(view).to_string()));
    let route_labels: Map<String, Json> =
        view.route_labels.iter().map(|(n, v)| (n.clone(), Json::from(v.as_str()))).collect();
    out.push_str(&format!(
        "{{\"alerts\":{alerts},\"labels\":{},\"receiver\":{},\"routeLabels\":{}}}",
        labels(&view.labels),
        json!({"name": view.receiver}),
        Json::from(route_labels),
    ));
}

fn too_long(late: TooLong) -> ApiError {
    ApiError::new(Kind::Unavailable, late.to_string()).retry_after(SOON_S)
}

/// Good alerts are taken even where others are bad. Where memory is short those that are known are
/// taken, and no new ones.
pub(super) fn post(am: &Alertmanager, call: &Call) -> Reply {
    let (alerts, mut errors) = match json_body(call, "alerts").and_then(|body| read(&body)) {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    match am.put(&alerts) {
        Ok(()) => {}
        Err(PutError::NoMemory(full)) => return unavailable(full.into()),
        Err(PutError::TooLong(late)) => return unavailable(too_long(late)),
        Err(PutError::Refused(refused)) => errors.extend(refused),
    }
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
