//! What a refusal reads like: the words of Mimir, which senders log and runbooks quote.
//!
//! A text is the message, then the error's id in parentheses, then for a limit the flag to
//! raise. Errors of single samples go on with the sample's time and series.

use std::fmt::Write as _;

use jiff::Timestamp;
use pilothouse_model::limits::QUOTED_TEXT_CHARS;
use pilothouse_model::write::{Reason, Rejection};

/// The text of one refusal.
pub(crate) fn of(rejection: &Rejection) -> String {
    let series = cut(&rejection.series);
    match &rejection.reason {
        Reason::MissingMetricName => with_id("received series has no metric name", "missing-metric-name"),
        Reason::InvalidMetricName { name } => with_id(
            format!("received a series with invalid metric name: '{}'", cut(name)),
            "metric-name-invalid",
        ),
        Reason::InvalidLabelName { name } => with_id(
            format!("received a series with an invalid label: '{}' series: '{series}'", cut(name)),
            "label-invalid",
        ),
        Reason::InvalidLabelValue { name } => with_id(
            format!(
                "received a series with an invalid label value, label: '{}' series: '{series}'",
                cut(name)
            ),
            "label-value-invalid",
        ),
        Reason::DuplicateLabelName { name } => with_id(
            format!("received a series with duplicate label name, label: '{}' series: '{series}'", cut(name)),
            "duplicate-label-names",
        ),
        Reason::TooManyLabels { actual, limit } => with_flag(
            format!(
                "received a series whose number of labels exceeds the limit (actual: {actual}, limit: {limit}) \
                 series: '{series}'"
            ),
            "max-label-names-per-series",
            "validation.max-label-names-per-series",
        ),
        Reason::LabelNameTooLong { name, .. } => with_flag(
            format!(
                "received a series whose label name length exceeds the limit, label: '{}' series: '{series}'",
                cut(name)
            ),
            "max-length-label-name",
            "validation.max-length-label-name",
        ),
        Reason::LabelValueTooLong { name, value, .. } => with_flag(
            format!(
                "received a series whose label value length exceeds the limit, label: '{}', value: '{}' \
                 (truncated) series: '{series}'",
                cut(name),
                cut(value)
            ),
            "max-length-label-value",
            "validation.max-length-label-value",
        ),
        Reason::MaxSeries { limit } => with_flag(
            format!("per-user series limit of {limit} exceeded"),
            "max-series-per-user",
            "ingester.max-global-series-per-user",
        ),
        _ => of_sample(&rejection.reason, &rejection.series),
    }
}

/// Refusals of single samples and exemplars.
fn of_sample(reason: &Reason, series: &str) -> String {
    match reason {
        Reason::TooFarInFuture { t_ms } => with_flag(
            format!(
                "received a sample whose timestamp is too far in the future, timestamp: {t_ms} series: '{}'",
                cut(series)
            ),
            "too-far-in-future",
            "validation.create-grace-period",
        ),
        Reason::TooOld { t_ms, oldest_ms } => {
            let message = "the sample has been rejected because its timestamp is too old";
            let mut text = affected(message, "sample-timestamp-too-old", *t_ms, series);
            let _ = write!(text, "; the oldest timestamp kept is {}", time_text(*oldest_ms));
            text
        }
        Reason::OutOfOrder { t_ms } => affected(
            "the sample has been rejected because another sample with a more recent timestamp has already been \
             ingested and out-of-order samples are not allowed",
            "sample-out-of-order",
            *t_ms,
            series,
        ),
        Reason::DuplicateTimestamp { t_ms } => affected(
            "the sample has been rejected because another sample with the same timestamp, but a different value, \
             has already been ingested",
            "sample-duplicate-timestamp",
            *t_ms,
            series,
        ),
        Reason::InvalidHistogram { t_ms, why } => affected(
            &format!("the native histogram has been rejected because it is invalid: {why}"),
            "invalid-native-histogram",
            *t_ms,
            series,
        ),
        Reason::ExemplarLabelsMissing { t_ms } => with_id(
            format!("received an exemplar with no valid labels, timestamp: {t_ms} series: {}", cut(series)),
            "exemplar-labels-missing",
        ),
        Reason::ExemplarLabelsTooLong { t_ms, limit } => with_id(
            format!(
                "received an exemplar where the size of its labels exceeds the limit of {limit} characters, \
                 timestamp: {t_ms} series: {}",
                cut(series)
            ),
            "exemplar-labels-too-long",
        ),
        Reason::ExemplarOutOfOrder { t_ms } => with_id(
            format!(
                "received an exemplar whose timestamp is out of order, timestamp: {t_ms} series: {}",
                cut(series)
            ),
            "exemplar-timestamp-invalid",
        ),
        Reason::Undecodable { why } => why.clone(),
        _ => format!("received a series with neither samples nor histograms, series: '{}'", cut(series)),
    }
}

