//! Data points into series.

use std::collections::{HashMap, HashSet};

use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::limits::{Limits, OTLP_EXEMPLAR_CHARS, OTLP_NAMES, OTLP_TARGET_INFO_SAMPLES};
use pilothouse_model::sample::{format_float_plain, stale_nan};
use pilothouse_model::write::{
    BatchExemplar, FloatSample, HistogramSample, MetadataEntry, MetricType, Reason,
};
use pilothouse_model::{Histogram, Labels, LabelsBuilder};

use super::words::{Attribute, Exemplar, Kind, MetricHead, Point, PointHead, hex};
use super::{exponential, names};
use crate::decoded::{Quota, Sample};
use crate::{DecodeError, Decoded};

const TARGET_INFO: &str = "target_info";
/// Half of the lookback, so that `target_info` is found all along the time of its points.
const TARGET_INFO_EVERY_MS: i64 = 150_000;

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";

/// Takes resources, metrics and points in the order of a request.
pub(super) struct Translation {
    pub(super) quota: Quota,
    decoded: Decoded,
    resource: Resource,
    /// Of the metric at hand, `None` while its points are refused.
    family: Option<String>,
    /// Why they are; told once, while each of them counts.
    refused: Option<String>,
    families: HashSet<String>,
    /// Names of attributes by their label names, which repeat from point to point.
    label_names: HashMap<String, String>,
    /// Samples of `target_info` so far, so that resources that are told twice have one.
    told: HashSet<(u128, i64)>,
}

#[derive(Default)]
struct Resource {
    attributes: Vec<Attribute>,
    job: String,
    instance: String,
    /// Of all points, also of refused ones.
    times_ns: Option<(u64, u64)>,
}

