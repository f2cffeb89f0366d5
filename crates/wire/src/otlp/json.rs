//! The JSON form (OTLP/JSON): names in camel case or as in the protobuf, 64-bit numbers as
//! strings or numbers, ids in hexadecimal, bytes in base64, enums as numbers or names.
//!
//! Lists are kept as the text of their elements and read one element at a time, so that a list
//! of a million empty objects costs its text and not a million structures.

use std::fmt;

use pilothouse_model::limits::Limits;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::MESSAGE;
use super::translate::Translation;
use super::value_json::{Float, List, Number, Pair, elements, read};
use super::words::{self, Attribute, Buckets, Exemplar, Exponential, Kind, MetricHead, Point, PointHead};
use crate::{DecodeError, Decoded};

pub(super) fn decode(body: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|e| DecodeError::malformed(MESSAGE, e.to_string()))?;
    let mut translation = Translation::new(limits);
    let request: Request<'_> = read(text)?;
    for resource_metrics in elements(&request.resource_metrics) {
        walk_resource_metrics(read(resource_metrics.get())?, &mut translation)?;
    }
    Ok(translation.finish())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow, default, alias = "resource_metrics")]
    resource_metrics: List<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a> {
    #[serde(borrow, default)]
    resource: Option<Resource<'a>>,
    #[serde(borrow, default, alias = "scope_metrics")]
    scope_metrics: List<'a>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default)]
    attributes: List<'a>,
}

#[derive(Deserialize)]
struct ScopeMetrics<'a> {
    #[serde(borrow, default)]
    metrics: List<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric<'a> {
    name: Option<String>,
    description: Option<String>,
    unit: Option<String>,
    #[serde(borrow, default)]
    gauge: Option<Data<'a>>,
    #[serde(borrow, default)]
    sum: Option<Data<'a>>,
    #[serde(borrow, default)]
    histogram: Option<Data<'a>>,
    #[serde(borrow, default, alias = "exponential_histogram")]
    exponential_histogram: Option<Data<'a>>,
    #[serde(borrow, default)]
    summary: Option<Data<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow, default, alias = "data_points")]
    data_points: List<'a>,
    #[serde(default, alias = "aggregation_temporality")]
    aggregation_temporality: Temporality,
    #[serde(default, alias = "is_monotonic")]
    is_monotonic: Option<bool>,
}

fn walk_resource_metrics(from: ResourceMetrics<'_>, to: &mut Translation) -> Result<(), DecodeError> {
    let resource = from.resource.map(|r| attributes(&r.attributes, to)).transpose()?;
    to.begin_resource(resource.unwrap_or_default());
    for scope in elements(&from.scope_metrics) {
        let scope: ScopeMetrics<'_> = read(scope.get())?;
        for metric in elements(&scope.metrics) {
            walk_metric(read(metric.get())?, to)?;
        }
    }
    to.end_resource()
}

fn walk_metric(metric: Metric<'_>, to: &mut Translation) -> Result<(), DecodeError> {
    let (kind, data) = kind_of(&metric);
    let head = MetricHead {
        name: metric.name.clone().unwrap_or_default(),
        description: metric.description.clone().unwrap_or_default(),
        unit: metric.unit.clone().unwrap_or_default(),
        kind,
    };
    to.begin_metric(&head)?;
    for point in data.into_iter().flat_map(|data| elements(&data.data_points)) {
        let point = read_point(kind, point.get(), to)?;
        to.point(point)?;
    }
    Ok(())
}

fn kind_of<'m, 'a>(metric: &'m Metric<'a>) -> (Kind, Option<&'m Data<'a>>) {
    let temporality = |data: &Data<'_>| data.aggregation_temporality.0;
    if let Some(data) = &metric.gauge {
        (Kind::Gauge, Some(data))
    } else if let Some(data) = &metric.sum {
        let monotonic = data.is_monotonic.unwrap_or_default();
        (Kind::Sum { temporality: temporality(data), monotonic }, Some(data))
    } else if let Some(data) = &metric.histogram {
        (Kind::Histogram { temporality: temporality(data) }, Some(data))
    } else if let Some(data) = &metric.exponential_histogram {
        (Kind::Exponential { temporality: temporality(data) }, Some(data))
    } else if let Some(data) = &metric.summary {
        (Kind::Summary, Some(data))
    } else {
        (Kind::Unset, None)
    }
}

/// All fields that a point of any kind has; each kind reads its own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyPoint<'a> {
    #[serde(borrow, default)]
    attributes: List<'a>,
    #[serde(default, alias = "time_unix_nano")]
    time_unix_nano: Number<u64>,
    #[serde(default)]
    flags: Number<u32>,
    #[serde(borrow, default)]
    exemplars: List<'a>,
    #[serde(default, alias = "as_double")]
    as_double: Option<Float>,
    #[serde(default, alias = "as_int")]
    as_int: Option<Number<i64>>,
    #[serde(default)]
    count: Number<u64>,
    #[serde(default)]
    sum: Option<Float>,
    #[serde(default, alias = "bucket_counts")]
    bucket_counts: Option<Vec<Number<u64>>>,
    #[serde(default, alias = "explicit_bounds")]
    explicit_bounds: Option<Vec<Float>>,
    #[serde(default)]
    scale: Number<i32>,
    #[serde(default, alias = "zero_count")]
    zero_count: Number<u64>,
    #[serde(default)]
    positive: Option<AnyBuckets>,
    #[serde(default)]
    negative: Option<AnyBuckets>,
    #[serde(default, alias = "quantile_values")]
    quantile_values: Option<Vec<Quantile>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyBuckets {
    #[serde(default)]
    offset: Number<i32>,
    #[serde(default, alias = "bucket_counts")]
    bucket_counts: Option<Vec<Number<u64>>>,
}

