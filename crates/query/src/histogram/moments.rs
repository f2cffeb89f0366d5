//! Mean and spread of a native histogram.

use pilothouse_model::Histogram;

use super::iterate::populated_buckets;
use crate::kahan::Sum;

/// The mean of the observations; NaN of none.
pub fn average(h: &Histogram) -> f64 {
    h.sum / h.count
}

/// The estimated variance: every observation is taken to lie at the arithmetic middle of its
/// custom bucket, at the geometric middle of its exponential one, or at zero.
pub fn variance(h: &Histogram) -> f64 {
    let mean = average(h);
    let mut total = Sum::ZERO;
    for bucket in populated_buckets(h) {
        let middle = if h.has_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        let distance = middle - mean;
        total.add(bucket.count * distance * distance);
    }
    total.total() / h.count
}

/// The square root of [`variance`].
pub fn standard_deviation(h: &Histogram) -> f64 {
    variance(h).sqrt()
}
