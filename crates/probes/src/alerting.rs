//! Rules and thresholds that follow from checks: those that all checks with a sensitivity share,
//! and those of single checks.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pilothouse_model::Labels;

use crate::registry::CheckAlert;
use crate::words::Check;

/// Where the shared rules stand in the ruler of series.
pub const SENSITIVITY_NAMESPACE: &str = "synthetic_monitoring";
/// Where the rules of single checks stand. They are made anew at each change.
pub const CHECK_ALERTS_NAMESPACE: &str = "synthetic_monitoring_alerts";

/// The shared rules as one group, as the ruler's configuration takes it.
pub fn sensitivity_group() -> String {
    let joined = |counter: &str| {
        format!(
            "sum without (probe, config_version) (rate({counter}[5m]) * on (instance, job, probe) \
             group_left (alert_sensitivity) max by (instance, job, probe, alert_sensitivity) \
             (sm_check_info{{alert_sensitivity!=\"\"}}))"
        )
    };
    let mut text = String::from("name: default\nrules:\n");
    push_rule(
        &mut text,
        "record",
        MEAN,
        &format!("100 * ({} / {})", joined("probe_all_success_sum"), joined("probe_all_success_count")),
    );
    for (name, level, least) in [("High", "high", 95), ("Medium", "medium", 90), ("Low", "low", 75)] {
        let expression = format!("{MEAN}{{alert_sensitivity=\"{level}\"}} < {least}");
        push_rule(
            &mut text,
            "alert",
            &format!("SyntheticMonitoringCheckFailureAt{name}Sensitivity"),
            &expression,
        );
        let description = "check job {{ $labels.job }} instance {{ $labels.instance }} has a success rate of {{ printf \"%.1f\" $value }}%.";
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "    for: 5m\n    labels:\n      namespace: synthetic_monitoring\n    annotations:\n      description: {}\n      summary: check success below {least}%\n",
            quoted(description)
        );
    }
    text
}

const MEAN: &str = "instance_job_severity:probe_success:mean5m";

fn push_rule(text: &mut String, kind: &str, name: &str, expression: &str) {
    let _ = write!(text, "  - {kind}: {}\n    expr: {}\n", quoted(name), quoted(expression));
}

/// A text in single quotes, in which YAML knows no escapes but the quote itself.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The rules of single checks as one group; `None` where no check has an alert.
pub fn check_alerts_group(checks: &[(Check, Vec<CheckAlert>)]) -> Option<String> {
    let alerts = checks.iter().flat_map(|(_, alerts)| alerts);
    let kinds: BTreeSet<(&str, &str)> = alerts.map(|a| (a.name.as_str(), a.period.as_str())).collect();
    if kinds.is_empty() {
        return None;
    }
    let mut text = String::from("name: check_alerts\nrules:\n");
    for (name, period) in kinds {
        let title = if period.is_empty() { name.to_owned() } else { format!("{name} [{period}]") };
        let expression = format!(
            "({}) * on (instance, job) group_right () max without (probe, region, geohash) (sm_check_info)",
            condition(name, period)
        );
        push_rule(&mut text, "alert", &title, &expression);
        text.push_str("    labels:\n      namespace: synthetic_monitoring\n");
    }
    Some(text)
}

fn condition(name: &str, period: &str) -> String {
    let selector = if period.is_empty() { String::new() } else { format!("{{period=\"{period}\"}}") };
    let threshold = format!("sum by (instance, job) ({}{selector})", threshold_name(name));
    match name {
        "ProbeFailedExecutionsTooHigh" => format!(
            "sum by (instance, job) (floor(increase(probe_all_success_count[{period}]) - \
             increase(probe_all_success_sum[{period}]))) >= {threshold}"
        ),
        "TLSTargetCertificateCloseToExpiring" => {
            format!(
                "(min by (instance, job) (probe_ssl_earliest_cert_expiry) - time()) / 86400 < {threshold}"
            )
        }
        // The mean over runs, of the time that a run of this kind measures.
        _ => format!(
            "1000 * avg by (instance, job) (avg_over_time(probe_duration_seconds[{period}])) >= {threshold}"
        ),
    }
}

fn threshold_name(alert: &str) -> String {
    let ending = match alert {
        "ProbeFailedExecutionsTooHigh" => "probe_failed_executions_too_high",
        "TLSTargetCertificateCloseToExpiring" => "tls_target_certificate_close_to_expiring",
        "HTTPRequestDurationTooHighAvg" => "http_request_duration_too_high_avg",
        "PingRequestDurationTooHighAvg" => "ping_request_duration_too_high_avg",
        _ => "dns_request_duration_too_high_avg",
    };
    format!("sm_alerts_threshold_{ending}")
}

/// The thresholds as series, which the rules compare with, each with its tenant.
pub fn thresholds(checks: &[(Check, Vec<CheckAlert>)]) -> Vec<(i64, Labels, f64)> {
    let of = |(check, alerts): &(Check, Vec<CheckAlert>)| {
        let series = alerts.iter().map(|alert| {
            let name = threshold_name(&alert.name);
            let labels = Labels::from_pairs([
                ("__name__", name.as_str()),
                ("instance", &check.target),
                ("job", &check.job),
                ("period", &alert.period),
            ]);
            (check.tenant_id, labels, alert.threshold)
        });
        series.collect::<Vec<_>>()
    };
    checks.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_thresholds_have_their_names() {
        let shared = sensitivity_group();
        assert!(shared.contains("- record: 'instance_job_severity:probe_success:mean5m'"));
        assert!(shared.contains("mean5m{alert_sensitivity=\"medium\"} < 90'"));
        let alert = CheckAlert {
            name: "ProbeFailedExecutionsTooHigh".into(),
            period: "10m".into(),
            threshold: 2.0,
            ..CheckAlert::default()
        };
        let check = Check { target: "t".into(), job: "j".into(), tenant_id: 7, ..Check::default() };
        let checks = [(check, vec![alert])];
        let own = check_alerts_group(&checks).unwrap();
        assert!(own.contains("'ProbeFailedExecutionsTooHigh [10m]'"), "{own}");
        assert_eq!(check_alerts_group(&[]), None);
        let (tenant, labels, value) = thresholds(&checks).remove(0);
        assert_eq!((tenant, value), (7, 2.0));
        assert_eq!(labels.value("__name__"), "sm_alerts_threshold_probe_failed_executions_too_high");
        assert_eq!(labels.value("period"), "10m");
    }
}
