//! What a configuration becomes, and what is refused with which words.

use std::path::Path;

use super::protocol::Protocol;
use super::sections::GlobalSection;
use super::{Job, Sections, load};
use crate::relabel::NameScheme;

fn sections(global: &str, jobs: &str) -> Result<Sections, String> {
    let global: GlobalSection = serde_norway::from_str(global).map_err(|e| e.to_string())?;
    let scrape_configs = serde_norway::from_str(jobs).map_err(|e| e.to_string())?;
    Ok(Sections { global, scrape_configs, scrape_config_files: Vec::new() })
}

fn jobs(global: &str, jobs: &str) -> Result<Vec<Job>, String> {
    load(&sections(global, jobs)?, Path::new("/etc/p")).map_err(|e| e.to_string())
}

fn job(fields: &str) -> Job {
    jobs("{}", &format!("[{{job_name: j, {fields}}}]")).unwrap().remove(0)
}

#[test]
fn defaults_are_those_of_prometheus() {
    let job = job("");
    assert_eq!((job.interval_ms, job.timeout_ms), (60_000, 10_000));
    assert_eq!((job.metrics_path.as_str(), job.scheme.as_str()), ("/metrics", "http"));
    assert!(job.honor_timestamps && !job.honor_labels && job.compression && job.http.follow_redirects);
    assert_eq!(job.protocols, Protocol::DEFAULT);
    assert_eq!(job.names, NameScheme::Utf8);
}

#[test]
fn the_global_section_fills_in() {
    let global = "{scrape_interval: 5s, sample_limit: 7, body_size_limit: 1MB, extra_scrape_metrics: true, \
                  scrape_native_histograms: true}";
    let both = jobs(
        global,
        "[{job_name: a}, {job_name: b, scrape_interval: 20s, sample_limit: 8, \
                             scrape_native_histograms: false}]",
    )
    .unwrap();
    assert_eq!((both[0].interval_ms, both[0].timeout_ms, both[0].sample_limit), (5_000, 5_000, 7));
    assert_eq!((both[0].body_size_limit, both[0].extra_metrics), (1 << 20, true));
    assert_eq!(both[0].protocols, Protocol::PROTO_FIRST);
    assert_eq!((both[1].interval_ms, both[1].timeout_ms, both[1].sample_limit), (20_000, 5_000, 8));
    assert_eq!(both[1].protocols, Protocol::DEFAULT);
}