impl Translation {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            quota: Quota::new(limits),
            decoded: Decoded::new(),
            resource: Resource::default(),
            family: None,
            refused: None,
            families: HashSet::new(),
            label_names: HashMap::new(),
            told: HashSet::new(),
        }
    }

    pub(super) fn finish(self) -> Decoded {
        self.decoded
    }

    pub(super) fn begin_resource(&mut self, attributes: Vec<Attribute>) {
        let get = |key: &str| attributes.iter().find(|a| a.key == key).map(|a| a.value.as_str());
        let job = match (get(SERVICE_NAMESPACE), get(SERVICE_NAME)) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
            (None, Some(name)) => name.to_owned(),
            (_, None) => String::new(),
        };
        let instance = get(SERVICE_INSTANCE).unwrap_or("").to_owned();
        self.resource = Resource { attributes, job, instance, times_ns: None };
    }

    /// Starts a metric. What is wrong with it refuses each of its points.
    pub(super) fn begin_metric(&mut self, head: &MetricHead) -> Result<(), DecodeError> {
        self.family = None;
        self.refused = None;
        if head.kind == Kind::Unset {
            self.refused = Some(format!("unsupported metric type for metric {:?}", head.name));
        } else if !head.kind.is_cumulative() {
            let why = format!(
                "invalid temporality and type combination for metric {:?}: only cumulative temporality is supported",
                head.name
            );
            self.refused = Some(why);
        } else {
            match names::metric_name(head) {
                Ok(family) => {
                    self.take_metadata(head, &family)?;
                    self.family = Some(family);
                }
                Err(why) => self.refused = Some(why),
            }
        }
        Ok(())
    }

    fn take_metadata(&mut self, head: &MetricHead, family: &str) -> Result<(), DecodeError> {
        if !self.families.insert(family.to_owned()) {
            return Ok(());
        }
        self.quota.take_series()?;
        let metric_type = match head.kind {
            Kind::Gauge | Kind::Sum { monotonic: false, .. } => MetricType::Gauge,
            Kind::Sum { monotonic: true, .. } => MetricType::Counter,
            Kind::Histogram { .. } | Kind::Exponential { .. } => MetricType::Histogram,
            Kind::Summary => MetricType::Summary,
            Kind::Unset => MetricType::Unknown,
        };
        self.decoded.batch.metadata.push(MetadataEntry {
            family: family.to_owned(),
            metric_type,
            help: head.description.clone(),
            unit: names::unit_name(&head.unit),
        });
        Ok(())
    }

    /// Takes a point of the metric at hand.
    pub(super) fn point(&mut self, point: Point) -> Result<(), DecodeError> {
        let t_ns = point.head().t_ns;
        let (earliest, latest) = self.resource.times_ns.unwrap_or((t_ns, t_ns));
        self.resource.times_ns = Some((earliest.min(t_ns), latest.max(t_ns)));
        let Some(family) = self.family.take() else {
            match self.refused.take() {
                Some(why) => self.decoded.refuse(Reason::Undecodable { why }, String::new),
                None => self.decoded.rejected += 1,
            }
            return Ok(());
        };
        let taken = match self.labels_of(&point.head().attributes, &[METRIC_NAME]) {
            Ok(labels) => self.translate(&family, labels, point),
            Err(why) => {
                let why = format!("metric {family:?}: {why}");
                self.decoded.refuse(Reason::Undecodable { why }, String::new);
                Ok(())
            }
        };
        self.family = Some(family);
        taken
    }

    fn translate(&mut self, family: &str, labels: LabelsBuilder, point: Point) -> Result<(), DecodeError> {
        match point {
            Point::Number { head, value } => {
                let value = if head.is_stale() { stale_nan() } else { value };
                let exemplars = head.exemplars.iter().filter_map(exemplar).collect();
                self.float(family, &labels, &[], ms(head.t_ns), value, exemplars)
            }
            Point::Histogram { head, count, sum, counts, bounds } => {
                self.classic(family, &labels, &head, count, sum, counts.iter().zip(&bounds))
            }
            Point::Exponential { head, histogram } => {
                let native = if head.is_stale() {
                    Ok(Histogram { sum: stale_nan(), integer: true, ..Histogram::default() })
                } else {
                    exponential::native(&histogram, self.quota.max_buckets)
                };
                self.native(family, labels, &head, native)
            }
            Point::Summary { head, count, sum, quantiles } => {
                let (t_ms, stale) = (ms(head.t_ns), head.is_stale());
                let value = |v: f64| if stale { stale_nan() } else { v };
                self.float(&format!("{family}_sum"), &labels, &[], t_ms, value(sum), Vec::new())?;
                self.float(&format!("{family}_count"), &labels, &[], t_ms, value(count as f64), Vec::new())?;
                for (quantile, v) in quantiles {
                    let quantile = format_float_plain(quantile);
                    self.float(family, &labels, &[("quantile", &quantile)], t_ms, value(v), Vec::new())?;
                }
                Ok(())
            }
        }
    }

    /// An explicit histogram: sum where there is one, count, and the buckets, each with the
    /// exemplars that fall into it.
    fn classic<'c>(
        &mut self,
        family: &str,
        labels: &LabelsBuilder,
        head: &PointHead,
        count: u64,
        sum: Option<f64>,
        buckets: impl Iterator<Item = (&'c u64, &'c f64)>,
    ) -> Result<(), DecodeError> {
        let t_ms = ms(head.t_ns);
        let value = |v: f64| if head.is_stale() { stale_nan() } else { v };
        if let Some(sum) = sum {
            self.float(&format!("{family}_sum"), labels, &[], t_ms, value(sum), Vec::new())?;
        }
        self.float(&format!("{family}_count"), labels, &[], t_ms, value(count as f64), Vec::new())?;
        let name = format!("{family}_bucket");
        let mut exemplars = head.exemplars.iter().filter_map(exemplar).peekable();
        let mut below = 0u64;
        for (bucket, bound) in buckets {
            below = below.wrapping_add(*bucket);
            let here = std::iter::from_fn(|| exemplars.next_if(|e| e.value <= *bound)).collect();
            let le = format_float_plain(*bound);
            self.float(&name, labels, &[("le", &le)], t_ms, value(below as f64), here)?;
        }
        let rest = exemplars.collect();
        self.float(&name, labels, &[("le", "+Inf")], t_ms, value(count as f64), rest)
    }

    fn native(
        &mut self,
        family: &str,
        mut labels: LabelsBuilder,
        head: &PointHead,
        native: Result<Histogram, String>,
    ) -> Result<(), DecodeError> {
        labels.set(METRIC_NAME, family);
        let (labels, t_ms) = (labels.build(), ms(head.t_ns));
        match native {
            Ok(histogram) => {
                let exemplars = head.exemplars.iter().filter_map(exemplar).collect();
                self.push(&labels, Sample::Histogram(HistogramSample { t_ms, histogram }), exemplars)
            }
            Err(why) => {
                let series = || pilothouse_model::labels::SeriesText(&labels).to_string();
                self.decoded.refuse(Reason::InvalidHistogram { t_ms, why }, series);
                Ok(())
            }
        }
    }

    fn float(
        &mut self,
        name: &str,
        labels: &LabelsBuilder,
        extra: &[(&str, &str)],
        t_ms: i64,
        value: f64,
        exemplars: Vec<BatchExemplar>,
    ) -> Result<(), DecodeError> {
        let mut labels = labels.clone();
        for (name, value) in extra {
            labels.set(name, value);
        }
        labels.set(METRIC_NAME, name);
        self.push(&labels.build(), Sample::Float(FloatSample { t_ms, value }), exemplars)
    }

    fn push(
        &mut self,
        labels: &Labels,
        sample: Sample,
        exemplars: Vec<BatchExemplar>,
    ) -> Result<(), DecodeError> {
        let pairs = labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        self.decoded.push_sample(&mut self.quota, pairs, sample, exemplars)
    }

    /// Labels from attributes, with job and instance of the resource. Attributes that fall
    /// together under one label name are joined with `;` in the order of their keys.
    fn labels_of(&mut self, attributes: &[Attribute], ignored: &[&str]) -> Result<LabelsBuilder, String> {
        let mut sorted: Vec<&Attribute> =
            attributes.iter().filter(|a| !ignored.contains(&a.key.as_str())).collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        let mut labels = LabelsBuilder::default();
        for attribute in sorted {
            let name = self.label_name(&attribute.key)?;
            match labels.get(&name).map(|before| format!("{before};{}", attribute.value)) {
                Some(joined) => labels.set(&name, &joined),
                None => labels.set(&name, &attribute.value),
            };
        }
        for (name, value) in [("job", &self.resource.job), ("instance", &self.resource.instance)] {
            if !value.is_empty() {
                labels.set(name, value);
            }
        }
        Ok(labels)
    }

    fn label_name(&mut self, key: &str) -> Result<String, String> {
        if let Some(name) = self.label_names.get(key) {
            return Ok(name.clone());
        }
        let name = names::label_name(key)?;
        if self.label_names.len() < OTLP_NAMES {
            self.label_names.insert(key.to_owned(), name.clone());
        }
        Ok(name)
    }

    /// Ends a resource: its other attributes go to `target_info`, at the times of its points.
    pub(super) fn end_resource(&mut self) -> Result<(), DecodeError> {
        let resource = std::mem::take(&mut self.resource);
        let identifying = [SERVICE_NAMESPACE, SERVICE_NAME, SERVICE_INSTANCE];
        let told_more = resource.attributes.iter().any(|a| !identifying.contains(&a.key.as_str()));
        let identified = !resource.job.is_empty() || !resource.instance.is_empty();
        let Some((earliest, latest)) = resource.times_ns.filter(|_| told_more && identified) else {
            return Ok(());
        };
        self.resource = Resource { attributes: Vec::new(), ..resource };
        let labels = self.labels_of(&resource.attributes, &identifying);
        self.resource = Resource::default();
        let mut labels = match labels {
            Ok(labels) => labels,
            Err(why) => {
                let why = format!("metric {TARGET_INFO:?}: {why}");
                self.decoded.refuse(Reason::Undecodable { why }, String::new);
                return Ok(());
            }
        };
        labels.set(METRIC_NAME, TARGET_INFO);
        self.tell_target(&labels.build(), ms(earliest), ms(latest))
    }

    fn tell_target(&mut self, labels: &Labels, earliest_ms: i64, latest_ms: i64) -> Result<(), DecodeError> {
        if self.families.insert(TARGET_INFO.to_owned()) {
            self.decoded.batch.metadata.push(MetadataEntry {
                family: TARGET_INFO.to_owned(),
                metric_type: MetricType::Gauge,
                help: "Target metadata".to_owned(),
                unit: String::new(),
            });
        }
        let reach = TARGET_INFO_EVERY_MS * OTLP_TARGET_INFO_SAMPLES;
        let mut t_ms = earliest_ms.max(latest_ms.saturating_sub(reach));
        loop {
            if self.told.insert((labels.fingerprint(), t_ms)) {
                self.push(labels, Sample::Float(FloatSample { t_ms, value: 1.0 }), Vec::new())?;
            }
            if t_ms >= latest_ms {
                return Ok(());
            }
            t_ms = t_ms.saturating_add(TARGET_INFO_EVERY_MS).min(latest_ms);
        }
    }
}

fn ms(t_ns: u64) -> i64 {
    t_ns as i64 / 1_000_000
}

/// An exemplar with trace and span in front; its other attributes only where all fit together.
/// One without a value is none.
fn exemplar(wire: &Exemplar) -> Option<BatchExemplar> {
    let mut labels = Vec::new();
    for (name, id) in [("trace_id", &wire.trace_id), ("span_id", &wire.span_id)] {
        if id.iter().any(|b| *b != 0) {
            labels.push((name.to_owned(), hex(id)));
        }
    }
    let chars = |name: &str, value: &str| name.chars().count() + value.chars().count();
    let ids: usize = labels.iter().map(|(n, v)| chars(n, v)).sum();
    let others: usize = wire.attributes.iter().map(|a| chars(&a.key, &a.value)).sum();
    if ids + others <= OTLP_EXEMPLAR_CHARS {
        labels.extend(wire.attributes.iter().map(|a| (a.key.clone(), a.value.clone())));
    }
    labels.sort();
    Some(BatchExemplar { t_ms: ms(wire.t_ns), value: wire.value?, labels })
}
