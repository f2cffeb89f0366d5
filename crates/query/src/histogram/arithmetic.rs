//! The operators of PromQL on histograms.

use pilothouse_model::{Histogram, ResetHint};

use super::buckets::{negative_run, positive_run};
use super::combine::{Core, Joined, MixedSchemas};

/// `h += other`. The finer of two schemas is reduced, the narrower zero bucket widened, custom
/// bounds are cut to those that both have. Empty buckets stay; see [`compact`].
pub fn add(h: &mut Histogram, other: &Histogram) -> Result<Joined, MixedSchemas> {
    combine(h, other, 1.0)
}

/// `h -= other`, with the layouts reconciled as in [`add`]. The operator `-` of PromQL marks its
/// result as a gauge; that is left to the caller, since `rate` subtracts too.
pub fn subtract(h: &mut Histogram, other: &Histogram) -> Result<Joined, MixedSchemas> {
    combine(h, other, -1.0)
}

fn combine(h: &mut Histogram, other: &Histogram, sign: f64) -> Result<Joined, MixedSchemas> {
    let mut core = Core::take(h);
    let outcome = core.combine(other, sign);
    core.put_back(h);
    outcome
}

/// Multiplies every count and the sum. A negative factor makes a gauge of the histogram.
pub fn scale(h: &mut Histogram, factor: f64) {
    for_each_number(h, |n| n * factor);
    if factor < 0.0 {
        h.reset_hint = ResetHint::Gauge;
    }
}

/// Divides every count and the sum. Division by zero leaves no buckets; a negative divisor makes
/// a gauge of the histogram.
pub fn divide(h: &mut Histogram, divisor: f64) {
    if divisor == 0.0 {
        h.positive_spans.clear();
        h.positive_counts.clear();
        h.negative_spans.clear();
        h.negative_counts.clear();
    }
    for_each_number(h, |n| n / divisor);
    if divisor < 0.0 {
        h.reset_hint = ResetHint::Gauge;
    }
}

fn for_each_number(h: &mut Histogram, change: impl Fn(f64) -> f64) {
    h.integer = false;
    for number in [&mut h.zero_count, &mut h.count, &mut h.sum] {
        *number = change(*number);
    }
    for count in h.positive_counts.iter_mut().chain(&mut h.negative_counts) {
        *count = change(*count);
    }
}

/// Drops empty buckets and leaves the shortest list of spans.
pub fn compact(h: &mut Histogram) {
    let integer = h.integer;
    let mut core = Core::take(h);
    core.compact();
    core.put_back(h);
    h.integer = integer;
}

/// Merges exponential buckets into those of a coarser schema. Nothing happens to custom buckets,
/// and nothing if the schema is as coarse already.
pub fn reduce_to(h: &mut Histogram, schema: i32) {
    if h.has_custom_buckets() || h.schema <= schema {
        return;
    }
    let integer = h.integer;
    let mut core = Core::take(h);
    core.reduce_to(schema);
    core.put_back(h);
    h.integer = integer;
}

/// Whether two histograms are the same data: equal layout, empty buckets included, and numbers
/// that are equal bit by bit, so that a NaN equals itself. Counter reset hints do not count. This
/// is what `==` between histograms asks in PromQL.
pub fn equal(a: &Histogram, b: &Histogram) -> bool {
    let same = |x: f64, y: f64| x.to_bits() == y.to_bits();
    a.schema == b.schema
        && same(a.count, b.count)
        && same(a.sum, b.sum)
        && a.zero_threshold == b.zero_threshold
        && same(a.zero_count, b.zero_count)
        && (!a.has_custom_buckets() || a.custom_bounds == b.custom_bounds)
        && same_buckets(a, b)
}

fn same_buckets(a: &Histogram, b: &Histogram) -> bool {
    let bits = |(index, count): (i64, f64)| (index, count.to_bits());
    let positive = |h| positive_run(h).map(bits);
    let negative = |h| negative_run(h).map(bits);
    positive(a).eq(positive(b)) && negative(a).eq(negative(b))
}
