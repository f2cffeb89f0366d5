//! Checks and status pages as an operator and a visitor meet them.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pilothouse_tests::{Answer, Server};
use serde_json::{Value, json};

const ROOT: &str = "2f9d1c5e-7b34-4c8e-a1d6-5e0b93f47c18";

/// A target that answers 200 to whatever it is asked, until the test ends.
fn target() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    address
}

fn start(directory: &Path, config: &str) -> Server {
    let path = directory.join("pilothouse.yaml");
    std::fs::write(&path, config).unwrap();
    let data = directory.join("data");
    Server::start(&data, &["--config", path.to_str().unwrap(), "--auth", "required", "--root-token", ROOT])
}

/// A check whose first run is after its interval, but for a second of it.
fn declared(job: &str, target: &str, frequency: u32, also: &str) -> String {
    let offset = frequency - 999;
    format!(
        "    - {{job: {job}, target: \"{target}\", frequency: {frequency}, timeout: 1000, offset: {offset}, enabled: true, \
         {also} settings: {{http: {{ipVersion: V4, bearerToken: s3cret-bearer}}}}}}\n"
    )
}

fn root(server: &Server, method: &str, path: &str) -> Answer {
    server.send(method, path, &[("X-Token", ROOT)], b"")
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return found;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{what} did not come");
}

/// An access token of a new tenant.
fn install(server: &Server) -> String {
    let body = json!({"stackId": 1, "metricsInstanceId": 2, "logsInstanceId": 3}).to_string();
    let bearer = format!("Bearer {ROOT}");
    let headers = [("Authorization", bearer.as_str())];
    let answer = server.send("POST", "/api/v1/register/install", &headers, body.as_bytes());
    answer.json()["accessToken"].as_str().unwrap().to_owned()
}

fn call(server: &Server, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let path = format!("/api/v1{path}");
    server.send(method, &path, &[("Authorization", &bearer)], body.to_string().as_bytes())
}

#[test]
fn declared_checks_run_and_pages_show_them() {
    let directory = tempfile::tempdir().unwrap();
    let good = format!("http://{}/?key=s3cret-in-target", target());
    let checks = declared("front", &good, 1_000, "labels: [{name: team, value: web}],")
        + &declared("gone", "http://127.0.0.1:1/", 1_000, "")
        + &declared("rare", &good, 3_600_000, "");
    let config = |checks: &str| {
        format!(
            "synthetic:\n  checks:\n{checks}  status_pages:\n    - {{name: open, title: Our <services>, public: true}}\n\
             \x20   - {{name: closed, labels: {{team: web}}, show_targets: true}}\n"
        )
    };
    let server = start(directory.path(), &config(&checks));
    let page = |path: &str| server.get(path);

    let seen = until("results", || {
        let document = page("/status/open.json").json();
        let state = |i: usize| document["checks"][i]["state"].as_str().unwrap_or("").to_owned();
        (state(0) == "up" && state(1) == "down").then_some(document)
    });
    assert_eq!((&seen["state"], &seen["title"]), (&json!("down"), &json!("Our <services>")));
    assert_eq!(seen["checks"][0]["uptime"]["24h"], 1.0);
    assert_eq!(seen["checks"][1]["uptime"]["30d"], 0.0);
    assert_eq!(seen["checks"][2]["state"], "unknown");
    assert_eq!(seen["checks"][0]["latency"].as_array().unwrap().len(), 48);
    assert!(seen["checks"][0]["latency"][47].as_f64().is_some_and(|s| s > 0.0));

    let html = page("/status/open");
    let text = html.text();
    assert!(text.contains("<h1>Our &lt;services&gt;</h1>") && text.contains("<svg"), "{text}");
    assert!(!text.contains("<script") && !text.contains("http://") && !text.contains("s3cret"), "{text}");
    let policy = html.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert_eq!(html.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
    let as_json = server.send("GET", "/status/open", &[("Accept", "application/json")], b"");
    assert_eq!(as_json.json()["name"], "open");

    for path in ["/status/closed", "/status/nothing"] {
        let refused = page(path);
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.header("www-authenticate").is_some_and(|v| v.starts_with("Basic")));
    }
    assert_eq!(root(&server, "GET", "/status/nothing").status, 404);
    let closed = root(&server, "GET", "/status/closed.json").json();
    assert_eq!(closed["checks"].as_array().unwrap().len(), 1);
    assert_eq!(closed["checks"][0]["target"], good.as_str());

    // A tenant sees what is declared, and neither its secrets nor a way to change it.
    let token = install(&server);
    let listed = call(&server, &token, "GET", "/check/list", &Value::Null).json();
    let front = listed[0].clone();
    assert_eq!((&front["job"], front["id"].as_i64()), (&json!("front"), Some(1)));
    assert_eq!(front["settings"]["http"]["bearerToken"], "<encrypted>");
    assert_eq!(call(&server, &token, "POST", "/check/update", &front).status, 403);
    assert_eq!(call(&server, &token, "DELETE", "/check/delete/1", &Value::Null).status, 403);

    // A reload changes what is said anew, and leaves the rest running as it is.
    let checks = declared("front", &good, 1_000, "labels: [{name: team, value: web}],")
        + &declared("rare", &good, 1_800_000, "");
    std::fs::write(directory.path().join("pilothouse.yaml"), config(&checks)).unwrap();
    assert_eq!(root(&server, "POST", "/-/reload").status, 200);
    let listed = call(&server, &token, "GET", "/check/list", &Value::Null).json();
    let jobs: Vec<&str> = listed.as_array().unwrap().iter().filter_map(|c| c["job"].as_str()).collect();
    assert_eq!(jobs, ["front", "rare"]);
    assert_eq!(listed[0]["modified"], front["modified"]);
    let broken = config(&declared("front", "no address", 1_000, ""));
    std::fs::write(directory.path().join("pilothouse.yaml"), broken).unwrap();
    let refused = root(&server, "POST", "/-/reload");
    assert!(refused.status >= 400 && refused.text().contains("invalid HTTP URL"), "{}", refused.text());
    assert_eq!(call(&server, &token, "GET", "/check/list", &Value::Null).json().as_array().unwrap().len(), 2);
}

