//! The protobuf format: messages `io.prometheus.client.MetricFamily`, each behind its length.
//!
//! A classic histogram or summary becomes the series that its text would be; a native one becomes
//! a histogram sample, and its classic buckets are read only where that is asked for.

use pilothouse_model::histogram::{Histogram, ResetHint};
use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::limits::Limits;
use pilothouse_model::write::{BatchExemplar, FloatSample, HistogramSample, MetadataEntry, MetricType};

use super::native::{self, Native};
use super::openmetrics_float;
use crate::decoded::{Fault, Quota, Sample};
use crate::proto::{Cursor, ProtoError, bytes_key, fixed64_key, varint_key};
use crate::{DecodeError, Decoded};

pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Which forms of a histogram are wanted of those that a target offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistogramForms {
    /// Without, a native histogram is read as the classic one beside it.
    pub native: bool,
    /// The classic form also where there is a native one.
    pub classic_too: bool,
}

/// Reads a whole body. Samples without a time get `default_t_ms`; times of 0 are no times.
pub fn parse(
    body: &[u8],
    default_t_ms: i64,
    forms: HistogramForms,
    limits: &Limits,
) -> Result<Decoded, DecodeError> {
    let (decoded, fault) = parse_prefix(body, default_t_ms, forms, limits);
    fault.map_or(Ok(decoded), Err)
}

/// Reads up to the first family that cannot be read. Gives what stood before, some of that family
/// perhaps included, and why it ends there.
pub fn parse_prefix(
    body: &[u8],
    default_t_ms: i64,
    forms: HistogramForms,
    limits: &Limits,
) -> (Decoded, Option<DecodeError>) {
    let mut reader = Reader { decoded: Decoded::new(), quota: Quota::new(limits), default_t_ms, forms };
    let fault = reader.families(body).err();
    (reader.decoded, fault)
}

struct Reader {
    decoded: Decoded,
    quota: Quota,
    default_t_ms: i64,
    forms: HistogramForms,
}

/// What precedes the metrics of a family; on the wire its parts may stand anywhere.
struct Head<'a> {
    name: &'a [u8],
    kind: i32,
    help: String,
    unit: String,
}

const COUNTER: i32 = 0;
const GAUGE: i32 = 1;
const SUMMARY: i32 = 2;
const HISTOGRAM: i32 = 4;
const GAUGE_HISTOGRAM: i32 = 5;

impl Reader {
    fn families(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let mut cursor = Cursor::new(body);
        while !cursor.is_at_end() {
            let at = cursor.at;
            let family = cursor.message().map_err(Fault::from);
            family.and_then(|family| self.family(family)).map_err(|fault| fault.at("MetricFamily", at))?;
        }
        Ok(())
    }

    fn family(&mut self, message: Cursor<'_>) -> Result<(), Fault> {
        let head = Head::read(message)?;
        let mut fields = message;
        let mut known = false;
        while let Some(key) = fields.key()? {
            if key != bytes_key(4) {
                fields.skip(key)?;
                continue;
            }
            let metric = fields.message()?;
            if !known {
                head.check()?;
                self.metadata(&head)?;
                known = true;
            }
            self.metric(&head, metric)?;
        }
        Ok(())
    }

    /// A family without metrics is none, so this is called with the first of them.
    fn metadata(&mut self, head: &Head<'_>) -> Result<(), Fault> {
        self.quota.take_series()?;
        self.quota.take_bytes(head.help.len() + head.unit.len())?;
        self.decoded.batch.metadata.push(MetadataEntry {
            family: String::from_utf8_lossy(head.name).into_owned(),
            metric_type: head.metric_type(),
            help: head.help.clone(),
            unit: head.unit.clone(),
        });
        Ok(())
    }

    fn metric(&mut self, head: &Head<'_>, message: Cursor<'_>) -> Result<(), Fault> {
        let mut metric = Metric::read(message)?;
        if metric.t_ms == 0 {
            metric.t_ms = self.default_t_ms;
        }
        let wanted = match head.kind {
            COUNTER => 3,
            GAUGE => 2,
            SUMMARY => 4,
            HISTOGRAM | GAUGE_HISTOGRAM => 7,
            _ => 5,
        };
        // A metric without the value of its type has that value's zero.
        let value = metric.values.iter().rev().find(|(field, _)| *field == wanted);
        let value = value.map_or(Cursor::new(&[]), |(_, value)| *value);
        match wanted {
            4 => self.summary(head, &metric, value),
            7 => self.histogram(head, &metric, value),
            _ => self.number(head, &metric, value),
        }
    }

    fn number(&mut self, head: &Head<'_>, metric: &Metric<'_>, mut message: Cursor<'_>) -> Result<(), Fault> {
        let (mut value, mut exemplar) = (0.0, None);
        while let Some(key) = message.key()? {
            match key {
                VALUE => value = message.double()?,
                EXEMPLAR if head.kind == COUNTER => exemplar = Some(message.message()?),
                _ => message.skip(key)?,
            }
        }
        let exemplar = exemplar.map(|e| read_exemplar(e, metric.t_ms)).transpose()?;
        self.float(head, metric, "", None, value, exemplar.map(|(exemplar, _)| exemplar))
    }

