//! What all groups of a ruler have in common.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pilothouse_model::budget::Ceilings;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::time::{HOUR_MS, MINUTE_MS};
use pilothouse_model::{Alert, AlertSink, Clock, Labels, Memory};

use crate::alerting::Transition;
use crate::expression::EvaluationOptions;
use crate::group::GroupKey;

/// How a ruler works; the defaults are those of Prometheus.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Without a slash at its end. Part of the link that every alert carries.
    pub external_url: Arc<str>,
    /// Added to alerts that are sent, where they have no such label.
    pub external_labels: Labels,
    pub default_interval_ms: i64,
    pub default_query_offset_ms: i64,
    /// How long after an alert was sent it is sent again.
    pub resend_delay_ms: i64,
    /// How long ago alerts may have been written to be restored.
    pub outage_tolerance_ms: i64,
    /// The least time that a restored alert still waits.
    pub for_grace_period_ms: i64,
    pub evaluation: EvaluationOptions,
    pub limits: LiveLimits,
    /// What the process holds, and may hold.
    pub memory: Arc<Memory>,
    /// Groups evaluated at once.
    pub workers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            external_url: Arc::from(""),
            external_labels: Labels::empty(),
            default_interval_ms: MINUTE_MS,
            default_query_offset_ms: 0,
            resend_delay_ms: MINUTE_MS,
            outage_tolerance_ms: HOUR_MS,
            for_grace_period_ms: 10 * MINUTE_MS,
            evaluation: EvaluationOptions::default(),
            limits: LiveLimits::default(),
            memory: Arc::default(),
            workers: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)),
        }
    }
}

impl Settings {
    /// The ceilings of one expression.
    pub(crate) fn ceilings(&self) -> Ceilings {
        let limits = self.limits.now();
        let or_none = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        Ceilings {
            timeout: Duration::from_millis(limits.query_timeout_ms),
            samples: or_none(limits.max_query_samples),
            series: or_none(limits.max_query_series),
            memory_bytes: or_none(limits.max_query_memory_bytes),
        }
    }
}

/// Told of every change of an alert's state, after the change and before anything is sent.
pub trait TransitionObserver: Send + Sync + fmt::Debug {
    /// Must not wait for anything.
    fn changed(&self, group: &GroupKey, rule: &str, transitions: &[Transition]);
}

/// Seconds up to which evaluations of rules are counted.
pub(crate) const DURATION_BOUNDS_S: [f64; 8] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];

/// How long evaluations of rules took.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    counts: [AtomicU64; DURATION_BOUNDS_S.len() + 1],
    sum_us: AtomicU64,
}

impl Durations {
    pub(crate) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = DURATION_BOUNDS_S.iter().position(|bound| seconds <= *bound);
        if let Some(count) = self.counts.get(at.unwrap_or(DURATION_BOUNDS_S.len())) {
            count.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Counts up to each bound, then of all; and the sum in seconds.
    pub(crate) fn cumulative(&self) -> (Vec<u64>, f64) {
        let mut total = 0;
        let counts = self.counts.iter().map(|count| {
            total += count.load(Relaxed);
            total
        });
        (counts.collect(), self.sum_us.load(Relaxed) as f64 / 1e6)
    }
}

/// What evaluations are surrounded by.
#[derive(Debug)]
pub(crate) struct Surrounding {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) alerts: Arc<dyn AlertSink>,
    pub(crate) observer: Option<Arc<dyn TransitionObserver>>,
    pub(crate) durations: Durations,
    pub(crate) sent: AtomicU64,
    pub(crate) send_failures: AtomicU64,
}

impl Surrounding {
    /// Alerts that cannot be handed over are sent again with the next resend, so a failure is
    /// counted and told, and nothing else.
    pub(crate) fn send(&self, alerts: &[Alert]) {
        match self.alerts.send(alerts) {
            Ok(()) => {
                self.sent.fetch_add(alerts.len() as u64, Relaxed);
            }
            Err(e) => {
                self.send_failures.fetch_add(1, Relaxed);
                tracing::warn!("{} alerts could not be handed over: {e}", alerts.len());
            }
        }
    }
}