#[derive(Deserialize)]
struct Quantile {
    #[serde(default)]
    quantile: Float,
    #[serde(default)]
    value: Float,
}

fn read_point(kind: Kind, text: &str, to: &mut Translation) -> Result<Point, DecodeError> {
    let point: AnyPoint<'_> = read(text)?;
    let head = PointHead {
        attributes: attributes(&point.attributes, to)?,
        t_ns: point.time_unix_nano.0,
        flags: point.flags.0,
        exemplars: elements(&point.exemplars)
            .map(|e| read_exemplar(e.get(), to))
            .collect::<Result<_, _>>()?,
    };
    let counts = |list: Option<Vec<Number<u64>>>| -> Vec<u64> {
        list.unwrap_or_default().into_iter().map(|n| n.0).collect()
    };
    let sum = point.sum.map(|f| f.0);
    let buckets = |side: Option<AnyBuckets>| {
        side.map(|s| Buckets { offset: s.offset.0, counts: counts(s.bucket_counts) }).unwrap_or_default()
    };
    Ok(match kind {
        Kind::Gauge | Kind::Sum { .. } | Kind::Unset => {
            let int = point.as_int.map(|n| n.0 as f64);
            Point::Number { head, value: int.or(point.as_double.map(|f| f.0)).unwrap_or_default() }
        }
        Kind::Histogram { .. } => {
            let bounds = point.explicit_bounds.unwrap_or_default().into_iter().map(|f| f.0).collect();
            Point::Histogram { head, count: point.count.0, sum, counts: counts(point.bucket_counts), bounds }
        }
        Kind::Exponential { .. } => {
            let histogram = Exponential {
                count: point.count.0,
                sum: sum.unwrap_or_default(),
                scale: point.scale.0,
                zero_count: point.zero_count.0,
                positive: buckets(point.positive),
                negative: buckets(point.negative),
            };
            to.quota.take_samples(histogram.positive.counts.len() + histogram.negative.counts.len())?;
            Point::Exponential { head, histogram }
        }
        Kind::Summary => {
            let quantiles = point.quantile_values.unwrap_or_default();
            let quantiles = quantiles.into_iter().map(|q| (q.quantile.0, q.value.0)).collect();
            Point::Summary { head, count: point.count.0, sum: sum.unwrap_or_default(), quantiles }
        }
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyExemplar<'a> {
    #[serde(borrow, default, alias = "filtered_attributes")]
    filtered_attributes: List<'a>,
    #[serde(default, alias = "time_unix_nano")]
    time_unix_nano: Number<u64>,
    #[serde(default, alias = "as_double")]
    as_double: Option<Float>,
    #[serde(default, alias = "as_int")]
    as_int: Option<Number<i64>>,
    #[serde(default, alias = "span_id")]
    span_id: Option<String>,
    #[serde(default, alias = "trace_id")]
    trace_id: Option<String>,
}

fn read_exemplar(text: &str, to: &mut Translation) -> Result<Exemplar, DecodeError> {
    to.quota.take_samples(1)?;
    let wire: AnyExemplar<'_> = read(text)?;
    let id = |text: Option<String>| {
        let text = text.unwrap_or_default();
        words::from_hex(&text)
            .ok_or_else(|| DecodeError::malformed(MESSAGE, format!("an id is not hexadecimal: {text:?}")))
    };
    Ok(Exemplar {
        t_ns: wire.time_unix_nano.0,
        value: wire.as_int.map(|n| n.0 as f64).or(wire.as_double.map(|f| f.0)),
        trace_id: id(wire.trace_id)?,
        span_id: id(wire.span_id)?,
        attributes: attributes(&wire.filtered_attributes, to)?,
    })
}

fn attributes(list: &List<'_>, to: &mut Translation) -> Result<Vec<Attribute>, DecodeError> {
    elements(list)
        .map(|pair| {
            to.quota.take_samples(1)?;
            let pair: Pair = read(pair.get())?;
            let (key, value) = pair.into_words()?;
            Ok(Attribute { key, value: value.into_text() })
        })
        .collect()
}

/// The temporality as its number or its name.
#[derive(Default)]
struct Temporality(i32);

impl<'de> Deserialize<'de> for Temporality {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TemporalityVisitor).map(Self)
    }
}

struct TemporalityVisitor;

impl Visitor<'_> for TemporalityVisitor {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an aggregation temporality")
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<i32, E> {
        Ok(i32::try_from(n).unwrap_or(0))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<i32, E> {
        Ok(i32::try_from(n).unwrap_or(0))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i32, E> {
        match text {
            "AGGREGATION_TEMPORALITY_UNSPECIFIED" => Ok(0),
            "AGGREGATION_TEMPORALITY_DELTA" => Ok(1),
            "AGGREGATION_TEMPORALITY_CUMULATIVE" => Ok(2),
            _ => Err(E::custom(format_args!("unknown aggregation temporality {text:?}"))),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<i32, E> {
        Ok(0)
    }
}
