//! The configuration: what of it is shown, and reading it again.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use parking_lot::RwLock;

use super::starting;
use crate::App;
use crate::error::{ApiError, Kind};
use crate::reply::Reply;
use crate::telemetry::Family;

/// Reads the configuration again.
pub trait Reload: Send + Sync + fmt::Debug {
    /// All of it takes effect, or nothing does and the error tells all that is wrong. Returns the
    /// keys whose change waits for a restart. Blocks.
    fn reload(&self) -> Result<Vec<String>, String>;
}

/// What of the configuration in force is shown to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// As a file would say it, secrets left out.
    pub yaml: String,
    /// 0 keeps for ever.
    pub retention_ms: i64,
}

/// The configuration in force, and how the last attempt to read it ended.
#[derive(Debug)]
pub struct Configuration(RwLock<Loaded>);

#[derive(Debug)]
struct Loaded {
    shown: Shown,
    since_ms: i64,
    is_good: bool,
}

impl Configuration {
    /// `now_ms` is when it was read.
    pub fn new(shown: Shown, now_ms: i64) -> Self {
        Self(RwLock::new(Loaded { shown, since_ms: now_ms, is_good: true }))
    }

    pub fn replace(&self, shown: Shown, now_ms: i64) {
        *self.0.write() = Loaded { shown, since_ms: now_ms, is_good: true };
    }

    /// It could not be read again; what was in force stays.
    pub fn failed(&self) {
        self.0.write().is_good = false;
    }

    pub(crate) fn yaml(&self) -> String {
        self.0.read().shown.yaml.clone()
    }

    pub(crate) fn retention_ms(&self) -> i64 {
        self.0.read().shown.retention_ms
    }

    pub(crate) fn since_ms(&self) -> i64 {
        self.0.read().since_ms
    }

    pub(crate) fn is_good(&self) -> bool {
        self.0.read().is_good
    }
}

/// Prometheus' families of the same meaning have `prometheus_` before these names.
pub(super) fn families(configuration: &Configuration) -> [Family; 2] {
    let (good, since_s) = (configuration.is_good(), configuration.since_ms() as f64 / 1_000.0);
    [
        Family::gauge(
            "pilothouse_config_last_reload_successful",
            "Whether the last attempt to read the configuration was good.",
        )
        .value(f64::from(u8::from(good))),
        Family::gauge(
            "pilothouse_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read.",
        )
        .value(since_s),
    ]
}

pub(super) async fn reload(app: &App) -> Result<Reply, ApiError> {
    let reload = Arc::clone(app.reload.get().ok_or_else(starting)?);
    let done = tokio::task::spawn_blocking(move || reload.reload()).await;
    match done.map_err(|e| ApiError::new(Kind::Internal, e.to_string()))? {
        Ok(waiting) if waiting.is_empty() => Ok(Reply::empty(StatusCode::OK)),
        Ok(waiting) => Ok(Reply::text(StatusCode::OK, needs_restart(&waiting) + "\n")),
        Err(why) => Err(ApiError::new(Kind::Internal, format!("failed to reload config: {why}"))),
    }
}

/// What to tell of keys that wait.
pub fn needs_restart(waiting: &[String]) -> String {
    format!("reloaded; a restart is needed for: {}", waiting.join(", "))
}
