//! What a window of unwrapped values comes to.

use pilothouse_query::arithmetic::{nan_first, quantile};

use crate::columns::{ABSENT, Grid};
use crate::syntax::RangeOp;

/// Values of one series with their times.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples {
    times_ns: Vec<i64>,
    values: Vec<f64>,
    unordered: bool,
}

impl Samples {
    #[inline]
    pub(crate) fn push(&mut self, t_ns: i64, value: f64) {
        self.unordered |= self.times_ns.last().is_some_and(|last| *last > t_ns);
        self.times_ns.push(t_ns);
        self.values.push(value);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        let ends_before = match (self.times_ns.last(), other.times_ns.first()) {
            (Some(last), Some(first)) => last <= first,
            _ => true,
        };
        self.unordered |= other.unordered || !ends_before;
        self.times_ns.append(&mut other.times_ns);
        self.values.append(&mut other.values);
    }

    /// Brings the samples into the order of time; equal times stay as they came.
    fn ordered(self) -> Self {
        if !self.unordered {
            return self;
        }
        let mut pairs: Vec<(i64, f64)> = self.times_ns.into_iter().zip(self.values).collect();
        pairs.sort_by_key(|(t, _)| *t);
        let (times_ns, values) = pairs.into_iter().unzip();
        Self { times_ns, values, unordered: false }
    }
}

/// The column of an aggregation over the windows of a grid.
pub(crate) fn reduce(op: RangeOp, parameter: Option<f64>, samples: Samples, grid: &Grid) -> Vec<f64> {
    let Samples { times_ns, values, .. } = samples.ordered();
    let (mut from, mut to) = (0, 0);
    let mut scratch = Vec::new();
    (0..grid.count)
        .map(|step| {
            let end = grid.window_end(step);
            let start = end.saturating_sub(grid.range_ns);
            while times_ns.get(from).is_some_and(|t| *t <= start) {
                from += 1;
            }
            to = to.max(from);
            while times_ns.get(to).is_some_and(|t| *t <= end) {
                to += 1;
            }
            if from == to {
                return ABSENT;
            }
            let window =
                Window { times_ns: &times_ns[from..to], values: &values[from..to], end_ns: end, grid };
            window.reduce(op, parameter.unwrap_or(0.0), &mut scratch)
        })
        .collect()
}

/// The samples of one window; never none.
struct Window<'a> {
    times_ns: &'a [i64],
    values: &'a [f64],
    end_ns: i64,
    grid: &'a Grid,
}

impl Window<'_> {
    fn reduce(&self, op: RangeOp, parameter: f64, scratch: &mut Vec<f64>) -> f64 {
        let values = self.values;
        let seconds = self.grid.range_ns as f64 / 1e9;
        match op {
            RangeOp::Sum => values.iter().sum(),
            RangeOp::Rate => values.iter().sum::<f64>() / seconds,
            RangeOp::Avg => values.iter().fold(Mean::default(), |mean, v| mean.with(*v)).value,
            RangeOp::Min => extreme(values, |v, best| v < best),
            RangeOp::Max => extreme(values, |v, best| v > best),
            RangeOp::Stdvar => variance(values),
            RangeOp::Stddev => variance(values).sqrt(),
            RangeOp::Quantile => {
                scratch.clear();
                scratch.extend_from_slice(values);
                selected_quantile(parameter, scratch)
            }
            RangeOp::First => values[0],
            RangeOp::Last => values[values.len() - 1],
            RangeOp::RateCounter => self.rate_counter(seconds),
            _ => 1.0,
        }
    }

    /// The rate of a counter as Loki takes it: Prometheus' extrapolation towards the window's
    /// borders; 0 of a single sample.
    fn rate_counter(&self, seconds: f64) -> f64 {
        let (times, values) = (self.times_ns, self.values);
        let last = values.len() - 1;
        if last == 0 {
            return 0.0;
        }
        let mut grown = values[last] - values[0];
        let mut before = 0.0;
        for value in values {
            if *value < before {
                grown += before;
            }
            before = *value;
        }
        let start_ns = self.end_ns.saturating_sub(self.grid.range_ns);
        let between = |from: i64, to: i64| to.saturating_sub(from) as f64 / 1e9;
        let sampled = between(times[0], times[last]);
        let average = sampled / last as f64;
        let threshold = average * 1.1;
        let mut to_start = between(start_ns, times[0]);
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if grown > 0.0 && values[0] >= 0.0 {
            to_start = to_start.min(sampled * (values[0] / grown));
        }
        let mut to_end = between(times[last], self.end_ns);
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        grown * ((sampled + to_start + to_end) / sampled) / seconds
    }
}

/// The quantile that `query::arithmetic` takes by sorting, by selection: a window may hold very
/// many values. Few are left to it.
fn selected_quantile(q: f64, values: &mut [f64]) -> f64 {
    const FEW: usize = 64;
    if values.len() < FEW || !(0.0..=1.0).contains(&q) {
        return quantile(q, values);
    }
    let rank = q * (values.len() - 1) as f64;
    let weight = rank - rank.floor();
    let (_, lower, above) = values.select_nth_unstable_by(rank as usize, nan_first);
    let upper = above.iter().copied().min_by(nan_first).unwrap_or(*lower);
    *lower * (1.0 - weight) + upper * weight
}

fn extreme(values: &[f64], better: impl Fn(f64, f64) -> bool) -> f64 {
    values.iter().copied().fold(values[0], |best, v| if better(v, best) || best.is_nan() { v } else { best })
}

/// A mean that grows value by value and does not overflow; an infinite one stays what it is.
#[derive(Default, Clone, Copy)]
pub(crate) struct Mean {
    count: f64,
    pub(crate) value: f64,
}

impl Mean {
    pub(crate) const EMPTY: Self = Self { count: 0.0, value: 0.0 };

    pub(crate) fn with(self, value: f64) -> Self {
        let count = self.count + 1.0;
        if self.value.is_infinite() {
            let same = value.is_infinite() && (self.value > 0.0) == (value > 0.0);
            if same || value.is_finite() {
                return Self { count, ..self };
            }
        }
        Self { count, value: self.value + (value / count - self.value / count) }
    }
}

/// The population's variance, by Welford's method.
fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn selection_and_sorting_agree(
            mut values in prop::collection::vec(prop_oneof![Just(f64::NAN), -1e3..1e3], 64..200),
            q in 0.0..=1.0,
        ) {
            let mut sorted = values.clone();
            let expected = quantile(q, &mut sorted);
            prop_assert_eq!(selected_quantile(q, &mut values).to_bits(), expected.to_bits());
        }
    }
}
