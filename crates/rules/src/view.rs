//! What others see of groups: their rules, alerts and figures at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::alerting::{ActiveAlert, AlertState};
use crate::group::{Group, GroupKey};
use crate::rule::{Health, Kind, LiveRule, RuleState};

#[derive(Debug, Clone)]
pub struct GroupView {
    pub key: GroupKey,
    pub interval_ms: i64,
    pub limit: i64,
    /// Where the group says one.
    pub query_offset_ms: Option<i64>,
    pub evaluation_seconds: f64,
    pub last_evaluation_ms: Option<i64>,
    pub rules: Vec<RuleView>,
}

#[derive(Debug, Clone)]
pub struct RuleView {
    pub name: String,
    /// Printed anew.
    pub query: Arc<str>,
    /// The group's with the rule's over them, templates as they are written.
    pub labels: BTreeMap<String, String>,
    pub health: Health,
    pub last_error: Option<Arc<str>>,
    pub evaluation_seconds: f64,
    pub last_evaluation_ms: Option<i64>,
    pub kind: RuleKind,
}

#[derive(Debug, Clone)]
pub enum RuleKind {
    Recording,
    Alerting {
        state: AlertState,
        for_ms: i64,
        keep_firing_for_ms: i64,
        annotations: BTreeMap<String, String>,
        /// Those that wait or fire, by labels.
        alerts: Vec<ActiveAlert>,
    },
}

impl RuleView {
    fn new(rule: &LiveRule, state: &RuleState) -> Self {
        let kind = match &rule.kind {
            Kind::Recording(_) => RuleKind::Recording,
            Kind::Alerting(_) => RuleKind::Alerting {
                state: state.alerts.state(),
                for_ms: rule.config.for_ms,
                keep_firing_for_ms: rule.config.keep_firing_for_ms,
                annotations: rule.config.annotations.clone(),
                alerts: state.alerts.active(),
            },
        };
        Self {
            name: rule.config.name().to_owned(),
            query: Arc::clone(&rule.shown),
            labels: rule.config.labels.clone(),
            health: state.health,
            last_error: state.last_error.clone(),
            evaluation_seconds: state.took.as_secs_f64(),
            last_evaluation_ms: state.evaluated_at_ms,
            kind,
        }
    }
}

impl GroupView {
    pub(crate) fn new(group: &Group) -> Self {
        let last = *group.last.lock();
        let rules = group.rules.iter().zip(&group.states);
        Self {
            key: group.key.clone(),
            interval_ms: group.interval_ms,
            limit: group.config.limit,
            query_offset_ms: group.config.offset_ms(),
            evaluation_seconds: last.took.as_secs_f64(),
            last_evaluation_ms: last.at_ms,
            rules: rules.map(|(rule, state)| RuleView::new(rule, &state.lock())).collect(),
        }
    }
}

/// Figures of one group, for metrics.
#[derive(Debug, Clone)]
pub struct GroupFigures {
    pub key: GroupKey,
    pub interval_seconds: f64,
    pub rules: u64,
    pub last_evaluation_seconds: f64,
    pub last_duration_seconds: f64,
    pub last_rule_duration_sum_seconds: f64,
    pub last_samples: u64,
    pub evaluations: u64,
    pub failures: u64,
    pub iterations: u64,
    pub missed: u64,
}

impl GroupFigures {
    pub(crate) fn new(group: &Group) -> Self {
        let last = *group.last.lock();
        let counts = &group.counts;
        Self {
            key: group.key.clone(),
            interval_seconds: group.interval_ms as f64 / 1000.0,
            rules: group.rules.len() as u64,
            last_evaluation_seconds: last.at_ms.unwrap_or(0) as f64 / 1000.0,
            last_duration_seconds: last.took.as_secs_f64(),
            last_rule_duration_sum_seconds: group.states.iter().map(|s| s.lock().took.as_secs_f64()).sum(),
            last_samples: counts.samples.load(Relaxed),
            evaluations: counts.evaluations.load(Relaxed),
            failures: counts.failures.load(Relaxed),
            iterations: counts.iterations.load(Relaxed),
            missed: counts.missed.load(Relaxed),
        }
    }
}

/// Figures of a ruler, for metrics.
#[derive(Debug, Clone)]
pub struct Figures {
    pub groups: Vec<GroupFigures>,
    /// Seconds up to which evaluations are counted.
    pub duration_bounds: Vec<f64>,
    /// Counts up to each bound, then of all.
    pub duration_counts: Vec<u64>,
    pub duration_sum_seconds: f64,
    pub alerts_sent: u64,
    pub send_failures: u64,
}
