//! Histograms as text.

use std::fmt;

use pilothouse_model::Histogram;
use pilothouse_model::sample::format_float_general;

use super::iterate::{negative_buckets, positive_buckets, zero_bucket};

/// A histogram as Prometheus prints it, in `count_values` for example:
/// `{count:3, sum:2.5, [-0.001,0.001]:1, (1,2]:2}`. Buckets show their full width here, even where
/// they reach into the zero bucket.
#[derive(Debug)]
pub struct HistogramText<'a>(pub &'a Histogram);

impl fmt::Display for HistogramText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = format_float_general;
        write!(f, "{{count:{}, sum:{}", number(self.0.count), number(self.0.sum))?;
        let buckets =
            negative_buckets(self.0).rev().chain([zero_bucket(self.0)]).chain(positive_buckets(self.0));
        for bucket in buckets.filter(|b| b.count != 0.0) {
            let open = if bucket.boundaries.lower_inclusive() { '[' } else { '(' };
            let close = if bucket.boundaries.upper_inclusive() { ']' } else { ')' };
            let (lower, upper) = (number(bucket.lower), number(bucket.upper));
            write!(f, ", {open}{lower},{upper}{close}:{}", number(bucket.count))?;
        }
        f.write_str("}")
    }
}
