//! Classic histograms as native ones with custom buckets: `convert_classic_histograms_to_nhcb`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use pilothouse_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint, Span};
use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::sample::format_float_general;
use pilothouse_model::write::{BatchExemplar, MetadataEntry, MetricType};
use pilothouse_model::{Labels, LabelsBuilder};
use pilothouse_wire::Decoded;

use crate::exchange::Form;

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
}

/// Converts what can be, by the types that the body names. The keys are those of the series that
/// are told by what was made: they are left out where the classic form is not wanted too. One that
/// is there as a native histogram as well stays as it is.
///
/// As Prometheus: of a text a histogram that makes no sense is left out, with the series it
/// was made of; of protobuf it fails the scrape, and gauge histograms are converted there alone.
/// Different is that its parts may stand apart from each other in the body.
pub(crate) fn convert(decoded: &Decoded, form: Form) -> Result<(HashSet<u128>, Vec<Converted>), String> {
    let batch = &decoded.batch;
    let gauges = gauges(decoded, form);
    let mut found: BTreeMap<Labels, Parts> = BTreeMap::new();
    let (mut native, mut members) = (HashSet::new(), Vec::new());
    for series in &batch.series {
        let Some(labels) = labels_of(decoded, batch.raw_labels(series)) else { continue };
        if !series.histograms.is_empty() {
            native.insert(labels);
            continue;
        }
        let Some((base, part)) = part_of(&labels, &gauges) else { continue };
        // Said twice, the first counts.
        let Some(sample) = batch.floats_of(series).first() else { continue };
        members.push((series.key, base.clone()));
        let parts = found.entry(base).or_default();
        match part {
            Part::Bucket(bound) => parts.buckets.push((bound, sample.value)),
            Part::Sum => parts.sum = sample.value,
            Part::Count => parts.count = Some(sample.value),
        }
        parts.t_ms = sample.t_ms;
        // One without a time of its own has the sample's; a native histogram's is left out.
        let exemplars = batch.exemplars_of(series).iter();
        parts.exemplars.extend(exemplars.filter(|exemplar| exemplar.t_ms != sample.t_ms).cloned());
    }
    let told = members.into_iter().filter(|(_, base)| !native.contains(base)).map(|(key, _)| key).collect();
    let mut made = Vec::new();
    for (labels, parts) in found.into_iter().filter(|(labels, _)| !native.contains(labels)) {
        let is_gauge = labels.metric_name().and_then(|name| gauges.get(name)).copied().unwrap_or(false);
        match parts.histogram(is_gauge) {
            Ok(histogram) => {
                made.push(Converted { labels, t_ms: parts.t_ms, histogram, exemplars: parts.exemplars });
            }
            Err(why) if form == Form::Protobuf => return Err(why),
            Err(_) => {}
        }
    }
    Ok((told, made))
}

/// The families that are histograms, and whether they are gauges.
fn gauges(decoded: &Decoded, form: Form) -> HashMap<&str, bool> {
    let of_family = |family: &'_ MetadataEntry| match family.metric_type {
        MetricType::Histogram => Some(false),
        MetricType::GaugeHistogram if form == Form::Protobuf => Some(true),
        _ => None,
    };
    let families = decoded.batch.metadata.iter();
    families.filter_map(|family| Some((family.family.as_str(), of_family(family)?))).collect()
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
        let bound: f64 = labels.get("le")?.parse().ok()?;
        (base, Part::Bucket(Some(bound).filter(|bound| !bound.is_nan())?))
    } else if let Some(base) = family("_sum") {
        (base, Part::Sum)
    } else {
        (family("_count")?, Part::Count)
    };
    let mut builder = LabelsBuilder::from(labels);
    builder.set(METRIC_NAME, base).remove("le");
    Some((builder.build(), part))
}

