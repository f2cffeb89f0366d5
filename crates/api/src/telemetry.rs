//! The server's own metrics: a few atomics per family, read when somebody asks.
//!
//! There is no registry to register with: the families are the fields below, and
//! [`Telemetry::families`] lists them in the order in which they are shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use pilothouse_model::durations::{BOUNDS_S, DurationCounts, Durations};
use pilothouse_model::write::MetricType;
use pilothouse_wire::exposition::{Exposition, ProtobufWriter, TextFormat, TextWriter};

use crate::routes::Endpoint;

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one line, or the lines of one histogram, say.
#[derive(Debug, Clone, PartialEq)]
pub enum FamilyValue {
    Number(f64),
    Histogram {
        upper_bounds: Vec<f64>,
        /// One a bound, and one more for all.
        cumulative_counts: Vec<u64>,
        sum: f64,
    },
}

impl From<DurationCounts> for FamilyValue {
    fn from(counts: DurationCounts) -> Self {
        Self::Histogram {
            upper_bounds: BOUNDS_S.to_vec(),
            cumulative_counts: counts.cumulative().collect(),
            sum: counts.sum_s,
        }
    }
}

/// A family of the own metrics. The name of a counter ends in `_total`, a unit is also the end
/// of the name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub unit: &'static str,
    pub metric_type: MetricType,
    pub samples: Vec<(Vec<(&'static str, String)>, FamilyValue)>,
}

impl Family {
    fn new(metric_type: MetricType, name: &'static str, help: &'static str) -> Self {
        let base = name.strip_suffix("_total").unwrap_or(name);
        let unit = ["bytes", "seconds"].into_iter().find(|u| base.ends_with(&format!("_{u}"))).unwrap_or("");
        Self { name, help, unit, metric_type, samples: Vec::new() }
    }

    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricType::Gauge, name, help)
    }

    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricType::Counter, name, help)
    }

    pub fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricType::Histogram, name, help)
    }

    /// Adds a sample without labels.
    pub fn value(self, value: f64) -> Self {
        self.labelled(&[], value)
    }

    pub fn labelled(mut self, labels: &[(&'static str, &str)], value: f64) -> Self {
        let labels = labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        self.samples.push((labels, FamilyValue::Number(value)));
        self
    }

    pub fn distribution(mut self, labels: &[(&'static str, &str)], value: FamilyValue) -> Self {
        let labels = labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        self.samples.push((labels, value));
        self
    }
}

/// Families as text.
pub(crate) fn render(families: &[Family], format: TextFormat) -> String {
    let mut writer = TextWriter::new(format);
    for family in families {
        writer.family(family.name, family.metric_type, family.help, family.unit);
        for (labels, value) in &family.samples {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
            match value {
                FamilyValue::Number(number) => writer.sample("", &labels, *number),
                FamilyValue::Histogram { upper_bounds, cumulative_counts, sum } => {
                    writer.histogram(&labels, upper_bounds, cumulative_counts, *sum);
                }
            }
        }
    }
    writer.finish()
}

/// Families in the form that was asked for.
pub(crate) fn expose(families: &[Family], form: Exposition) -> Vec<u8> {
    match form {
        Exposition::Text(format) => render(families, format).into_bytes(),
        Exposition::Protobuf => render_protobuf(families),
    }
}

fn render_protobuf(families: &[Family]) -> Vec<u8> {
    let mut writer = ProtobufWriter::new();
    for family in families {
        writer.family(family.name, family.metric_type, family.help, family.unit);
        for (labels, value) in &family.samples {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
            match value {
                FamilyValue::Number(number) => writer.sample(&labels, *number),
                FamilyValue::Histogram { upper_bounds, cumulative_counts, sum } => {
                    writer.histogram(&labels, upper_bounds, cumulative_counts, *sum);
                }
            }
        }
    }
    writer.finish()
}

/// Everything the HTTP side counts.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    /// By handler and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// By handler.
    durations: Mutex<BTreeMap<&'static str, Arc<Durations>>>,
    pub(crate) received_samples: Counter,
    pub(crate) stored_floats: Counter,
    pub(crate) stored_histograms: Counter,
    pub(crate) stored_exemplars: Counter,
    pub(crate) refused: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) query_samples: Counter,
    pub(crate) query_failures: Counter,
    pub(crate) query_seconds: Durations,
    pub(crate) durable_seconds: Durations,
    pub(crate) unauthorized: Counter,
}

impl Telemetry {
    pub(crate) fn served(&self, endpoint: Endpoint, status: u16, took: Duration) {
        let name = endpoint.name();
        *self.requests.lock().entry((name, status)).or_default() += 1;
        let histogram = Arc::clone(self.durations.lock().entry(name).or_default());
        histogram.add(took);
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let mut families = vec![self.request_counts(), self.request_durations()];
        families.extend(self.ingest());
        families.extend([
            Family::counter("pilothouse_auth_failures_total", "Requests without a valid token.")
                .value(self.unauthorized.get() as f64),
            Family::counter("pilothouse_query_samples_total", "Samples that queries have read.")
                .value(self.query_samples.get() as f64),
            Family::counter("pilothouse_query_failures_total", "Queries that ended with an error.")
                .value(self.query_failures.get() as f64),
            Family::histogram("pilothouse_query_duration_seconds", "Time to evaluate a query.")
                .distribution(&[], self.query_seconds.counts().into()),
        ]);
        families
    }

    fn ingest(&self) -> [Family; 5] {
        [
            Family::counter(
                "pilothouse_ingest_received_samples_total",
                "Samples, histograms and exemplars that came in, stored or not.",
            )
            .value(self.received_samples.get() as f64),
            Family::counter(
                "pilothouse_ingest_received_bytes_total",
                "Bytes of write requests, as they came over the network.",
            )
            .value(self.received_bytes.get() as f64),
            Family::counter("pilothouse_ingest_stored_samples_total", "Samples that were stored.")
                .labelled(&[("kind", "exemplar")], self.stored_exemplars.get() as f64)
                .labelled(&[("kind", "float")], self.stored_floats.get() as f64)
                .labelled(&[("kind", "histogram")], self.stored_histograms.get() as f64),
            Family::counter(
                "pilothouse_ingest_refused_samples_total",
                "Samples and series that were refused.",
            )
            .value(self.refused.get() as f64),
            Family::histogram(
                "pilothouse_ingest_durable_duration_seconds",
                "Time a write waited for the disk.",
            )
            .distribution(&[], self.durable_seconds.counts().into()),
        ]
    }

    fn request_counts(&self) -> Family {
        let family = Family::counter("pilothouse_http_requests_total", "HTTP requests answered.");
        self.requests.lock().iter().fold(family, |family, ((handler, code), count)| {
            family.labelled(&[("code", &code.to_string()), ("handler", handler)], *count as f64)
        })
    }

    fn request_durations(&self) -> Family {
        let family = Family::histogram(
            "pilothouse_http_request_duration_seconds",
            "Time until the head of the answer.",
        );
        self.durations.lock().iter().fold(family, |family, (handler, histogram)| {
            family.distribution(&[("handler", handler)], histogram.counts().into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_render_in_both_formats() {
        let telemetry = Telemetry::default();
        telemetry.served(Endpoint::Metrics(crate::metrics::Endpoint::Query), 200, Duration::from_millis(3));
        let families = telemetry.families();
        let text = render(&families, TextFormat::Prometheus);
        assert!(
            text.contains("pilothouse_http_requests_total{code=\"200\",handler=\"query\"} 1\n"),
            "{text}"
        );
        let bucket = "pilothouse_http_request_duration_seconds_bucket{handler=\"query\",le=\"0.005\"} 1\n";
        assert!(text.contains(bucket) || text.contains("le=\"0.005\"} 1\n"), "{text}");
        let open = render(&families, TextFormat::OpenMetrics);
        assert!(open.contains("# TYPE pilothouse_http_requests counter\n"), "{open}");
        assert!(open.contains("# UNIT pilothouse_query_duration_seconds seconds\n"), "{open}");
        assert!(open.ends_with("# EOF\n"));
    }
}
