//! Bringing two histograms to one layout and adding one to the other.

use std::sync::Arc;

use pilothouse_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pilothouse_model::{Histogram, ResetHint, Span};

use super::bound::exponential_bound;
use super::buckets::{Buckets, Builder, Indexed, Tally, coarse_index, negative_run, positive_run};

/// Two histograms of which only one has custom buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct MixedSchemas;

/// How the counter reset hints of two histograms went together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum ResetHints {
    #[default]
    Compatible,
    /// One says that there was a reset, the other that there was none; the outcome is unknown.
    Colliding,
}

/// How the custom bucket bounds of two histograms went together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum CustomBounds {
    #[default]
    Same,
    /// The bounds differed; only those that both have were kept.
    Intersected,
}

/// What happened while one histogram was added to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Joined {
    pub hints: ResetHints,
    pub bounds: CustomBounds,
}

/// A histogram whose numbers may carry their rounding error.
#[derive(Debug, Clone)]
pub(super) struct Core<T> {
    pub(super) schema: i32,
    pub(super) reset_hint: ResetHint,
    pub(super) zero_threshold: f64,
    pub(super) zero_count: T,
    pub(super) count: T,
    pub(super) sum: T,
    pub(super) positive: Buckets<T>,
    pub(super) negative: Buckets<T>,
    pub(super) custom_bounds: Arc<[f64]>,
}

impl Core<f64> {
    /// Takes the buckets out of a histogram; [`Core::put_back`] returns them.
    pub(super) fn take(h: &mut Histogram) -> Self {
        let side = |spans: &mut Vec<Span>, counts: &mut Vec<f64>| Buckets {
            spans: std::mem::take(spans),
            counts: std::mem::take(counts),
        };
        Self {
            schema: h.schema,
            reset_hint: h.reset_hint,
            zero_threshold: h.zero_threshold,
            zero_count: h.zero_count,
            count: h.count,
            sum: h.sum,
            positive: side(&mut h.positive_spans, &mut h.positive_counts),
            negative: side(&mut h.negative_spans, &mut h.negative_counts),
            custom_bounds: Arc::clone(&h.custom_bounds),
        }
    }

    pub(super) fn put_back(self, h: &mut Histogram) {
        *h = Histogram {
            schema: self.schema,
            reset_hint: self.reset_hint,
            integer: false,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans: self.positive.spans,
            positive_counts: self.positive.counts,
            negative_spans: self.negative.spans,
            negative_counts: self.negative.counts,
            custom_bounds: self.custom_bounds,
        };
    }
}

impl<T: Tally> Core<T> {
    pub(super) fn from_histogram(h: &Histogram) -> Self {
        Self {
            schema: h.schema,
            reset_hint: h.reset_hint,
            zero_threshold: h.zero_threshold,
            zero_count: T::of(h.zero_count),
            count: T::of(h.count),
            sum: T::of(h.sum),
            positive: Buckets::from_counts(&h.positive_spans, &h.positive_counts),
            negative: Buckets::from_counts(&h.negative_spans, &h.negative_counts),
            custom_bounds: Arc::clone(&h.custom_bounds),
        }
    }

    /// Every number with its rounding error added, that of the bounds excepted.
    pub(super) fn into_totals(self) -> Core<f64> {
        let side =
            |b: Buckets<T>| Buckets { spans: b.spans, counts: b.counts.into_iter().map(T::total).collect() };
        Core {
            schema: self.schema,
            reset_hint: self.reset_hint,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count.total(),
            count: self.count.total(),
            sum: self.sum.total(),
            positive: side(self.positive),
            negative: side(self.negative),
            custom_bounds: self.custom_bounds,
        }
    }

    pub(super) fn for_each_number(&mut self, change: impl Fn(T) -> T) {
        self.zero_count = change(self.zero_count);
        self.count = change(self.count);
        self.sum = change(self.sum);
        self.positive.for_each_count(&change);
        self.negative.for_each_count(&change);
    }