impl Parts {
    /// The buckets by their bounds, the last of them the infinite one; of a bound that is said
    /// twice the first.
    fn whole(&self) -> Result<(Vec<(f64, f64)>, f64), String> {
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets.dedup_by(|a, b| a.0 == b.0);
        let count = self.count.or_else(|| buckets.last().map(|(_, count)| *count)).unwrap_or(0.0);
        if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            buckets.push((f64::INFINITY, count));
        }
        check(&buckets, count)?;
        Ok((buckets, count))
    }

    /// The error says what contradicts what.
    fn histogram(&self, is_gauge: bool) -> Result<Histogram, String> {
        let (buckets, count) = self.whole()?;
        let before = std::iter::once(0.0).chain(buckets.iter().map(|(_, count)| *count));
        let counts: Vec<f64> =
            buckets.iter().zip(before).map(|((_, count), before)| count - before).collect();
        let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).filter(|b| b.is_finite()).collect();
        let length = u32::try_from(counts.len()).map_err(|e| e.to_string())?;
        Ok(Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            reset_hint: if is_gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            integer: buckets.iter().all(|(_, count)| count.fract() == 0.0),
            count,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length }],
            positive_counts: counts,
            custom_bounds: Arc::from(bounds),
            ..Histogram::default()
        })
    }
}

