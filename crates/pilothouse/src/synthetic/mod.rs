//! Synthetic checks wired to what is around them: results into data sources, rules into the
//! ruler, secrets for private probes out of the control plane, and what the configuration says of
//! checks and status pages.

mod alerts;
mod remotes;
mod results;

use std::sync::Arc;

use pilothouse_api::{StatusPages, Synthetic};
use pilothouse_model::limits::Limits;
use pilothouse_model::ports::SystemClock;
use pilothouse_probes::probe::{LocalProber, TargetRules, UnknownRange};
use pilothouse_probes::registry::{DeclaredCheck, Registry, RegistrySettings};
use pilothouse_probes::run::{Publisher, Schedule};
use pilothouse_probes::status::StatusPage;
use pilothouse_probes::validate::LabelRules;
use pilothouse_probes::words::Probe;
use pilothouse_rules::Ruler;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::{Config, Settings};
use crate::reload::{Apply, Part};
use crate::serve::ServeError;
use crate::workers::Ground;

use alerts::Alerts;
use remotes::Tokens;
use results::Sink;

/// The built-in probe, what its checks may reach, and what is declared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SyntheticConfig {
    pub(crate) probe_name: String,
    pub(crate) probe_region: String,
    pub(crate) probe_latitude: f32,
    pub(crate) probe_longitude: f32,
    /// Addresses that no check may reach: ranges, or `loopback`, `private`, `link-local`,
    /// `metadata`.
    pub(crate) forbidden_targets: Vec<String>,
    pub(crate) checks: Vec<DeclaredCheck>,
    pub(crate) pages: Vec<StatusPage>,
}

impl SyntheticConfig {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            probe_name: settings.synthetic_probe_name.clone(),
            probe_region: settings.synthetic_probe_region.clone(),
            probe_latitude: settings.synthetic_probe_latitude,
            probe_longitude: settings.synthetic_probe_longitude,
            forbidden_targets: settings.synthetic_forbidden_targets.clone(),
            checks: settings.synthetic_checks.0.clone(),
            pages: settings.synthetic_status_pages.0.clone(),
        }
    }

    /// Whether each of the checks holds by itself; the text names the one that does not.
    pub(crate) fn checks_hold(&self, limits: &Limits) -> Result<(), String> {
        let rules = LabelRules::from(limits);
        self.checks.iter().try_for_each(|check| check.holds(rules)).map_err(|e| e.to_string())
    }

    pub(crate) fn rules(&self) -> Result<TargetRules, UnknownRange> {
        TargetRules::forbidding(self.forbidden_targets.iter().map(String::as_str))
    }
}

/// What runs, and how to end it.
#[derive(Debug)]
pub(crate) struct Running {
    declared: Declared,
    publisher: Publisher,
    stop: watch::Sender<bool>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Running {
    /// What follows the configuration.
    pub(crate) fn declared(&self) -> Declared {
        self.declared.clone()
    }

    /// Ends all runs, and stores what they have given; series go on after the next start.
    pub(crate) async fn drain(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        let publisher = self.publisher;
        let _ = tokio::task::spawn_blocking(move || publisher.drain()).await;
    }
}

/// Checks and status pages of the configuration. Cloning gives another way to the same.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    registry: Arc<Registry>,
    pages: Arc<StatusPages>,
}

impl Declared {
    /// Makes checks and pages those of the configuration. Blocks.
    fn reconcile(&self, config: &SyntheticConfig) -> Result<(), String> {
        let done = self.registry.declare(config.checks.clone());
        let done = done.map_err(|e| format!("synthetic.checks: {e}"))?;
        tracing::debug!(?done, "checks of the configuration");
        self.pages.replace(config.pages.clone());
        Ok(())
    }

    fn prepare_pages(config: &SyntheticConfig, limits: &Limits) -> Result<(), String> {
        let (count, limit) = (config.pages.len() as u64, limits.max_status_pages);
        if count <= limit {
            Ok(())
        } else {
            Err(format!("synthetic.status_pages: {count} pages, limit {limit}"))
        }
    }
}

