//! Whether a histogram from outside can be one. The texts are those of Prometheus, since they
//! reach the senders of remote write.

use pilothouse_model::histogram::{CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMAS};
use pilothouse_model::sample::{format_float_general, format_float_plain};
use pilothouse_model::{Histogram, Span};

use super::arithmetic::reduce_to;

/// The finest schema that has a meaning; those above 8 are reduced on the way in.
const FINEST_KNOWN: i32 = 52;

/// Up to here floats hold whole numbers exactly, so that sums of them can be compared.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Why a histogram is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidHistogram {
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema {0}"
    )]
    InvalidSchema(i32),
    #[error("{}span number {number} with offset {offset}: histogram has a span whose offset is negative", .place.prefix())]
    NegativeOffset { place: Place, number: usize, offset: i32 },
    #[error("{}spans need {needed} buckets, have {actual} buckets: histogram spans specify different number of buckets than provided", .place.prefix())]
    SpansMismatch { place: Place, needed: u64, actual: usize },
    #[error("{}bucket number {number} has observation count of {}: histogram has a bucket whose observation count is negative", .place.prefix(), format_float_general(*.count))]
    NegativeBucket { place: Place, number: usize, count: f64 },
    #[error("zero bucket has observation count of {}: histogram has a bucket whose observation count is negative", format_float_general(*.0))]
    NegativeZeroBucket(f64),
    // The two spaces are Prometheus' own.
    #[error("observation count is  {}: histogram's observation count is negative", format_float_general(*.0))]
    NegativeCount(f64),
    #[error("{} observations found in buckets, but the Count field is {}: histogram's observation count should be at least the number of observations found in the buckets", format_float_plain(*.found), format_float_plain(*.count))]
    CountTooSmall { found: f64, count: f64 },
    #[error("{} observations found in buckets, but the Count field is {}: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)", format_float_plain(*.found), format_float_plain(*.count))]
    CountMismatch { found: f64, count: f64 },
    #[error("histogram with exponential schema must not have custom bounds")]
    UnexpectedCustomBounds,
    #[error("custom buckets: histogram custom bounds must not be NaN")]
    CustomBoundNan,
    #[error(
        "custom buckets: previous bound is {} and current is {}: histogram custom bounds must be in strictly increasing order", six_digits(*.previous), six_digits(*.current)
    )]
    CustomBoundsOrder { previous: f64, current: f64 },
    #[error(
        "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite"
    )]
    CustomBoundInfinite,
    #[error(
        "custom buckets: only {bounds} custom bounds defined which is insufficient to cover total span length of {spanned}: histogram custom bounds are too few"
    )]
    CustomBoundsTooFew { bounds: usize, spanned: u64 },
    #[error("custom buckets: must have zero count of 0")]
    CustomZeroCount,
    #[error("custom buckets: must have zero threshold of 0")]
    CustomZeroThreshold,
    #[error("custom buckets: must not have negative spans")]
    CustomNegativeSpans,
    #[error("custom buckets: must not have negative buckets")]
    CustomNegativeBuckets,
}

/// The part of a histogram that a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Positive,
    Negative,
    Custom,
}

impl Place {
    fn prefix(self) -> &'static str {
        match self {
            Self::Positive => "positive side: ",
            Self::Negative => "negative side: ",
            Self::Custom => "custom buckets: ",
        }
    }
}

/// As Go's `%f`.
fn six_digits(value: f64) -> String {
    if value.is_finite() { format!("{value:.6}") } else { format_float_plain(value) }
}

/// Takes a histogram that came from outside: an exponential schema that is finer than 8 but
/// known is reduced to 8, then everything is checked by [`validate`].
pub fn admit(h: &mut Histogram) -> Result<(), InvalidHistogram> {
    let finest = *EXPONENTIAL_SCHEMAS.end();
    if h.schema > finest && h.schema <= FINEST_KNOWN {
        check_spans(&h.positive_spans, h.positive_counts.len(), Place::Positive)?;
        check_spans(&h.negative_spans, h.negative_counts.len(), Place::Negative)?;
        reduce_to(h, finest);
    }
    validate(h)
}