    pub(super) fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }

    /// Merges the exponential buckets into those of a coarser schema.
    pub(super) fn reduce_to(&mut self, schema: i32) {
        let steps = schema_steps(self.schema, schema);
        self.positive.coarsen(steps);
        self.negative.coarsen(steps);
        self.schema = schema;
    }

    /// Adds `sign` times another histogram. The finer schema, the narrower zero bucket and the
    /// bounds that only one side has give way.
    pub(super) fn combine(&mut self, other: &Histogram, sign: f64) -> Result<Joined, MixedSchemas> {
        let custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        if custom != other.has_custom_buckets() {
            return Err(MixedSchemas);
        }
        let hints = join_hints(&mut self.reset_hint, other.reset_hint);
        let bounds = if custom {
            self.combine_custom(other, sign)
        } else {
            self.combine_exponential(other, sign);
            CustomBounds::Same
        };
        self.count.absorb(T::of(sign * other.count));
        self.sum.absorb(T::of(sign * other.sum));
        Ok(Joined { hints, bounds })
    }

    fn combine_exponential(&mut self, other: &Histogram, sign: f64) {
        let zero_count = self.reconcile_zero_buckets(other);
        self.zero_count.absorb(zero_count.scaled(sign));
        if other.schema < self.schema {
            self.reduce_to(other.schema);
        }
        let incoming = Incoming {
            steps: schema_steps(other.schema, self.schema),
            sign,
            // Buckets within the zero bucket have been counted there. Prometheus looks for them
            // after it reduced the resolution, and counts those again whose coarser bucket
            // reaches out of the zero bucket.
            first: first_index_above(self.zero_threshold, other.schema),
        };
        incoming.add_to(&mut self.positive, &other.positive_spans, &other.positive_counts);
        incoming.add_to(&mut self.negative, &other.negative_spans, &other.negative_counts);
    }

    fn combine_custom(&mut self, other: &Histogram, sign: f64) -> CustomBounds {
        let (spans, counts) = (&other.positive_spans, &other.positive_counts);
        if self.custom_bounds == other.custom_bounds {
            Incoming { steps: 0, sign, first: FirstIndex::Any }.add_to(&mut self.positive, spans, counts);
            return CustomBounds::Same;
        }
        let shared = shared_bounds(&self.custom_bounds, &other.custom_bounds);
        let mut cells = vec![T::of(0.0); shared.len() + 1];
        spread(&mut cells, self.positive.iter(), &self.custom_bounds, &shared);
        let signed = Indexed::new(spans, counts).map(|(i, c)| (i, T::of(sign * c)));
        spread(&mut cells, signed, &other.custom_bounds, &shared);
        let mut merged = Builder::with_capacity(cells.len());
        for (index, count) in (0..).zip(cells) {
            if !count.is_zero() {
                merged.add(index, count);
            }
        }
        self.positive = merged.finish();
        self.custom_bounds = shared;
        CustomBounds::Intersected
    }

    /// Widens the own zero bucket until it is at least as wide as the other's and neither edge
    /// cuts a populated bucket. Returns what the other one's would then hold.
    fn reconcile_zero_buckets(&mut self, other: &Histogram) -> T {
        let mut zero = (T::of(other.zero_count), other.zero_threshold);
        // A threshold that is not a number compares with nothing; then both stay as they are.
        loop {
            if self.zero_threshold > zero.1 {
                zero = zero_bucket_of(other, self.zero_threshold);
            } else if zero.1 > self.zero_threshold {
                let (positive, negative) = (self.positive.iter(), self.negative.iter());
                let widened = widen(self.zero_count, self.schema, zero.1, positive, negative);
                (self.zero_count, self.zero_threshold) = widened;
                let (schema, threshold) = (self.schema, self.zero_threshold);
                let outside = |i: i64, count: T| {
                    !count.is_zero() && exponential_bound(i.saturating_sub(1), schema) >= threshold
                };
                self.positive.retain(outside);
                self.negative.retain(outside);
            } else {
                return zero.0;
            }
        }
    }
}

/// The zero bucket that a histogram would have with a threshold of at least `threshold`: its
/// count, and the threshold moved out to where it cuts no populated bucket.
pub(super) fn zero_bucket_of<T: Tally>(h: &Histogram, threshold: f64) -> (T, f64) {
    let tallied = |(i, c): (i64, f64)| (i, T::of(c));
    let (positive, negative) = (positive_run(h).map(tallied), negative_run(h).map(tallied));
    widen(T::of(h.zero_count), h.schema, threshold, positive, negative)
}

fn widen<T: Tally>(
    zero_count: T,
    schema: i32,
    mut threshold: f64,
    positive: impl Iterator<Item = (i64, T)> + Clone,
    negative: impl Iterator<Item = (i64, T)> + Clone,
) -> (T, f64) {
    loop {
        let mut count = zero_count;
        let edge = swallow(&mut count, schema, threshold, positive.clone()).max(swallow(
            &mut count,
            schema,
            threshold,
            negative.clone(),
        ));
        if edge > threshold {
            threshold = edge;
        } else {
            return (count, threshold);
        }
    }
}

