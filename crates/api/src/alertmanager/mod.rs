//! The Alertmanager over HTTP: its API of version 2 below `/alertmanager`, and Mimir's
//! configuration of it at `/api/v1/alerts`.
//!
//! Errors of version 2 are JSON: a text where Alertmanager itself refuses, `{code, message}`
//! where the body does not fit the schema. The configuration answers plain text, which Grafana
//! and mimirtool read word by word.

mod alerts;
mod config;
mod history;
mod shapes;
mod silences;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use pilothouse_alertmanager::Alertmanager;
use pilothouse_model::Budget;
use pilothouse_model::budget::Ceilings;
use serde_json::{Value as Json, json};

use crate::App;
use crate::error::ApiError;
use crate::offload;
use crate::reply::Reply;
use crate::routes::{self, Base, Methods, Route, Scope};
use crate::service::Call;

pub(crate) use status::families;

/// What a route of this subject does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Status,
    Receivers,
    Alerts,
    PostAlerts,
    Groups,
    Silences,
    PostSilence,
    Silence,
    DeleteSilence,
    History,
    Config,
    SetConfig,
    DeleteConfig,
    Healthy,
    Reload,
    Metrics,
    Page,
    Gone,
}

impl Endpoint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Status => "alertmanager_status",
            Self::Receivers => "alertmanager_receivers",
            Self::Alerts => "alertmanager_alerts",
            Self::PostAlerts => "alertmanager_post_alerts",
            Self::Groups => "alertmanager_groups",
            Self::Silences => "alertmanager_silences",
            Self::PostSilence => "alertmanager_post_silence",
            Self::Silence => "alertmanager_silence",
            Self::DeleteSilence => "alertmanager_delete_silence",
            Self::History => "alertmanager_history",
            Self::Config => "alertmanager_config",
            Self::SetConfig => "alertmanager_set_config",
            Self::DeleteConfig => "alertmanager_delete_config",
            Self::Healthy => "alertmanager_healthy",
            Self::Reload => "alertmanager_reload",
            Self::Metrics => "alertmanager_metrics",
            Self::Page => "alertmanager_page",
            Self::Gone => "alertmanager_v1",
        }
    }

    fn pace(self) -> Pace {
        match self {
            Self::PostAlerts
            | Self::PostSilence
            | Self::DeleteSilence
            | Self::SetConfig
            | Self::DeleteConfig
            | Self::Reload => Pace::Change,
            Self::Healthy | Self::Gone => Pace::Short,
            _ => Pace::View,
        }
    }

    /// Whether it answers version 2's JSON.
    fn is_v2(self) -> bool {
        !matches!(
            self,
            Self::Config
                | Self::SetConfig
                | Self::DeleteConfig
                | Self::Healthy
                | Self::Reload
                | Self::Metrics
                | Self::Page
                | Self::Gone
        )
    }
}

/// Whose turn a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Change,
    /// Looks at all alerts, silences or events.
    View,
    Short,
}

const fn route(path: &'static str, methods: Methods, endpoint: Endpoint) -> Route {
    let base = Base::Root;
    Route {
        base,
        path,
        methods,
        scope: Scope::Alertmanager,
        endpoint: routes::Endpoint::Alertmanager(endpoint),
    }
}

use Methods as M;

pub(crate) const ROUTES: &[Route] = &[
    route("/alertmanager/api/v2/status", M::GET, Endpoint::Status),
    route("/alertmanager/api/v2/receivers", M::GET, Endpoint::Receivers),
    route("/alertmanager/api/v2/alerts", M::GET, Endpoint::Alerts),
    route("/alertmanager/api/v2/alerts", M::POST, Endpoint::PostAlerts),
    route("/alertmanager/api/v2/alerts/groups", M::GET, Endpoint::Groups),
    route("/alertmanager/api/v2/silences", M::GET, Endpoint::Silences),
    route("/alertmanager/api/v2/silences", M::POST, Endpoint::PostSilence),
    route("/alertmanager/api/v2/silence/{id}", M::GET, Endpoint::Silence),
    route("/alertmanager/api/v2/silence/{id}", M::DELETE, Endpoint::DeleteSilence),
    route("/alertmanager/api/v2/history", M::GET, Endpoint::History),
    route("/api/v1/alerts", M::GET, Endpoint::Config),
    route("/api/v1/alerts", M::POST, Endpoint::SetConfig),
    route("/api/v1/alerts", M::DELETE, Endpoint::DeleteConfig),
    route("/alertmanager/-/healthy", M::GET, Endpoint::Healthy),
    route("/alertmanager/-/ready", M::GET, Endpoint::Healthy),
    route("/alertmanager/-/reload", M::POST, Endpoint::Reload),
    route("/alertmanager/metrics", M::GET, Endpoint::Metrics),
    route("/alertmanager", M::GET, Endpoint::Page),
    route("/alertmanager/", M::GET, Endpoint::Page),
    // The first version is gone in Alertmanager, too.
    route("/alertmanager/api/v1/alerts", M::GET_POST, Endpoint::Gone),
    route("/alertmanager/api/v1/alerts/groups", M::GET, Endpoint::Gone),
    route("/alertmanager/api/v1/silences", M::GET_POST, Endpoint::Gone),
    route("/alertmanager/api/v1/receivers", M::GET, Endpoint::Gone),
    route("/alertmanager/api/v1/status", M::GET, Endpoint::Gone),
];