    fn summary(
        &mut self,
        head: &Head<'_>,
        metric: &Metric<'_>,
        mut message: Cursor<'_>,
    ) -> Result<(), Fault> {
        let (mut count, mut sum) = (0u64, 0.0);
        let mut quantiles = Vec::new();
        while let Some(key) = message.key()? {
            match key {
                COUNT => count = message.varint()?,
                SUM => sum = message.double()?,
                BUCKET => {
                    self.quota.take_samples(1)?;
                    quantiles.push(read_quantile(message.message()?)?);
                }
                _ => message.skip(key)?,
            }
        }
        self.float(head, metric, "_count", None, count as f64, None)?;
        self.float(head, metric, "_sum", None, sum, None)?;
        for (quantile, value) in quantiles {
            self.float(head, metric, "", Some(("quantile", quantile)), value, None)?;
        }
        Ok(())
    }

    fn histogram(&mut self, head: &Head<'_>, metric: &Metric<'_>, message: Cursor<'_>) -> Result<(), Fault> {
        let read = native::read(message, self.quota.max_buckets)?;
        self.quota.take_samples(read.items())?;
        if read.items() > self.quota.max_buckets {
            let limit = self.quota.max_buckets as u64;
            return Err(DecodeError::TooMany { what: "buckets in one histogram", limit }.into());
        }
        let is_native = self.forms.native && read.is_native();
        if is_native {
            self.native(head, metric, &read)?;
        }
        if !is_native || self.forms.classic_too && !read.buckets.is_empty() {
            self.classic(head, metric, &read)?;
        }
        Ok(())
    }

    fn native(&mut self, head: &Head<'_>, metric: &Metric<'_>, read: &Native<'_>) -> Result<(), Fault> {
        let mut histogram: Histogram = read.histogram();
        read.check(&histogram).map_err(|why| {
            let name = String::from_utf8_lossy(head.name);
            DecodeError::malformed("MetricFamily", format!("histogram \"{name}\": {why}"))
        })?;
        if head.kind == GAUGE_HISTOGRAM {
            histogram.reset_hint = ResetHint::Gauge;
        }
        // Exemplars of native histograms count only with a time; those of the buckets stand in
        // where there are no others.
        let own = read.exemplars.iter();
        let of_buckets = read.buckets.iter().filter_map(|bucket| bucket.exemplar.as_ref());
        let all: Vec<&Cursor<'_>> =
            if read.exemplars.is_empty() { of_buckets.collect() } else { own.collect() };
        let mut exemplars = Vec::new();
        for message in all {
            let (exemplar, timed) = read_exemplar(*message, metric.t_ms)?;
            exemplars.extend(timed.then_some(exemplar));
        }
        let sample = Sample::Histogram(HistogramSample { t_ms: metric.t_ms, histogram });
        self.push(head, metric, "", None, sample, exemplars)
    }

    fn classic(&mut self, head: &Head<'_>, metric: &Metric<'_>, read: &Native<'_>) -> Result<(), Fault> {
        let count = read.count();
        self.float(head, metric, "_count", None, count, None)?;
        self.float(head, metric, "_sum", None, read.sum, None)?;
        let mut infinite = false;
        for bucket in &read.buckets {
            let exemplar = bucket.exemplar.map(|e| read_exemplar(e, metric.t_ms)).transpose()?;
            let exemplar = exemplar.map(|(exemplar, _)| exemplar);
            infinite = bucket.upper_bound == f64::INFINITY;
            let le = Some(("le", bucket.upper_bound));
            self.float(head, metric, "_bucket", le, bucket.count(), exemplar)?;
            if infinite {
                break;
            }
        }
        if !infinite {
            self.float(head, metric, "_bucket", Some(("le", f64::INFINITY)), count, None)?;
        }
        Ok(())
    }

