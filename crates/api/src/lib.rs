//! HTTP: routes, who may use them, admission, parameters, answers, error texts.
//!
//! The only crate that knows HTTP, JSON and status codes. It holds no data: a [`Backend`] is
//! given to it once the data is there, and until then every path but the own metrics answers
//! 503. Nothing here blocks an async worker: what takes the processor or the disk runs on a
//! pool, and large answers are written in pieces while they are sent.
//!
//! Reading order: `routes` (what a row of the tables says), `service` (a request's way), `auth` and
//! `roots` (who asks, and for whose data), then a folder per subject, each with its own
//! table of routes: `metrics`, `logs`, `rules`, `alertmanager`, `cockpit`, `own`.

mod admission;
mod alertmanager;
mod answer;
mod auth;
mod backend;
mod census;
mod client;
mod cockpit;
mod conversation;
mod error;
mod forward;
mod json;
mod logs;
mod metrics;
mod offload;
mod origin;
mod own;
mod params;
mod places;
mod queue;
mod reply;
mod request_line;
mod roots;
pub mod routes;
mod rules;
mod server;
mod service;
mod stall;
mod synthetic;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pilothouse_alertmanager::Alertmanager;
use pilothouse_control::{Control, DataSource};
use pilothouse_disk::space::Guard;
use pilothouse_model::budget::Ceilings;
use pilothouse_model::limits::{Limits, LiveLimits};
use pilothouse_model::{AlertSink, Budget, Clock, EntrySink, Memory};
use pilothouse_scrape::Scraper;

pub use auth::Auth;
pub use backend::{
    Backend, DeletionError, HeadFigures, KnownDeletion, LogDeletion, LogsAdmin, LogsBackend, StoreAdmin,
};
pub use cockpit::{AlertRule, MANAGED_RULES, ManagedRule, RuleBook, audit_line};
pub use offload::on_all_threads;
pub use origin::Origins;
pub use own::backup::Backups;
pub use own::reload::{Configuration, Reload, Shown, needs_restart};
pub use pilothouse_wire::exposition::TextFormat;
pub use pilothouse_wire::logs::Enrichment;
pub use roots::{SourceBackend, SourceFigures, Sources};
pub use rules::RuleConnector;
pub use server::{Listening, bind, serve};
pub use synthetic::{Remotes, StatusPages, Synthetic};
pub use telemetry::{Family, FamilyValue};
pub use tls::{Tls, TlsError, TlsFiles};

/// What the server is told once, at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    pub limits: LiveLimits,
    pub auth: Auth,
    /// Who may what, and which data sources there are.
    pub control: Arc<Control>,
    /// Whether there is room on the disk for more.
    pub disk: Arc<Guard>,
    /// What the process holds, and may hold.
    pub memory: Arc<Memory>,
    /// Where clients reach this server, without a trailing slash; unsaid, where the request came to.
    pub external_url: Option<String>,
    /// Whose pages may do what this server's own may, where no token is asked for.
    pub origins: Origins,
    /// What is added to log entries on their way in.
    pub enrichment: Enrichment,
    /// What of the configuration is shown, and changes at a reload.
    pub configuration: Arc<Configuration>,
    pub build: Build,
}

#[derive(Debug, Clone, Copy)]
pub struct Build {
    pub version: &'static str,
    pub revision: &'static str,
    pub date: &'static str,
}

impl Build {
    /// What `buildinfo` says of it besides the version, which is that of the system the path is known from.
    fn members(&self) -> [(&'static str, &'static str); 6] {
        [
            ("revision", self.revision),
            ("branch", "main"),
            ("buildUser", "pilothouse"),
            ("buildDate", self.date),
            ("goVersion", ""),
            ("pilothouseVersion", self.version),
        ]
    }
}

