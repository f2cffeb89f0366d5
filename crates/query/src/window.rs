//! Reductions of the samples in one window of time.
//!
//! All take ascending times and as many values, stale markers left out. A window is open to the
//! left and closed to the right, as in Prometheus since 3.0.

use crate::arithmetic::quantile;
use crate::kahan;

/// Finds, for windows that only move forward, which of some ascending times lie inside.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    low: usize,
    high: usize,
}

impl Cursor {
    /// The range of indexes with `after_ms < t <= until_ms`; neither bound may go back.
    #[inline]
    pub fn advance(
        &mut self,
        count: usize,
        time: impl Fn(usize) -> i64,
        after_ms: i64,
        until_ms: i64,
    ) -> std::ops::Range<usize> {
        while self.high < count && time(self.high) <= until_ms {
            self.high += 1;
        }
        while self.low < self.high && time(self.low) <= after_ms {
            self.low += 1;
        }
        self.low..self.high
    }
}

/// How the difference over a window is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// Falls are resets, and nothing is extrapolated below zero; per second.
    Rate,
    /// As `Rate`, over the whole window.
    Increase,
    /// The plain difference over the whole window.
    Delta,
}

impl Growth {
    pub fn of_counter(self) -> bool {
        self != Self::Delta
    }
}

/// The bounds of a window: `start_ms < t <= end_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub start_ms: i64,
    pub end_ms: i64,
}

impl Bounds {
    pub fn seconds(self) -> f64 {
        (self.end_ms - self.start_ms) as f64 / 1000.0
    }
}

/// The growth of a float series over a window, extrapolated to the window's bounds where the
/// samples come near them. `None` of fewer than two samples. `may_reset` is false if the caller
/// knows that no value is below the one before it.
pub fn extrapolated(
    times_ms: &[i64],
    values: &[f64],
    window: Bounds,
    growth: Growth,
    may_reset: bool,
) -> Option<f64> {
    let ([first, .., last], [first_ms, .., last_ms]) = (values, times_ms) else { return None };
    let mut change = last - first;
    if growth.of_counter() && may_reset {
        change = add_lost_to_resets(change, values);
    }
    let zero_at = (growth.of_counter() && change > 0.0 && *first >= 0.0).then(|| first / change);
    let sampled = Sampled { first_ms: *first_ms, last_ms: *last_ms, count: values.len() };
    Some(change * sampled.extrapolation(window, growth, zero_at))
}

/// Adds back what falls took away: the value before each.
fn add_lost_to_resets(change: f64, values: &[f64]) -> f64 {
    values.windows(2).filter(|pair| pair[1] < pair[0]).fold(change, |sum, pair| sum + pair[0])
}

/// Where the samples of a window lie.
#[derive(Debug, Clone, Copy)]
pub struct Sampled {
    pub first_ms: i64,
    pub last_ms: i64,
    /// At least 2.
    pub count: usize,
}

impl Sampled {
    /// What the growth between the samples is multiplied by to give that of the window. A
    /// counter that would have been zero within the window begins there: `zero_at` is that
    /// distance before the first sample, as a share of the sampled time.
    pub fn extrapolation(self, window: Bounds, growth: Growth, zero_at: Option<f64>) -> f64 {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let sampled = seconds(self.last_ms - self.first_ms);
        let average = sampled / (self.count - 1) as f64;
        let near = average * 1.1;
        let mut to_start = seconds(self.first_ms - window.start_ms);
        let mut to_end = seconds(window.end_ms - self.last_ms);
        if to_start >= near {
            to_start = average / 2.0;
        }
        if let Some(to_zero) = zero_at.map(|share| sampled * share).filter(|to_zero| *to_zero < to_start) {
            to_start = to_zero;
        }
        if to_end >= near {
            to_end = average / 2.0;
        }
        let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
        if growth == Growth::Rate { factor / window.seconds() } else { factor }
    }
}

