//! The times a query is evaluated at.

/// A grid of times: `count` of them, `step_ms` apart, from `start_ms` on. An instant is a grid
/// of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    pub start_ms: i64,
    /// Positive.
    pub step_ms: i64,
    pub count: usize,
}

impl Steps {
    pub fn instant(t_ms: i64) -> Self {
        Self { start_ms: t_ms, step_ms: 1, count: 1 }
    }

    /// All times from `start_ms` to `end_ms`, the end included if a step falls on it. Empty if
    /// the end lies before the start or the step is not positive.
    pub fn range(start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        let length = end_ms.saturating_sub(start_ms);
        let count = if step_ms <= 0 || length < 0 { 0 } else { length / step_ms + 1 };
        Self { start_ms, step_ms: step_ms.max(1), count: usize::try_from(count).unwrap_or(usize::MAX) }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    pub fn time_ms(&self, index: usize) -> i64 {
        self.start_ms.saturating_add(self.step_ms.saturating_mul(index as i64))
    }

    /// The last time; the start where there is none.
    pub fn last_ms(&self) -> i64 {
        self.time_ms(self.count.saturating_sub(1))
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = i64> + '_ {
        (0..self.count).map(|i| self.time_ms(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_included_if_a_step_falls_on_it() {
        for (end, count, last) in [(20, 3, 20), (29, 3, 20), (0, 1, 0), (-1, 0, 0)] {
            let steps = Steps::range(0, end, 10);
            assert_eq!((steps.count, steps.last_ms()), (count, last));
        }
        assert_eq!(Steps::range(-15, 5, 10).iter().collect::<Vec<_>>(), [-15, -5, 5]);
    }
}
