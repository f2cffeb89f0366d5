//! HTTP: routes, who may use them, admission, parameters, answers, error texts.
//!
//! The only crate that knows HTTP, JSON and status codes. It holds no data: a [`Backend`] is
//! given to it once the data is there, and until then every path but the own metrics answers
//! 503. Nothing here blocks an async worker: what takes the processor or the disk runs on a
//! pool, and large answers are written in pieces while they are sent.
//!
//! Reading order: `routes` (what a row of the tables says), `service` (a request's way), then a
//! folder per subject, each with its own table of routes: `metrics`, `own`.

mod admission;
mod answer;
mod auth;
mod backend;
mod error;
mod json;
mod metrics;
mod offload;
mod own;
mod params;
mod reply;
pub mod routes;
mod server;
mod service;
mod telemetry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pilothouse_model::budget::Ceilings;
use pilothouse_model::limits::Limits;
use pilothouse_model::{Budget, Clock};

pub use auth::Auth;
pub use backend::{Backend, HeadFigures, StoreAdmin};
pub use pilothouse_wire::exposition::TextFormat;
pub use server::{bind, serve};
pub use telemetry::{Family, FamilyValue};

/// What the server is told once, at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    pub limits: Limits,
    pub auth: Auth,
    /// 0 keeps for ever.
    pub retention_ms: i64,
    /// The configuration in force, secrets left out; shown by `status/config`.
    pub config_yaml: String,
    pub build: Build,
}

#[derive(Debug, Clone, Copy)]
pub struct Build {
    pub version: &'static str,
    pub revision: &'static str,
    pub date: &'static str,
}

/// The server behind the listener.
pub struct App {
    settings: Settings,
    clock: Arc<dyn Clock>,
    started_ms: i64,
    admission: admission::Admission,
    telemetry: telemetry::Telemetry,
    backend: OnceLock<Backend>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl App {
    /// A server without data. Starts the threads that queries run on.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Arc<Self> {
        offload::start();
        Arc::new(Self {
            started_ms: clock.now_ms(),
            admission: admission::Admission::new(&settings.limits),
            telemetry: telemetry::Telemetry::default(),
            backend: OnceLock::new(),
            settings,
            clock,
        })
    }

    /// Hands over the data; from now on the server is ready. A second call changes nothing.
    pub fn start_data(&self, backend: Backend) {
        let _ = self.backend.set(backend);
    }

    fn backend(&self) -> Result<&Backend, error::ApiError> {
        self.backend.get().ok_or_else(own::starting)
    }

    /// The server's own metrics as text; each sample carries the `also` labels too. Blocks.
    pub fn own_metrics(&self, format: TextFormat, also: &[(&str, &str)]) -> String {
        telemetry::render(&own::exposition::families(self), format, also)
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The budget of one query; `timeout` may only shorten the limit's.
    fn budget(&self, timeout: Option<Duration>) -> Budget {
        let limits = &self.settings.limits;
        let longest = Duration::from_millis(limits.query_timeout_ms);
        Budget::new(Ceilings {
            timeout: timeout.map_or(longest, |t| t.min(longest)),
            samples: limits.max_query_samples,
            series: limits.max_query_series,
            memory_bytes: limits.max_query_memory_bytes,
        })
    }
}