pub fn sum(values: &[f64]) -> f64 {
    let mut sum = kahan::Sum::ZERO;
    values.iter().for_each(|v| sum.add(*v));
    if sum.is_infinite() { sum.value() } else { sum.total() }
}

/// The mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    kahan::mean(values.iter().copied())
}

/// The index of the greatest value, the first of equals, NaN only if there is nothing else.
pub fn max_index(values: &[f64], last_of_equals: bool) -> Option<usize> {
    pick(values, |v, best| if last_of_equals { v >= best } else { v > best })
}

/// The index of the least value; see [`max_index`].
pub fn min_index(values: &[f64], last_of_equals: bool) -> Option<usize> {
    pick(values, |v, best| if last_of_equals { v <= best } else { v < best })
}

/// The greatest or least value of a window that moves forward: each value is looked at once,
/// however long the window. NaN only where there is nothing else.
#[derive(Debug, Clone, Default)]
pub struct SlidingExtreme {
    /// Indexes of values that no later one beats, in order.
    candidates: std::collections::VecDeque<usize>,
    /// Up to where values have been taken in.
    seen: usize,
}

impl SlidingExtreme {
    /// The extreme of `values[window]`; neither bound may go back. `None` of nothing.
    pub fn of(&mut self, values: &[f64], window: std::ops::Range<usize>, greatest: bool) -> Option<f64> {
        let beats = |new: f64, old: f64| if greatest { new > old } else { new < old };
        for i in self.seen.max(window.start)..window.end {
            let value = values[i];
            if value.is_nan() {
                continue;
            }
            while self.candidates.back().is_some_and(|last| beats(value, values[*last])) {
                self.candidates.pop_back();
            }
            self.candidates.push_back(i);
        }
        self.seen = self.seen.max(window.end);
        while self.candidates.front().is_some_and(|first| *first < window.start) {
            self.candidates.pop_front();
        }
        if window.is_empty() {
            return None;
        }
        Some(self.candidates.front().map_or(f64::NAN, |first| values[*first]))
    }
}

fn pick(values: &[f64], better: impl Fn(f64, f64) -> bool) -> Option<usize> {
    let mut best = (0, *values.first()?);
    for (i, &value) in values.iter().enumerate() {
        if better(value, best.1) || best.1.is_nan() {
            best = (i, value);
        }
    }
    Some(best.0)
}

/// The population variance; NaN of nothing.
pub fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut squares) = (kahan::Sum::ZERO, kahan::Sum::ZERO);
    for (i, value) in values.iter().enumerate() {
        let delta = value - mean.total();
        mean.add(delta / (i + 1) as f64);
        squares.add(delta * (value - mean.total()));
    }
    squares.total() / values.len() as f64
}

/// The median absolute deviation; NaN if a value is.
pub fn median_deviation(values: &[f64]) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let mut scratch = values.to_vec();
    let median = quantile(0.5, &mut scratch);
    scratch.iter_mut().for_each(|v| *v = (*v - median).abs());
    quantile(0.5, &mut scratch)
}

/// A straight line through samples: its slope per second and its value at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    pub slope: f64,
    pub intercept: f64,
}

/// The least-squares line through the samples, its intercept taken at `at_ms`. Values that are
/// all equal give a level line, infinite ones NaN.
pub fn regression(times_ms: &[i64], values: &[f64], at_ms: i64) -> Line {
    let first = values.first().copied().unwrap_or(f64::NAN);
    if values.iter().all(|v| *v == first) {
        return match first.is_infinite() {
            true => Line { slope: f64::NAN, intercept: f64::NAN },
            false => Line { slope: 0.0, intercept: first },
        };
    }
    let mut sums = [kahan::Sum::ZERO; 4];
    for (t, y) in times_ms.iter().zip(values) {
        let x = (t - at_ms) as f64 / 1e3;
        for (sum, value) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            sum.add(value);
        }
    }
    let n = values.len() as f64;
    let [x, y, xy, xx] = sums.map(kahan::Sum::total);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    Line { slope, intercept: y / n - slope * x / n }
}

