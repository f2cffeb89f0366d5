//! Cutting observations off a histogram above or below a value: `</` and `>/` of PromQL.

use pilothouse_model::Histogram;

use super::arithmetic::compact;
use super::iterate::{Bucket, Scale, negative_buckets, positive_buckets};

/// Which observations stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Below,
    Above,
}

/// Keeps the observations below `limit`. A bucket that the limit cuts keeps its part by
/// interpolation; one without a finite bound there is dropped, since nothing is known of how its
/// observations lie. If anything was cut, count and sum are estimated anew from the buckets, and
/// empty buckets go.
pub fn trim_above(h: &mut Histogram, limit: f64) {
    trim(h, limit, Keep::Below);
}

/// Keeps the observations above `limit`; see [`trim_above`].
pub fn trim_below(h: &mut Histogram, limit: f64) {
    trim(h, limit, Keep::Above);
}

/// What stays of a bucket: how many, and around which value.
#[derive(Debug, Clone, Copy)]
struct Kept {
    count: f64,
    middle: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    count: f64,
    sum: f64,
    cut: bool,
}

impl Totals {
    fn keep(&mut self, before: f64, kept: Kept) -> f64 {
        self.cut |= before != kept.count;
        self.count += kept.count;
        self.sum += kept.middle * kept.count;
        kept.count
    }
}

fn trim(h: &mut Histogram, limit: f64, keep: Keep) {
    let mut totals = Totals::default();
    let scale = if h.has_custom_buckets() { Scale::Linear } else { Scale::Exponential };
    let mut side = |all: &mut dyn Iterator<Item = Bucket>, sign: f64| {
        all.map(|bucket| match bucket.count {
            0.0 => 0.0,
            count => totals.keep(count, cut_bucket(&bucket, limit, keep, sign, scale)),
        })
        .collect::<Vec<f64>>()
    };
    let positive = side(&mut positive_buckets(h), 1.0);
    let negative = side(&mut negative_buckets(h), -1.0);
    if h.zero_count > 0.0 {
        let kept = cut_zero_bucket(h, limit, keep);
        h.zero_count = totals.keep(h.zero_count, kept);
    }
    if totals.cut {
        h.positive_counts = positive;
        h.negative_counts = negative;
        h.count = totals.count;
        h.sum = totals.sum;
        h.integer = false;
        compact(h);
    }
}

fn cut_bucket(bucket: &Bucket, limit: f64, keep: Keep, sign: f64, scale: Scale) -> Kept {
    let (inside, cut) = match keep {
        Keep::Below => (bucket.upper <= limit, bucket.lower < limit),
        Keep::Above => (bucket.lower >= limit, bucket.upper > limit),
    };
    if inside {
        return Kept { count: bucket.count, middle: middle(bucket.lower, bucket.upper, sign, scale) };
    }
    if !cut {
        return Kept { count: 0.0, middle: 0.0 };
    }
    if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        return cut_endless_bucket(bucket, limit, keep);
    }
    let below = if limit <= bucket.lower {
        0.0
    } else if limit >= bucket.upper {
        bucket.count
    } else {
        bucket.count * bucket.share_below(limit, scale)
    };
    match keep {
        Keep::Below => Kept { count: below, middle: middle(bucket.lower, limit, sign, scale) },
        Keep::Above => Kept { count: bucket.count - below, middle: middle(limit, bucket.upper, sign, scale) },
    }
}

/// Buckets without a lower or an upper end, of which the limit cuts off a part. The lowest custom
/// bucket is taken to begin at 0 if it ends above.
fn cut_endless_bucket(bucket: &Bucket, limit: f64, keep: Keep) -> Kept {
    let Bucket { lower, upper, count, .. } = *bucket;
    let nothing = Kept { count: 0.0, middle: 0.0 };
    let all_around = |middle| Kept { count, middle };
    if lower == f64::NEG_INFINITY {
        let from_zero = upper > 0.0 && upper.is_finite();
        return match keep {
            Keep::Below if limit >= upper => all_around(0.0),
            Keep::Below if limit > 0.0 && from_zero => {
                Kept { count: count * limit / upper, middle: limit / 2.0 }
            }
            Keep::Below if upper <= 0.0 => all_around(limit),
            Keep::Above if limit <= lower => all_around(0.0),
            Keep::Above if limit >= 0.0 && from_zero && upper > limit => {
                Kept { count: count * (1.0 - limit / upper), middle: (limit + upper) / 2.0 }
            }
            _ => nothing,
        };
    }
    match keep {
        Keep::Above if limit >= lower => all_around(limit),
        _ => nothing,
    }
}

/// The zero bucket, cut evenly; it ends at 0 on a side that has no populated buckets.
fn cut_zero_bucket(h: &Histogram, limit: f64, keep: Keep) -> Kept {
    let populated = |counts: &[f64]| counts.iter().any(|c| *c != 0.0);
    let (mut lower, mut upper) = (-h.zero_threshold, h.zero_threshold);
    match (populated(&h.negative_counts), populated(&h.positive_counts)) {
        (true, false) => upper = 0.0,
        (false, true) => lower = 0.0,
        _ => {}
    }
    let nothing = Kept { count: 0.0, middle: 0.0 };
    let all = Kept { count: h.zero_count, middle: (lower + upper) / 2.0 };
    // What is asked first decides where a bucket without width belongs, as in Prometheus.
    let (from, to) = match keep {
        Keep::Below if limit <= lower => return nothing,
        Keep::Below if limit >= upper => return all,
        Keep::Above if limit <= lower => return all,
        Keep::Above if limit >= upper => return nothing,
        Keep::Below => (lower, limit),
        Keep::Above => (limit, upper),
    };
    Kept { count: h.zero_count * ((to - from) / (upper - lower)), middle: (from + to) / 2.0 }
}

/// Around which value the observations between two bounds lie: half way on the bucket's scale,
/// at the finite bound of an endless part.
fn middle(lower: f64, upper: f64, sign: f64, scale: Scale) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        _ if scale == Scale::Linear => (lower + upper) / 2.0,
        _ => sign * (lower * upper).abs().sqrt(),
    }
}