impl Part for Declared {
    fn prepare(&self, next: &Config) -> Result<Apply, String> {
        let (this, config) = (self.clone(), next.synthetic.clone());
        Self::prepare_pages(&config, &next.limits)?;
        let checked = this.registry.may_declare(&config.checks, &next.limits);
        checked.map_err(|e| format!("synthetic.checks: {e}"))?;
        Ok(Box::new(move || {
            if let Err(e) = this.reconcile(&config) {
                tracing::error!("checks of the configuration are as before: {e}");
            }
        }))
    }
}

/// Reads what is stored and starts to run checks.
pub(crate) async fn start(ground: &Ground, ruler: &Arc<Ruler>) -> Result<Running, ServeError> {
    let Ground { config, limits, app, control, stores, .. } = ground;
    let (registry, pages) = (open(ground).await?, Arc::<StatusPages>::default());
    let declared = Declared { registry: Arc::clone(&registry), pages: Arc::clone(&pages) };
    Declared::prepare_pages(&config.synthetic, &config.limits).map_err(not_started)?;
    reconcile(&declared, &config.synthetic).await?;
    let sink = Sink::new(config, app, control, stores, &registry);
    let max_waiting = usize::try_from(config.limits.max_probe_results).unwrap_or(usize::MAX);
    let publisher = Publisher::start(Arc::new(sink), max_waiting, app.memory()).map_err(ServeError::Start)?;
    let rules = config.synthetic.rules().map_err(|e| ServeError::Start(std::io::Error::other(e)))?;
    let prober = Arc::new(LocalProber::new(rules, limits.clone(), Arc::clone(app.memory())));
    let at_once = usize::try_from(config.limits.max_probe_runs).unwrap_or(usize::MAX);
    let schedule =
        Schedule::new(Arc::clone(&registry), prober, publisher.clone(), at_once, Handle::current());
    let schedule = Arc::new(schedule);
    app.start_synthetic(Synthetic {
        registry: Arc::clone(&registry),
        schedule: Arc::clone(&schedule),
        remotes: Arc::new(Tokens(Arc::clone(control))),
        pages,
    });
    let (stop, stopped) = watch::channel(false);
    let alerts = Alerts::new(registry, Arc::clone(control), Arc::clone(ruler), publisher.clone());
    let tasks = [tokio::spawn(schedule.run(stopped.clone())), tokio::spawn(alerts.run(stopped))];
    Ok(Running { declared, publisher, stop, tasks })
}

async fn reconcile(declared: &Declared, config: &SyntheticConfig) -> Result<(), ServeError> {
    let (declared, config) = (declared.clone(), config.clone());
    let done = tokio::task::spawn_blocking(move || declared.reconcile(&config)).await;
    done.map_err(|e| ServeError::Start(std::io::Error::other(e)))?.map_err(not_started)
}

fn not_started(why: String) -> ServeError {
    ServeError::Start(std::io::Error::other(why))
}

async fn open(ground: &Ground) -> Result<Arc<Registry>, ServeError> {
    let own = &ground.config.synthetic;
    let settings = RegistrySettings {
        builtin: Probe {
            name: own.probe_name.clone(),
            region: own.probe_region.clone(),
            latitude: own.probe_latitude,
            longitude: own.probe_longitude,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Probe::default()
        },
        limits: ground.limits.clone(),
        memory: Arc::clone(ground.app.memory()),
    };
    let state = Arc::clone(&ground.control) as _;
    let opened =
        tokio::task::spawn_blocking(move || Registry::open(settings, state, Arc::new(SystemClock))).await;
    let opened = opened.map_err(|e| ServeError::Start(std::io::Error::other(e)))?;
    opened.map(Arc::new).map_err(|e| ServeError::Start(std::io::Error::other(e)))
}
