//! From raw label pairs to a label set, or the reason why not.
//!
//! The checks and their order are Mimir's: metric name, count, then each label in turn.

use std::borrow::Cow;

use pilothouse_model::histogram::EXPONENTIAL_SCHEMAS;
use pilothouse_model::labels::{METRIC_NAME, SeriesText};
use pilothouse_model::limits::Limits;
use pilothouse_model::write::{HistogramSample, RawPair, Reason, Rejection};
use pilothouse_model::{Histogram, Labels, LabelsBuilder};
use pilothouse_query::histogram::{self, InvalidHistogram};

/// Checks one label set and brings it into its one order. `pairs` is sorted in place.
pub fn canonical(pairs: &mut [RawPair<'_>], limits: &Limits) -> Result<Labels, Rejection> {
    pairs.sort_by(|a, b| a.0.cmp(b.0));
    check(pairs, limits).map_err(|reason| Rejection { reason, series: series_text(pairs) })?;
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or("");
    Ok(Labels::from_sorted(pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (text(n), text(v)))))
}

fn check(pairs: &[RawPair<'_>], limits: &Limits) -> Result<(), Reason> {
    check_metric_name(pairs)?;
    let count = pairs.iter().filter(|(_, v)| !v.is_empty()).count() as u64;
    if count > limits.max_labels_per_series {
        return Err(Reason::TooManyLabels { actual: count, limit: limits.max_labels_per_series });
    }
    let mut before: Option<&[u8]> = None;
    for (name, value) in pairs {
        check_label(name, value, limits)?;
        if before == Some(name) {
            return Err(Reason::DuplicateLabelName { name: lossy(name).into_owned() });
        }
        before = Some(name);
    }
    Ok(())
}

fn check_metric_name(pairs: &[RawPair<'_>]) -> Result<(), Reason> {
    let name = pairs.iter().find(|(n, v)| *n == METRIC_NAME.as_bytes() && !v.is_empty());
    let (_, name) = name.ok_or(Reason::MissingMetricName)?;
    match std::str::from_utf8(name) {
        Ok(_) => Ok(()),
        Err(_) => Err(Reason::InvalidMetricName { name: lossy(name).into_owned() }),
    }
}

fn check_label(name: &[u8], value: &[u8], limits: &Limits) -> Result<(), Reason> {
    let named = || lossy(name).into_owned();
    if name.is_empty() || std::str::from_utf8(name).is_err() {
        return Err(Reason::InvalidLabelName { name: named() });
    }
    if name.len() as u64 > limits.max_label_name_bytes {
        return Err(Reason::LabelNameTooLong { name: named(), limit: limits.max_label_name_bytes });
    }
    if std::str::from_utf8(value).is_err() {
        return Err(Reason::InvalidLabelValue { name: named() });
    }
    if value.len() as u64 > limits.max_label_value_bytes {
        let (value, limit) = (lossy(value).into_owned(), limits.max_label_value_bytes);
        return Err(Reason::LabelValueTooLong { name: named(), value, limit });
    }
    Ok(())
}

/// A histogram as it is stored: checked, and reduced where it is finer than anything stored.
pub fn histogram(sample: &HistogramSample) -> Result<Cow<'_, Histogram>, Reason> {
    let invalid = |e: InvalidHistogram| Reason::InvalidHistogram { t_ms: sample.t_ms, why: e.to_string() };
    if sample.histogram.schema <= *EXPONENTIAL_SCHEMAS.end() {
        return histogram::validate(&sample.histogram)
            .map(|()| Cow::Borrowed(&sample.histogram))
            .map_err(invalid);
    }
    let mut reduced = sample.histogram.clone();
    histogram::admit(&mut reduced).map_err(invalid)?;
    Ok(Cow::Owned(reduced))
}

/// The series as messages print it, whatever its bytes are.
pub(crate) fn series_text(pairs: &[RawPair<'_>]) -> String {
    let mut builder = LabelsBuilder::default();
    for (name, value) in pairs {
        builder.set(&lossy(name), &lossy(value));
    }
    SeriesText(&builder.build()).to_string()
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_checked_and_the_finest_reduced() {
        let sample = |schema, count| HistogramSample {
            t_ms: 7,
            histogram: Histogram { schema, count, integer: true, ..Histogram::default() },
        };
        assert!(matches!(histogram(&sample(3, 0.0)), Ok(Cow::Borrowed(_))));
        assert!(matches!(histogram(&sample(9, 0.0)), Ok(Cow::Owned(h)) if h.schema == 8));
        let wrong = sample(3, 2.0);
        let refused = histogram(&wrong);
        assert!(matches!(refused, Err(Reason::InvalidHistogram { t_ms: 7, .. })), "{refused:?}");
    }

    #[test]
    fn label_sets_are_checked_in_mimirs_order() {
        let limits = Limits {
            max_labels_per_series: 3,
            max_label_name_bytes: 8,
            max_label_value_bytes: 5,
            ..Limits::default()
        };
        let name = |n: &str| n.to_owned();
        let cases: [(&[RawPair<'_>], Reason); 9] = [
            (&[(b"a", b"1")], Reason::MissingMetricName),
            (&[(b"__name__", b"")], Reason::MissingMetricName),
            (&[(b"__name__", b"\xff")], Reason::InvalidMetricName { name: name("\u{fffd}") }),
            (
                &[(b"__name__", b"m"), (b"a", b"1"), (b"b", b"1"), (b"c", b"1")],
                Reason::TooManyLabels { actual: 4, limit: 3 },
            ),
            (&[(b"__name__", b"m"), (b"", b"1")], Reason::InvalidLabelName { name: name("") }),
            (
                &[(b"__name__", b"m"), (b"abcdefghi", b"1")],
                Reason::LabelNameTooLong { name: name("abcdefghi"), limit: 8 },
            ),
            (&[(b"__name__", b"m"), (b"a", b"\xff")], Reason::InvalidLabelValue { name: name("a") }),
            (
                &[(b"__name__", b"m"), (b"a", b"123456")],
                Reason::LabelValueTooLong { name: name("a"), value: name("123456"), limit: 5 },
            ),
            (
                &[(b"a", b"1"), (b"__name__", b"m"), (b"a", b"2")],
                Reason::DuplicateLabelName { name: name("a") },
            ),
        ];
        for (pairs, reason) in cases {
            let refused = canonical(&mut pairs.to_vec(), &limits).unwrap_err();
            assert_eq!(refused.reason, reason);
        }
        let mut pairs: Vec<RawPair<'_>> =
            vec![(b"b", b"2"), (b"empty", b""), (b"__name__", b"m"), (b"a.b", b"1")];
        let labels = canonical(&mut pairs, &limits).unwrap();
        assert_eq!(labels, Labels::from_pairs([("__name__", "m"), ("a.b", "1"), ("b", "2")]));
    }
}
