//! How runs and their results went, counted for whoever watches the server.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of how late runs begin, in seconds.
const LATE_BOUNDS_S: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// How runs went, counted since the start.
#[derive(Debug, Default)]
pub struct ScheduleStats {
    /// Checks that have a place in the schedule now.
    pub checks: AtomicU64,
    /// Runs that are under way now.
    pub running: AtomicU64,
    pub good_runs: AtomicU64,
    pub failed_runs: AtomicU64,
    /// Slots that passed while the run before was not over.
    pub skipped: AtomicU64,
    pub lateness: Lateness,
}

/// Time between slots and the runs that began at them.
#[derive(Debug, Default)]
pub struct Lateness {
    buckets: [AtomicU64; LATE_BOUNDS_S.len() + 1],
    sum_us: AtomicU64,
}

/// What a histogram shows: upper bounds in seconds, the counts up to each of them and in all,
/// the sum in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    pub upper_bounds_s: Vec<f64>,
    pub cumulative_counts: Vec<u64>,
    pub sum_s: f64,
}

impl Lateness {
    pub(super) fn observe(&self, late: Duration) {
        let seconds = late.as_secs_f64();
        let at = LATE_BOUNDS_S.iter().position(|bound| seconds <= *bound).unwrap_or(LATE_BOUNDS_S.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn distribution(&self) -> Distribution {
        let mut total = 0;
        let cumulative = |bucket: &AtomicU64| {
            total += bucket.load(Relaxed);
            total
        };
        Distribution {
            upper_bounds_s: LATE_BOUNDS_S.to_vec(),
            cumulative_counts: self.buckets.iter().map(cumulative).collect(),
            sum_s: self.sum_us.load(Relaxed) as f64 / 1e6,
        }
    }
}

/// How results went.
#[derive(Debug, Default)]
pub struct PublisherStats {
    pub published: AtomicU64,
    /// Refused by a sink.
    pub failed: AtomicU64,
    /// Came while the queue was full, or after its end.
    pub dropped: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_counted_up_to_its_bounds() {
        let lateness = Lateness::default();
        for ms in [0, 1, 30, 9_000] {
            lateness.observe(Duration::from_millis(ms));
        }
        let shown = lateness.distribution();
        assert_eq!(shown.cumulative_counts, [2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4]);
        assert_eq!((shown.upper_bounds_s.len(), shown.sum_s), (10, 9.031));
    }
}
