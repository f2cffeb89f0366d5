//! Buckets with their bounds, in order.

use pilothouse_model::Histogram;

use super::bound::bucket_bound;
use super::buckets::{Indexed, positive_run};

/// Which bounds belong to a bucket; the numbers are those of Prometheus' JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Boundaries {
    LeftOpen = 0,
    RightOpen = 1,
    Open = 2,
    Closed = 3,
}

impl Boundaries {
    fn new(lower_inclusive: bool, upper_inclusive: bool) -> Self {
        match (lower_inclusive, upper_inclusive) {
            (false, true) => Self::LeftOpen,
            (true, false) => Self::RightOpen,
            (false, false) => Self::Open,
            (true, true) => Self::Closed,
        }
    }

    pub fn lower_inclusive(self) -> bool {
        matches!(self, Self::RightOpen | Self::Closed)
    }

    pub fn upper_inclusive(self) -> bool {
        matches!(self, Self::LeftOpen | Self::Closed)
    }
}

/// One bucket: its bounds and what it counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub boundaries: Boundaries,
    pub count: f64,
}

impl Bucket {
    /// Which part of the bucket's width lies below a value strictly inside of its finite bounds:
    /// on a linear or on a logarithmic scale.
    pub(super) fn share_below(&self, value: f64, scale: Scale) -> f64 {
        if scale == Scale::Linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper) = (self.lower.abs().log2(), self.upper.abs().log2());
        let value_log = value.abs().log2();
        if value > 0.0 {
            (value_log - lower) / (upper - lower)
        } else {
            1.0 - (value_log - upper) / (lower - upper)
        }
    }
}

/// How observations are thought to lie within a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Exponential,
}

/// All buckets in ascending order, empty ones included but for the zero bucket. A bucket that
/// reaches into the zero bucket is cut at its edge.
pub fn buckets(h: &Histogram) -> impl DoubleEndedIterator<Item = Bucket> + Clone + '_ {
    let threshold = h.zero_threshold;
    let cut = move |mut bucket: Bucket| {
        if bucket.upper < 0.0 && bucket.upper > -threshold {
            bucket.upper = -threshold;
        } else if bucket.lower > 0.0 && bucket.lower < threshold {
            bucket.lower = threshold;
        }
        bucket
    };
    let zero = Some(zero_bucket(h)).filter(|b| b.count > 0.0);
    negative_buckets(h).rev().map(cut).chain(zero).chain(positive_buckets(h).map(cut))
}

/// [`buckets`] without the empty ones: what Prometheus' JSON shows.
pub fn populated_buckets(h: &Histogram) -> impl DoubleEndedIterator<Item = Bucket> + Clone + '_ {
    buckets(h).filter(|b| b.count != 0.0)
}

/// The zero bucket, which is empty with custom buckets.
pub(super) fn zero_bucket(h: &Histogram) -> Bucket {
    let count = if h.has_custom_buckets() { 0.0 } else { h.zero_count };
    Bucket { lower: -h.zero_threshold, upper: h.zero_threshold, boundaries: Boundaries::Closed, count }
}

/// The positive buckets, from zero outward, or all buckets of a histogram with custom ones.
pub fn positive_buckets(h: &Histogram) -> impl DoubleEndedIterator<Item = Bucket> + Clone + '_ {
    let bound = |index| bucket_bound(index, h.schema, &h.custom_bounds);
    positive_run(h).map(move |(index, count)| {
        let (lower, upper) = (bound(index.saturating_sub(1)), bound(index));
        let boundaries = if h.has_custom_buckets() {
            Boundaries::new(index == 0, true)
        } else {
            Boundaries::new(lower < 0.0, upper > 0.0)
        };
        Bucket { lower, upper, boundaries, count }
    })
}

/// The negative buckets, from zero outward.
pub fn negative_buckets(h: &Histogram) -> impl DoubleEndedIterator<Item = Bucket> + Clone + '_ {
    let none: (&[_], &[f64]) = (&[], &[]);
    let side = if h.has_custom_buckets() { none } else { (&h.negative_spans[..], &h.negative_counts[..]) };
    let bound = |index| -bucket_bound(index, h.schema, &[]);
    Indexed::new(side.0, side.1).map(move |(index, count)| {
        let (lower, upper) = (bound(index), bound(index.saturating_sub(1)));
        Bucket { lower, upper, boundaries: Boundaries::new(lower < 0.0, upper > 0.0), count }
    })
}
