//! Classic histograms as native ones with custom buckets: `convert_classic_histograms_to_nhcb`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use pilothouse_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint, Span};
use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::write::{BatchExemplar, MetricType};
use pilothouse_model::{Labels, LabelsBuilder};
use pilothouse_wire::Decoded;

/// A native histogram made of the series of a classic one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Converted {
    /// As exposed, without `le` and the suffix of the name.
    pub(crate) labels: Labels,
    /// As exposed.
    pub(crate) t_ms: i64,
    pub(crate) histogram: Histogram,
    pub(crate) exemplars: Vec<BatchExemplar>,
}

/// The parts of one classic histogram.
#[derive(Debug, Default)]
struct Parts {
    /// Upper bound and cumulative count, as exposed.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: Option<f64>,
    t_ms: i64,
    exemplars: Vec<BatchExemplar>,
    /// The series they stand in.
    keys: Vec<u128>,
}

/// Converts what can be, by the types that the body names. The keys are those of the series that
/// are told by what was made. A histogram that makes no sense stays as it is, and so does one
/// that is there as a native one too.
pub(crate) fn convert(decoded: &Decoded) -> (HashSet<u128>, Vec<Converted>) {
    let batch = &decoded.batch;
    let gauges: HashMap<&str, bool> = batch
        .metadata
        .iter()
        .filter_map(|family| match family.metric_type {
            MetricType::Histogram => Some((family.family.as_str(), false)),
            MetricType::GaugeHistogram => Some((family.family.as_str(), true)),
            _ => None,
        })
        .collect();
    let mut found: BTreeMap<Labels, Parts> = BTreeMap::new();
    let mut native = HashSet::new();
    for series in &batch.series {
        let Some(labels) = labels_of(decoded, batch.raw_labels(series)) else { continue };
        if !series.histograms.is_empty() {
            native.insert(labels);
            continue;
        }
        let Some((base, part)) = part_of(&labels, &gauges) else { continue };
        let Some(sample) = batch.floats_of(series).last() else { continue };
        let parts = found.entry(base).or_default();
        match part {
            Part::Bucket(bound) => parts.buckets.push((bound, sample.value)),
            Part::Sum => parts.sum = sample.value,
            Part::Count => parts.count = Some(sample.value),
        }
        parts.t_ms = sample.t_ms;
        parts.exemplars.extend(batch.exemplars_of(series).iter().cloned());
        parts.keys.push(series.key);
    }
    let (mut told, mut made) = (HashSet::new(), Vec::new());
    for (labels, parts) in found {
        let is_gauge = labels.metric_name().and_then(|name| gauges.get(name)).copied().unwrap_or(false);
        if native.contains(&labels) {
            continue;
        }
        let Some(histogram) = parts.histogram(is_gauge) else { continue };
        told.extend(parts.keys);
        made.push(Converted { labels, t_ms: parts.t_ms, histogram, exemplars: parts.exemplars });
    }
    (told, made)
}

enum Part {
    Bucket(f64),
    Sum,
    Count,
}

fn labels_of(decoded: &Decoded, raw: &[u8]) -> Option<Labels> {
    let mut pairs = Vec::new();
    (decoded.batch.read_labels)(raw, &mut pairs).ok()?;
    let texts: Option<Vec<(&str, &str)>> = pairs
        .iter()
        .map(|(n, v)| Some((std::str::from_utf8(n).ok()?, std::str::from_utf8(v).ok()?)))
        .collect();
    texts.map(Labels::from_pairs)
}

/// Which histogram a series is part of, and which part.
fn part_of(labels: &Labels, gauges: &HashMap<&str, bool>) -> Option<(Labels, Part)> {
    let name = labels.metric_name()?;
    let family = |suffix: &str| name.strip_suffix(suffix).filter(|base| gauges.contains_key(base));
    let (base, part) = if let Some(base) = family("_bucket") {
        (base, Part::Bucket(labels.get("le")?.parse().ok()?))
    } else if let Some(base) = family("_sum").or_else(|| family("_gsum")) {
        (base, Part::Sum)
    } else {
        (family("_count").or_else(|| family("_gcount"))?, Part::Count)
    };
    let mut builder = LabelsBuilder::from(labels);
    builder.set(METRIC_NAME, base).remove("le");
    Some((builder.build(), part))
}

