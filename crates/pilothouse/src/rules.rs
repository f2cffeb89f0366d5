//! The rulers: where rules read and write, which files hold some, and when they run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pilothouse_api::RuleConnector;
use pilothouse_control::{Control, DataSource, SourceKind};
use pilothouse_model::{AlertSink, Clock, Labels};
use pilothouse_rules::{Data, Language, Parts, RuleFile, RuleSource, Ruler, Settings, load_files};

use crate::config::Config;
use crate::reload::{Apply, Part};
use crate::rule_book::{MANAGED, managed_file};
use crate::serve::ServeError;
use crate::sources::Stores;
use crate::stored::{Stored, Writer};
use crate::transitions::Transitions;
use crate::workers::Ground;

/// How often sources that came or went, and shipped rules that were switched, are looked for.
const TICK: Duration = Duration::from_secs(10);

/// Rule files and what else the configuration says of rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RuleConfig {
    /// Files, directories and patterns with rules over the default source of series.
    pub(crate) files: Vec<PathBuf>,
    /// The same over the default source of logs.
    pub(crate) log_files: Vec<PathBuf>,
    /// Id or name of the source of series that takes what rules over logs give; unsaid, the
    /// default one.
    pub(crate) log_target: Option<String>,
    pub(crate) interval_ms: i64,
    pub(crate) external_labels: Labels,
}

/// The ruler with what is around it.
#[derive(Debug)]
pub(crate) struct Rules {
    ruler: Arc<Ruler>,
    stores: Arc<Stores>,
    control: Arc<Control>,
    transitions: Arc<Transitions>,
    log_target: Option<String>,
}

