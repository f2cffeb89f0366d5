//! A target: its labels before and after relabelling, its address, its identity.

use pilothouse_model::labels::quote;
use pilothouse_model::time::parse_duration_ms;
use pilothouse_model::{Labels, LabelsBuilder};

use crate::config::{Histograms, Job};
use crate::discovery::{ADDRESS, Group, check_address};
use crate::relabel;

const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
/// Which forms of histograms are taken, and how a text that says it wrongly is told.
const HISTOGRAMS: [(&str, &str); 3] = [
    ("__convert_classic_histograms_to_nhcb__", "convert classic histograms to nhcb"),
    ("__always_scrape_classic_histograms__", "always scrape classic histograms"),
    ("__scrape_native_histograms__", "scrape native histograms"),
];
const PARAMETER: &str = "__param_";
const META: &str = "__meta_";
/// Labels with this prefix are for the scraper alone.
const RESERVED: &str = "__";

/// What a discovered target becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Populated {
    Target(Box<Target>),
    /// A rule said to drop it; with its labels before the rules.
    Dropped(Labels),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Before relabelling.
    pub(crate) discovered: Labels,
    /// What every series of it carries.
    pub(crate) public: Labels,
    pub(crate) url: String,
    pub(crate) histograms: Histograms,
    pub(crate) interval_ms: i64,
    pub(crate) timeout_ms: i64,
    /// The intervals as the labels say them.
    pub(crate) interval: String,
    pub(crate) timeout: String,
    /// Over all labels and the address; equal targets are one.
    pub(crate) id: u64,
}

/// Makes a target of what was discovered, with Prometheus' texts for what cannot be one.
pub(crate) fn populate(job: &Job, group: &Group, own: &Labels) -> Result<Populated, String> {
    let mut labels = discovered(job, group, own);
    let before = labels.build();
    if !relabel::apply(&job.relabel, &mut labels) {
        return Ok(Populated::Dropped(before));
    }
    let address = labels.get(ADDRESS).unwrap_or("").to_owned();
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    check_address(&address)?;
    let (interval_ms, timeout_ms) = times(&labels)?;
    let histograms = histograms(job, &labels)?;
    labels.retain(|name| !name.starts_with(META));
    if labels.get("instance").is_none() {
        labels.set("instance", &address);
    }
    let labels = labels.build();
    let public = labels.filter(|name| !name.starts_with(RESERVED));
    if public.is_empty() {
        return Ok(Populated::Dropped(before));
    }
    let url = url(job, &labels);
    let id = xxhash_rust::xxh3::xxh3_64_with_seed(url.as_bytes(), labels.fingerprint() as u64);
    Ok(Populated::Target(Box::new(Target {
        interval: labels.value(INTERVAL).to_owned(),
        timeout: labels.value(TIMEOUT).to_owned(),
        discovered: before,
        public,
        url,
        histograms,
        interval_ms,
        timeout_ms,
        id,
    })))
}

/// The target's labels, then the group's, then what the job says where neither does.
fn discovered(job: &Job, group: &Group, own: &Labels) -> LabelsBuilder {
    let mut labels = LabelsBuilder::from(own);
    let unless_set = |labels: &mut LabelsBuilder, name: &str, value: &str| {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    };
    for (name, value) in &group.labels {
        unless_set(&mut labels, name, value);
    }
    let said = Histograms::said(job.histograms);
    for ((name, _), said) in HISTOGRAMS.iter().zip(said) {
        unless_set(&mut labels, name, if said { "true" } else { "false" });
    }
    for (name, value) in [
        ("job", job.name.as_str()),
        (INTERVAL, &job.interval_text()),
        (TIMEOUT, &job.timeout_text()),
        (METRICS_PATH, &job.metrics_path),
        (SCHEME, &job.scheme),
    ] {
        unless_set(&mut labels, name, value);
    }
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            unless_set(&mut labels, &format!("{PARAMETER}{name}"), first);
        }
    }
    labels
}