    fn float(
        &mut self,
        head: &Head<'_>,
        metric: &Metric<'_>,
        suffix: &str,
        label: Option<(&'static str, f64)>,
        value: f64,
        exemplar: Option<BatchExemplar>,
    ) -> Result<(), Fault> {
        let sample = Sample::Float(FloatSample { t_ms: metric.t_ms, value });
        self.push(head, metric, suffix, label, sample, exemplar.into_iter().collect())
    }

    fn push(
        &mut self,
        head: &Head<'_>,
        metric: &Metric<'_>,
        suffix: &str,
        label: Option<(&'static str, f64)>,
        sample: Sample,
        exemplars: Vec<BatchExemplar>,
    ) -> Result<(), Fault> {
        let name = [head.name, suffix.as_bytes()].concat();
        let number = label.map(|(name, number)| (name, openmetrics_float(number)));
        let mut pairs: Vec<(&[u8], &[u8])> = Vec::with_capacity(metric.labels.len() + 2);
        pairs.push((METRIC_NAME.as_bytes(), &name));
        pairs.extend(metric.labels.iter().copied());
        pairs.extend(number.as_ref().map(|(name, text)| (name.as_bytes(), text.as_bytes())));
        pairs.sort_by(|a, b| a.0.cmp(b.0));
        self.decoded.push_sample(&mut self.quota, pairs, sample, exemplars)?;
        Ok(())
    }
}

impl<'a> Head<'a> {
    fn read(mut message: Cursor<'a>) -> Result<Self, ProtoError> {
        let mut head = Self { name: &[], kind: COUNTER, help: String::new(), unit: String::new() };
        while let Some(key) = message.key()? {
            match key {
                NAME => head.name = message.bytes()?,
                HELP => head.help = message.text()?,
                TYPE => head.kind = message.int32()?,
                UNIT => head.unit = message.text()?,
                _ => message.skip(key)?,
            }
        }
        Ok(head)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let name = String::from_utf8_lossy(self.name);
        if self.name.is_empty() || std::str::from_utf8(self.name).is_err() {
            return Err(DecodeError::malformed("MetricFamily", format!("invalid metric name: {name}")));
        }
        if !(COUNTER..=GAUGE_HISTOGRAM).contains(&self.kind) {
            let why = format!("unknown metric type for metric \"{name}\": {}", self.kind);
            return Err(DecodeError::malformed("MetricFamily", why));
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        match self.kind {
            COUNTER => MetricType::Counter,
            GAUGE => MetricType::Gauge,
            SUMMARY => MetricType::Summary,
            HISTOGRAM => MetricType::Histogram,
            GAUGE_HISTOGRAM => MetricType::GaugeHistogram,
            _ => MetricType::Unknown,
        }
    }
}

/// A message `Metric`, its values not looked into yet.
struct Metric<'a> {
    labels: Vec<(&'a [u8], &'a [u8])>,
    t_ms: i64,
    /// Number of the field and message.
    values: Vec<(u32, Cursor<'a>)>,
}

/// No metric has more values than there are types; what else is said is said again.
const MAX_VALUES: usize = 16;

impl<'a> Metric<'a> {
    fn read(mut message: Cursor<'a>) -> Result<Self, Fault> {
        let mut metric = Self { labels: Vec::new(), t_ms: 0, values: Vec::new() };
        while let Some(key) = message.key()? {
            match key {
                LABEL => metric.labels.push(crate::labels::read_pair(message.message()?)?),
                TIMESTAMP => metric.t_ms = message.int64()?,
                key if matches!(key >> 3, 2..=5 | 7) && key & 7 == 2 && metric.values.len() < MAX_VALUES => {
                    metric.values.push((key >> 3, message.message()?));
                }
                _ => message.skip(key)?,
            }
        }
        Ok(metric)
    }
}

fn read_quantile(mut message: Cursor<'_>) -> Result<(f64, f64), ProtoError> {
    let (mut quantile, mut value) = (0.0, 0.0);
    while let Some(key) = message.key()? {
        match key {
            VALUE => quantile = message.double()?,
            SUM => value = message.double()?,
            _ => message.skip(key)?,
        }
    }
    Ok((quantile, value))
}

/// An exemplar, and whether it says a time.
fn read_exemplar(mut message: Cursor<'_>, sample_t_ms: i64) -> Result<(BatchExemplar, bool), Fault> {
    let mut exemplar = BatchExemplar { t_ms: sample_t_ms, value: 0.0, labels: Vec::new() };
    let mut timed = false;
    while let Some(key) = message.key()? {
        match key {
            LABEL => {
                let pair = crate::labels::read_pair(message.message()?)?;
                exemplar.labels.push(crate::labels::lossy_pair(pair));
            }
            SUM => exemplar.value = message.double()?,
            BUCKET => {
                exemplar.t_ms = read_time(message.message()?)?;
                timed = true;
            }
            _ => message.skip(key)?,
        }
    }
    Ok((exemplar, timed))
}

/// A `google.protobuf.Timestamp` in milliseconds.
fn read_time(mut message: Cursor<'_>) -> Result<i64, ProtoError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while let Some(key) = message.key()? {
        match key {
            COUNT => seconds = message.int64()?,
            KIND => nanos = message.int64()?,
            _ => message.skip(key)?,
        }
    }
    Ok(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

const NAME: u32 = bytes_key(1);
const HELP: u32 = bytes_key(2);
const TYPE: u32 = varint_key(3);
const UNIT: u32 = bytes_key(5);
const LABEL: u32 = bytes_key(1);
const TIMESTAMP: u32 = varint_key(6);
const VALUE: u32 = fixed64_key(1);
const EXEMPLAR: u32 = bytes_key(2);
const COUNT: u32 = varint_key(1);
const KIND: u32 = varint_key(2);
const SUM: u32 = fixed64_key(2);
const BUCKET: u32 = bytes_key(3);
