//! The series of a run.

use pilothouse_model::limits;
use pilothouse_model::{Labels, LabelsBuilder};

use super::aggregates::Aggregates;
use super::geohash;
use super::outcome::Outcome;
use super::user_labels::{self, Pairs};
use crate::words::{Check, LabelMode, Probe};

/// What the series of all runs of one check have in common.
#[derive(Debug)]
pub(super) struct Identity {
    version: String,
    /// Of users, on every series.
    own: Pairs,
    info: Labels,
}

impl Identity {
    pub(super) fn of(check: &Check, probe: &Probe, mode: LabelMode) -> Self {
        let version = check.config_version();
        let own = user_labels::of_series(check, probe, mode);
        let info = check_info(check, probe, mode, &version);
        Self { version, own, info }
    }

    /// All series of a run with their values. Where labels of users have their prefix, they and
    /// the region stand on `sm_check_info` alone; dashboards join it.
    pub(super) fn series(
        &self,
        check: &Check,
        probe: &Probe,
        outcome: &Outcome,
        aggregates: &Aggregates,
    ) -> Vec<(Labels, f64)> {
        let mut series = Vec::new();
        let mut emit = |name: &str, own: &[(&'static str, String)], value: f64| {
            let mut labels = common(check, probe, &self.version, name);
            self.own.iter().for_each(|(n, v)| set(&mut labels, n, v));
            own.iter().for_each(|(n, v)| set(&mut labels, n, v));
            series.push((labels.build(), value));
        };
        emit("probe_success", &[], f64::from(u8::from(outcome.success())));
        emit("probe_duration_seconds", &[], outcome.duration.as_secs_f64());
        for gauge in &outcome.gauges {
            emit(gauge.name, &gauge.labels, gauge.value);
        }
        aggregates.each(&mut emit);
        series.push((self.info.clone(), 1.0));
        series
    }
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

fn check_info(check: &Check, probe: &Probe, mode: LabelMode, version: &str) -> Labels {
    let mut labels = common(check, probe, version, "sm_check_info");
    set(&mut labels, "check_name", check.kind().map_or("", |kind| kind.name()));
    let (name, region) = user_labels::region(probe, mode);
    set(&mut labels, name, region);
    set(&mut labels, "frequency", &check.frequency.to_string());
    let place = geohash::of(f64::from(probe.latitude), f64::from(probe.longitude));
    set(&mut labels, "geohash", &place);
    if check.alert_sensitivity != "none" {
        set(&mut labels, "alert_sensitivity", &check.alert_sensitivity);
    }
    for (name, value) in user_labels::of_check(check, probe, mode) {
        set(&mut labels, &name, &value);
    }
    labels.build()
}

/// A value that is too long is cut and ends in three dots.
fn set(labels: &mut LabelsBuilder, name: &str, value: &str) {
    if value.len() <= limits::CHECK_LABEL_VALUE_BYTES {
        labels.set(name, value);
        return;
    }
    let end = (0..=limits::CHECK_LABEL_VALUE_BYTES - 3).rev().find(|end| value.is_char_boundary(*end));
    labels.set(name, &format!("{}...", end.and_then(|end| value.get(..end)).unwrap_or("")));
}
