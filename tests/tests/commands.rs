//! The command line against a running server.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Server, binary, series};
use serde_json::{Value, json};

const ROOT: &str = "11111111-1111-4111-8111-111111111111";

fn command(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).env("PILOTHOUSE_URL", format!("http://{}", server.address)).env("COLUMNS", "60");
    command.env("PILOTHOUSE_TOKEN", ROOT);
    command
}

fn run(server: &Server, args: &[&str]) -> Output {
    command(server, args).output().unwrap()
}

/// Standard output of a command that must go well.
fn good(server: &Server, args: &[&str]) -> String {
    let output = run(server, args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(server: &Server, args: &[&str]) -> String {
    let output = run(server, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn push(server: &Server, samples: &[(i64, f64)]) {
    let body = pilothouse_tests::push_body(&[series(&[("__name__", "m"), ("a", "b")], samples)]);
    let headers =
        [("X-Token", ROOT), ("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    assert!(server.send("POST", "/api/v1/push", &headers, &body).status < 300);
}

fn push_logs(server: &Server, lines: &[&str]) {
    let values: Vec<Value> = lines
        .iter()
        .enumerate()
        .map(|(i, line)| json!([(now_s() * 1_000_000_000 + i as i64).to_string(), line]))
        .collect();
    let body = json!({"streams": [{"stream": {"app": "x"}, "values": values}]}).to_string();
    let headers = [("X-Token", ROOT), ("Content-Type", "application/json")];
    assert!(server.send("POST", "/loki/api/v1/push", &headers, body.as_bytes()).status < 300);
}

#[test]
fn a_server_is_asked_from_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--auth", "required", "--root-token", ROOT]);
    let now = now_s();
    push(&server, &[((now - 120) * 1000, 1.0), ((now - 60) * 1000, 2.0)]);
    push_logs(&server, &["one", "two level=error"]);
    assert_eq!(good(&server, &["ready"]), "ready\n");

    // Metrics.
    let shown = good(&server, &["query", "m"]);
    assert!(
        shown.starts_with("SERIES") && shown.contains("m{a=\"b\"}") && shown.ends_with("  2\n"),
        "{shown}"
    );
    let csv = good(&server, &["query", "m[5m]", "--output", "csv"]);
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let csv = good(&server, &["query", "m * 2", "--since", "2m", "--step", "1m", "-o", "csv"]);
    assert!(csv.starts_with("a,time,value\r\nb,"), "{csv}");
    let plot = good(&server, &["query", "m", "--start", "now-2m", "--output", "plot"]);
    assert!(plot.contains("* m{a=\"b\"}") && plot.lines().all(|line| line.len() <= 60), "{plot}");
    let answer: Value = serde_json::from_str(&good(&server, &["query", "vector(1)", "-o", "json"])).unwrap();
    assert_eq!(answer["status"], "success");
    assert!(refused(&server, &["query", "sum("]).contains("the server answered 400: "));
    assert!(refused(&server, &["query", "m", "--since", "soon"]).contains("not a valid duration"));

    // Logs.
    let lines = good(&server, &["logs", "{app=\"x\"}", "--output", "raw"]);
    assert_eq!(lines, "one\ntwo level=error\n");
    let lines = good(&server, &["logs", "{app=\"x\"} |= \"two\""]);
    assert!(lines.contains("app=\"x\"") && lines.ends_with("} two level=error\n"), "{lines}");
    let count = good(&server, &["logs", "sum(count_over_time({app=\"x\"}[1h]))", "--instant", "-o", "csv"]);
    assert!(count.trim_end().ends_with(",2"), "{count}");

    // Tokens.
    let made = good(&server, &["token", "create", "--name", "t", "--scope", "read_only_metrics"]);
    let id = made.split_whitespace().nth(1).unwrap().to_owned();
    assert!(good(&server, &["token", "list"]).contains(&id));
    assert!(good(&server, &["token", "delete", &id]).contains(&id));
    assert!(!good(&server, &["token", "list", "-o", "csv"]).contains(&id));
    assert!(refused(&server, &["token", "delete", &id]).contains("404"));
    assert!(refused(&server, &["query", "m", "--token", "wrong"]).contains("401"));

    // Checks.
    let target = format!("http://{}/ready", server.address);
    let added = good(&server, &["checks", "add", "http", "--job", "j", "--target", &target, "--every", "5s"]);
    let id = added.trim().rsplit(' ').next().unwrap().to_owned();
    let listed = good(&server, &["checks", "list"]);
    assert!(listed.contains("http") && listed.contains(&target), "{listed}");
    assert!(good(&server, &["checks", "delete", &id]).contains(&id));
    assert!(refused(&server, &["checks", "delete", &id]).contains("404"));

    assert!(refused(&server, &["ready", "--server", "http://127.0.0.1:1"]).contains("was not reached"));
}

#[test]
fn logs_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--auth", "required", "--root-token", ROOT]);
    push_logs(&server, &["before"]);
    let mut following = command(&server, &["logs", "{app=\"x\"}", "--follow", "--since", "5m"]);
    let mut following = following.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().ends_with("} before"));
    push_logs(&server, &["after"]);
    assert!(lines.next().unwrap().unwrap().ends_with("} after"));
    following.kill().unwrap();
    following.wait().unwrap();
    let shown = refused(&server, &["logs", "{app=", "--follow"]);
    assert!(shown.contains("400"), "{shown}");
}
