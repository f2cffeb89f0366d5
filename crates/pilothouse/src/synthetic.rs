//! Synthetic checks wired to what is around them: results into the default data sources, rules
//! into the ruler, secrets for private probes out of the control plane.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pilothouse_api::{App, Remotes, Synthetic};
use pilothouse_control::{Actor, Control, NewToken, ProjectId, Region, Scope, Scopes, SourceKind};
use pilothouse_model::ports::SystemClock;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::write::WriteBatch;
use pilothouse_model::{
    Clock as _, Labels, LogBatch, SampleSink as _, SourceError, StateChange, StateStore as _,
};
use pilothouse_probes::alerting;
use pilothouse_probes::probe::{LocalProber, TargetRules, UnknownRange};
use pilothouse_probes::registry::{Registry, RegistrySettings};
use pilothouse_probes::run::{Publication, Publisher, ResultSink, Schedule};
use pilothouse_probes::validate::LabelRules;
use pilothouse_probes::words::{Probe, Remote};
use pilothouse_rules::Ruler;
use pilothouse_wire::logs::Enricher;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::Config;
use crate::serve::ServeError;
use crate::sources::Stores;

/// The built-in probe, and what its checks may reach.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SyntheticConfig {
    pub(crate) probe_name: String,
    pub(crate) probe_region: String,
    pub(crate) probe_latitude: f32,
    pub(crate) probe_longitude: f32,
    /// Addresses that no check may reach: ranges, or `loopback`, `private`, `link-local`,
    /// `metadata`.
    pub(crate) forbidden_targets: Vec<String>,
}

impl Eq for SyntheticConfig {}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self {
            probe_name: "pilothouse".to_owned(),
            probe_region: String::new(),
            probe_latitude: 0.0,
            probe_longitude: 0.0,
            forbidden_targets: ["link-local", "metadata"].map(str::to_owned).to_vec(),
        }
    }
}

impl SyntheticConfig {
    pub(crate) fn rules(&self) -> Result<TargetRules, UnknownRange> {
        TargetRules::forbidding(self.forbidden_targets.iter().map(String::as_str))
    }
}