#[test]
fn what_is_refused() {
    for (global, list, text) in [
        (
            "{scrape_interval: 5s, scrape_timeout: 6s}",
            "[]",
            "global scrape timeout greater than scrape interval",
        ),
        ("{unknown: 1}", "[]", "unknown field `unknown`"),
        ("{}", "[{scrape_interval: 5s}]", "scrape_configs[0]: job_name is empty"),
        ("{}", "[{job_name: a}, {job_name: a}]", "found multiple scrape configs with job name \"a\""),
        (
            "{}",
            "[{job_name: a, scrape_interval: 5s, scrape_timeout: 6s}]",
            "scrape timeout greater than scrape interval for scrape config with job name \"a\"",
        ),
        ("{}", "[{job_name: a, scrape_interval: 5}]", "not a valid duration string: \"5\""),
        ("{}", "[{job_name: a, kubernetes_sd_configs: []}]", "unknown field `kubernetes_sd_configs`"),
        (
            "{}",
            "[{job_name: a, scrape_protocols: []}]",
            "scrape_protocols cannot be empty for scrape config with job name \"a\"",
        ),
        (
            "{}",
            "[{job_name: a, scrape_protocols: [PrometheusProto, PrometheusProto]}]",
            "duplicated protocol in scrape_protocols",
        ),
        (
            "{}",
            "[{job_name: a, scrape_protocols: [prometheusproto]}]",
            "unknown scrape protocol prometheusproto, supported: [OpenMetricsText0.0.1 OpenMetricsText1.0.0 \
             PrometheusProto PrometheusText0.0.4 PrometheusText1.0.0]",
        ),
        (
            "{}",
            "[{job_name: a, basic_auth: {username: u}, bearer_token: t}]",
            "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
        ),
        (
            "{}",
            "[{job_name: a, static_configs: [{targets: ['http://h/metrics']}]}]",
            "\"http://h/metrics\" is not a valid hostname",
        ),
        ("{}", "[{job_name: a, static_configs: [{targets: [h], label: {}}]}]", "unknown field `label`"),
        ("{}", "[{job_name: a, relabel_configs: [{action: keep, regexp: x}]}]", "unknown field `regexp`"),
        (
            "{}",
            "[{job_name: a, metric_relabel_configs: [{action: hashmod, target_label: x}]}]",
            "scrape_configs[0] (a): relabel configuration for hashmod requires non-zero modulus",
        ),
        ("{}", "[{job_name: a, file_sd_configs: [{files: []}]}]", "must contain at least one path name"),
        (
            "{}",
            "[{job_name: a, file_sd_configs: [{files: [x.txt]}]}]",
            "path name \"x.txt\" is not valid for file discovery",
        ),
        (
            "{}",
            "[{job_name: a, file_sd_configs: [{files: ['*/x.json']}]}]",
            "is not valid for file discovery",
        ),
        ("{}", "[{job_name: a, http_sd_configs: [{}]}]", "URL is missing"),
        (
            "{}",
            "[{job_name: a, http_sd_configs: [{url: 'ftp://x'}]}]",
            "URL scheme must be 'http' or 'https'",
        ),
        ("{}", "[{job_name: a, docker_sd_configs: [{}]}]", "host missing"),
        ("{}", "[{job_name: a, body_size_limit: 1X}]", "not a size: \"1X\""),
        (
            "{}",
            "[{job_name: a, metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8}]",
            "utf8 metric names requested but validation scheme is not set to UTF8",
        ),
        ("{metric_name_validation_scheme: other}", "[]", "must be either '', 'legacy' or 'utf8', got other"),
    ] {
        let error = jobs(global, list).unwrap_err();
        assert!(error.contains(text), "{global} {list}: {error}");
    }
}

#[test]
fn a_unit_of_the_map_may_be_a_number() {
    let job = job(
        "params: {module: [http_2xx], n: [1, true]}, static_configs: [{targets: ['h:1'], labels: {env: 7}}]",
    );
    assert_eq!(job.params["n"], ["1", "true"]);
    assert_eq!(job.discoveries.len(), 1);
}

#[test]
fn further_files_hold_further_jobs() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("b.yaml", "scrape_configs:\n- job_name: b\n  bearer_token_file: token\n");
    write("c.yaml", "");
    let mut sections = sections("{scrape_interval: 7s}", "[{job_name: a}]").unwrap();
    sections.scrape_config_files = vec!["*.yaml".to_owned()];
    let loaded = load(&sections, directory.path()).unwrap();
    assert_eq!(
        loaded.iter().map(|job| (job.name.as_str(), job.interval_ms)).collect::<Vec<_>>(),
        [("a", 7_000), ("b", 7_000)]
    );
    assert_eq!(loaded[1].http.bearer_token_file, directory.path().join("token").display().to_string());
    write("d.yaml", "scrape_configs:\n- job_name: a\n");
    let error = load(&sections, directory.path()).unwrap_err().to_string();
    assert!(
        error.contains(
            "d.yaml: found multiple scrape configs with job name \"a\", first found in main config file"
        ),
        "{error}"
    );
    write("d.yaml", "scrape_configs:\n- job_name: d\n  nonsense: 1\n");
    let error = load(&sections, directory.path()).unwrap_err().to_string();
    assert!(error.contains("d.yaml") && error.contains("line 3") && error.contains("nonsense"), "{error}");
}
