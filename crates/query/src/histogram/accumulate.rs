//! Long sums and means of histograms, with a compensation beside every number.

use pilothouse_model::{Histogram, ResetHint};

use super::arithmetic::divide;
use super::combine::{Core, CustomBounds, Joined, MixedSchemas, ResetHints};
use crate::kahan::Sum;

/// What the inputs of an accumulation were like.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    reset: bool,
    not_reset: bool,
    bounds: CustomBounds,
}

impl Seen {
    fn hint(&mut self, hint: ResetHint) {
        self.reset |= hint == ResetHint::Reset;
        self.not_reset |= hint == ResetHint::NotReset;
    }

    fn joined(self) -> Joined {
        let collision = self.reset && self.not_reset;
        let hints = if collision { ResetHints::Colliding } else { ResetHints::Compatible };
        Joined { hints, bounds: self.bounds }
    }
}

/// The sum of many histograms, as `sum` and `sum_over_time` make it.
#[derive(Debug, Clone)]
pub struct HistogramSum {
    core: Core<Sum>,
    seen: Seen,
}

impl HistogramSum {
    pub fn new(first: &Histogram) -> Self {
        let mut seen = Seen::default();
        seen.hint(first.reset_hint);
        Self { core: Core::from_histogram(first), seen }
    }

    /// Adds a histogram; the sum stays what it was if that cannot be.
    pub fn add(&mut self, h: &Histogram) -> Result<(), MixedSchemas> {
        self.seen.hint(h.reset_hint);
        let joined = self.core.combine(h, 1.0)?;
        self.seen.bounds = self.seen.bounds.max(joined.bounds);
        Ok(())
    }

    /// What is to be told of the inputs so far: hints that collide anywhere among them, bounds
    /// that were reconciled at any time.
    pub fn joined(&self) -> Joined {
        self.seen.joined()
    }

    /// The sum, empty buckets included.
    pub fn finish(self) -> Histogram {
        let mut out = Histogram::default();
        self.core.into_totals().put_back(&mut out);
        out
    }
}

/// The mean of many histograms, as `avg` and `avg_over_time` make it: the sum divided at the
/// end for as long as nothing in it overflows, the incremental mean from there on.
#[derive(Debug, Clone)]
pub struct HistogramMean {
    /// The sum, or the mean itself once `incremental`.
    running: HistogramSum,
    count: f64,
    incremental: bool,
    /// No number of the sum is greater. Far below the greatest float no copy has to be kept
    /// back for the case of an overflow.
    ceiling: f64,
}

impl HistogramMean {
    pub fn new(first: &Histogram) -> Self {
        let running = HistogramSum::new(first);
        Self { running, count: 1.0, incremental: false, ceiling: magnitude(first) }
    }

    /// Adds a histogram; the mean is of no use any more if that cannot be.
    pub fn add(&mut self, h: &Histogram) -> Result<(), MixedSchemas> {
        self.count += 1.0;
        if !self.incremental && self.add_to_sum(h)? {
            return Ok(());
        }
        let kept = (self.count - 1.0) / self.count;
        self.running.core.for_each_number(|n| n.scaled(kept));
        let mut share = h.clone();
        divide(&mut share, self.count);
        self.running.add(&share)
    }

    /// Adds to the sum unless that overflows; then what there is becomes a mean.
    fn add_to_sum(&mut self, h: &Histogram) -> Result<bool, MixedSchemas> {
        self.ceiling += magnitude(h);
        if self.ceiling < f64::MAX / 2.0 {
            self.running.add(h)?;
            return Ok(true);
        }
        let before = self.running.clone();
        self.running.add(h)?;
        if !overflows(&self.running.core) {
            return Ok(true);
        }
        self.running = before;
        self.incremental = true;
        let count = self.count - 1.0;
        self.running.core.for_each_number(|n| n.divided(count));
        Ok(false)
    }

    /// See [`HistogramSum::joined`].
    pub fn joined(&self) -> Joined {
        self.running.joined()
    }

    /// The mean, empty buckets included.
    pub fn finish(mut self) -> Histogram {
        if !self.incremental {
            let count = self.count;
            self.running.core.for_each_number(|n| n.divided(count));
        }
        self.running.finish()
    }
}

/// The sum of all numbers of a histogram without their signs, which no number in it exceeds
/// even after buckets have been merged.
fn magnitude(h: &Histogram) -> f64 {
    let counts = h.positive_counts.iter().chain(&h.negative_counts);
    counts.chain([&h.zero_count, &h.count, &h.sum]).map(|n| n.abs()).sum()
}

fn overflows(core: &Core<Sum>) -> bool {
    let counts = core.positive.counts.iter().chain(&core.negative.counts);
    counts.chain([&core.zero_count, &core.count, &core.sum]).any(|n| n.is_infinite())
}
