//! Labels that users give to checks and probes, as series and streams carry them.
//!
//! Which way is the tenant's mode: with the prefix `label_` on `sm_check_info` and the streams,
//! by their own names on everything, or both. A name that a series has itself is never taken by
//! a user's label without its prefix.

use crate::words::{Check, LabelMode, Probe};

/// Names of labels that series and streams of checks have themselves, here or at the agent.
const RESERVED: [&str; 34] = [
    "__name__",
    "alert_sensitivity",
    "check",
    "check_name",
    "cipher",
    "config_version",
    "execution_id",
    "fingerprint_sha256",
    "frequency",
    "geohash",
    "instance",
    "issuer",
    "job",
    "le",
    "method",
    "name",
    "phase",
    "probe",
    "probe_success",
    "proto",
    "rating",
    "result",
    "scenario",
    "serialnumber",
    "serving_status",
    "sm_region",
    "source",
    "status",
    "subject",
    "subjectalternative",
    "target",
    "tls_version",
    "url",
    "version",
];

pub(super) type Pairs = Vec<(String, String)>;

/// What `sm_check_info` and streams carry; the check's labels win over the probe's.
pub(super) fn of_check(check: &Check, probe: &Probe, mode: LabelMode) -> Pairs {
    let merged = merged(check, probe);
    let mut pairs = Pairs::new();
    if mode != LabelMode::Unprefixed {
        pairs.extend(merged.iter().map(|(n, v)| (format!("label_{n}"), (*v).to_owned())));
    }
    if mode != LabelMode::Prefixed {
        pairs.extend(bare(&merged));
    }
    pairs
}

/// What all other series carry too.
pub(super) fn of_series(check: &Check, probe: &Probe, mode: LabelMode) -> Pairs {
    if mode == LabelMode::Prefixed { Pairs::new() } else { bare(&merged(check, probe)).collect() }
}

/// The region's label. In the newer modes it leaves its old name to users, and is always there.
pub(super) fn region(probe: &Probe, mode: LabelMode) -> (&'static str, &str) {
    match mode {
        LabelMode::Prefixed => ("region", &probe.region),
        _ if probe.region.is_empty() => ("sm_region", "unset"),
        _ => ("sm_region", &probe.region),
    }
}

fn merged<'a>(check: &'a Check, probe: &'a Probe) -> Vec<(&'a str, &'a str)> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for label in probe.labels.iter().chain(&check.labels) {
        match pairs.iter_mut().find(|(name, _)| *name == label.name) {
            Some(pair) => pair.1 = &label.value,
            None => pairs.push((&label.name, &label.value)),
        }
    }
    pairs
}

fn bare<'a>(merged: &'a [(&str, &str)]) -> impl Iterator<Item = (String, String)> + 'a {
    let free = merged.iter().filter(|(name, _)| !RESERVED.contains(name));
    free.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Label;

    fn label(name: &str, value: &str) -> Label {
        Label { name: name.into(), value: value.into() }
    }

    #[test]
    fn modes_differ_in_prefix_and_place() {
        let check = Check { labels: vec![label("env", "check"), label("job", "x")], ..Check::default() };
        let probe = Probe { labels: vec![label("env", "probe"), label("site", "a")], ..Probe::default() };
        let shown =
            |pairs: Pairs| pairs.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ");
        for (mode, of_check, of_series, region) in [
            (LabelMode::Prefixed, "label_env=check label_site=a label_job=x", "", ("region", "")),
            (
                LabelMode::DualWrite,
                "label_env=check label_site=a label_job=x env=check site=a",
                "env=check site=a",
                ("sm_region", "unset"),
            ),
            (LabelMode::Unprefixed, "env=check site=a", "env=check site=a", ("sm_region", "unset")),
        ] {
            assert_eq!(shown(super::of_check(&check, &probe, mode)), of_check, "{mode:?}");
            assert_eq!(shown(super::of_series(&check, &probe, mode)), of_series, "{mode:?}");
            assert_eq!(super::region(&probe, mode), region);
        }
    }
}