/// The interval and the time limit, which rules may have changed.
fn times(labels: &LabelsBuilder) -> Result<(i64, i64), String> {
    let read = |name: &str, what: &str| {
        let text = labels.get(name).unwrap_or("");
        match parse_duration_ms(text) {
            Ok(0) => Err(format!("scrape {what} cannot be 0")),
            Ok(ms) => Ok(ms),
            Err(e) => Err(format!("error parsing scrape {what}: {e}")),
        }
    };
    let (interval_ms, timeout_ms) = (read(INTERVAL, "interval")?, read(TIMEOUT, "timeout")?);
    if timeout_ms > interval_ms {
        let (interval, timeout) = (labels.get(INTERVAL).unwrap_or(""), labels.get(TIMEOUT).unwrap_or(""));
        return Err(format!(
            "scrape timeout cannot be greater than scrape interval ({} > {})",
            quote(timeout),
            quote(interval)
        ));
    }
    Ok((interval_ms, timeout_ms))
}

impl Histograms {
    /// In the order of their labels.
    fn said(self) -> [bool; 3] {
        [self.convert_classic, self.always_classic, self.native]
    }
}

/// What the job says, which rules may have changed.
fn histograms(job: &Job, labels: &LabelsBuilder) -> Result<Histograms, String> {
    let mut said = job.histograms.said();
    for ((name, what), said) in HISTOGRAMS.iter().zip(&mut said) {
        if let Some(text) = labels.get(name).filter(|text| !text.is_empty()) {
            *said = boolean(text).ok_or_else(|| {
                format!("error parsing {what}: strconv.ParseBool: parsing {}: invalid syntax", quote(text))
            })?;
        }
    }
    let [convert_classic, always_classic, native] = said;
    Ok(Histograms { native, always_classic, convert_classic })
}

/// As Go reads a truth.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The job's parameters, the first of each as the labels say it.
fn url(job: &Job, labels: &Labels) -> String {
    let mut params = job.params.clone();
    for (name, value) in labels.iter().filter_map(|(n, v)| Some((n.strip_prefix(PARAMETER)?, v))) {
        let values = params.entry(name.to_owned()).or_default();
        match values.first_mut() {
            Some(first) => value.clone_into(first),
            None => values.push(value.to_owned()),
        }
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, values) in &params {
        query.extend_pairs(values.iter().map(|value| (name, value)));
    }
    let query = query.finish();
    let (scheme, address) = (labels.value(SCHEME), labels.value(ADDRESS));
    let path = escaped_path(labels.value(METRICS_PATH));
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{scheme}://{address}{slash}{path}{mark}{query}")
}