pub(crate) async fn dispatch(app: &Arc<App>, endpoint: Endpoint, call: Call) -> Result<Reply, ApiError> {
    let am = app.alertmanager()?.clone();
    let shared = Arc::clone(app);
    let work = move || answer(&shared, &am, endpoint, &call);
    // Some wait for the disk, and all for the engine; a server busy with queries still takes
    // alerts and silences, and one busy with alerts still takes samples.
    let reply = match endpoint.pace() {
        Pace::Change => offload::alerts(work).await?,
        Pace::View => offload::alert_views(work).await?,
        Pace::Short => offload::short(work).await?,
    };
    let is_get = matches!(endpoint, Endpoint::Page | Endpoint::Metrics | Endpoint::Healthy);
    Ok(if is_get { reply } else { reply.header(header::CACHE_CONTROL, HeaderValue::from_static("no-store")) })
}

fn answer(app: &App, am: &Alertmanager, endpoint: Endpoint, call: &Call) -> Reply {
    pilothouse_alertmanager::matchers::begin_text();
    match endpoint {
        Endpoint::Status => status::status(app, am),
        Endpoint::Receivers => status::receivers(am, call),
        Endpoint::Alerts => alerts::list(app, am, call),
        Endpoint::PostAlerts => alerts::post(am, call),
        Endpoint::Groups => alerts::groups(app, am, call),
        Endpoint::Silences => silences::list(app, am, call),
        Endpoint::PostSilence => silences::post(am, call),
        Endpoint::Silence => silences::get(am, call),
        Endpoint::DeleteSilence => silences::delete(am, call),
        Endpoint::History => history::list(am, call),
        Endpoint::Config => config::get(am),
        Endpoint::SetConfig => config::set(am, call),
        Endpoint::DeleteConfig => config::delete(am),
        Endpoint::Healthy => Reply::text(StatusCode::OK, "OK"),
        Endpoint::Reload => status::reload(am),
        Endpoint::Metrics => status::metrics(am, call),
        Endpoint::Page => status::page(am),
        Endpoint::Gone => Reply::text(
            StatusCode::GONE,
            "The Alertmanager v1 API was removed, please use the equivalent route in the v2 API.\n",
        ),
    }
}

/// What failed before a handler was asked.
pub(crate) fn refuse(endpoint: Endpoint, error: ApiError) -> Reply {
    if endpoint.is_v2() { unavailable(error) } else { error.into_text() }
}

/// A refusal of Alertmanager itself: a JSON text.
fn refused(status: StatusCode, text: &str) -> Reply {
    Reply::new(status, "application/json", format!("{}\n", Json::from(text)))
}

/// What the server is not able to do now, with the time after which to ask again.
fn unavailable(error: ApiError) -> Reply {
    let reply = refused(error.kind.status(), &error.text);
    error.with_retry(reply)
}

fn bad_request(text: impl std::fmt::Display) -> Reply {
    refused(StatusCode::BAD_REQUEST, &text.to_string())
}

/// A body or parameter that does not fit the schema, as go-openapi says it.
fn invalid(status: StatusCode, code: u16, message: &str) -> Reply {
    Reply::new(status, "application/json", json!({"code": code, "message": message}).to_string())
}

/// A list, item by item: as values all of them together would take many times the memory.
fn array<T>(items: &[T], write: impl Fn(&T, &mut String)) -> String {
    let mut out = String::from("[");
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(item, &mut out);
    }
    out.push(']');
    out
}

/// An answer that may be large; it stands in the memory account until it is sent.
fn held(app: &App, mut body: String) -> Reply {
    body.push('\n');
    let budget = Budget::drawing_on(app.memory(), Ceilings::NONE);
    Reply::json(body).holding(&budget, 0).unwrap_or_else(|e| unavailable(e.into()))
}

fn ok(body: &Json) -> Reply {
    Reply::json(format!("{body}\n"))
}
