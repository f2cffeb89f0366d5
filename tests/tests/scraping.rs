//! One server scrapes another, in every format, and watches its host.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::Server;
use serde_json::Value;

const TOKEN: &str = "8f2f3f0e-55bb-4f5c-9a52-0d8c8a1f1c11";

fn now_s() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The number of an instant query's first element; `None` while there is none.
fn value(server: &Server, query: &str) -> Option<f64> {
    server.query(query, now_s() + 1)[0]["value"][1].as_str().map(|text| text.parse().unwrap())
}

#[track_caller]
fn until(server: &Server, query: &str, expected: f64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while value(server, query) != Some(expected) {
        let targets = || server.get("/api/v1/targets").text();
        assert!(Instant::now() < deadline, "{query} is {:?}; {}", value(server, query), targets());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn job(name: &str, target: &Server, fields: &str) -> String {
    format!(
        "  - {{job_name: {name}, scrape_interval: 200ms, static_configs: [{{targets: ['{}']}}], {fields}}}\n",
        target.address
    )
}

fn configure(directory: &Path, jobs: &[String]) -> String {
    let file = directory.join("pilothouse.yaml");
    fs::write(&file, format!("scrape_configs:\n{}", jobs.concat())).unwrap();
    file.display().to_string()
}

fn targets(server: &Server, query: &str) -> Value {
    server.get(&format!("/prometheus/api/v1/targets{query}")).json()["data"].clone()
}

#[test]
fn a_server_scrapes_another_in_all_formats() {
    let directory = tempfile::tempdir().unwrap();
    let target =
        Server::start(&directory.path().join("target"), &["--auth", "required", "--root-token", TOKEN]);
    let auth = format!("authorization: {{credentials: {TOKEN}}}");
    let mut jobs = vec![
        job("text", &target, &format!("{auth}, scrape_protocols: [PrometheusText0.0.4]")),
        job("open", &target, &format!("{auth}, scrape_protocols: [OpenMetricsText1.0.0]")),
        job("proto", &target, &format!("{auth}, scrape_protocols: [PrometheusProto]")),
        // As Scalr's metrics are asked for.
        job(
            "scalr",
            &target,
            &format!(
                "{auth}, metrics_path: /api/iacp/v3/metrics, http_headers: {{Prefer: {{values: [profile=preview]}}}}"
            ),
        ),
        job("closed", &target, ""),
    ];
    let config = configure(directory.path(), &jobs);
    let server = Server::start(&directory.path().join("data"), &["--config", &config]);
    for name in ["text", "open", "proto", "scalr"] {
        until(&server, &format!("up{{job=\"{name}\"}}"), 1.0);
        until(&server, &format!("count(pilothouse_ready{{job=\"{name}\"}})"), 1.0);
        until(
            &server,
            &format!("count(pilothouse_query_duration_seconds_bucket{{job=\"{name}\",le=\"1.0\"}})"),
            1.0,
        );
    }
    until(&server, "up{job=\"closed\"}", 0.0);
    // What the three formats say is one set of series.
    until(
        &server,
        "count(count by (__name__, job) ({job=~\"text|open|proto\", __name__=~\"pilothouse_store_.+\"}))  % 3",
        0.0,
    );

    let active = targets(&server, "?state=active");
    assert_eq!(active["activeTargets"].as_array().unwrap().len(), 5);
    let closed = targets(&server, "?scrapePool=closed")["activeTargets"][0].clone();
    assert_eq!(closed["health"], "down");
    assert!(closed["lastError"].as_str().unwrap().starts_with("server returned HTTP status 401"), "{closed}");
    assert_eq!(closed["discoveredLabels"]["__scrape_interval__"], "200ms");
    let families = server
        .get("/api/v1/targets/metadata?match_target=%7Bjob%3D%22proto%22%7D&metric=pilothouse_ready")
        .json();
    assert_eq!(families["data"][0]["type"], "gauge");
    assert!(!server.get("/api/v1/status/config").text().contains(TOKEN));

    // A job more, one less; the others go on.
    jobs.remove(4);
    jobs.push(job("late", &target, &auth));
    configure(directory.path(), &jobs);
    let answer = server.send("POST", "/-/reload", &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    until(&server, "up{job=\"late\"}", 1.0);
    let pools = server.get("/api/v1/scrape_pools").json()["data"]["scrapePools"].clone();
    assert_eq!(pools, serde_json::json!(["late", "open", "proto", "scalr", "text"]));
    // What is wrong with jobs changes nothing, and says which.
    configure(directory.path(), &[job("text", &target, "sample_limits: 1")]);
    let answer = server.send("POST", "/-/reload", &[], b"");
    assert!(
        answer.status == 500
            && answer.text().contains("pilothouse.yaml:2: scrape_configs: unknown field `sample_limits`"),
        "{}",
        answer.text()
    );
    assert_eq!(targets(&server, "")["activeTargets"].as_array().unwrap().len(), 5);
    assert!(server.stop().success());
}

#[test]
fn the_host_is_watched_from_the_first_second_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("on"), &[]);
    assert_eq!(value(&server, "up{job=\"node\"}"), Some(1.0));
    assert!(value(&server, "count(node_cpu_seconds_total{mode=\"idle\"})").is_some_and(|n| n >= 1.0));
    assert!(value(&server, "node_memory_MemTotal_bytes").is_some_and(|bytes| bytes > 1e6));
    assert_eq!(targets(&server, "")["activeTargets"], serde_json::json!([]));
    let server = Server::start(&directory.path().join("off"), &["--host-metrics", "false"]);
    assert_eq!(value(&server, "up{job=\"node\"}"), None);
}
