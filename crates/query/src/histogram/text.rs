//! Histograms as text.

use std::fmt;

use pilothouse_model::Histogram;
use pilothouse_model::sample::format_float_general;

use super::iterate::populated_buckets;

/// A histogram as Prometheus prints it, in `count_values` for example:
/// `{count:3, sum:2.5, [-0.001,0.001]:1, (1,2]:2}`.
#[derive(Debug)]
pub struct HistogramText<'a>(pub &'a Histogram);

impl fmt::Display for HistogramText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = format_float_general;
        write!(f, "{{count:{}, sum:{}", number(self.0.count), number(self.0.sum))?;
        for bucket in populated_buckets(self.0) {
            let open = if bucket.boundaries.lower_inclusive() { '[' } else { '(' };
            let close = if bucket.boundaries.upper_inclusive() { ']' } else { ')' };
            let (lower, upper) = (number(bucket.lower), number(bucket.upper));
            write!(f, ", {open}{lower},{upper}{close}:{}", number(bucket.count))?;
        }
        f.write_str("}")
    }
}
