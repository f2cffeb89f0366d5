//! Native histograms in the notation of tests: `schema:1 sum:5 count:3 buckets:[1 2]`.

use std::sync::Arc;

use pilothouse_model::sample::format_float_general;
use pilothouse_model::{Histogram, ResetHint, Span};

/// Reads what stands between `{{` and `}}`.
pub(super) fn parse_histogram(text: &str) -> Result<Histogram, String> {
    let mut histogram = Histogram::default();
    let (mut offset, mut negative_offset) = (0, 0);
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) =
            rest.split_once(':').ok_or_else(|| format!("unexpected {rest:?} in histogram description"))?;
        let (value, tail) = value_of(after)?;
        let float = || parse_float(value);
        let int = || value.parse::<i32>().map_err(|_| format!("{key}: {value:?} is no whole number"));
        match key.trim() {
            "schema" => histogram.schema = int()?,
            "sum" => histogram.sum = float()?,
            "count" => histogram.count = float()?,
            "z_bucket" => histogram.zero_count = float()?,
            "z_bucket_w" => histogram.zero_threshold = float()?,
            "custom_values" => histogram.custom_bounds = Arc::from(floats(value)?),
            "buckets" => histogram.positive_counts = floats(value)?,
            "n_buckets" => histogram.negative_counts = floats(value)?,
            "offset" => offset = int()?,
            "n_offset" => negative_offset = int()?,
            "counter_reset_hint" => {
                histogram.reset_hint = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    "gauge" => ResetHint::Gauge,
                    other => return Err(format!("unknown counter_reset_hint {other:?}")),
                };
            }
            other => return Err(format!("unexpected {other:?} in histogram description")),
        }
        rest = tail.trim_start();
    }
    histogram.positive_spans = spans(offset, &histogram.positive_counts);
    histogram.negative_spans = spans(negative_offset, &histogram.negative_counts);
    Ok(histogram)
}

/// A value up to the next blank, or a list up to its bracket.
fn value_of(text: &str) -> Result<(&str, &str), String> {
    let text = text.trim_start();
    if text.starts_with('[') {
        let close = text.find(']').ok_or("a list is not closed with ]")?;
        return Ok(text.split_at(close + 1));
    }
    Ok(text.split_at(text.find(char::is_whitespace).unwrap_or(text.len())))
}

fn parse_float(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn floats(text: &str) -> Result<Vec<f64>, String> {
    let inside = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    inside.ok_or_else(|| format!("{text:?} is no list"))?.split_whitespace().map(parse_float).collect()
}

fn spans(offset: i32, counts: &[f64]) -> Vec<Span> {
    match u32::try_from(counts.len()) {
        Ok(length) if length > 0 => vec![Span { offset, length }],
        _ => Vec::new(),
    }
}

/// A histogram in the notation of tests, buckets without gaps. Equal histograms have equal texts.
pub(super) fn histogram_text(histogram: &Histogram) -> String {
    let mut parts = Vec::new();
    if histogram.schema != 0 {
        parts.push(format!("schema:{}", histogram.schema));
    }
    for (key, value) in [
        ("count", histogram.count),
        ("sum", histogram.sum),
        ("z_bucket", histogram.zero_count),
        ("z_bucket_w", histogram.zero_threshold),
    ] {
        if value != 0.0 {
            parts.push(format!("{key}:{}", format_float_general(value)));
        }
    }
    if histogram.has_custom_buckets() {
        parts.push(format!("custom_values:{}", list(&histogram.custom_bounds)));
    }
    match histogram.reset_hint {
        ResetHint::Unknown => {}
        ResetHint::Reset => parts.push("counter_reset_hint:reset".to_owned()),
        ResetHint::NotReset => parts.push("counter_reset_hint:not_reset".to_owned()),
        ResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
    }
    push_buckets(&mut parts, "", &histogram.positive_spans, &histogram.positive_counts);
    push_buckets(&mut parts, "n_", &histogram.negative_spans, &histogram.negative_counts);
    format!("{{{{{}}}}}", parts.join(" "))
}

fn list(values: &[f64]) -> String {
    let texts: Vec<String> = values.iter().map(|value| format_float_general(*value)).collect();
    format!("[{}]", texts.join(" "))
}

fn push_buckets(parts: &mut Vec<String>, prefix: &str, spans: &[Span], counts: &[f64]) {
    let mut buckets = Vec::new();
    let (mut index, mut counts) = (0i64, counts.iter());
    for span in spans {
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            if *count != 0.0 {
                buckets.push((index, *count));
            }
            index += 1;
        }
    }
    let (Some((first, _)), Some((last, _))) = (buckets.first().copied(), buckets.last().copied()) else {
        return;
    };
    if first != 0 {
        parts.push(format!("{prefix}offset:{first}"));
    }
    let count_at = |index: i64| buckets.iter().find(|(at, _)| *at == index).map_or(0.0, |(_, count)| *count);
    let all: Vec<f64> = (first..=last).map(count_at).collect();
    parts.push(format!("{prefix}buckets:{}", list(&all)));
}
