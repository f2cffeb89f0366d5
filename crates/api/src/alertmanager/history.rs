//! What happened of late: transitions of alerts, notifications, silences. No peer has this.

use pilothouse_alertmanager::Alertmanager;
use pilothouse_alertmanager::history::Event;
use serde_json::{Value as Json, json};

use super::shapes::{filters, labels, time};
use super::{bad_request, ok};
use crate::reply::Reply;
use crate::service::Call;

/// Events in one answer where no limit is given.
const USUAL: usize = 1_000;

fn shown(event: &Event) -> Json {
    let mut shown = json!({
        "number": event.number,
        "time": time(event.t_ms),
        "kind": event.kind.name(),
        "labels": labels(&event.labels),
    });
    for (name, text) in event.texts() {
        shown[name] = text.into();
    }
    if event.attempts > 0 {
        shown["alerts"] = event.alerts.into();
        shown["attempts"] = event.attempts.into();
    }
    shown
}

/// Newest first: `filter` on labels, `kind`, `receiver`, `since` a number, `limit`.
pub(super) fn list(am: &Alertmanager, call: &Call) -> Reply {
    let matchers = match filters(call, "filter") {
        Ok(matchers) => matchers,
        Err(reply) => return reply,
    };
    let number = |name: &str, usual: u64| match call.params.text(name) {
        "" => Ok(usual),
        text => text.parse().map_err(|_| bad_request(format!("{name} must be a whole number"))),
    };
    let (since, limit) = match (number("since", 0), number("limit", USUAL as u64)) {
        (Ok(since), Ok(limit)) => (since, limit),
        (Err(reply), _) | (_, Err(reply)) => return reply,
    };
    let (kind, receiver) = (call.params.text("kind"), call.params.text("receiver"));
    let limit = usize::try_from(limit).unwrap_or(USUAL);
    let is_wanted = |e: &&Event| {
        (kind.is_empty() || e.kind.name() == kind) && (receiver.is_empty() || e.receiver == receiver)
    };
    let found: Vec<Event> = {
        let engine = am.engine();
        engine.history().newest(&matchers, since).filter(is_wanted).take(limit).cloned().collect()
    };
    ok(&found.iter().map(shown).collect())
}
