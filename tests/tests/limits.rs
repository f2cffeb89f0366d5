//! Limits that a reload changes hold from then on, and hold no more after the next one.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use pilothouse_tests::Server;

const TEXT: &str = "text/plain";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const FORM: &str = "application/x-www-form-urlencoded";
const IMPORT: &str = "/api/v1/import/prometheus";
const QUERY: &str = "/prometheus/api/v1/query";
const LOGS: &str = "/loki/api/v1/push";
const LOG_QUERY: &str = "/loki/api/v1/query_range";

/// What a limit refuses.
struct Case {
    limits: &'static str,
    path: &'static str,
    content_type: &'static str,
    body: &'static str,
    status: u16,
    /// Part of the answer.
    text: &'static str,
}

const fn case(
    limits: &'static str,
    (path, content_type): (&'static str, &'static str),
    body: &'static str,
    (status, text): (u16, &'static str),
) -> Case {
    Case { limits, path, content_type, body, status, text }
}

const CASES: &[Case] = &[
    case(
        "max_labels_per_series: 2",
        (IMPORT, TEXT),
        "m{a=\"1\",b=\"2\",c=\"3\"} 1\n",
        (400, "err-mimir-max-label-names-per-series"),
    ),
    case(
        "max_label_name_bytes: 3",
        (IMPORT, TEXT),
        "m{long_name=\"1\"} 1\n",
        (400, "err-mimir-max-length-label-name"),
    ),
    case(
        "max_label_value_bytes: 3",
        (IMPORT, TEXT),
        "m{a=\"long\"} 1\n",
        (400, "err-mimir-max-length-label-value"),
    ),
    case(
        "max_active_series: 1",
        (IMPORT, TEXT),
        "fresh_a 1\nfresh_b 1\n",
        (400, "err-mimir-max-series-per-user"),
    ),
    case(
        "max_series_in_memory: 1",
        (IMPORT, TEXT),
        "new_a 1\nnew_b 1\n",
        (400, "err-mimir-max-series-per-user"),
    ),
    case("max_body_bytes: 10", (IMPORT, TEXT), "a_long_name_of_a_metric 1\n", (413, "")),
    case("max_request_series: 1", (IMPORT, TEXT), "a 1\nb 1\n", (413, "")),
    case(
        "{max_samples_per_second: 1, max_samples_burst: 1}",
        (IMPORT, TEXT),
        "a 1\nb 1\nc 1\n",
        (429, "err-mimir-tenant-max-ingestion-rate"),
    ),
    case(
        "{max_log_bytes_per_second: 1, max_log_burst_bytes: 1}",
        (LOGS, JSON),
        r#"{"streams":[{"stream":{"a":"b"},"values":[["NOW","hello"]]}]}"#,
        (429, "ingestion rate limit exceeded"),
    ),
    case(
        "{max_stream_bytes_per_second: 1, max_stream_burst_bytes: 1}",
        (LOGS, JSON),
        r#"{"streams":[{"stream":{"a":"b"},"values":[["NOW","hello"]]}]}"#,
        (429, "Per stream rate limit exceeded"),
    ),
    case(
        "max_line_bytes: 3",
        (LOGS, JSON),
        r#"{"streams":[{"stream":{"a":"b"},"values":[["NOW","hello"]]}]}"#,
        (400, "max entry size"),
    ),
    case(
        "max_labels_per_stream: 1",
        (LOGS, JSON),
        r#"{"streams":[{"stream":{"a":"b","c":"d"},"values":[["NOW","hello"]]}]}"#,
        (400, "label names; limit 1"),
    ),
    case(
        "max_log_streams: 1",
        (LOGS, JSON),
        r#"{"streams":[{"stream":{"a":"1"},"values":[["NOW","x"]]},{"stream":{"a":"2"},"values":[["NOW","x"]]}]}"#,
        (429, "Maximum active stream limit exceeded"),
    ),
    case(
        "max_query_length_bytes: 3",
        (QUERY, FORM),
        "query=vector(1)",
        (422, "err-mimir-max-query-expression-size"),
    ),
    case("max_query_depth: 2", (QUERY, FORM), "query=1%2B(2%2B(3%2B4))", (400, "")),
    case("max_query_series: 1", (QUERY, FORM), "query=count({__name__=~\".%2B\"})", (422, "")),
    case("max_query_samples: 1", (QUERY, FORM), "query={__name__=~\".%2B\"}[5m]", (422, "")),
    case(
        "max_query_points: 10",
        ("/prometheus/api/v1/query_range", FORM),
        "query=1&start=0&end=100&step=1",
        (400, "exceeded maximum resolution"),
    ),
    case(
        "max_log_query_entries: 10",
        (LOG_QUERY, FORM),
        "query={a=\"b\"}&limit=11",
        (400, "max entries limit"),
    ),
    case(
        "max_log_query_range_ms: 1s",
        (LOG_QUERY, FORM),
        "query={a=\"b\"}&since=1h",
        (400, "the query time range exceeds the limit"),
    ),
    case(
        "max_rules_per_group: 1",
        ("/prometheus/config/v1/rules/limits", YAML),
        "name: g\nrules:\n- {record: a:b, expr: 1}\n- {record: a:c, expr: 1}\n",
        (400, "per-user rules per rule group limit (limit: 1 actual: 2) exceeded"),
    ),
    case(
        "max_alertmanager_config_bytes: 10",
        ("/api/v1/alerts", YAML),
        "alertmanager_config: |\n  route: {receiver: x}\n  receivers: [{name: x}]\n",
        (400, "too big"),
    ),
    case(
        "max_silences: 0",
        ("/alertmanager/api/v2/silences", JSON),
        r#"{"matchers":[{"name":"a","value":"b","isRegex":false}],"startsAt":"2030-01-01T00:00:00Z",
            "endsAt":"2031-01-01T00:00:00Z","createdBy":"x","comment":"x"}"#,
        (400, "exceeded maximum number of silences"),
    ),
    case(
        "max_tokens: 0",
        ("/cockpit/v1/regions/fr-par/tokens", JSON),
        r#"{"name":"x","token_scopes":["read_only_metrics"]}"#,
        (403, "quotas_exceeded"),
    ),
    case(
        "max_data_sources: 0",
        ("/cockpit/v1/regions/fr-par/data-sources", JSON),
        r#"{"name":"x","type":"metrics"}"#,
        (403, "quotas_exceeded"),
    ),
];