/// The text of a whole answer: a refusal per line, and how many more there are. Senders log
/// the first line.
pub(crate) fn of_all(rejections: &[Rejection], rejected: u64) -> String {
    let mut out = String::new();
    for rejection in rejections {
        out.push_str(&of(rejection));
        out.push('\n');
    }
    let more = rejected.saturating_sub(rejections.len() as u64);
    if more > 0 {
        let _ = writeln!(out, "and {more} more were refused");
    }
    out
}

fn with_id(message: impl Into<String>, id: &str) -> String {
    let mut text = message.into();
    let _ = write!(text, " (err-mimir-{id})");
    text
}

fn with_flag(message: impl Into<String>, id: &str, flag: &str) -> String {
    let mut text = with_id(message, id);
    let _ = write!(
        text,
        ". To adjust the related per-tenant limit, configure -{flag}, or contact your service administrator."
    );
    text
}

fn affected(message: &str, id: &str, t_ms: i64, series: &str) -> String {
    let mut text = with_id(message, id);
    let _ =
        write!(text, ". The affected sample has timestamp {} and is from series {series}", time_text(t_ms));
    text
}

/// RFC 3339 in UTC; the bare number where the calendar ends.
fn time_text(t_ms: i64) -> String {
    Timestamp::from_millisecond(t_ms).map_or_else(|_| t_ms.to_string(), |t| t.to_string())
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(QUOTED_TEXT_CHARS).map_or(text, |(at, _)| text.get(..at).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_mimir() {
        let flag = |f: &str| {
            format!(
                ". To adjust the related per-tenant limit, configure -{f}, or contact your service administrator."
            )
        };
        for (reason, expected) in [
            (Reason::MissingMetricName, "received series has no metric name (err-mimir-missing-metric-name)".into()),
            (
                Reason::TooManyLabels { actual: 41, limit: 40 },
                "received a series whose number of labels exceeds the limit (actual: 41, limit: 40) series: \
                 'm{a=\"b\"}' (err-mimir-max-label-names-per-series)"
                    .to_owned()
                    + &flag("validation.max-label-names-per-series"),
            ),
            (
                Reason::MaxSeries { limit: 5 },
                "per-user series limit of 5 exceeded (err-mimir-max-series-per-user)".to_owned()
                    + &flag("ingester.max-global-series-per-user"),
            ),
            (
                Reason::OutOfOrder { t_ms: 1_500 },
                "the sample has been rejected because another sample with a more recent timestamp has already been \
                 ingested and out-of-order samples are not allowed (err-mimir-sample-out-of-order). The affected \
                 sample has timestamp 1970-01-01T00:00:01.5Z and is from series m{a=\"b\"}"
                    .into(),
            ),
            (
                Reason::TooOld { t_ms: 0, oldest_ms: 86_400_000 },
                "the sample has been rejected because its timestamp is too old (err-mimir-sample-timestamp-too-old). \
                 The affected sample has timestamp 1970-01-01T00:00:00Z and is from series m{a=\"b\"}; the oldest \
                 timestamp kept is 1970-01-02T00:00:00Z"
                    .into(),
            ),
        ] {
            assert_eq!(of(&Rejection { reason, series: "m{a=\"b\"}".into() }), expected);
        }
    }

    #[test]
    fn an_answer_names_the_first_and_counts_the_rest() {
        let one = Rejection { reason: Reason::MissingMetricName, series: "{}".into() };
        let text = of_all(&[one.clone(), one], 5);
        assert_eq!(text.lines().count(), 3);
        assert!(text.ends_with("and 3 more were refused\n"));
    }
}