/// Double exponential smoothing (Holt): the last smoothed value; `None` of fewer than two.
pub fn double_exponential(values: &[f64], smoothing: f64, trend: f64) -> Option<f64> {
    let [first, second, ..] = values else { return None };
    let (mut before, mut smoothed, mut slope) = (0.0, *first, second - first);
    for (i, value) in values.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (smoothed - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (smoothed + slope);
        (before, smoothed) = (smoothed, next);
    }
    Some(smoothed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_keeps_the_window_open_to_the_left() {
        let times = [0, 10, 20, 30, 40];
        let mut cursor = Cursor::default();
        for (until, want) in [(10, 0..2), (20, 1..3), (35, 2..4), (100, 5..5)] {
            let got = cursor.advance(times.len(), |i| times[i], until - 20, until);
            assert_eq!(got, want);
        }
    }

    #[test]
    fn growth_is_extrapolated_but_not_below_zero() {
        let times: Vec<i64> = (1..=5).map(|i| i * 60_000).collect();
        let window = Bounds { start_ms: 0, end_ms: 300_000 };
        let grow = |values: &[f64], growth| extrapolated(&times, values, window, growth, true);
        assert_eq!(grow(&[100.0, 110.0, 120.0, 130.0, 140.0], Growth::Increase), Some(50.0));
        assert_eq!(grow(&[100.0, 110.0, 120.0, 130.0, 140.0], Growth::Rate), Some(50.0 / 300.0));
        assert_eq!(grow(&[0.0, 10.0, 20.0, 30.0, 40.0], Growth::Increase), Some(40.0));
        assert_eq!(grow(&[10.0, 20.0, 5.0, 15.0, 25.0], Growth::Delta), Some(15.0 * 1.25));
        assert_eq!(grow(&[10.0, 20.0, 5.0, 15.0, 25.0], Growth::Increase), Some(43.75));
        assert_eq!(extrapolated(&times[..1], &[1.0], window, Growth::Rate, true), None);
    }

    proptest::proptest! {
        #[test]
        fn a_sliding_extreme_is_that_of_each_window(
            numbers in proptest::collection::vec(proptest::option::weighted(0.9, -9i8..9), 0..40),
            moves in proptest::collection::vec((0usize..4, 0usize..4), 1..40),
            greatest in proptest::bool::ANY,
        ) {
            let values: Vec<f64> = numbers.iter().map(|n| n.map_or(f64::NAN, f64::from)).collect();
            let (mut sliding, mut low, mut high) = (SlidingExtreme::default(), 0, 0);
            for (by_low, by_high) in moves {
                high = values.len().min(high + by_high);
                low = high.min(low + by_low);
                let index = if greatest { max_index } else { min_index };
                let want = index(&values[low..high], false).map(|i| values[low + i].to_bits());
                let got = sliding.of(&values, low..high, greatest).map(f64::to_bits);
                proptest::prop_assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn reductions_agree_with_plain_arithmetic() {
        let values = [3.0, 1.0, 4.0, 1.0, 5.0];
        assert_eq!(sum(&values), 14.0);
        assert_eq!(mean(&values), Some(2.8));
        assert_eq!((max_index(&values, false), min_index(&values, false)), (Some(4), Some(1)));
        assert_eq!(min_index(&values, true), Some(3));
        assert_eq!(max_index(&[f64::NAN, 1.0], false), Some(1));
        assert!((variance(&values) - 2.56).abs() < 1e-12);
        assert_eq!(median_deviation(&values), 2.0);
        let line = regression(&[0, 1000, 2000], &[1.0, 3.0, 5.0], 0);
        assert_eq!(line, Line { slope: 2.0, intercept: 1.0 });
        assert_eq!(double_exponential(&[1.0, 2.0, 3.0], 0.5, 0.5), Some(3.0));
    }
}
