//! Metrics of this process and this host: taken at fixed intervals without a request.
//!
//! What is taken goes the way of every scrape, so that series that vanish are ended, and `up` and
//! its siblings are there. It stands in no list of targets: nobody configured it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::write::Appended;
use pilothouse_model::{Clock as _, Labels, SampleSink, SourceError};
use pilothouse_wire::exposition::TextFormat;

use crate::cache::SeriesCache;
use crate::config::sections::{GlobalSection, JobSection};
use crate::config::{Global, Job};
use crate::exchange::Form;
use crate::ingest::Ingest;
use crate::report::Report;

/// How much of a refusal is told.
const TOLD_CHARS: usize = 500;

/// Gives metrics in Prometheus' text format; may block.
pub type Collect = Box<dyn Fn() -> String + Send>;

/// Something that is taken by being called.
#[derive(Debug, Clone)]
pub struct LocalTarget(Arc<Mutex<Inner>>);

struct Inner {
    job: Job,
    /// `job` and `instance`.
    public: Labels,
    sink: Arc<dyn SampleSink>,
    limits: LiveLimits,
    cache: SeriesCache,
    collect: Collect,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalTarget").field("public", &self.public).finish_non_exhaustive()
    }
}

impl LocalTarget {
    pub fn new(
        job: &str,
        instance: &str,
        sink: Arc<dyn SampleSink>,
        limits: LiveLimits,
        collect: Collect,
    ) -> Self {
        let public = Labels::from_pairs([("job", job), ("instance", instance)]);
        let cache = SeriesCache::default();
        Self(Arc::new(Mutex::new(Inner { job: Job::bare(job), public, sink, limits, cache, collect })))
    }

    /// One round, on a thread that may block, then the wait for the disk. What fails is told, and
    /// the next round tried.
    pub async fn once(&self) {
        let inner = Arc::clone(&self.0);
        let stored = match tokio::task::spawn_blocking(move || inner.lock().take()).await {
            Ok(Ok(appended)) => {
                if appended.rejected > 0 {
                    // A name from outside (a group of rules, say) may be longer than a label may.
                    let first = format!("{:?}", appended.rejections.first());
                    let first: String = first.chars().take(TOLD_CHARS).collect();
                    tracing::warn!("own metrics: {} refused: {first}", appended.rejected);
                }
                appended.durable.await
            }
            Ok(Err(e)) => Err(e),
            Err(e) => Err(SourceError::storage(e)),
        };
        if let Err(e) = stored {
            tracing::warn!("own metrics were not stored: {e}");
        }
    }

    /// Rounds until the task is aborted, the first after one interval.
    pub async fn run(self, interval: Duration) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.once().await;
        }
    }
}

impl Inner {
    fn take(&mut self) -> Result<Appended, SourceError> {
        let started = Instant::now();
        let text = (self.collect)();
        let t_ms = SystemClock.now_ms();
        let limits = &*self.limits.now();
        let (job, public) = (&self.job, &self.public);
        let ingest = Ingest { job, public, histograms: job.histograms, limits, t_ms };
        let mut ingested = ingest.body(&mut self.cache, text.as_bytes(), Form::Text(TextFormat::Prometheus));
        if let Err(e) = &ingested.result {
            tracing::warn!(job = self.job.name, "own metrics: {e}");
        }
        let report = Report {
            up: ingested.result.is_ok(),
            duration_s: started.elapsed().as_secs_f64(),
            counts: ingested.counts,
            body_bytes: text.len() as f64,
        };
        report.add(ingest, self.job.timeout_ms, &mut ingested.batch);
        ingested.batch.metadata = ingested.metadata;
        self.sink.append(&ingested.batch)
    }
}

impl Job {
    /// A job with nothing but a name, everything else as where nothing is said.
    fn bare(name: &str) -> Self {
        let global = GlobalSection::default();
        match Global::new(&global).and_then(|global| global.job(&JobSection::named(name), Path::new(""))) {
            Ok(job) => job,
            Err(e) => unreachable!("what is said by default is allowed: {e}"),
        }
    }
}
