//! Alerts of single checks: which exist, for which kinds, over which periods.

use pilothouse_model::time::parse_duration_ms;
use serde::{Deserialize, Serialize};

use super::error::{Refusal, RefusalKind};
use super::image::Row;
use super::{Registry, checks};
use crate::words::{Check, CheckKind};

/// One alert of a check. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CheckAlert {
    pub name: String,
    pub threshold: f64,
    /// Empty where the alert has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub period: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runbook_url: String,
    pub created: f64,
    pub modified: f64,
}

const PERIODS: [&str; 6] = ["5m", "10m", "15m", "20m", "30m", "1h"];

/// The kinds that an alert is for (none named: all), and whether it wants a period.
fn rule(name: &str) -> Option<(&'static [CheckKind], bool)> {
    Some(match name {
        "ProbeFailedExecutionsTooHigh" => (&[], true),
        "TLSTargetCertificateCloseToExpiring" => (&[CheckKind::Http, CheckKind::Tcp], false),
        "HTTPRequestDurationTooHighAvg" => (&[CheckKind::Http], true),
        "PingRequestDurationTooHighAvg" => (&[CheckKind::Ping], true),
        "DNSRequestDurationTooHighAvg" => (&[CheckKind::Dns], true),
        _ => return None,
    })
}

impl Registry {
    pub fn alerts(&self, tenant: i64, check: i64) -> Result<Vec<CheckAlert>, Refusal> {
        checks::seen(&self.read(), tenant, check).map(|row| row.alerts.clone())
    }

    /// Replaces all alerts of a check; those that were there keep the time they were made.
    pub fn set_alerts(
        &self,
        tenant: i64,
        check: i64,
        alerts: Vec<CheckAlert>,
    ) -> Result<Vec<CheckAlert>, Refusal> {
        self.change(|image| {
            let row = checks::owned(image, tenant, check)?;
            let stored = stored(&row.check, &row.alerts, alerts, self.now_s())?;
            Ok((vec![Row::Alerts(check, stored.clone())], stored))
        })
    }

    /// Every check that has alerts, with them.
    pub fn alerting_checks(&self) -> Vec<(Check, Vec<CheckAlert>)> {
        let image = self.read();
        let with = image.checks.values().filter(|row| !row.alerts.is_empty());
        with.map(|row| (Check::clone(&row.check), row.alerts.clone())).collect()
    }

    /// Whether any check asks for the shared alerts.
    pub fn has_sensitive_checks(&self) -> bool {
        self.read().checks.values().any(|row| row.check.alert_sensitivity != "none")
    }
}

/// What is stored of the alerts of a check, if they hold: those that were there keep the time
/// they were made.
pub(super) fn stored(
    check: &Check,
    before: &[CheckAlert],
    wanted: Vec<CheckAlert>,
    now_s: f64,
) -> Result<Vec<CheckAlert>, Refusal> {
    let mut stored: Vec<CheckAlert> = Vec::with_capacity(wanted.len());
    for alert in wanted {
        holds(check, &alert)?;
        let same = |a: &&CheckAlert| a.name == alert.name && a.period == alert.period;
        if stored.iter().any(|a| same(&a)) {
            return Err(invalid("duplicate alert"));
        }
        let created = before.iter().find(same).map_or(now_s, |before| before.created);
        stored.push(CheckAlert { created, modified: now_s, ..alert });
    }
    Ok(stored)
}

/// Whether two lists of alerts say the same, whenever it was said.
pub(super) fn same(a: &[CheckAlert], b: &[CheckAlert]) -> bool {
    let timeless = |alert: &CheckAlert| CheckAlert { created: 0.0, modified: 0.0, ..alert.clone() };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| timeless(a) == timeless(b))
}

fn holds(check: &Check, alert: &CheckAlert) -> Result<(), Refusal> {
    let (kinds, wants_period) = rule(&alert.name).ok_or_else(|| invalid("invalid alert name"))?;
    if !kinds.is_empty() && !check.kind().is_some_and(|kind| kinds.contains(&kind)) {
        return Err(invalid("invalid check type for alert"));
    }
    if !wants_period {
        let unsaid = alert.period.is_empty();
        return if unsaid { Ok(()) } else { Err(invalid("period not supported for alert")) };
    }
    let long_enough = parse_duration_ms(&alert.period).is_ok_and(|ms| ms >= check.frequency);
    if !PERIODS.contains(&alert.period.as_str()) || !long_enough {
        return Err(invalid("period not supported for alert"));
    }
    Ok(())
}

fn invalid(cause: &str) -> Refusal {
    Refusal::new(RefusalKind::Invalid, "invalid alert", cause)
}