/// What runs, and how to end it.
#[derive(Debug)]
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Running {
    /// Ends all runs; series go on after the next start.
    pub(crate) async fn drain(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// Reads what is stored and starts to run checks.
pub(crate) async fn start(
    config: &Config,
    app: &Arc<App>,
    control: &Arc<Control>,
    stores: &Arc<Stores>,
    ruler: &Arc<Ruler>,
) -> Result<Running, ServeError> {
    let registry = open(config, control).await?;
    let sink = Sink {
        stores: Arc::clone(stores),
        enricher: Enricher::new(&config.enrichment),
        app: Arc::clone(app),
    };
    let (publisher, _) = Publisher::start(Arc::new(sink)).map_err(ServeError::Start)?;
    let rules = config.synthetic.rules().map_err(|e| ServeError::Start(std::io::Error::other(e)))?;
    let prober = LocalProber::new(rules, config.limits.max_probe_body_bytes);
    let at_once = usize::try_from(config.limits.max_probe_runs).unwrap_or(usize::MAX);
    let schedule =
        Schedule::new(Arc::clone(&registry), Arc::new(prober), publisher.clone(), at_once, Handle::current());
    let schedule = Arc::new(schedule);
    app.start_synthetic(Synthetic {
        registry: Arc::clone(&registry),
        schedule: Arc::clone(&schedule),
        remotes: Arc::new(Tokens(Arc::clone(control))),
    });
    let (stop, stopped) = watch::channel(false);
    let alerts = Alerts {
        registry,
        control: Arc::clone(control),
        ruler: Arc::clone(ruler),
        publisher,
        published: HashMap::new(),
    };
    let tasks = [tokio::spawn(schedule.run(stopped.clone())), tokio::spawn(alerts.run(stopped))];
    Ok(Running { stop, tasks })
}

async fn open(config: &Config, control: &Arc<Control>) -> Result<Arc<Registry>, ServeError> {
    let limits = &config.limits;
    let own = &config.synthetic;
    let settings = RegistrySettings {
        builtin: Probe {
            name: own.probe_name.clone(),
            region: own.probe_region.clone(),
            latitude: own.probe_latitude,
            longitude: own.probe_longitude,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Probe::default()
        },
        labels: LabelRules {
            max_labels: usize::try_from(limits.max_check_labels).unwrap_or(usize::MAX),
            max_bytes: usize::try_from(limits.max_check_label_bytes).unwrap_or(usize::MAX),
        },
        max_checks: limits.max_checks,
        max_tenants: limits.max_synthetic_tenants,
        max_probes: limits.max_private_probes,
    };
    let state = Arc::clone(control) as _;
    let opened =
        tokio::task::spawn_blocking(move || Registry::open(settings, state, Arc::new(SystemClock))).await;
    let opened = opened.map_err(|e| ServeError::Start(std::io::Error::other(e)))?;
    opened.map(Arc::new).map_err(|e| ServeError::Start(std::io::Error::other(e)))
}

/// Results go where any push to the shared root goes.
#[derive(Debug)]
struct Sink {
    stores: Arc<Stores>,
    enricher: Enricher,
    app: Arc<App>,
}

impl ResultSink for Sink {
    fn series(&self, _: i64, samples: &[(Labels, i64, f64)]) -> Result<(), SourceError> {
        let mut batch = WriteBatch::of_labels();
        samples.iter().for_each(|(labels, t_ms, value)| batch.push_float(labels, *t_ms, *value));
        self.stores.default_metrics()?.append(&batch).map(drop)
    }

    fn entries(&self, _: i64, entries: &LogBatch) -> Result<(), SourceError> {
        let Some(sink) = self.app.log_sink() else { return Ok(()) };
        sink.append(&enriched(&self.enricher, entries)).map(drop)
    }
}

/// What a push adds to entries: the name of the service, and the level of the line.
fn enriched(enricher: &Enricher, entries: &LogBatch) -> LogBatch {
    let mut batch = LogBatch::default();
    for stream in &entries.streams {
        let service = Some(stream.labels.value("job")).filter(|job| !job.is_empty());
        let added = [("service_name", service.unwrap_or("unknown_service"))];
        batch.begin_stream(Labels::from_pairs(stream.labels.iter().chain(added)));
        for entry in entries.entries_of(stream) {
            let line = entries.line_of(entry);
            let level = [("detected_level", enricher.line_level(line).as_str())];
            batch.push(entry.t_ns, line, Labels::from_pairs(entry.metadata.iter().chain(level)));
        }
    }
    batch
}

/// Private probes write with tokens of the control plane that can do nothing else.
#[derive(Debug)]
struct Tokens(Arc<Control>);

impl Remotes for Tokens {
    fn for_tenant(&self, address: &str) -> (Remote, Remote) {
        let remote = |path: &str, scope: Scope| {
            let new = NewToken {
                project: ProjectId::DEFAULT,
                region: Region::FrPar,
                name: "synthetic monitoring".to_owned(),
                scopes: Scopes::from_iter([scope]),
            };
            let password = match self.0.create_token(&Actor::server(), new) {
                Ok((_, secret)) => secret.reveal().to_owned(),
                Err(e) => {
                    tracing::error!("private probes of a new tenant cannot write: {e}");
                    String::new()
                }
            };
            Remote {
                name: "pilothouse".to_owned(),
                url: format!("{address}{path}"),
                username: "synthetic-monitoring".to_owned(),
                password,
            }
        };
        (remote("/api/v1", Scope::WriteMetrics), remote("/loki/api/v1", Scope::WriteLogs))
    }
}

/// How often thresholds are published again, so that they stay within the lookback.
const THRESHOLDS_EVERY: Duration = Duration::from_secs(60);
const WRITTEN: &str = "synthetic_rules";

/// Keeps rules and thresholds as checks want them.
struct Alerts {
    registry: Arc<Registry>,
    control: Arc<Control>,
    ruler: Arc<Ruler>,
    publisher: Publisher,
    /// The thresholds told last.
    published: HashMap<Labels, i64>,
}

impl Alerts {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changes = self.registry.changes();
        let mut written = None;
        loop {
            changes.mark_unchanged();
            self.publish_thresholds();
            let wanted = alerting::check_alerts_group(&self.registry.alerting_checks());
            if written.as_ref() != Some(&wanted) {
                self.blocking(|parts| parts.write_check_alerts()).await;
                written = Some(wanted);
            }
            if self.registry.has_sensitive_checks() {
                self.blocking(|parts| parts.write_sensitivity()).await;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                _ = stop.changed() => return,
                () = tokio::time::sleep(THRESHOLDS_EVERY) => {}
            }
        }
    }

    async fn blocking(&self, work: impl FnOnce(&Parts) -> Result<(), String> + Send + 'static) {
        let parts = Parts {
            registry: Arc::clone(&self.registry),
            control: Arc::clone(&self.control),
            ruler: Arc::clone(&self.ruler),
        };
        match tokio::task::spawn_blocking(move || work(&parts)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::error!("rules of synthetic checks were not written: {e}"),
            Err(e) => tracing::error!("rules of synthetic checks were not written: {e}"),
        }
    }

    /// Thresholds as they are now, and an end for those that are gone.
    fn publish_thresholds(&mut self) {
        let now_ms = SystemClock.now_ms();
        let thresholds = alerting::thresholds(&self.registry.alerting_checks());
        let mut gone = std::mem::take(&mut self.published);
        for (tenant, labels, value) in thresholds {
            gone.remove(&labels);
            self.published.insert(labels.clone(), tenant);
            self.publisher.publish(Publication {
                tenant,
                samples: vec![(labels, now_ms, value)],
                entries: None,
            });
        }
        for (labels, tenant) in gone {
            let samples = vec![(labels, now_ms, stale_nan())];
            self.publisher.publish(Publication { tenant, samples, entries: None });
        }
    }
}

struct Parts {
    registry: Arc<Registry>,
    control: Arc<Control>,
    ruler: Arc<Ruler>,
}

impl Parts {
    fn source(&self) -> Result<String, String> {
        let source = self.control.default_source(SourceKind::Metrics);
        source.map(|s| s.id.to_string()).ok_or_else(|| "there is no default source of metrics".to_owned())
    }

    /// Once: users may change these rules or delete them, and then they stay so.
    fn write_sensitivity(&self) -> Result<(), String> {
        if !self.control.load(WRITTEN).map_err(|e| e.to_string())?.is_empty() {
            return Ok(());
        }
        let namespace = alerting::SENSITIVITY_NAMESPACE;
        let group = alerting::sensitivity_group();
        self.ruler.set_group(&self.source()?, namespace, &group).map_err(|e| e.to_string())?;
        let written = StateChange { table: WRITTEN, key: "sensitivity".to_owned(), value: Some(vec![1]) };
        self.control.apply(&[written]).map_err(|e| e.to_string())
    }

    fn write_check_alerts(&self) -> Result<(), String> {
        let (source, namespace) = (self.source()?, alerting::CHECK_ALERTS_NAMESPACE);
        match alerting::check_alerts_group(&self.registry.alerting_checks()) {
            Some(group) => self.ruler.set_group(&source, namespace, &group).map_err(|e| e.to_string()),
            None if self.ruler.namespaces(&source, Some(namespace)).is_empty() => Ok(()),
            None => self.ruler.delete_namespace(&source, namespace).map_err(|e| e.to_string()),
        }
    }
}
