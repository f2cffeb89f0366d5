//! The server about itself: whether it is ready, and its own metrics.

pub(crate) mod backup;
pub(crate) mod exposition;
mod process;
pub(crate) mod reload;

use std::sync::Arc;

use http::StatusCode;

use crate::App;
use crate::error::{ApiError, Kind};
use crate::reply::Reply;
use crate::routes::{self, Base, Methods, Route, Scope};
use crate::service::Call;

/// What a route of this subject does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Ready,
    Healthy,
    Metrics,
    Reload,
    Backup,
    BackupProgress,
}

impl Endpoint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Healthy => "healthy",
            Self::Metrics => "metrics",
            Self::Reload => "reload",
            Self::Backup => "backup",
            Self::BackupProgress => "backup_progress",
        }
    }
}

const fn route(path: &'static str, scope: Scope, endpoint: Endpoint) -> Route {
    Route { base: Base::Root, path, methods: Methods::GET, scope, endpoint: routes::Endpoint::Own(endpoint) }
}

pub(crate) const ROUTES: &[Route] = &[
    route("/ready", Scope::Open, Endpoint::Ready),
    route("/-/ready", Scope::ReadMetrics, Endpoint::Ready),
    route("/-/healthy", Scope::ReadMetrics, Endpoint::Healthy),
    route("/prometheus/-/ready", Scope::ReadMetrics, Endpoint::Ready),
    route("/prometheus/-/healthy", Scope::ReadMetrics, Endpoint::Healthy),
    route("/metrics", Scope::ReadMetrics, Endpoint::Metrics),
    // Where scrapers set up for Scalr look.
    route("/api/iacp/v3/metrics", Scope::ReadMetrics, Endpoint::Metrics),
    Route { methods: Methods::POST_PUT, ..route("/-/reload", Scope::Root, Endpoint::Reload) },
    Route { methods: Methods::POST_PUT, ..route("/-/backup", Scope::Root, Endpoint::Backup) },
    route("/-/backup", Scope::Root, Endpoint::BackupProgress),
];

pub(crate) async fn dispatch(app: &Arc<App>, endpoint: Endpoint, call: Call) -> Result<Reply, ApiError> {
    match endpoint {
        Endpoint::Ready => ready(app),
        Endpoint::Healthy => Ok(Reply::text(StatusCode::OK, "Pilothouse is healthy.\n")),
        Endpoint::Metrics => exposition::own_metrics(app, &call).await,
        Endpoint::Reload => reload::reload(app).await,
        Endpoint::Backup => backup::back_up(app, &call).await,
        Endpoint::BackupProgress => backup::progress(app),
    }
}

fn ready(app: &App) -> Result<Reply, ApiError> {
    app.serving.get().ok_or_else(starting)?;
    Ok(Reply::text(StatusCode::OK, "ready\n"))
}

/// What a request gets before the data is there.
pub(crate) fn starting() -> ApiError {
    ApiError::new(Kind::Unavailable, "the server is starting, its data is not ready yet").retry_after(1)
}
