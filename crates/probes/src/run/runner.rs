//! One check on one probe: its runs, its counters, its end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilothouse_model::memory::Holding;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::{Labels, NoMemory};
use uuid::Uuid;

use super::aggregates::Aggregates;
use super::entries;
use super::outcome::{Level, Line, Outcome, Recorder, Verdict, now_ns};
use super::publisher::{Publication, Publisher};
use super::series::Identity;
use crate::words::{AdHocCheck, Check, CheckSettings, LabelMode, Probe};

/// What a prober is given.
#[derive(Debug)]
pub struct Target<'a> {
    pub target: &'a str,
    pub settings: &'a CheckSettings,
    pub timeout: Duration,
    /// `<check>-<probe>`, sent along by HTTP checks; empty for a check that runs once.
    pub run_by: String,
}

/// Does the measuring. The implementer holds resolvers, sockets and rules of what may be reached.
pub trait Prober: Send + Sync + fmt::Debug {
    /// One run. Ends by itself at `timeout`; what does not is dropped a little later. The error is that
    /// this server had no room for the answer.
    fn probe<'a>(
        &'a self,
        target: &'a Target<'a>,
        recorder: &'a mut Recorder,
    ) -> Pin<Box<dyn Future<Output = Result<bool, NoMemory>> + Send + 'a>>;
}

pub(super) struct Runner {
    check: Arc<Check>,
    labels: LabelMode,
    identity: Identity,
    probe: Arc<Probe>,
    prober: Arc<dyn Prober>,
    publisher: Publisher,
    aggregates: Aggregates,
    /// Of the last run: its series, and when they were published last.
    last: Option<(Vec<(Labels, f64)>, i64)>,
    /// The memory of those series.
    held: Holding,
}

impl Runner {
    pub(super) fn new(
        check: Arc<Check>,
        labels: LabelMode,
        probe: Arc<Probe>,
        prober: Arc<dyn Prober>,
        publisher: Publisher,
        held: Holding,
    ) -> Self {
        let identity = Identity::of(&check, &probe, labels);
        let aggregates = Aggregates::default();
        Self { check, labels, identity, probe, prober, publisher, aggregates, last: None, held }
    }

    /// Runs once and publishes. A run that was left out leaves its lines, and everything else as it was.
    pub(super) async fn run(&mut self) -> Verdict {
        let Some(settings) = &self.check.settings else { return Verdict::Failed };
        let kind = self.check.kind().map_or("", |kind| kind.name());
        let target = Target {
            target: &self.check.target,
            settings,
            timeout: Duration::from_millis(u64::try_from(self.check.timeout).unwrap_or(0)),
            run_by: format!("{}-{}", self.check.id, self.probe.id),
        };
        let outcome = run_once(self.prober.as_ref(), &target, kind).await;
        let execution = Uuid::new_v4().to_string();
        let lines = entries::of_run(&self.check, &self.probe, self.labels, &outcome, &execution);
        if outcome.verdict == Verdict::LeftOut {
            self.publish(&[], Some(lines));
            return outcome.verdict;
        }
        self.aggregates.add(&outcome, self.check.basic_metrics_only);
        let series = self.identity.series(&self.check, &self.probe, &outcome, &self.aggregates);
        self.publish(&series, Some(lines));
        self.held.set(series.iter().map(held_bytes).sum());
        self.last = Some((series, now_ms()));
        outcome.verdict
    }

    /// The last values once more, so that rare checks stay visible between their runs.
    pub(super) fn publish_again(&mut self) {
        if let Some((series, _)) = self.last.take() {
            self.publish(&series, None);
            self.last = Some((series, now_ms()));
        }
    }

    /// Ends every series that was published.
    pub(super) fn end(&mut self) {
        let Some((series, t_ms)) = self.last.take() else { return };
        let samples = series.into_iter().map(|(labels, _)| (labels, t_ms + 1, stale_nan())).collect();
        self.publisher.publish(Publication { tenant: self.check.tenant_id, samples, entries: None });
    }

    fn publish(&self, series: &[(Labels, f64)], entries: Option<pilothouse_model::LogBatch>) {
        let t_ms = now_ms();
        let samples = series.iter().map(|(labels, value)| (labels.clone(), t_ms, *value)).collect();
        self.publisher.publish(Publication { tenant: self.check.tenant_id, samples, entries });
    }
}

/// A check that runs once: no series, one entry.
pub(super) async fn run_adhoc(
    check: AdHocCheck,
    probe: Arc<Probe>,
    prober: Arc<dyn Prober>,
    publisher: Publisher,
) {
    let Some(settings) = &check.settings else { return };
    let kind = settings.kind().map_or("", |kind| kind.name());
    let target = Target {
        target: &check.target,
        settings,
        timeout: Duration::from_millis(u64::try_from(check.timeout).unwrap_or(0)),
        run_by: String::new(),
    };
    let outcome = run_once(prober.as_ref(), &target, kind).await;
    let entries = entries::of_adhoc(&check, kind, &probe, &outcome);
    publisher.publish(Publication { tenant: check.tenant_id, samples: Vec::new(), entries: Some(entries) });
}

/// Of its timeout, what a run may take before it is dropped.
const PATIENCE: f64 = 1.05;

/// Of a series, about.
fn held_bytes(series: &(Labels, f64)) -> u64 {
    (size_of_val(series) + series.0.as_encoded().len()) as u64
}

/// A run with its first and its last line. A run that does not end in time has failed; what it
/// had taken down stays.
async fn run_once(prober: &dyn Prober, target: &Target<'_>, kind: &str) -> Outcome {
    let started = Instant::now();
    let mut recorder = Recorder::default();
    let timeout_s = target.timeout.as_secs_f64();
    recorder.info("Beginning check", &[("type", &kind), ("timeout_seconds", &timeout_s)]);
    let patience = target.timeout.mul_f64(PATIENCE);
    let probed = tokio::time::timeout(patience, prober.probe(target, &mut recorder)).await;
    let probed = probed.unwrap_or_else(|_| {
        recorder.error("the run did not end in time", &[("timeout_seconds", &timeout_s)]);
        Ok(false)
    });
    if let Err(full) = &probed {
        recorder.say(Level::Warn, "no room for the answer of the target", &[("err", full)]);
    }
    let walltime = started.elapsed();
    let mut outcome = recorder.finish(probed, walltime);
    let (level, message) = match outcome.verdict {
        Verdict::Good => (Level::Info, "Check succeeded"),
        Verdict::Failed => (Level::Error, "Check failed"),
        Verdict::LeftOut => (Level::Warn, "Check left out"),
    };
    outcome.lines.push(Line {
        t_ns: now_ns(),
        level,
        message: message.to_owned(),
        fields: vec![
            ("duration_seconds", outcome.duration.as_secs_f64().to_string()),
            ("walltime_seconds", walltime.as_secs_f64().to_string()),
        ],
    });
    outcome
}

fn now_ms() -> i64 {
    now_ns() / 1_000_000
}