impl Rules {
    /// Reads what is stored and what files say, and starts to evaluate. Blocks.
    pub(crate) fn start(
        ground: &Ground,
        alerts: Arc<dyn AlertSink>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, ServeError> {
        let config = &ground.config;
        let (control, stores) = (Arc::clone(&ground.control), Arc::clone(&ground.stores));
        let defaults = Settings::default();
        let settings = Settings {
            external_url: Arc::from(ground.url.as_str()),
            external_labels: config.rules.external_labels.clone(),
            default_interval_ms: config.rules.interval_ms,
            limits: ground.limits.clone(),
            memory: Arc::clone(ground.app.memory()),
            ..defaults
        };
        let store = Arc::clone(&control) as _;
        let most = usize::try_from(config.limits.max_alert_events).unwrap_or(usize::MAX);
        let transitions = Arc::new(Transitions::new(most));
        let observer = Some(Arc::clone(&transitions) as _);
        let ruler = Arc::new(Ruler::new(Parts { settings, clock, store, alerts, observer }));
        let log_target = config.rules.log_target.clone();
        let rules = Arc::new(Self { ruler, stores, control, transitions, log_target });
        if let (Some(name), None) = (&rules.log_target, rules.log_target()) {
            let why =
                format!("log_rules_write_to: there is no source of metrics with the id or name {name:?}");
            return Err(ServeError::Rules(why));
        }
        rules.follow_sources();
        let read = RuleFiles::read(&config.rules).map_err(ServeError::Rules)?;
        rules.put(read, true).map_err(ServeError::Rules)?;
        rules.ruler.spawn().map_err(ServeError::Start)?;
        Ok(rules)
    }

    pub(crate) fn ruler(&self) -> &Arc<Ruler> {
        &self.ruler
    }

    /// What happened to alerts and was not taken yet.
    pub(crate) fn transitions(&self) -> Arc<Transitions> {
        Arc::clone(&self.transitions)
    }

    /// Where rules over logs write.
    fn log_target(&self) -> Option<DataSource> {
        let Some(wanted) = &self.log_target else {
            return self.control.default_source(SourceKind::Metrics);
        };
        let is_it = |source: &DataSource| {
            source.kind == SourceKind::Metrics && (source.id.to_string() == *wanted || source.name == *wanted)
        };
        self.control.all_sources().into_iter().find(is_it)
    }

    /// Ends all evaluations. Blocks.
    pub(crate) fn drain(&self) {
        self.ruler.drain();
    }

    /// Follows data sources as they come and go, until the task is aborted.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || this.follow_sources()).await;
        }
    }

    fn follow_sources(&self) {
        let sources = self.control.all_sources();
        for source in &sources {
            let id = source.id.to_string();
            if self.ruler.has_source(&id) {
                continue;
            }
            if let Some(connected) = self.connect(source)
                && let Err(e) = self.ruler.add_source(&id, connected)
            {
                tracing::error!(source = id, "rules of a data source cannot be loaded: {e}");
            }
        }
        self.follow_managed();
        for (id, _) in self.ruler.sources() {
            if id != MANAGED
                && !sources.iter().any(|source| source.id.to_string() == id)
                && let Err(e) = self.ruler.remove_source(&id)
            {
                tracing::error!(source = id, "rules of a deleted data source cannot be removed: {e}");
            }
        }
    }

    /// Switches shipped rules, which are over the server's own metrics, on and off.
    fn follow_managed(&self) {
        if !self.ruler.has_source(MANAGED) {
            let default = self.control.default_source(SourceKind::Metrics);
            let Some(connected) = default.and_then(|source| self.connect(&source)) else { return };
            if let Err(e) = self.ruler.add_source(MANAGED, connected) {
                tracing::error!("shipped rules cannot be loaded: {e}");
            }
        }
        let file = managed_file(&self.control.all_alert_settings());
        if let Err(e) = self.ruler.set_files(MANAGED, &[file], false) {
            tracing::error!("shipped rules cannot be switched: {e}");
        }
    }

    fn put(&self, read: RuleFiles, is_start: bool) -> Result<(), String> {
        for (kind, files) in [(SourceKind::Metrics, read.metrics), (SourceKind::Logs, read.logs)] {
            let Some(source) = self.control.default_source(kind) else { continue };
            self.ruler.set_files(&source.id.to_string(), &files, is_start).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// The rules of all files, read and checked before any is put to work, so that a fault anywhere
/// changes nothing.
pub(crate) struct RuleFiles {
    metrics: Vec<RuleFile>,
    logs: Vec<RuleFile>,
}

impl RuleFiles {
    /// The error tells all that is wrong. Blocks.
    pub(crate) fn read(config: &RuleConfig) -> Result<Self, String> {
        let (mut read, mut faults) = (Vec::new(), Vec::new());
        for (patterns, language) in [(&config.files, Language::Promql), (&config.log_files, Language::Logql)]
        {
            match load_files(patterns, language) {
                Ok(files) => read.push(files),
                Err(errors) => faults.extend(errors.iter().map(ToString::to_string)),
            }
        }
        match <[_; 2]>::try_from(read) {
            Ok([metrics, logs]) => Ok(Self { metrics, logs }),
            Err(_) => Err(faults.join("\n")),
        }
    }
}

/// Rule files at a reload.
#[derive(Debug)]
pub(crate) struct Files(pub(crate) Arc<Rules>);

impl Part for Files {
    fn prepare(&self, next: &Config) -> Result<Apply, String> {
        let (rules, read) = (Arc::clone(&self.0), RuleFiles::read(&next.rules)?);
        Ok(Box::new(move || {
            if let Err(e) = rules.put(read, false) {
                tracing::error!("rule files were read but are not in force: {e}");
            }
        }))
    }
}

impl RuleConnector for Rules {
    fn connect(&self, source: &DataSource) -> Option<RuleSource> {
        let stored = |source: DataSource| Stored::new(&self.stores, source, Writer::Worker);
        let own = Arc::new(stored(source.clone()));
        match source.kind {
            SourceKind::Metrics => Some(RuleSource {
                data: Data::Metrics(Arc::clone(&own) as _),
                sink: Arc::clone(&own) as _,
                written: own,
            }),
            SourceKind::Logs => {
                let metrics = Arc::new(stored(self.log_target()?));
                Some(RuleSource { data: Data::Logs(own), sink: Arc::clone(&metrics) as _, written: metrics })
            }
            _ => None,
        }
    }
}
