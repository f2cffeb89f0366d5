//! The server's own metrics in its own store, so that the first query finds something.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilothouse_api::{App, TextFormat};
use pilothouse_model::limits::Limits;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::write::Appended;
use pilothouse_model::{Clock as _, SampleSink, SourceError};
use pilothouse_wire::exposition;

const INTERVAL: Duration = Duration::from_secs(15);
const JOB: &str = "pilothouse";

/// Why a round wrote nothing.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error("own metrics: {0}")]
    Text(#[from] pilothouse_wire::DecodeError),
    #[error("own metrics: {0}")]
    Store(#[from] SourceError),
    #[error("own metrics: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Writes the own metrics of `app` into `sink`.
pub(crate) struct Scrape {
    pub(crate) app: Arc<App>,
    pub(crate) sink: Arc<dyn SampleSink>,
    pub(crate) limits: Limits,
    /// The label of the same name.
    pub(crate) instance: String,
}

impl Scrape {
    /// One round. All but the wait for the disk is done on a blocking thread: the store walks
    /// its groups for its figures.
    async fn once(self: &Arc<Self>) -> Result<(), ScrapeError> {
        let this = Arc::clone(self);
        let appended = tokio::task::spawn_blocking(move || this.append()).await??;
        if appended.rejected > 0 {
            tracing::warn!("own metrics: {} refused: {:?}", appended.rejected, appended.rejections.first());
        }
        Ok(appended.durable.await?)
    }

    /// Renders, reads back what was rendered as any scraper would, and stores it with the series
    /// that Prometheus adds to a scrape.
    fn append(&self) -> Result<Appended, ScrapeError> {
        let started = Instant::now();
        let identity = [("instance", self.instance.as_str()), ("job", JOB)];
        let mut text = self.app.own_metrics(TextFormat::Prometheus, &identity);
        let samples = text.lines().filter(|line| !line.starts_with('#')).count() as f64;
        for (name, value) in [
            ("up", 1.0),
            ("scrape_duration_seconds", started.elapsed().as_secs_f64()),
            ("scrape_samples_scraped", samples),
        ] {
            let instance = &self.instance;
            text.push_str(&format!(
                "# TYPE {name} gauge\n{name}{{instance=\"{instance}\",job=\"{JOB}\"}} {value}\n"
            ));
        }
        let now_ms = SystemClock.now_ms();
        let decoded = exposition::parse(TextFormat::Prometheus, text.as_bytes(), now_ms, &self.limits)?;
        Ok(self.sink.append(&decoded.batch)?)
    }

    /// A round that fails is told, and the next one tried.
    pub(crate) async fn once_or_warn(self: &Arc<Self>) {
        if let Err(e) = self.once().await {
            tracing::warn!("{e}");
        }
    }

    /// Rounds until the task is aborted, the first after one interval.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.once_or_warn().await;
        }
    }
}
