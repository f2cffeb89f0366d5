//! Rules and thresholds that follow from checks, in the ruler and the default source of series.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pilothouse_control::{Control, SourceKind};
use pilothouse_model::ports::SystemClock;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::{Clock as _, Labels, StateChange, StateStore as _};
use pilothouse_probes::alerting;
use pilothouse_probes::registry::Registry;
use pilothouse_probes::run::{Publication, Publisher};
use pilothouse_rules::Ruler;
use tokio::sync::watch;

/// How often thresholds are published again, so that they stay within the lookback.
const THRESHOLDS_EVERY: Duration = Duration::from_secs(60);
const WRITTEN: &str = "synthetic_rules";

/// Keeps rules and thresholds as checks want them.
pub(super) struct Alerts {
    registry: Arc<Registry>,
    control: Arc<Control>,
    ruler: Arc<Ruler>,
    publisher: Publisher,
    /// The thresholds told last.
    published: HashMap<Labels, i64>,
}

impl Alerts {
    pub(super) fn new(
        registry: Arc<Registry>,
        control: Arc<Control>,
        ruler: Arc<Ruler>,
        publisher: Publisher,
    ) -> Self {
        Self { registry, control, ruler, publisher, published: HashMap::new() }
    }

    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
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