/// Checks that spans and counts fit each other, that no count is negative, that nothing is set
/// which the schema does not use, and, of integer histograms, that the count is that of the
/// buckets. Of float histograms rounding forbids the latter.
pub fn validate(h: &Histogram) -> Result<(), InvalidHistogram> {
    match h.schema {
        CUSTOM_BUCKETS_SCHEMA => check_custom(h)?,
        schema if EXPONENTIAL_SCHEMAS.contains(&schema) => check_exponential(h)?,
        schema => return Err(InvalidHistogram::InvalidSchema(schema)),
    }
    if h.count < 0.0 {
        return Err(InvalidHistogram::NegativeCount(h.count));
    }
    check_counts(&h.positive_counts, Place::Positive)?;
    if h.integer { check_total(h) } else { Ok(()) }
}

fn check_exponential(h: &Histogram) -> Result<(), InvalidHistogram> {
    check_spans(&h.positive_spans, h.positive_counts.len(), Place::Positive)?;
    check_spans(&h.negative_spans, h.negative_counts.len(), Place::Negative)?;
    check_counts(&h.negative_counts, Place::Negative)?;
    if h.zero_count < 0.0 {
        return Err(InvalidHistogram::NegativeZeroBucket(h.zero_count));
    }
    if !h.custom_bounds.is_empty() {
        return Err(InvalidHistogram::UnexpectedCustomBounds);
    }
    Ok(())
}

fn check_custom(h: &Histogram) -> Result<(), InvalidHistogram> {
    check_bounds(&h.custom_bounds)?;
    if let Some((number, span)) = (1..).zip(&h.positive_spans).find(|(_, s)| s.offset < 0) {
        return Err(InvalidHistogram::NegativeOffset { place: Place::Custom, number, offset: span.offset });
    }
    check_spans(&h.positive_spans, h.positive_counts.len(), Place::Custom)?;
    let reach = |s: &Span| u64::from(s.length) + u64::from(s.offset.unsigned_abs());
    let spanned = h.positive_spans.iter().map(reach).sum();
    let bounds = h.custom_bounds.len();
    if (bounds as u64) + 1 < spanned {
        return Err(InvalidHistogram::CustomBoundsTooFew { bounds, spanned });
    }
    if h.zero_count != 0.0 {
        return Err(InvalidHistogram::CustomZeroCount);
    }
    if h.zero_threshold != 0.0 {
        return Err(InvalidHistogram::CustomZeroThreshold);
    }
    if !h.negative_spans.is_empty() {
        return Err(InvalidHistogram::CustomNegativeSpans);
    }
    if !h.negative_counts.is_empty() {
        return Err(InvalidHistogram::CustomNegativeBuckets);
    }
    Ok(())
}

fn check_bounds(bounds: &[f64]) -> Result<(), InvalidHistogram> {
    let mut previous = None;
    for current in bounds.iter().copied() {
        if current.is_nan() {
            return Err(InvalidHistogram::CustomBoundNan);
        }
        if let Some(previous) = previous.filter(|p| current <= *p) {
            return Err(InvalidHistogram::CustomBoundsOrder { previous, current });
        }
        previous = Some(current);
    }
    if previous == Some(f64::INFINITY) {
        return Err(InvalidHistogram::CustomBoundInfinite);
    }
    Ok(())
}

fn check_spans(spans: &[Span], actual: usize, place: Place) -> Result<(), InvalidHistogram> {
    if let Some((number, span)) = (1..).zip(spans).skip(1).find(|(_, s)| s.offset < 0) {
        return Err(InvalidHistogram::NegativeOffset { place, number, offset: span.offset });
    }
    let needed = spans.iter().map(|s| u64::from(s.length)).sum();
    if needed != actual as u64 {
        return Err(InvalidHistogram::SpansMismatch { place, needed, actual });
    }
    Ok(())
}

fn check_counts(counts: &[f64], place: Place) -> Result<(), InvalidHistogram> {
    match (1..).zip(counts).find(|(_, c)| **c < 0.0) {
        Some((number, count)) => Err(InvalidHistogram::NegativeBucket { place, number, count: *count }),
        None => Ok(()),
    }
}

fn check_total(h: &Histogram) -> Result<(), InvalidHistogram> {
    let buckets = h.positive_counts.iter().chain(&h.negative_counts);
    let (found, count) = (buckets.sum::<f64>() + h.zero_count, h.count);
    if found.max(count) > EXACT {
        return Ok(());
    }
    if h.sum.is_nan() {
        if found > count { Err(InvalidHistogram::CountTooSmall { found, count }) } else { Ok(()) }
    } else if found != count {
        Err(InvalidHistogram::CountMismatch { found, count })
    } else {
        Ok(())
    }
}