/// What a path may not hold as it is, by number; slashes and escapes stay.
fn escaped_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'?' | b'#' | b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | 0..=0x20 | 0x7f.. => {
                out.push_str(&format!("%{byte:02X}"));
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

impl Target {
    /// Where in its interval the target is scraped, counted from 1970: spread over all targets,
    /// and the same after a restart.
    pub(crate) fn phase_ms(&self) -> i64 {
        let interval = u64::try_from(self.interval_ms).unwrap_or(1).max(1);
        i64::try_from(self.id % interval).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sections, load};

    fn populated(fields: &str, own: &[(&str, &str)], group: &[(&str, &str)]) -> Result<Populated, String> {
        let yaml = format!("[{{job_name: j, {fields}}}]");
        let scrape_configs = serde_norway::from_str(&yaml).unwrap();
        let sections = Sections { scrape_configs, ..Sections::default() };
        let job = load(&sections, std::path::Path::new("/")).unwrap().remove(0);
        let group = Group { targets: Vec::new(), labels: Labels::from_pairs(group.iter().copied()) };
        populate(&job, &group, &Labels::from_pairs(own.iter().copied()))
    }

    fn target(fields: &str, own: &[(&str, &str)], group: &[(&str, &str)]) -> Target {
        match populated(fields, own, group) {
            Ok(Populated::Target(target)) => *target,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn labels_come_from_the_target_the_group_and_the_job() {
        let at = [(ADDRESS, "h:1"), ("a", "own")];
        let made = target("", &at, &[("a", "group"), ("b", "group"), ("__meta_x", "y")]);
        assert_eq!(
            made.public,
            Labels::from_pairs([("a", "own"), ("b", "group"), ("instance", "h:1"), ("job", "j")])
        );
        assert_eq!(made.url, "http://h:1/metrics");
        assert_eq!((made.interval.as_str(), made.timeout.as_str()), ("1m", "10s"));
        for (name, value) in [
            (METRICS_PATH, "/metrics"),
            (SCHEME, "http"),
            (INTERVAL, "1m"),
            ("__meta_x", "y"),
            ("__scrape_native_histograms__", "false"),
        ] {
            assert_eq!(made.discovered.value(name), value);
        }
    }

    #[test]
    fn addresses() {
        for (fields, own, url) in [
            ("scheme: https, metrics_path: /m", vec![(ADDRESS, "h:1")], "https://h:1/m"),
            ("params: {a: [x, y], b: ['1 2']}", vec![(ADDRESS, "h")], "http://h/metrics?a=x&a=y&b=1+2"),
            ("params: {a: [x, y]}", vec![(ADDRESS, "h"), ("__param_a", "z")], "http://h/metrics?a=z&a=y"),
            (
                "",
                vec![(ADDRESS, "h"), ("__param_t", "http://q/?")],
                "http://h/metrics?t=http%3A%2F%2Fq%2F%3F",
            ),
            ("", vec![(ADDRESS, "h"), (METRICS_PATH, "p/q?x"), (SCHEME, "https")], "https://h/p/q%3Fx"),
            ("", vec![(ADDRESS, "[::1]:9")], "http://[::1]:9/metrics"),
        ] {
            assert_eq!(target(fields, &own, &[]).url, url);
        }
    }

    #[test]
    fn rules_make_the_target() {
        let blackbox = "relabel_configs: [{source_labels: [__address__], target_label: __param_target}, \
                        {source_labels: [__param_target], target_label: instance}, \
                        {target_label: __address__, replacement: 'prober:9115'}, \
                        {target_label: __scrape_interval__, replacement: 5s}, \
                        {target_label: __scrape_timeout__, replacement: 1s}, \
                        {target_label: job, replacement: ''}]";
        let made = target(blackbox, &[(ADDRESS, "http://site/")], &[]);
        assert_eq!(made.url, "http://prober:9115/metrics?target=http%3A%2F%2Fsite%2F");
        assert_eq!(made.public, Labels::from_pairs([("instance", "http://site/")]));
        assert_eq!((made.interval_ms, made.timeout_ms), (5_000, 1_000));
        let labelled = "scrape_native_histograms: true, relabel_configs: \
                        [{target_label: __convert_classic_histograms_to_nhcb__, replacement: T}, \
                        {target_label: __always_scrape_classic_histograms__, replacement: ''}]";
        let made = target(labelled, &[(ADDRESS, "h")], &[]).histograms;
        assert_eq!(made, Histograms { native: true, always_classic: false, convert_classic: true });
        let dropped = populated(
            "relabel_configs: [{action: drop, source_labels: [a], regex: x}]",
            &[(ADDRESS, "h"), ("a", "x")],
            &[],
        );
        assert!(matches!(dropped, Ok(Populated::Dropped(labels)) if labels.value(ADDRESS) == "h"));
    }

    #[test]
    fn what_cannot_be_a_target() {
        let rule = |label: &str, value: &str| {
            format!("relabel_configs: [{{target_label: {label}, replacement: '{value}'}}]")
        };
        for (fields, why) in [
            (rule(ADDRESS, ""), "no address"),
            (rule(ADDRESS, "a/b"), "\"a/b\" is not a valid hostname"),
            (rule(INTERVAL, "x"), "error parsing scrape interval: not a valid duration string: \"x\""),
            (rule(INTERVAL, "0s"), "scrape interval cannot be 0"),
            (rule(TIMEOUT, "0"), "scrape timeout cannot be 0"),
            (
                rule("__scrape_native_histograms__", "yes"),
                "error parsing scrape native histograms: strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
            (rule(TIMEOUT, "2m"), "scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")"),
        ] {
            assert_eq!(populated(&fields, &[(ADDRESS, "h")], &[]), Err(why.to_owned()));
        }
    }

    #[test]
    fn phases_are_spread_and_stay() {
        let phases: Vec<i64> =
            (0..100).map(|i| target("", &[(ADDRESS, &format!("h{i}:1"))], &[]).phase_ms()).collect();
        assert!(phases.iter().all(|phase| (0..60_000).contains(phase)));
        let early = phases.iter().filter(|phase| **phase < 30_000).count();
        assert!((30..70).contains(&early), "{early} of 100 in the first half");
        assert_eq!(phases[7], target("", &[(ADDRESS, "h7:1")], &[]).phase_ms());
    }
}