/// In Prometheus' words.
fn check(buckets: &[(f64, f64)], count: f64) -> Result<(), String> {
    let shown = format_float_general;
    if buckets.first().is_some_and(|(bound, _)| *bound == f64::NEG_INFINITY) {
        return Err("histogram custom bounds must be finite".to_owned());
    }
    // A count that is no number is none that is not negative.
    let negative = |count: f64| count.is_nan() || count < 0.0;
    if negative(count) {
        return Err(format!("count must be non-negative: count={}", shown(count)));
    }
    let mut before = 0.0;
    for (bound, cumulative) in buckets.iter().copied() {
        let shown_count = shown(cumulative);
        if negative(cumulative) {
            let le = shown(bound);
            return Err(format!("bucket count must be non-negative: le={le}, count={shown_count}"));
        }
        if cumulative < before {
            return Err(format!("count is not cumulative: {shown_count} < {}", shown(before)));
        }
        before = cumulative;
    }
    if before != count {
        let (count, last) = (shown(count), shown(before));
        return Err(format!("count mismatch: count={count} != le=+Inf count={last}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pilothouse_model::labels::SeriesText;
    use pilothouse_model::limits::Limits;
    use pilothouse_wire::exposition::{TextFormat, UNTIMED, parse};

    use super::*;

    /// How many series are told by what was made, and what that is.
    fn converted_of(format: TextFormat, text: &str) -> (usize, Vec<Converted>) {
        let decoded = parse(format, text.as_bytes(), UNTIMED, &Limits::default()).unwrap();
        let (told, made) = convert(&decoded, Form::Text(format)).unwrap();
        (told.len(), made)
    }

    fn converted(text: &str) -> (usize, Vec<Converted>) {
        converted_of(TextFormat::Prometheus, text)
    }

    /// Each as `labels count/sum bounds counts`.
    fn shown(made: &[Converted]) -> Vec<String> {
        let one = |c: &Converted| {
            let h = &c.histogram;
            format!(
                "{} {}/{} {:?} {:?}",
                SeriesText(&c.labels),
                h.count,
                h.sum,
                h.custom_bounds,
                h.positive_counts
            )
        };
        made.iter().map(one).collect()
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
        assert_eq!(made[0].t_ms, UNTIMED);
        // The last bucket follows from the count, and the order of bounds does not matter.
        let (_, same) = converted(&GOOD.replace("h_bucket{a=\"x\",le=\"+Inf\"} 7\n", ""));
        assert_eq!(same[0].histogram, *h);
        let swapped =
            "# TYPE h histogram\nh_bucket{le=\"5\"} 3\nh_bucket{le=\"1\"} 2\nh_count 7\nh_sum 20.5\n";
        assert_eq!(converted(swapped).1[0].histogram, *h);
    }

    /// Body without its `# TYPE h histogram`, how many series are told, what is made.
    #[test]
    fn what_is_made_of_which_parts() {
        for (body, told, expected) in [
            ("h_bucket{le=\"+Inf\"} 1\n", 1, &["h 1/0 [] [1.0]"][..]),
            ("h_count 2\n", 1, &["h 2/0 [] [2.0]"]),
            ("h_sum 2\n", 1, &["h 0/2 [] [0.0]"]),
            ("h_count 2\nh_bucket{le=\"1\"} 2\n", 2, &["h 2/0 [1.0] [2.0, 0.0]"]),
            ("h_bucket{le=\"1\"} 2\n", 1, &["h 2/0 [1.0] [2.0, 0.0]"]),
            (
                "h_bucket{le=\"-1\"} 2\nh_bucket{le=\"0\"} 2\nh_count 3\n",
                3,
                &["h 3/0 [-1.0, 0.0] [2.0, 0.0, 1.0]"],
            ),
            // Of a bound that is said twice the first counts.
            ("h_bucket{le=\"1\"} 2\nh_bucket{le=\"1.0\"} 3\nh_count 4\n", 2, &["h 4/0 [1.0] [2.0, 2.0]"]),
            // A series for each set of labels, in whatever order they stand.
            (
                "h_count 1\nh_count{a=\"b\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_bucket{a=\"b\",le=\"+Inf\"} 2\n",
                4,
                &["h 1/0 [] [1.0]", "h{a=\"b\"} 2/0 [] [2.0]"],
            ),
            ("h_bucket{le=\"1\"} 0.5\nh_count 2.5\n", 2, &["h 2.5/0 [1.0] [0.5, 2.0]"]),
            // Not its parts.
            ("h_bucket 1\n", 0, &[]),
            ("h_bucket{le=\"x\"} 1\n", 0, &[]),
            ("h_bucket{le=\"NaN\"} 1\n", 0, &[]),
            ("h_created 1\nh 1\nhh_count 1\n", 0, &[]),
            // What makes no sense is left out, and does not stay as it was.
            ("h_bucket{le=\"1\"} 3\nh_bucket{le=\"2\"} 2\nh_count 3\n", 3, &[]),
            ("h_bucket{le=\"+Inf\"} 3\nh_count 4\n", 2, &[]),
            ("h_bucket{le=\"1\"} 5\nh_count 4\n", 2, &[]),
            ("h_bucket{le=\"1\"} -3\nh_count 4\n", 2, &[]),
            ("h_count -4\n", 1, &[]),
            ("h_count NaN\n", 1, &[]),
            ("h_bucket{le=\"-Inf\"} 1\nh_count 4\n", 2, &[]),
        ] {
            let found = converted(&format!("# TYPE h histogram\n{body}"));
            assert_eq!(
                (found.0, shown(&found.1)),
                (told, expected.iter().map(|&e| e.to_owned()).collect::<Vec<_>>()),
                "{body}"
            );
        }
        for head in ["", "# TYPE h counter\n", "# TYPE h summary\n", "# TYPE hh histogram\n"] {
            assert_eq!(converted(&format!("{head}h_bucket{{le=\"1\"}} 2\nh_count 2\n")).0, 0, "{head}");
        }
        let gauge = "# TYPE h gaugehistogram\nh_bucket{le=\"1\"} 2\nh_gcount 2\nh_gsum 2\n# EOF\n";
        assert_eq!(converted_of(TextFormat::OpenMetrics, gauge), (0, Vec::new()));
    }

    #[test]
    fn only_exemplars_with_a_time_are_kept() {
        let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 2 # {i=\"1\"} 0.5\nh_bucket{le=\"+Inf\"} 3 # {i=\"2\"} 8 123.321\n\
                    h_count 3 # {i=\"3\"} 7 123.0\nh_sum 4\n# EOF\n";
        let (_, made) = converted_of(TextFormat::OpenMetrics, body);
        let kept: Vec<(f64, i64)> = made[0].exemplars.iter().map(|e| (e.value, e.t_ms)).collect();
        assert_eq!(kept, [(8.0, 123_321), (7.0, 123_000)]);
        // The time of the sample is not the exemplar's own.
        let timed = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3 5.0 # {i=\"2\"} 8\nh_count 3 5.0\n# EOF\n";
        let (_, made) = converted_of(TextFormat::OpenMetrics, timed);
        assert_eq!((made[0].t_ms, made[0].exemplars.len()), (5_000, 0));
    }
}