/// The answer to the second of two equal requests: a rate lets the first one pass.
fn ask(server: &Server, case: &Case) -> (u16, String) {
    let now_ns = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let mut last = (0, String::new());
    for turn in 0..2 {
        let body = case.body.replace("NOW", &(now_ns + turn).to_string());
        let answer = server.send("POST", case.path, &[("Content-Type", case.content_type)], body.as_bytes());
        last = (answer.status, answer.text());
    }
    last
}

fn set(server: &Server, file: &Path, limits: &str) {
    let limits = if limits.starts_with('{') { limits.to_owned() } else { format!("{{{limits}}}") };
    fs::write(file, format!("limits: {limits}\n")).unwrap();
    let answer = server.send("POST", "/-/reload", &[], b"");
    assert_eq!((answer.status, answer.text()), (200, String::new()), "{limits}");
}

#[test]
fn a_reload_changes_what_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pilothouse.yaml");
    fs::write(&file, "limits: {}\n").unwrap();
    let server = Server::start(&directory.path().join("data"), &["--config", file.to_str().unwrap()]);
    for case in CASES {
        set(&server, &file, case.limits);
        let (status, text) = ask(&server, case);
        assert!(status == case.status && text.contains(case.text), "{}: {status} {text}", case.limits);
        set(&server, &file, "");
        let (status, text) = ask(&server, case);
        assert!(status < 300, "{} no more: {status} {text}", case.limits);
    }
}

/// What needs a restart is named, and what was in force stays.
#[test]
fn what_sizes_something_waits_for_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pilothouse.yaml");
    fs::write(&file, "limits: {max_exemplars: 5, max_tails: 3}\n").unwrap();
    let server = Server::start(&directory.path().join("data"), &["--config", file.to_str().unwrap()]);
    fs::write(&file, "limits: {block_cache_bytes: 1MiB, max_tails: 4}\n").unwrap();
    let answer = server.send("POST", "/-/reload", &[], b"");
    let told = "reloaded; a restart is needed for: limits.max_exemplars, limits.block_cache_bytes\n";
    assert_eq!((answer.status, answer.text().as_str()), (200, told));
    let shown = server.get("/prometheus/api/v1/status/config").text();
    assert!(shown.contains("max_exemplars: 5\\n") && shown.contains("max_tails: 4\\n"), "{shown}");
}

/// A full disk can be dealt with while the server runs.
#[test]
fn a_reload_changes_the_room_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pilothouse.yaml");
    fs::write(&file, "min_free_disk: 0\n").unwrap();
    let server = Server::start(&directory.path().join("data"), &["--config", file.to_str().unwrap()]);
    // More stays free than any disk has, and then as before.
    for (settings, status) in [("min_free_disk: 16000000GB\n", 503), ("min_free_disk: 0\n", 204)] {
        fs::write(&file, settings).unwrap();
        let answer = server.send("POST", "/-/reload", &[], b"");
        assert_eq!((answer.status, answer.text()), (200, String::new()));
        let deadline = Instant::now() + Duration::from_secs(20);
        while server.send("POST", IMPORT, &[("Content-Type", TEXT)], b"m 1\n").status != status {
            assert!(Instant::now() < deadline, "{settings}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
