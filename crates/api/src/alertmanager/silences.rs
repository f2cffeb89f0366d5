//! Silences.

use std::collections::BTreeMap;

use http::StatusCode;
use pilothouse_alertmanager::Alertmanager;
use pilothouse_alertmanager::service::ChangeError;
use pilothouse_alertmanager::silence::{MatcherText, Silence, SilenceError, SilenceState, Wanted};
use pilothouse_model::Matcher;
use serde_json::{Value as Json, json};

use super::shapes::{Body, filters, flag, json_body, time, unreadable};
use super::{array, bad_request, held, invalid, ok, refused};
use crate::App;
use crate::reply::Reply;
use crate::service::Call;

fn shown(silence: &Silence, now_ms: i64) -> Json {
    let matcher = |m: &MatcherText| json!({"isEqual": m.is_equal, "isRegex": m.is_regex, "name": m.name, "value": m.value});
    let mut shown = json!({
        "id": silence.id,
        "status": {"state": silence.state(now_ms).name()},
        "updatedAt": time(silence.updated_at_ms),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": time(silence.ends_at_ms),
        "matchers": silence.matchers.iter().map(matcher).collect::<Json>(),
        "startsAt": time(silence.starts_at_ms),
    });
    if !silence.annotations.is_empty() {
        shown["annotations"] = json!(silence.annotations);
    }
    shown
}

/// Whether a silence has each wanted matcher among its own.
fn has_matchers(silence: &Silence, wanted: &[Matcher]) -> bool {
    wanted
        .iter()
        .all(|w| silence.matchers.iter().any(|m| m.name == w.name && m.op() == w.op && m.value == w.value))
}

pub(super) fn list(app: &App, am: &Alertmanager, call: &Call) -> Reply {
    let wanted = match filters(call, "filter") {
        Ok(wanted) => wanted,
        Err(reply) => return reply,
    };
    let states: Vec<SilenceState> = [
        ("active", SilenceState::Active),
        ("pending", SilenceState::Pending),
        ("expired", SilenceState::Expired),
    ]
    .into_iter()
    .filter(|(name, _)| flag(call, name))
    .map(|(_, state)| state)
    .collect();
    let now_ms = am.now_ms();
    let is_wanted = |s: &&Silence| states.contains(&s.state(now_ms)) && has_matchers(s, &wanted);
    // Others want the engine while they are printed.
    let mut found: Vec<Silence> = am.engine().silences().iter().filter(is_wanted).cloned().collect();
    found.sort_by_key(|s| {
        let state = s.state(now_ms);
        let within = match state {
            SilenceState::Active => s.ends_at_ms,
            SilenceState::Pending => s.starts_at_ms,
            SilenceState::Expired => -s.ends_at_ms,
        };
        (state, within)
    });
    held(app, array(&found, |silence, out| out.push_str(&shown(silence, now_ms).to_string())))
}

/// Clients are told early that an id cannot be one.
fn check_id(id: &str) -> Result<(), Reply> {
    let parts: Vec<&str> = id.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
    let is_uuid =
        lengths == [8, 4, 4, 4, 12] && parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_uuid {
        return Ok(());
    }
    let message = format!("silenceID in path must be of type uuid: {id:?}");
    Err(invalid(StatusCode::UNPROCESSABLE_ENTITY, 601, &message))
}

pub(super) fn get(am: &Alertmanager, call: &Call) -> Reply {
    let id = call.segment("id");
    if let Err(reply) = check_id(id) {
        return reply;
    }
    let now_ms = am.now_ms();
    match am.engine().silences().get(id) {
        Some(silence) => ok(&shown(silence, now_ms)),
        None => Reply::empty(StatusCode::NOT_FOUND),
    }
}

pub(super) fn delete(am: &Alertmanager, call: &Call) -> Reply {
    let id = call.segment("id");
    if let Err(reply) = check_id(id) {
        return reply;
    }
    match am.expire_silence(id) {
        Ok(()) => Reply::empty(StatusCode::OK),
        Err(ChangeError::Refused(SilenceError::NotFound)) => Reply::empty(StatusCode::NOT_FOUND),
        // It could not be stored: a full disk, for instance.
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

pub(super) fn post(am: &Alertmanager, call: &Call) -> Reply {
    let wanted = match json_body(call, "silence").and_then(|body| read(&body)) {
        Ok(wanted) => wanted,
        Err(reply) => return reply,
    };
    if wanted.starts_at_ms >= wanted.ends_at_ms {
        return bad_request("Failed to create silence: start time must be before end time");
    }
    if wanted.ends_at_ms < am.now_ms() {
        return bad_request("Failed to create silence: end time can't be in the past");
    }
    match am.set_silence(wanted) {
        Ok(id) => ok(&json!({"silenceID": id})),
        Err(ChangeError::Refused(error @ SilenceError::NotFound)) => {
            refused(StatusCode::NOT_FOUND, &error.to_string())
        }
        Err(ChangeError::Refused(error)) => bad_request(error),
        // It could not be stored: a full disk, for instance.
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn read(body: &Json) -> Result<Wanted, Reply> {
    let body = Body::new("silence", body, "")?;
    for name in ["comment", "createdBy", "endsAt"] {
        body.required(name)?;
    }
    let Json::Array(items) = body.required("matchers")? else {
        let why = "json: cannot unmarshal matchers into Go value of type models.Matchers";
        return Err(unreadable("silence", why));
    };
    if items.is_empty() {
        let message = "matchers in body should have at least 1 items";
        return Err(invalid(StatusCode::UNPROCESSABLE_ENTITY, 612, message));
    }
    let matchers = items.iter().enumerate().map(|(i, item)| matcher(item, i)).collect::<Result<_, _>>()?;
    body.required("startsAt")?;
    Ok(Wanted {
        id: body.text("id")?,
        matchers,
        starts_at_ms: body.time("startsAt")?,
        ends_at_ms: body.time("endsAt")?,
        created_by: body.text("createdBy")?,
        comment: body.text("comment")?,
        annotations: body.pairs("annotations")?.into_iter().collect::<BTreeMap<_, _>>(),
    })
}

fn matcher(item: &Json, i: usize) -> Result<MatcherText, Reply> {
    let body = Body::new("silence", item, format!("matchers.{i}."))?;
    body.required("isRegex")?;
    Ok(MatcherText {
        name: body.required_text("name")?,
        value: body.required_text("value")?,
        is_regex: body.flag("isRegex")?.unwrap_or(false),
        is_equal: body.flag("isEqual")?.unwrap_or(true),
    })
}