/// The server behind the listener, as one of its roots shows it: the shared root, or the one of
/// a data source, which has its own data and shares all else.
pub struct App {
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    started_ms: i64,
    admission: Arc<admission::Admission>,
    telemetry: Arc<telemetry::Telemetry>,
    /// Attempts without a valid token.
    failures: auth::Failures,
    logs: logs::State,
    backend: OnceLock<Backend>,
    logs_backend: OnceLock<LogsBackend>,
    /// Whose root this is; `None` for the shared one, and only that has what is below.
    source: Option<DataSource>,
    sources: OnceLock<Arc<dyn Sources>>,
    roots: roots::Roots,
    alertmanager: OnceLock<Alertmanager>,
    alerts: OnceLock<Arc<dyn AlertSink>>,
    rules: OnceLock<Arc<dyn RuleBook>>,
    /// The same below every root.
    rulers: rules::Rulers,
    synthetic: OnceLock<Synthetic>,
    reload: OnceLock<Arc<dyn Reload>>,
    backups: OnceLock<Arc<dyn Backups>>,
    scraper: OnceLock<Scraper>,
    serving: OnceLock<()>,
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
            admission: Arc::new(admission::Admission::new(settings.limits.clone())),
            telemetry: Arc::default(),
            failures: auth::Failures::default(),
            logs: logs::State::new(
                settings.limits.clone(),
                Arc::clone(&settings.memory),
                &settings.enrichment,
            ),
            backend: OnceLock::new(),
            logs_backend: OnceLock::new(),
            source: None,
            sources: OnceLock::new(),
            roots: roots::Roots::default(),
            alertmanager: OnceLock::new(),
            alerts: OnceLock::new(),
            rules: OnceLock::new(),
            rulers: rules::Rulers::default(),
            synthetic: OnceLock::new(),
            reload: OnceLock::new(),
            backups: OnceLock::new(),
            scraper: OnceLock::new(),
            serving: OnceLock::new(),
            settings: Arc::new(settings),
            clock,
        })
    }

    /// The same server below the root of a data source.
    fn below(&self, source: DataSource, backend: SourceBackend) -> Self {
        let root = Self {
            settings: Arc::clone(&self.settings),
            clock: Arc::clone(&self.clock),
            started_ms: self.started_ms,
            admission: Arc::clone(&self.admission),
            telemetry: Arc::clone(&self.telemetry),
            failures: auth::Failures::default(),
            logs: self.logs.below(),
            backend: OnceLock::new(),
            logs_backend: OnceLock::new(),
            source: Some(source),
            sources: OnceLock::new(),
            roots: roots::Roots::default(),
            alertmanager: OnceLock::new(),
            alerts: OnceLock::new(),
            rules: OnceLock::new(),
            rulers: self.rulers.clone(),
            synthetic: OnceLock::new(),
            reload: OnceLock::new(),
            backups: OnceLock::new(),
            scraper: OnceLock::new(),
            serving: OnceLock::new(),
        };
        match backend {
            SourceBackend::Metrics(backend) => root.start_data(backend),
            SourceBackend::Logs(backend) => root.start_logs(backend),
        }
        root
    }

    /// Hands over the data; from now on the server is ready. A second call changes nothing.
    pub fn start_data(&self, backend: Backend) {
        let _ = self.backend.set(backend);
    }

    fn backend(&self) -> Result<&Backend, error::ApiError> {
        self.backend.get().ok_or_else(own::starting)
    }

    /// Hands over the Alertmanager that the paths below `/alertmanager` are about. A second call
    /// changes nothing.
    pub fn start_alertmanager(&self, alertmanager: Alertmanager) {
        let _ = self.alerts.set(Arc::new(alertmanager.clone()));
        let _ = self.alertmanager.set(alertmanager);
    }

    fn alertmanager(&self) -> Result<&Alertmanager, error::ApiError> {
        self.alertmanager.get().ok_or_else(own::starting)
    }

    /// Hands over who takes alerts, and who knows the rules. A second call changes nothing.
    pub fn start_alerting(&self, alerts: Arc<dyn AlertSink>, rules: Arc<dyn RuleBook>) {
        let _ = self.alerts.set(alerts);
        let _ = self.rules.set(rules);
    }

    /// Everything is handed over: from now on the server says that it is ready.
    pub fn start_serving(&self) {
        let _ = self.serving.set(());
    }

    /// Hands over what runs checks. A second call changes nothing.
    pub fn start_synthetic(&self, synthetic: Synthetic) {
        let _ = self.synthetic.set(synthetic);
    }

    /// Hands over what reads the configuration again. A second call changes nothing.
    pub fn start_reload(&self, reload: Arc<dyn Reload>) {
        let _ = self.reload.set(reload);
    }

    /// Hands over what scrapes. A second call changes nothing.
    pub fn start_scraping(&self, scraper: Scraper) {
        let _ = self.scraper.set(scraper);
    }

    fn scraper(&self) -> Option<&Scraper> {
        self.scraper.get()
    }

    /// Hands over what makes backups. A second call changes nothing.
    pub fn start_backups(&self, backups: Arc<dyn Backups>) {
        let _ = self.backups.set(backups);
    }

    fn synthetic(&self) -> Option<&Synthetic> {
        self.synthetic.get()
    }

    /// Where clients reach this server: as configured, else as this request did.
    fn address(&self, headers: &http::HeaderMap) -> String {
        let host = headers.get(http::header::HOST).and_then(|v| v.to_str().ok()).unwrap_or("127.0.0.1");
        self.settings.external_url.clone().unwrap_or_else(|| format!("http://{host}"))
    }

    fn rule_book(&self) -> &dyn RuleBook {
        self.rules.get().map_or(&cockpit::NoRules, |rules| &**rules)
    }

    /// Hands over the logs. A second call changes nothing.
    pub fn start_logs(&self, backend: LogsBackend) {
        let _ = self.logs_backend.set(backend);
    }

    fn logs_backend(&self) -> Result<&LogsBackend, error::ApiError> {
        self.logs_backend.get().ok_or_else(own::starting)
    }

    /// Where entries go in, so that who follows logs sees them. `None` until the data is there.
    pub(crate) fn log_sink(&self) -> Option<Arc<dyn EntrySink>> {
        let logs = self.logs_backend.get()?;
        let (tails, sink) = (Arc::clone(&self.logs.tails), Arc::clone(&logs.sink));
        Some(Arc::new(logs::Tee { tails, sink }))
    }

    /// The server's own metrics as text. Blocks.
    pub fn own_metrics(&self, format: TextFormat) -> String {
        telemetry::render(&own::exposition::families(self), format)
    }

    fn limits(&self) -> Arc<Limits> {
        self.settings.limits.now()
    }

    /// What the process holds, and may hold.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.settings.memory
    }

    /// Makes an answer of no query that is about so long; refused where there is no room for it.
    fn listing(
        &self,
        about_bytes: usize,
        make: impl FnOnce() -> reply::Reply,
    ) -> Result<reply::Reply, error::ApiError> {
        let budget = self.budget(None);
        budget.reserve_bytes(about_bytes as u64)?;
        Ok(make().holding(&budget, 0)?)
    }

    /// How long a client may read nothing of an answer.
    fn patience(&self) -> Duration {
        Duration::from_millis(self.limits().send_timeout_ms)
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn now_ns(&self) -> i64 {
        self.clock.now_ns()
    }

    /// How long a query may wait, and how long it may then run.
    fn query_timeout(&self, asked: Option<Duration>) -> Duration {
        let longest = Duration::from_millis(self.limits().query_timeout_ms);
        asked.map_or(longest, |asked| asked.min(longest))
    }

    /// The budget of one query; `timeout` may only shorten the limit's.
    fn budget(&self, timeout: Option<Duration>) -> Budget {
        let limits = self.limits();
        let ceilings = Ceilings {
            timeout: self.query_timeout(timeout),
            samples: limits.max_query_samples,
            series: limits.max_query_series,
            memory_bytes: limits.max_query_memory_bytes,
        };
        Budget::drawing_on(&self.settings.memory, ceilings)
    }
}
