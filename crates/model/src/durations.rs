//! How long something took, counted into fixed buckets for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets in seconds; a last one without bound follows.
pub const BOUNDS_S: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Counts durations; adding is a few atomic additions.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; BOUNDS_S.len() + 1],
    sum_ns: AtomicU64,
}

/// A reading of [`Durations`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DurationCounts {
    /// Not cumulative; the last is what lies above all bounds.
    pub buckets: [u64; BOUNDS_S.len() + 1],
    pub sum_s: f64,
}

impl Durations {
    pub fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS_S.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn counts(&self) -> DurationCounts {
        DurationCounts {
            buckets: std::array::from_fn(|i| self.buckets[i].load(Relaxed)),
            sum_s: self.sum_ns.load(Relaxed) as f64 / 1e9,
        }
    }
}

impl DurationCounts {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What lies below each bound, and all of them at last, as the text formats show it.
    pub fn cumulative(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let durations = Durations::default();
        for ms in [0, 1, 2, 31_000] {
            durations.add(Duration::from_millis(ms));
        }
        let counts = durations.counts();
        assert_eq!(counts.buckets, [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(counts.count(), 4);
        assert_eq!(counts.cumulative().skip(10).collect::<Vec<_>>(), [3, 3, 3, 4]);
        assert!((counts.sum_s - 31.003).abs() < 1e-9);
    }
}