impl Parts {
    /// `None` where counts shrink, bounds are no numbers, or the parts contradict each other.
    fn histogram(&self, is_gauge: bool) -> Option<Histogram> {
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets.dedup_by(|a, b| a.0 == b.0);
        let count = self.count.or_else(|| buckets.last().map(|(_, count)| *count))?;
        if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            buckets.push((f64::INFINITY, count));
        }
        let holds = buckets.iter().all(|(bound, count)| !bound.is_nan() && *count >= 0.0)
            && buckets.is_sorted_by(|a, b| a.1 <= b.1)
            && buckets.last().is_some_and(|(_, last)| *last == count);
        if !holds {
            return None;
        }
        let before = std::iter::once(0.0).chain(buckets.iter().map(|(_, count)| *count));
        let counts: Vec<f64> =
            buckets.iter().zip(before).map(|((_, count), before)| count - before).collect();
        let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).filter(|b| b.is_finite()).collect();
        Some(Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            reset_hint: if is_gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            integer: buckets.iter().all(|(_, count)| count.fract() == 0.0),
            count,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length: u32::try_from(counts.len()).ok()? }],
            positive_counts: counts,
            custom_bounds: Arc::from(bounds),
            ..Histogram::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use pilothouse_model::limits::Limits;
    use pilothouse_wire::exposition::{TextFormat, parse};

    use super::*;

    fn converted(text: &str) -> (usize, Vec<Converted>) {
        let decoded = parse(TextFormat::Prometheus, text.as_bytes(), 7, &Limits::default()).unwrap();
        let (told, made) = convert(&decoded);
        (told.len(), made)
    }

    const GOOD: &str = "# TYPE h histogram\nh_bucket{a=\"x\",le=\"1\"} 2\nh_bucket{a=\"x\",le=\"5\"} 3\n\
                        h_bucket{a=\"x\",le=\"+Inf\"} 7\nh_sum{a=\"x\"} 20.5\nh_count{a=\"x\"} 7\nother_count 1\n";

    #[test]
    fn a_classic_histogram_becomes_one_sample() {
        let (told, made) = converted(GOOD);
        assert_eq!((told, made.len()), (5, 1));
        assert_eq!(made[0].labels, Labels::from_pairs([("__name__", "h"), ("a", "x")]));
        let h = &made[0].histogram;
        assert_eq!((h.schema, h.integer, h.count, h.sum), (CUSTOM_BUCKETS_SCHEMA, true, 7.0, 20.5));
        assert_eq!((&h.custom_bounds[..], &h.positive_counts[..]), (&[1.0, 5.0][..], &[2.0, 1.0, 4.0][..]));
        assert_eq!(made[0].t_ms, 7);
        // The last bucket follows from the count, and the order of bounds does not matter.
        let (_, same) = converted(&GOOD.replace("h_bucket{a=\"x\",le=\"+Inf\"} 7\n", ""));
        assert_eq!(same[0].histogram, *h);
        let swapped =
            "# TYPE h histogram\nh_bucket{le=\"5\"} 3\nh_bucket{le=\"1\"} 2\nh_count 7\nh_sum 20.5\n";
        assert_eq!(converted(swapped).1[0].histogram, *h);
    }

    #[test]
    fn what_makes_no_sense_stays_as_it_is() {
        for text in [
            "h_bucket{le=\"1\"} 2\nh_count 2\n",
            "# TYPE h counter\nh_bucket{le=\"1\"} 2\nh_count 2\n",
            "# TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"2\"} 2\nh_count 3\n",
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_count 4\n",
            "# TYPE h histogram\nh_bucket{le=\"x\"} 3\n",
            "# TYPE h histogram\nh_bucket{le=\"1\"} -3\nh_count 4\n",
        ] {
            assert_eq!(converted(text), (0, Vec::new()), "{text}");
        }
        let (_, floats) = converted("# TYPE h histogram\nh_bucket{le=\"1\"} 0.5\nh_count 2.5\n");
        assert!(!floats[0].histogram.integer);
    }
}
