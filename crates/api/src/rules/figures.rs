//! The rulers' own metrics, under Prometheus' names.

use pilothouse_rules::GroupFigures;

use crate::App;
use crate::telemetry::{Family, FamilyValue};

/// Name and help of a figure of each group, and where it is read.
type Figure = (&'static str, &'static str, fn(&GroupFigures) -> f64);

const GAUGES: [Figure; 6] = [
    ("prometheus_rule_group_interval_seconds", "The interval of a rule group.", |g| g.interval_seconds),
    ("prometheus_rule_group_rules", "The number of rules of a group.", |g| g.rules as f64),
    (
        "prometheus_rule_group_last_evaluation_timestamp_seconds",
        "When a rule group was evaluated last, in seconds since 1970.",
        |g| g.last_evaluation_seconds,
    ),
    (
        "prometheus_rule_group_last_duration_seconds",
        "How long the last evaluation of a rule group took.",
        |g| g.last_duration_seconds,
    ),
    (
        "prometheus_rule_group_last_rule_duration_sum_seconds",
        "How long the rules of a group took in its last evaluation, together.",
        |g| g.last_rule_duration_sum_seconds,
    ),
    (
        "prometheus_rule_group_last_evaluation_samples",
        "The samples that the last evaluation of a rule group gave.",
        |g| g.last_samples as f64,
    ),
];

const COUNTERS: [Figure; 4] = [
    ("prometheus_rule_evaluations_total", "Evaluations of rules.", |g| g.evaluations as f64),
    ("prometheus_rule_evaluation_failures_total", "Evaluations of rules that failed.", |g| g.failures as f64),
    (
        "prometheus_rule_group_iterations_total",
        "Evaluations of rule groups that were due, missed ones included.",
        |g| g.iterations as f64,
    ),
    (
        "prometheus_rule_group_iterations_missed_total",
        "Evaluations of rule groups that were due and did not happen.",
        |g| g.missed as f64,
    ),
];

/// No families before there is a ruler.
pub(crate) fn families(app: &App) -> Vec<Family> {
    let Some(ruler) = app.rulers.ruler() else { return Vec::new() };
    let figures = ruler.figures();
    let of_groups = |mut family: Family, read: fn(&GroupFigures) -> f64| {
        for group in &figures.groups {
            let label = group.key.label();
            family =
                family.labelled(&[("data_source", &group.key.source), ("rule_group", &label)], read(group));
        }
        family
    };
    let mut families: Vec<Family> =
        GAUGES.iter().map(|(name, help, read)| of_groups(Family::gauge(name, help), *read)).collect();
    families.extend(COUNTERS.iter().map(|(name, help, read)| of_groups(Family::counter(name, help), *read)));
    families.push(
        Family::histogram(
            "prometheus_rule_evaluation_duration_histogram_seconds",
            "How long evaluations of rules took.",
        )
        .distribution(
            &[],
            FamilyValue::Histogram {
                upper_bounds: figures.duration_bounds,
                cumulative_counts: figures.duration_counts,
                sum: figures.duration_sum_seconds,
            },
        ),
    );
    families.push(
        Family::counter("prometheus_notifications_sent_total", "Alerts handed to the Alertmanager.")
            .value(figures.alerts_sent as f64),
    );
    families.push(
        Family::counter(
            "prometheus_notifications_errors_total",
            "Attempts to hand alerts to the Alertmanager that failed.",
        )
        .value(figures.send_failures as f64),
    );
    families
}
