//! A write's way to an answer, and what a stop or a crash leaves behind.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::time::{SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Server, series};
use serde_json::json;

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

#[test]
fn what_is_written_is_answered_at_once_and_outlives_a_stop_and_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let now = now_s();
    let (first, second) = ((now - 60) * 1000, (now - 30) * 1000);

    let server = Server::start(directory.path(), &[]);
    assert!(matches!(
        server.push(&[series(&[("__name__", "m"), ("a", "b")], &[(first, 1.5)])]).status,
        200 | 204
    ));
    assert_eq!(server.query("m", now - 60)[0]["value"], json!([now - 60, "1.5"]));
    server.kill();

    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.query("m", now - 60)[0]["value"][1], "1.5");
    assert!(matches!(
        server.push(&[series(&[("__name__", "m"), ("a", "b")], &[(second, 2.5)])]).status,
        200 | 204
    ));
    assert!(server.stop().success());

    let server = Server::start(directory.path(), &[]);
    let found = server.query("m[5m]", now);
    assert_eq!(found[0]["values"], json!([[now - 60, "1.5"], [now - 30, "2.5"]]));
    assert_eq!(found[0]["metric"], json!({"__name__": "m", "a": "b"}));
}

#[test]
fn the_bad_part_of_a_request_is_named_and_the_good_part_kept() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let (now, t_ms) = (now_s(), (now_s() - 5) * 1000);
    let answer = server.push(&[
        series(&[("__name__", "good")], &[(t_ms, 1.0)]),
        series(&[("__name__", "bad"), ("a", "1"), ("a", "2")], &[(t_ms, 1.0)]),
        series(&[("__name__", "late")], &[(1_000, 1.0)]),
        series(&[("__name__", "early")], &[(t_ms + 3_600_000, 1.0)]),
    ]);
    assert_eq!(answer.status, 400);
    let text = answer.text();
    for id in ["duplicate-label-names", "sample-timestamp-too-old", "too-far-in-future"] {
        assert!(text.contains(&format!("err-mimir-{id}")), "{text}");
    }
    assert_eq!(server.query("{__name__=~\"good|bad|late|early\"}", now).as_array().unwrap().len(), 1);
}

#[test]
fn new_series_beyond_the_limit_are_refused_and_known_ones_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--max-active-series", "2"]);
    let (now, t_ms) = (now_s(), (now_s() - 10) * 1000);
    let many: Vec<_> = ["a", "b", "c"].map(|x| series(&[("__name__", "m"), ("x", x)], &[(t_ms, 1.0)])).into();
    let answer = server.push(&many);
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("per-user series limit of 2 exceeded (err-mimir-max-series-per-user)"));
    let next: Vec<_> =
        ["a", "b", "c"].map(|x| series(&[("__name__", "m"), ("x", x)], &[(t_ms + 5_000, 2.0)])).into();
    assert_eq!(server.push(&next).status, 400);
    assert_eq!(server.query("sum(m)", now)[0]["value"][1], "4");
    // The server's own series do not count.
    assert_eq!(server.query("up{job=\"pilothouse\"}", now + 1)[0]["value"][1], "1");
}

#[test]
fn a_required_token_is_required_everywhere_but_for_readiness() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--auth", "required", "--root-token", "t0ken"]);
    for path in ["/prometheus/api/v1/query?query=1", "/metrics", "/-/healthy", "/nothing/here"] {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
    let allowed =
        |name, value| server.send("GET", "/prometheus/api/v1/query?query=1", &[(name, value)], b"").status;
    assert_eq!(allowed("X-Token", "t0ken"), 200);
    assert_eq!(allowed("Authorization", "Bearer t0ken"), 200);
    assert_eq!(allowed("Authorization", "Bearer other"), 401);
    assert_eq!(server.get("/ready").status, 200);
}

#[test]
fn unknown_paths_and_methods_are_plain_text() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for path in ["/prometheus/api/v1/nothing", "/api/v2/status", "/prometheus/api/v1/status/flags"] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (404, "404 page not found\n"), "{path}");
        assert!(answer.header("content-type").is_some_and(|t| t.starts_with("text/plain")));
    }
    let answer = server.get("/api/v1/push");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("OPTIONS, POST")));
}