#[test]
fn secrets_of_checks_stay_out_of_lists_logs_and_the_audit_trail() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), "");
    let token = install(&server);
    let check = json!({
        "job": "j", "target": "http://127.0.0.1:1/", "frequency": 1_000, "timeout": 1_000, "offset": 1,
        "enabled": true, "probes": [1], "labels": [],
        "settings": {"http": {
            "bearerToken": "s3cret-1", "basicAuth": {"username": "me", "password": "s3cret-2"},
            "headers": ["Accept: a/b", "X-Api-Token: s3cret-3"],
            "oauth2Config": {"clientId": "i", "clientSecret": "s3cret-4", "tokenURL": "http://127.0.0.1:1/t"},
            "tlsConfig": {"clientKey": "czNjcmV0LTU="},
        }},
    });
    let added = call(&server, &token, "POST", "/check/add", &check).json();
    let listed = call(&server, &token, "GET", "/check/list", &Value::Null).text();
    assert!(!listed.contains("s3cret") && !listed.contains("czNjcmV0"), "{listed}");
    // Who sends back what the list showed keeps what is there.
    let mut again = serde_json::from_str::<Value>(&listed).unwrap()[0].clone();
    again["frequency"] = json!(2_000);
    assert_eq!(call(&server, &token, "POST", "/check/update", &again).status, 200);
    let stored = call(&server, &token, "GET", "/check/1", &Value::Null).json();
    assert_eq!((&stored["settings"], &stored["frequency"]), (&added["settings"], &json!(2_000)));

    let file = std::fs::metadata(directory.path().join("data/control.redb")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);

    let logs = until("lines of a run", || {
        let path = "/loki/api/v1/query_range?query=%7Bjob%3D%22j%22%7D&limit=5000";
        let text = root(&server, "GET", path).text();
        text.contains("Check failed").then_some(text)
    });
    let audit = root(&server, "GET", "/pilothouse/v1/audit").text();
    assert!(audit.contains("synthetic_check"), "{audit}");
    let own = "/loki/api/v1/query_range?query=%7Bservice_name%3D~%22.%2B%22%7D&limit=5000";
    let config = root(&server, "GET", "/prometheus/api/v1/status/config").text();
    for text in [logs, audit, config, root(&server, "GET", own).text()] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn what_ran_before_a_stop_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let address = target();
    let config =
        format!("synthetic:\n  checks:\n{}", declared("front", &format!("http://{address}/"), 1_000, ""));
    let server = start(directory.path(), &config);
    let runs = |server: &Server| {
        let metrics = root(server, "GET", "/metrics").text();
        let line =
            metrics.lines().find(|l| l.starts_with("pilothouse_synthetic_runs_total{result=\"good\"}"));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let before = until("three runs", || Some(runs(&server)).filter(|runs| *runs >= 3.0));
    assert!(server.stop().success());
    std::fs::write(directory.path().join("pilothouse.yaml"), "").unwrap();
    let server = Server::start(&directory.path().join("data"), &["--auth", "off"]);
    let stored = server.get("/prometheus/api/v1/query?query=sum(count_over_time(probe_success[10m]))").json();
    let stored: f64 = stored["data"]["result"][0]["value"][1].as_str().unwrap().parse().unwrap();
    assert!(stored >= before, "{stored} stored of {before}");
}
