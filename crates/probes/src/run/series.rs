//! The series of a run.

use pilothouse_model::{Labels, LabelsBuilder};

use super::aggregates::Aggregates;
use super::geohash;
use super::outcome::Outcome;
use crate::words::{Check, Label, Probe};

/// As any label value of a push may be.
const MAX_VALUE_BYTES: usize = 2_048;

/// All series of a run with their values. User labels and the region stand on `sm_check_info`
/// alone; dashboards join it.
pub(super) fn of_run(
    check: &Check,
    probe: &Probe,
    outcome: &Outcome,
    aggregates: &Aggregates,
) -> Vec<(Labels, f64)> {
    let version = check.config_version();
    let mut series = Vec::new();
    let mut emit = |name: &str, own: &[(&'static str, String)], value: f64| {
        let mut labels = common(check, probe, &version, name);
        own.iter().for_each(|(n, v)| set(&mut labels, n, v));
        series.push((labels.build(), value));
    };
    emit("probe_success", &[], f64::from(u8::from(outcome.success)));
    emit("probe_duration_seconds", &[], outcome.duration.as_secs_f64());
    for gauge in &outcome.gauges {
        emit(gauge.name, &gauge.labels, gauge.value);
    }
    aggregates.each(&mut emit);
    series.push((check_info(check, probe, &version), 1.0));
    series
}

fn common(check: &Check, probe: &Probe, version: &str, name: &str) -> LabelsBuilder {
    let mut labels = LabelsBuilder::default();
    labels.set("__name__", name);
    set(&mut labels, "probe", &probe.name);
    set(&mut labels, "config_version", version);
    set(&mut labels, "instance", &check.target);
    set(&mut labels, "job", &check.job);
    labels
}

fn check_info(check: &Check, probe: &Probe, version: &str) -> Labels {
    let mut labels = common(check, probe, version, "sm_check_info");
    set(&mut labels, "check_name", check.kind().map_or("", |kind| kind.name()));
    set(&mut labels, "region", &probe.region);
    set(&mut labels, "frequency", &check.frequency.to_string());
    let place = geohash::of(f64::from(probe.latitude), f64::from(probe.longitude));
    set(&mut labels, "geohash", &place);
    if check.alert_sensitivity != "none" {
        set(&mut labels, "alert_sensitivity", &check.alert_sensitivity);
    }
    for label in user_labels(check, probe) {
        set(&mut labels, &format!("label_{}", label.name), &label.value);
    }
    labels.build()
}

/// Those of the probe first, so that the check's win.
pub(super) fn user_labels<'a>(check: &'a Check, probe: &'a Probe) -> impl Iterator<Item = &'a Label> {
    probe.labels.iter().chain(&check.labels)
}

/// A value that is too long is cut and ends in three dots.
fn set(labels: &mut LabelsBuilder, name: &str, value: &str) {
    if value.len() <= MAX_VALUE_BYTES {
        labels.set(name, value);
        return;
    }
    let end = (0..=MAX_VALUE_BYTES - 3).rev().find(|end| value.is_char_boundary(*end));
    labels.set(name, &format!("{}...", end.and_then(|end| value.get(..end)).unwrap_or("")));
}
