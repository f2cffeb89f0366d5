//! The series that tell of a scrape itself: `up` and its siblings.

use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::write::WriteBatch;

use crate::config::Job;
use crate::ingest::{Counts, Ingest};

/// The series about a scrape itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) up: bool,
    pub(crate) duration_s: f64,
    pub(crate) counts: Counts,
    /// -1 for one that was too long.
    pub(crate) body_bytes: f64,
}

impl Report {
    /// Adds them to a batch.
    pub(crate) fn add(&self, ingest: Ingest<'_>, timeout_ms: i64, batch: &mut WriteBatch) {
        let extra = [timeout_ms as f64 / 1000.0, ingest.job.sample_limit as f64, self.body_bytes];
        let values = [
            f64::from(u8::from(self.up)),
            self.duration_s,
            self.counts.scraped as f64,
            self.counts.kept as f64,
            self.counts.added as f64,
        ];
        for (name, value) in names(ingest.job).zip(values.into_iter().chain(extra)) {
            batch.push_float(&ingest.public.with(METRIC_NAME, name), ingest.t_ms, value);
        }
    }

    /// Ends them.
    pub(crate) fn end(ingest: Ingest<'_>, batch: &mut WriteBatch) {
        for name in names(ingest.job) {
            batch.push_float(&ingest.public.with(METRIC_NAME, name), ingest.t_ms, stale_nan());
        }
    }
}

fn names(job: &Job) -> impl Iterator<Item = &'static str> {
    const ALL: [&str; 8] = [
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
        "scrape_timeout_seconds",
        "scrape_sample_limit",
        "scrape_body_size_bytes",
    ];
    ALL.into_iter().take(if job.extra_metrics { 8 } else { 5 })
}
