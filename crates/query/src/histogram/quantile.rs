//! Quantiles and fractions of native histograms.

use pilothouse_model::Histogram;

use super::iterate::{Bucket, Scale, buckets};

/// What is to be told of observations that were not a number. They count, but lie in no bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NanNote {
    /// The quantile lies among them, so it is NaN.
    Result,
    /// They were taken for values above all others, which moves the quantile up.
    Skew,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantile {
    pub value: f64,
    pub note: Option<NanNote>,
}

impl From<f64> for Quantile {
    fn from(value: f64) -> Self {
        Self { value, note: None }
    }
}

/// The value below which the share `q` of the observations lies, as `histogram_quantile`.
///
/// Within a bucket observations are taken to lie evenly on a logarithmic scale; evenly on a
/// linear one in custom buckets and in the zero bucket, which ends at 0 on a side that has no
/// buckets. Below q = 0 the result is -Inf, above 1 it is +Inf, of no observations NaN.
///
/// Where the sum is NaN the value is interpolated between the bounds of the last bucket whatever
/// bucket the rank lies in: Prometheus does so while it looks for observations that are NaN, and
/// answers are to be equal.
pub fn quantile(q: f64, h: &Histogram) -> Quantile {
    if q < 0.0 {
        return f64::NEG_INFINITY.into();
    }
    if q > 1.0 {
        return f64::INFINITY.into();
    }
    if h.count == 0.0 || q.is_nan() {
        return f64::NAN.into();
    }
    // Observations that are NaN are missing at the upper end, so it cannot be counted from there.
    let nan_sum = h.sum.is_nan();
    if nan_sum || q < 0.5 {
        let found = seek(buckets(h), q * h.count);
        let beyond = nan_sum.then(|| Beyond {
            last: buckets(h).last().filter(|b| b.upper > found.bucket.upper),
            counted: buckets(h).map(|b| b.count).sum(),
        });
        place(h, found, Direction::Up, beyond)
    } else {
        place(h, seek(buckets(h).rev(), (1.0 - q) * h.count), Direction::Down, None)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// A bucket, what was counted up to its far end, and the rank that was looked for.
#[derive(Debug, Clone, Copy)]
struct Found {
    bucket: Bucket,
    counted: f64,
    rank: f64,
}

/// What lies behind the bucket that was found, looked at where observations may be NaN.
#[derive(Debug, Clone, Copy)]
struct Beyond {
    last: Option<Bucket>,
    /// Observations of all buckets.
    counted: f64,
}

fn seek(buckets: impl Iterator<Item = Bucket>, rank: f64) -> Found {
    let bucket =
        Bucket { lower: 0.0, upper: 0.0, boundaries: super::iterate::Boundaries::Closed, count: 0.0 };
    let mut found = Found { bucket, counted: 0.0, rank };
    for bucket in buckets {
        // Where the rank lies beyond them all, the last bucket counts even if it is empty.
        found.bucket = bucket;
        found.counted += bucket.count;
        if bucket.count != 0.0 && found.counted >= rank {
            break;
        }
    }
    found
}

/// The value at the rank within the bucket that was found.
fn place(h: &Histogram, found: Found, direction: Direction, beyond: Option<Beyond>) -> Quantile {
    let Found { bucket, counted, rank } = found;
    let (mut lower, mut upper) = (bucket.lower, bucket.upper);
    if h.has_custom_buckets() {
        if lower == f64::NEG_INFINITY {
            if upper <= 0.0 {
                return upper.into();
            }
            lower = 0.0;
        } else if upper == f64::INFINITY {
            return lower.into();
        }
    } else if lower < 0.0 && upper > 0.0 {
        (lower, upper) = populated_part(h, lower, upper);
    }
    // Rounding may have counted more than there is.
    let counted = if counted > h.count { h.count } else { counted };
    if counted < rank {
        if h.sum.is_nan() {
            return Quantile { value: f64::NAN, note: Some(NanNote::Result) };
        }
        return upper.into();
    }
    let into_bucket = match direction {
        Direction::Up => rank - (counted - bucket.count),
        Direction::Down => counted - rank,
    };
    let mut in_bucket = bucket.count;
    if let Some(last) = beyond.and_then(|b| b.last) {
        (lower, upper, in_bucket) = (last.lower, last.upper, last.count);
    }
    let share = into_bucket / in_bucket;
    let value = if h.has_custom_buckets() || (lower <= 0.0 && upper >= 0.0) {
        lower + (upper - lower) * share
    } else {
        between_logarithms(lower, upper, share)
    };
    let skewed = beyond.is_some_and(|b| b.counted < h.count);
    Quantile { value, note: skewed.then_some(NanNote::Skew) }
}

/// The zero bucket without the side on which the histogram has no buckets.
fn populated_part(h: &Histogram, lower: f64, upper: f64) -> (f64, f64) {
    match (h.negative_counts.is_empty(), h.positive_counts.is_empty()) {
        (true, false) => (0.0, upper),
        (false, true) => (lower, 0.0),
        _ => (lower, upper),
    }
}

fn between_logarithms(lower: f64, upper: f64, share: f64) -> f64 {
    let (lower_log, upper_log) = (lower.abs().log2(), upper.abs().log2());
    if lower > 0.0 {
        (lower_log + (upper_log - lower_log) * share).exp2()
    } else {
        -(upper_log + (lower_log - upper_log) * (1.0 - share)).exp2()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fraction {
    pub value: f64,
    /// Observations that are NaN lie within no bounds, so that even the whole may be below 1.
    pub has_nans: bool,
}

/// Which share of the observations lies between two values, as `histogram_fraction`; NaN of no
/// observations or of bounds that are NaN. Interpolates as [`quantile`] does.
pub fn fraction(lower: f64, upper: f64, h: &Histogram) -> Fraction {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return Fraction { value: f64::NAN, has_nans: false };
    }
    if lower >= upper {
        return Fraction { value: 0.0, has_nans: false };
    }
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut rank = 0.0;
    for bucket in buckets(h) {
        lower_rank = lower_rank.or_else(|| rank_at(lower, rank, bucket, h));
        upper_rank = upper_rank.or_else(|| rank_at(upper, rank, bucket, h));
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank += bucket.count;
    }
    let (mut counted, mut has_nans) = (h.count, false);
    if h.sum.is_nan() {
        counted = buckets(h).map(|b| b.count).sum();
        has_nans = counted < h.count;
    }
    let bounded = |rank: Option<f64>| rank.filter(|r| *r <= counted).unwrap_or(counted);
    Fraction { value: (bounded(upper_rank) - bounded(lower_rank)) / h.count, has_nans }
}

/// How many observations lie below a value, if that shows in a bucket before which `rank` of
/// them lie.
fn rank_at(value: f64, rank: f64, mut bucket: Bucket, h: &Histogram) -> Option<f64> {
    let around_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
    if around_zero {
        (bucket.lower, bucket.upper) = populated_part(h, bucket.lower, bucket.upper);
    }
    if bucket.lower >= value {
        return Some(rank);
    }
    if bucket.upper <= value {
        return None;
    }
    if bucket.lower == f64::NEG_INFINITY && (h.has_custom_buckets() || around_zero) {
        // Nothing can be said of how observations lie in an endless bucket.
        return Some(bucket.count);
    }
    let scale = if h.has_custom_buckets() || around_zero { Scale::Linear } else { Scale::Exponential };
    Some(rank + bucket.count * bucket.share_below(value, scale))
}
