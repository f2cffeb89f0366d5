//! The grid of steps a metric query is evaluated on, and series as columns over it.

use pilothouse_model::logs::TimeBuckets;
use pilothouse_model::sample::{STALE_NAN_BITS, is_stale};
use pilothouse_model::{Labels, MatrixSeries};

/// Marks a step at which a series has no value. A value of its own kind: NaN results are values.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

#[inline]
pub(crate) fn is_absent(value: f64) -> bool {
    is_stale(value)
}

/// The labels that have a value. Grouping without names, joining series and replacing labels
/// leave no others.
pub(crate) fn with_values(labels: &Labels) -> Labels {
    if labels.iter().any(|(_, value)| value.is_empty()) {
        Labels::from_pairs(labels.iter())
    } else {
        labels.clone()
    }
}

/// One series over all steps.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) labels: Labels,
    pub(crate) values: Vec<f64>,
}

impl Column {
    pub(crate) fn is_empty(&self) -> bool {
        self.values.iter().all(|v| is_absent(*v))
    }

    pub(crate) fn into_series(self, grid: &Grid) -> MatrixSeries {
        let floats = self
            .values
            .into_iter()
            .enumerate()
            .filter(|(_, value)| !is_absent(*value))
            .map(|(step, value)| (grid.time_ms(step), value))
            .collect();
        MatrixSeries { labels: self.labels, floats, histograms: Vec::new() }
    }
}

/// Evaluation times, and the window that ends at each: `(t - offset - range, t - offset]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start_ns: i64,
    pub(crate) step_ns: i64,
    /// At least one.
    pub(crate) count: usize,
    pub(crate) range_ns: i64,
    pub(crate) offset_ns: i64,
}

impl Grid {
    pub(crate) fn instant(t_ns: i64) -> Self {
        Self { start_ns: t_ns, step_ns: 1, count: 1, range_ns: 0, offset_ns: 0 }
    }

    /// As Loki does, start is rounded down and end up to a multiple of the step.
    pub(crate) fn range(start_ns: i64, end_ns: i64, step_ns: i64) -> Self {
        let step_ns = step_ns.max(1);
        let start = start_ns.div_euclid(step_ns).saturating_mul(step_ns);
        let last = end_ns.saturating_add(step_ns - 1).div_euclid(step_ns).saturating_mul(step_ns);
        let count = usize::try_from(last.saturating_sub(start) / step_ns).unwrap_or(0) + 1;
        Self { start_ns: start, step_ns, count, range_ns: 0, offset_ns: 0 }
    }

    pub(crate) fn with_range(self, range_ns: i64, offset_ns: i64) -> Self {
        Self { range_ns, offset_ns, ..self }
    }

    pub(crate) fn time_ms(&self, step: usize) -> i64 {
        (self.start_ns + step as i64 * self.step_ns).div_euclid(1_000_000)
    }

    /// The end of a step's window, inclusive.
    #[inline]
    pub(crate) fn window_end(&self, step: usize) -> i64 {
        self.start_ns.saturating_sub(self.offset_ns).saturating_add(step as i64 * self.step_ns)
    }

    /// Times that lie in any window or between two: start inclusive, end exclusive.
    pub(crate) fn reach(&self) -> (i64, i64) {
        let start = self.window_end(0).saturating_sub(self.range_ns).saturating_add(1);
        (start, self.window_end(self.count - 1).saturating_add(1))
    }

    /// The first and last step whose windows hold a time.
    #[inline]
    pub(crate) fn windows_of(&self, t_ns: i64) -> Option<(usize, usize)> {
        let since = t_ns.saturating_sub(self.window_end(0));
        if self.count == 1 {
            return (since <= 0 && since > -self.range_ns).then_some((0, 0));
        }
        // Windows end at or after the time …
        let first = if since <= 0 { 0 } else { (since - 1) / self.step_ns + 1 };
        // … and begin before it.
        let last = since.saturating_add(self.range_ns - 1);
        if last < 0 {
            return None;
        }
        let last = (last / self.step_ns).min(self.count as i64 - 1);
        (first <= last).then_some((first as usize, last as usize))
    }

    /// Buckets that no border of a window cuts.
    pub(crate) fn buckets(&self) -> TimeBuckets {
        let mut period = self.range_ns.max(1);
        if self.count > 1 {
            let mut other = self.step_ns;
            while other != 0 {
                (period, other) = (other, period % other);
            }
        }
        TimeBuckets { origin_ns: self.window_end(0).saturating_sub(self.range_ns), period_ns: period.max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_are_multiples_and_cover_the_range() {
        let grid = Grid::range(1_017, 1_900, 300);
        assert_eq!((grid.start_ns, grid.count), (900, 5));
        assert_eq!(Grid::range(900, 1_800, 300).count, 4);
        assert_eq!(Grid::range(900, 900, 300).count, 1);
    }

    proptest! {
        #[test]
        fn windows_are_those_that_hold_the_time(
            start in 0i64..50, step in 1i64..10, steps in 1usize..12, range in 1i64..30, offset in -9i64..9, t in -40i64..150,
        ) {
            let grid = Grid { start_ns: start, step_ns: step, count: steps, range_ns: range, offset_ns: offset };
            let holding: Vec<usize> = (0..steps)
                .filter(|s| { let end = grid.window_end(*s); end - range < t && t <= end })
                .collect();
            let expected = holding.first().map(|f| (*f, *holding.last().unwrap_or(f)));
            prop_assert_eq!(grid.windows_of(t), expected);
            let (from, to) = grid.reach();
            if expected.is_some() { prop_assert!(from <= t && t < to); }
            // Times of one bucket lie in the same windows.
            let buckets = grid.buckets();
            if buckets.same(t, t + 1) && t >= from && t + 1 < to {
                prop_assert_eq!(grid.windows_of(t), grid.windows_of(t + 1));
            }
        }
    }
}
