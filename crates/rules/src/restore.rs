//! Giving alerts their waiting time back after a restart, from the series that tell it.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;
use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::sample::is_stale;
use pilothouse_model::{
    Budget, LabelNeeds, Labels, MatchOp, Matcher, SampleValue, Selection, SeriesSource, SourceError,
};

use crate::alerting::{ALERTS_FOR_STATE, Alerting};
use crate::rule::{Kind, LiveRule, RuleState};
use crate::settings::Surrounding;

/// Restores all alerting rules of a group. A rule that waits for less than the grace period is
/// left as it is: it would only wait longer. What cannot be read is logged and left, too, since
/// an alert that begins anew is better than none.
pub(crate) fn restore(
    rules: &[LiveRule],
    states: &[Mutex<RuleState>],
    written: &dyn SeriesSource,
    around: &Surrounding,
) {
    let (began, now_ms) = (Instant::now(), around.clock.now_ms());
    let grace_ms = around.settings.for_grace_period_ms;
    for (rule, state) in rules.iter().zip(states) {
        let Kind::Alerting(alerting) = &rule.kind else { continue };
        let mut last = HashMap::new();
        if alerting.hold_ms >= grace_ms && state.lock().alerts.has_any() {
            let start_ms = now_ms.saturating_sub(around.settings.outage_tolerance_ms);
            match last_of(alerting, written, start_ms, now_ms, &around.settings.ceilings()) {
                Ok(found) => last = found,
                Err(e) => {
                    let name = rule.config.name();
                    tracing::error!(rule = name, "alerts could not be restored, they wait anew: {e}");
                }
            }
        }
        let find = |labels: &Labels| last.get(labels).copied();
        state.lock().alerts.restore(now_ms, alerting.hold_ms, grace_ms, find);
    }
    tracing::debug!(took_ms = began.elapsed().as_millis() as u64, "alerts restored");
}

/// The newest sample of each series of state, by the labels of the alert.
fn last_of(
    alerting: &Alerting,
    written: &dyn SeriesSource,
    start_ms: i64,
    end_ms: i64,
    ceilings: &pilothouse_model::budget::Ceilings,
) -> Result<HashMap<Labels, (i64, f64)>, SourceError> {
    let equal = |name: &str, value: &str| {
        Matcher::new(MatchOp::Equal, name, value).map_err(|e| SourceError::storage(e.to_string()))
    };
    let mut matchers = vec![equal(METRIC_NAME, ALERTS_FOR_STATE)?];
    for (name, value) in &alerting.fixed_labels {
        matchers.push(equal(name, value)?);
    }
    let selection = Selection { matchers, start_ms, end_ms, needs: LabelNeeds::All };
    let budget = Budget::new(*ceilings);
    let mut found = HashMap::new();
    for series in written.select(&selection, &budget)? {
        if let Some((t_ms, SampleValue::Float(value))) = series.samples.latest(start_ms - 1, end_ms)?
            && !is_stale(value)
        {
            found.insert(series.labels.without_name(), (t_ms, value));
        }
    }
    Ok(found)
}
