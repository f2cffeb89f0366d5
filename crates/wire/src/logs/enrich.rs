//! What is added to entries on their way in, as Loki's distributor adds it.

use super::level::{FieldNames, Level, Named};

/// The settings, by default those of Loki (`discover_service_name`, `discover_log_levels`,
/// `log_level_fields`, `log_level_from_json_max_depth`, `default_resource_attributes_as_index_labels`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrichment {
    /// Labels whose value becomes `service_name` where a stream has none, in order of precedence;
    /// `unknown_service` where it has none of these either. Empty: nothing is added.
    pub service_names: Vec<String>,
    /// Whether an entry gets `detected_level`.
    pub detect_levels: bool,
    /// Names under which a level may stand in labels, metadata, and JSON or logfmt lines, in order
    /// of precedence. Empty: Loki's list.
    pub level_fields: Vec<String>,
    /// How many levels of objects of a JSON line are searched; 0: all (of at most 64).
    pub level_json_depth: u32,
    /// Attributes of an OTLP resource that become labels of the stream; the others become
    /// structured metadata.
    pub otlp_stream_attributes: Vec<String>,
}

const STREAM_ATTRIBUTES: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

const SERVICE_NAMES: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

const LEVEL_FIELDS: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

impl Default for Enrichment {
    fn default() -> Self {
        Self {
            service_names: SERVICE_NAMES.map(str::to_owned).to_vec(),
            detect_levels: true,
            level_fields: LEVEL_FIELDS.map(str::to_owned).to_vec(),
            level_json_depth: 2,
            otlp_stream_attributes: STREAM_ATTRIBUTES.map(str::to_owned).to_vec(),
        }
    }
}

impl Enrichment {
    /// Entries are taken as they come.
    pub fn off() -> Self {
        Self { service_names: Vec::new(), detect_levels: false, ..Self::default() }
    }
}

pub(crate) const SERVICE_NAME: &str = "service_name";
const UNKNOWN_SERVICE: &str = "unknown_service";
pub(crate) const DETECTED_LEVEL: &str = "detected_level";
/// Metadata that OTLP logs carry; a level may be told from it.
const SEVERITY_NUMBER: &str = "severity_number";
/// Loki's own streams of aggregates and patterns carry one of these, and get no service name.
const INTERNAL_LABELS: [&str; 2] = ["__aggregated_metric__", "__pattern__"];

/// An [`Enrichment`] made ready; one serves all requests.
#[derive(Debug)]
pub struct Enricher {
    service_names: Vec<String>,
    /// `None` where levels are not detected.
    fields: Option<FieldNames>,
    json_depth: u32,
    stream_attributes: Vec<String>,
}

impl Default for Enricher {
    fn default() -> Self {
        Self::new(&Enrichment::default())
    }
}

impl Enricher {
    pub fn new(settings: &Enrichment) -> Self {
        let fields = if settings.level_fields.is_empty() {
            FieldNames::new(LEVEL_FIELDS.iter().copied())
        } else {
            FieldNames::new(settings.level_fields.iter().map(String::as_str))
        };
        Self {
            service_names: settings.service_names.clone(),
            fields: settings.detect_levels.then_some(fields),
            json_depth: settings.level_json_depth,
            stream_attributes: settings.otlp_stream_attributes.clone(),
        }
    }

    /// The service that a stream's labels tell of, `None` where nothing is to be added. `get`
    /// gives the value of a label, never an empty one.
    pub(crate) fn service_name<'l>(&self, get: impl Fn(&str) -> Option<&'l str>) -> Option<&'l str> {
        let has = |name: &str| get(name).is_some();
        if self.service_names.is_empty() || has(SERVICE_NAME) || INTERNAL_LABELS.into_iter().any(has) {
            return None;
        }
        let found = self.service_names.iter().find_map(|name| get(name));
        Some(found.unwrap_or(UNKNOWN_SERVICE))
    }

    pub(crate) fn is_stream_attribute(&self, key: &str) -> bool {
        self.stream_attributes.iter().any(|name| name == key)
    }

    pub(super) fn detects_levels(&self) -> bool {
        self.fields.is_some()
    }

    /// The level of a line alone.
    pub fn line_level(&self, line: &str) -> Level {
        match &self.fields {
            Some(fields) => super::level::of_line(line, fields, self.json_depth),
            None => Level::Unknown,
        }
    }

    /// The level that labels or metadata name.
    pub(super) fn level_in<'l>(&self, pairs: impl Iterator<Item = (&'l str, &'l str)>) -> Option<Named<'l>> {
        let fields = self.fields.as_ref()?;
        let ranked = pairs.filter_map(|(name, value)| Some((fields.rank(name)?, value)));
        let (_, value) = ranked.min_by_key(|(rank, _)| *rank)?;
        Some(Named::of(value))
    }

    /// The level of an entry by its metadata and its line, where its stream names none.
    pub(super) fn entry_level<'l>(
        &self,
        pairs: impl Iterator<Item = (&'l str, &'l str)> + Clone,
        line: &str,
    ) -> Named<'l> {
        if let Some(level) = self.level_in(pairs.clone()) {
            return level;
        }
        let severity = pairs.filter(|(name, _)| *name == SEVERITY_NUMBER).last();
        Named::Level(severity.map_or_else(|| self.line_level(line), |(_, number)| Level::of_severity(number)))
    }
}