/// Adds the buckets that begin below the threshold, and returns the upper bound of the last
/// populated one of them, or the threshold if that is further out.
fn swallow<T: Tally>(
    into: &mut T,
    schema: i32,
    threshold: f64,
    buckets: impl Iterator<Item = (i64, T)>,
) -> f64 {
    let mut edge = threshold;
    for (index, count) in buckets {
        if exponential_bound(index.saturating_sub(1), schema) >= threshold {
            break;
        }
        into.absorb(count);
        if !count.is_zero() {
            edge = edge.max(exponential_bound(index, schema));
        }
    }
    edge
}

/// By how many halvings one schema is finer than another.
pub(super) fn schema_steps(from: i32, to: i32) -> u32 {
    from.saturating_sub(to).max(0).unsigned_abs()
}

/// From which bucket on a histogram's buckets count.
#[derive(Debug, Clone, Copy)]
enum FirstIndex {
    Any,
    /// The first one that ends above this threshold, in this schema.
    EndingAbove(f64, i32),
}

impl FirstIndex {
    fn admits(self, index: i64) -> bool {
        match self {
            Self::Any => true,
            Self::EndingAbove(threshold, schema) => exponential_bound(index, schema) > threshold,
        }
    }
}

fn first_index_above(threshold: f64, schema: i32) -> FirstIndex {
    if threshold > 0.0 { FirstIndex::EndingAbove(threshold, schema) } else { FirstIndex::Any }
}

/// How the buckets of another histogram are to be added.
#[derive(Debug, Clone, Copy)]
struct Incoming {
    steps: u32,
    sign: f64,
    first: FirstIndex,
}

impl Incoming {
    fn add_to<T: Tally>(self, own: &mut Buckets<T>, spans: &[Span], counts: &[f64]) {
        if counts.is_empty() {
            return;
        }
        if self.fits(own, spans, counts) {
            for (ours, theirs) in own.counts.iter_mut().zip(counts) {
                ours.absorb(T::of(self.sign * theirs));
            }
            return;
        }
        let buckets = Indexed::new(spans, counts).skip_while(|(i, _)| !self.first.admits(*i));
        own.merge(buckets.map(|(i, c)| (coarse_index_or_same(i, self.steps), T::of(self.sign * c))));
    }

    /// Whether both have the very same buckets, as the samples of one series mostly do.
    fn fits<T>(self, own: &Buckets<T>, spans: &[Span], counts: &[f64]) -> bool {
        self.steps == 0
            && own.spans == spans
            && own.counts.len() == counts.len()
            && spans.first().is_some_and(|s| self.first.admits(i64::from(s.offset)))
    }
}

fn coarse_index_or_same(index: i64, steps: u32) -> i64 {
    if steps == 0 { index } else { coarse_index(index, steps) }
}

fn join_hints(own: &mut ResetHint, other: ResetHint) -> ResetHints {
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    let (joined, outcome) = match (*own, other) {
        (a, b) if a == b => (a, ResetHints::Compatible),
        (Gauge, _) | (_, Gauge) => (Gauge, ResetHints::Compatible),
        (Reset, NotReset) | (NotReset, Reset) => (Unknown, ResetHints::Colliding),
        _ => (Unknown, ResetHints::Compatible),
    };
    *own = joined;
    outcome
}

/// The bounds that two ascending lists have in common.
pub(super) fn shared_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    let mut rest = b.iter().peekable();
    let in_both = |bound: &&f64| {
        while rest.next_if(|other| **other < **bound).is_some() {}
        rest.next_if(|other| *other == *bound).is_some()
    };
    a.iter().filter(in_both).copied().collect()
}

/// Adds custom buckets to the cells of a coarser layout; the last cell is the one up to +Inf.
fn spread<T: Tally>(
    cells: &mut [T],
    buckets: impl Iterator<Item = (i64, T)>,
    bounds: &[f64],
    shared: &[f64],
) {
    for (index, count) in buckets {
        let bound = usize::try_from(index).ok().and_then(|i| bounds.get(i));
        let cell = bound.map_or(shared.len(), |b| shared.partition_point(|s| s < b));
        if let Some(cell) = cells.get_mut(cell) {
            cell.absorb(count);
        }
    }
}
