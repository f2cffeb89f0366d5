//! What a runner adds up over its runs: counters of success, and histograms of durations.

use std::collections::BTreeMap;

use super::outcome::{Gauge, Outcome};

/// Upper bounds in seconds, and how they are spelled in `le`.
const BOUNDS: [(f64, &str); 11] = [
    (0.005, "0.005"),
    (0.01, "0.01"),
    (0.025, "0.025"),
    (0.05, "0.05"),
    (0.1, "0.1"),
    (0.25, "0.25"),
    (0.5, "0.5"),
    (1.0, "1"),
    (2.5, "2.5"),
    (5.0, "5"),
    (10.0, "10"),
];

/// Buckets with the last one, sum and count.
pub(super) const SERIES_OF_A_HISTOGRAM: usize = BOUNDS.len() + 3;

/// Name and own labels of a series.
type Key = (String, Vec<(&'static str, String)>);

#[derive(Debug, Clone, Default)]
struct Histogram {
    /// Per bound, and one for what is above all.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, value: f64) {
        let at = BOUNDS.iter().position(|(bound, _)| value <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum += value;
    }
}

/// Since the runner started.
#[derive(Debug, Default)]
pub(super) struct Aggregates {
    runs: u64,
    good_runs: u64,
    histograms: BTreeMap<Key, Histogram>,
}

impl Aggregates {
    /// Adds a run. In basic mode only the duration of the whole run has a histogram.
    pub(super) fn add(&mut self, outcome: &Outcome, basic: bool) {
        self.runs += 1;
        self.good_runs += u64::from(outcome.success());
        self.observe("probe_all_duration_seconds".to_owned(), Vec::new(), outcome.duration.as_secs_f64());
        if basic {
            return;
        }
        for gauge in &outcome.gauges {
            if let Some(name) = histogram_name(gauge) {
                self.observe(name, gauge.labels.clone(), gauge.value);
            }
        }
    }

    fn observe(&mut self, name: String, labels: Vec<(&'static str, String)>, value: f64) {
        self.histograms.entry((name, labels)).or_default().observe(value);
    }

    /// Gives every series to `emit`: name, own labels, value.
    pub(super) fn each(&self, mut emit: impl FnMut(&str, &[(&'static str, String)], f64)) {
        emit("probe_all_success_count", &[], self.runs as f64);
        emit("probe_all_success_sum", &[], self.good_runs as f64);
        for ((name, labels), histogram) in &self.histograms {
            let mut total = 0;
            let spelled = BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"]);
            for (count, le) in histogram.counts.iter().zip(spelled) {
                total += count;
                let mut labels = labels.clone();
                labels.push(("le", le.to_owned()));
                emit(&format!("{name}_bucket"), &labels, total as f64);
            }
            emit(&format!("{name}_sum"), labels, histogram.sum);
            emit(&format!("{name}_count"), labels, total as f64);
        }
    }
}

/// `X_duration_seconds` is added up as `X_all_duration_seconds`, times likewise.
fn histogram_name(gauge: &Gauge) -> Option<String> {
    if gauge.name == "probe_duration_seconds" {
        return None;
    }
    ["_duration_seconds", "_time_seconds"]
        .into_iter()
        .find_map(|ending| gauge.name.strip_suffix(ending).map(|base| format!("{base}_all{ending}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::outcome::Verdict;
    use super::*;

    fn outcome(success: bool, seconds: f64) -> Outcome {
        let gauge = |name, labels| Gauge { name, help: "", labels, value: seconds };
        Outcome {
            verdict: if success { Verdict::Good } else { Verdict::Failed },
            duration: Duration::from_secs_f64(seconds),
            gauges: vec![
                gauge("probe_http_duration_seconds", vec![("phase", "tls".to_owned())]),
                gauge("probe_dns_lookup_time_seconds", Vec::new()),
                gauge("probe_http_status_code", Vec::new()),
            ],
            lines: Vec::new(),
        }
    }

    fn names(aggregates: &Aggregates) -> Vec<String> {
        let mut names = Vec::new();
        aggregates.each(|name, _, _| names.push(name.to_owned()));
        names.dedup();
        names
    }

    #[test]
    fn runs_are_added_up_in_both_modes() {
        let mut basic = Aggregates::default();
        basic.add(&outcome(true, 0.02), true);
        basic.add(&outcome(false, 20.0), true);
        let mut seen = Vec::new();
        basic.each(|name, labels, value| {
            let le = labels.iter().find(|(n, _)| *n == "le").map(|(_, v)| v.as_str()).unwrap_or("");
            if ["", "0.025", "10", "+Inf"].contains(&le) {
                seen.push(format!("{name}{le}={value}"));
            }
        });
        let expected = [
            "probe_all_success_count=2",
            "probe_all_success_sum=1",
            "probe_all_duration_seconds_bucket0.025=1",
            "probe_all_duration_seconds_bucket10=1",
            "probe_all_duration_seconds_bucket+Inf=2",
            "probe_all_duration_seconds_sum=20.02",
            "probe_all_duration_seconds_count=2",
        ];
        assert_eq!(seen, expected);
        let mut advanced = Aggregates::default();
        advanced.add(&outcome(true, 0.02), false);
        let names = names(&advanced).join(" ");
        for name in ["probe_http_all_duration_seconds_bucket", "probe_dns_lookup_all_time_seconds_sum"] {
            assert!(names.contains(name), "{names}");
        }
        assert!(!names.contains("status_code"));
    }
}
