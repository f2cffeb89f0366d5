//! Quantiles and fractions of classic histograms, whose buckets are series of their own.

use std::cmp::Ordering;

/// A bucket of a classic histogram: how many observations are at most `upper_bound`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassicBucket {
    pub upper_bound: f64,
    pub count: f64,
}

/// Counts that fell from one bucket to the next were raised to what they were before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MonotonicityRepair {
    /// The least upper bound at which that was done.
    pub min_bound: f64,
    pub max_bound: f64,
    /// The greatest fall.
    pub max_difference: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassicQuantile {
    pub value: f64,
    pub repair: Option<MonotonicityRepair>,
}

/// Relative differences between buckets up to here come from rounding, as Prometheus measured
/// them on sums that were computed in parts.
const ROUNDING: f64 = 1e-12;

/// The value below which the share `q` of the observations lies, as `histogram_quantile` of
/// classic buckets: linear within a bucket, from 0 in the lowest one if that ends above 0. The
/// buckets may come in any order; they are left sorted, without duplicates and repaired.
///
/// NaN without a +Inf bucket, without another one beside it, and without observations.
pub fn classic_quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> ClassicQuantile {
    let plain = |value| ClassicQuantile { value, repair: None };
    if q.is_nan() {
        return plain(f64::NAN);
    }
    if q < 0.0 {
        return plain(f64::NEG_INFINITY);
    }
    if q > 1.0 {
        return plain(f64::INFINITY);
    }
    if !sort_and_merge(buckets) {
        return plain(f64::NAN);
    }
    let repair = make_monotonic(buckets);
    let value = match buckets.as_slice() {
        [finite @ .., last] if !finite.is_empty() && last.count != 0.0 => interpolate(q, finite, *last),
        _ => f64::NAN,
    };
    ClassicQuantile { value, repair }
}

/// `finite` are the buckets below the one up to +Inf.
fn interpolate(q: f64, finite: &[ClassicBucket], last: ClassicBucket) -> f64 {
    let rank = q * last.count;
    let at = finite.partition_point(|b| b.count.partial_cmp(&rank).is_none_or(Ordering::is_lt));
    let Some(bucket) = finite.get(at) else {
        return finite.last().map_or(f64::NAN, |b| b.upper_bound);
    };
    if at == 0 {
        if bucket.upper_bound <= 0.0 {
            return bucket.upper_bound;
        }
        return bucket.upper_bound * (rank / bucket.count);
    }
    let before = finite[at - 1];
    let share = (rank - before.count) / (bucket.count - before.count);
    before.upper_bound + (bucket.upper_bound - before.upper_bound) * share
}

/// Which share of the observations lies between two values, as `histogram_fraction` of classic
/// buckets. The buckets are left sorted and without duplicates.
pub fn classic_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if !sort_and_merge(buckets) {
        return f64::NAN;
    }
    let count = buckets.last().map_or(0.0, |b| b.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let bounded = |rank: Option<f64>| rank.filter(|r| *r <= count).unwrap_or(count);
    (bounded(rank_of(upper, buckets)) - bounded(rank_of(lower, buckets))) / count
}

/// How many observations lie below a value; `None` if it is above all buckets.
fn rank_of(value: f64, buckets: &[ClassicBucket]) -> Option<f64> {
    let from_zero = buckets.first().is_some_and(|b| b.upper_bound > 0.0);
    let mut lower = if from_zero { 0.0 } else { f64::NEG_INFINITY };
    let mut rank = 0.0;
    for bucket in buckets {
        if lower >= value {
            return Some(rank);
        }
        if bucket.upper_bound > value {
            // Nothing can be said of how observations lie in an endless bucket.
            if lower == f64::NEG_INFINITY {
                return Some(bucket.count);
            }
            let share = (value - lower) / (bucket.upper_bound - lower);
            return Some(rank + (bucket.count - rank) * share);
        }
        (rank, lower) = (bucket.count, bucket.upper_bound);
    }
    None
}

/// Sorts by bound and adds up buckets of one bound; `false` if there is none up to +Inf.
fn sort_and_merge(buckets: &mut Vec<ClassicBucket>) -> bool {
    buckets.sort_by(|a, b| a.upper_bound.partial_cmp(&b.upper_bound).unwrap_or(Ordering::Equal));
    if buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper_bound == kept.upper_bound;
        if same {
            kept.count += next.count;
        }
        same
    });
    true
}

/// Makes the counts ascend: differences that rounding explains go without a word, falls are
/// levelled and told.
fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<MonotonicityRepair> {
    let mut repair: Option<MonotonicityRepair> = None;
    let mut before = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == before {
            continue;
        }
        if nearly_equal(before, count) {
            bucket.count = before;
        } else if count < before {
            bucket.count = before;
            let bound = bucket.upper_bound;
            let told = repair.get_or_insert(MonotonicityRepair {
                min_bound: bound,
                max_bound: bound,
                max_difference: 0.0,
            });
            told.min_bound = told.min_bound.min(bound);
            told.max_bound = told.max_bound.max(bound);
            told.max_difference = told.max_difference.max(before - count);
        } else {
            before = count;
        }
    }
    repair
}

/// Equal but for rounding, by the difference relative to the sum of both.
fn nearly_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (total, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || total < f64::MIN_POSITIVE {
        return difference < ROUNDING * f64::MIN_POSITIVE;
    }
    difference / total.min(f64::MAX) < ROUNDING
}
