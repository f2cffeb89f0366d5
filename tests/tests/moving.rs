//! What one server keeps is carried to another one, directly and by files, and gives the same
//! answers there.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::path::Path;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Server, binary, series};
use serde_json::{Value, json};

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    let url = format!("http://{}", server.address);
    Command::new(binary()).args(arguments).env("PILOTHOUSE_URL", url).output().unwrap()
}

fn good(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Series of two days, one of them stale at its end, and lines of which thousands share a time.
fn fill(server: &Server, now: i64) {
    for base in [now - 60, now - 2 * 86_400] {
        let all: Vec<_> = (0..20)
            .map(|i| {
                let samples: Vec<(i64, f64)> =
                    (0..100).map(|n| ((base - 15 * n) * 1000 + i, (i * n) as f64 / 3.0)).rev().collect();
                let name = if i % 2 == 0 { "even" } else { "odd_total" };
                series(&[("__name__", name), ("i", &i.to_string()), ("text", "a \"b\"\n\\c")], &samples)
            })
            .collect();
        assert!(matches!(server.push(&all).status, 200 | 204));
    }
    let at = (now - 900) * 1_000_000_000;
    let line = |i: i64| (at + (i / 1_500) * 7, format!("line {i}"));
    let entries: Vec<(i64, String)> = (0..4_000).map(line).collect();
    assert_eq!(server.push_logs(&json!({"app": "shop"}), &entries).status, 204);
    let old = json!({"streams": [{"stream": {"app": "bank"}, "values": [
        [((now - 2 * 86_400) * 1_000_000_000).to_string(), "old", {"trace": "t1"}],
        [(at + 7).to_string(), "with \"quotes\"", {"trace": "t2"}],
    ]}]});
    let headers = [("Content-Type", "application/json")];
    let answer = server.send("POST", "/loki/api/v1/push", &headers, old.to_string().as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn sorted(mut result: Value) -> Value {
    result.as_array_mut().unwrap().sort_by_key(|one| one["metric"].to_string());
    result
}

fn metrics(server: &Server, now: i64) -> Vec<Value> {
    let of = |t: i64| sorted(server.query("{i=~\".+\"}[1h]", t));
    vec![of(now), of(now - 2 * 86_400)]
}

fn logs(server: &Server) -> (Vec<u64>, Value) {
    let counts = ["{app=\"shop\"}", "{app=\"bank\"} | trace=\"t2\"", "{trace=\"t2\"}"];
    let counts = counts.iter().map(|query| server.count_logs(query)).collect();
    (counts, server.query_logs("{app=~\".+\"} |~ \"quotes|line 1[0-9]$\"", "&limit=1000&direction=forward"))
}

#[test]
fn metrics_are_carried_to_another_server_and_through_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let now = now_s();
    let (from, to) = (Server::start(&at("from"), &[]), Server::start(&at("to"), &[]));
    fill(&from, now);
    let expected = metrics(&from, now);
    assert_eq!(expected[1].as_array().unwrap().len(), 20);

    let push = format!("http://{}/api/v1/push", to.address);
    let select = ["export", "metrics", "--match", "{i=~\".+\"}"];
    let carried = good(&from, &[&select[..], &["--remote-write", &push]].concat());
    assert_eq!(carried, "carried 4000 samples\n");
    assert_eq!(metrics(&to, now), expected);

    let import = ["import", "prometheus", "--match", "{i=~\".+\"}", "--since", "1h", "--url"];
    let third = Server::start(&at("third"), &[]);
    let prometheus = format!("http://{}/prometheus", from.address);
    good(&third, &[&import[..], &[&prometheus]].concat());
    assert_eq!(metrics(&third, now)[0], expected[0]);

    let file = at("all.txt");
    let file = file.to_str().unwrap();
    let to_file = [&select[..], &["--openmetrics", file]].concat();
    good(&from, &to_file);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.starts_with("# TYPE even unknown\neven{i=\"0\",") && text.ends_with("\n# EOF\n"));
    assert_eq!(text.matches("# TYPE").count(), 2);
    assert!(refused(&from, &to_file).contains("is there already"));
    let fourth = Server::start(&at("fourth"), &[]);
    good(&fourth, &["import", "openmetrics", file]);
    assert_eq!(metrics(&fourth, now), expected);
    assert!(!Path::new(&format!("{file}.state")).exists());
}

#[test]
fn lines_are_carried_whole_once_and_with_their_metadata() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let now = now_s();
    let (from, to) = (Server::start(&at("from"), &[]), Server::start(&at("to"), &[]));
    fill(&from, now);
    let expected = logs(&from);
    assert_eq!(expected.0, [4_000, 1, 0]);

    let loki = format!("http://{}", to.address);
    let select = ["export", "logs", "--query", "{app=~\".+\"}", "--since", "7d"];
    let carried = good(&from, &[&select[..], &["--loki", &loki]].concat());
    assert_eq!(carried, "carried 4002 lines\n");
    assert_eq!(logs(&to), expected);
    let import = ["import", "loki", "--query", "{app=~\".+\"}", "--since", "7d", "--url"];
    let third = Server::start(&at("third"), &[]);
    assert_eq!(good(&third, &[&import[..], &[&loki]].concat()), "carried 4002 lines\n");
    assert_eq!(logs(&third), expected);

    let file = at("all.jsonl");
    let to_file = [&select[..], &["--jsonl", file.to_str().unwrap()]].concat();
    good(&from, &to_file);
    let lines = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4_002);
    assert_eq!((&lines[0]["line"], &lines[0]["metadata"]["trace"]), (&json!("old"), &json!("t1")));
}

#[test]
fn a_move_that_broke_off_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let now = now_s();
    let from = Server::start(&at("from"), &[]);
    fill(&from, now);
    // A server that takes the older of two days and refuses the younger one's length of labels.
    let to = Server::start(&at("to"), &["--limit", "max_label_value_bytes=10"]);
    let long =
        series(&[("__name__", "even"), ("i", "99"), ("long", "12345678901")], &[((now - 30) * 1000, 1.0)]);
    assert!(matches!(from.push(&[long]).status, 200 | 204));
    let (push, state) = (format!("http://{}/api/v1/push", to.address), at("state"));
    let arguments = ["export", "metrics", "--match", "{i=~\".+\"}", "--since", "3d"];
    let arguments = [&arguments[..], &["--remote-write", &push, "--state", state.to_str().unwrap()]].concat();
    let said = refused(&from, &arguments);
    assert!(said.contains("answered 400") && said.contains("go on"), "{said}");
    let left: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!(left["place"]["items"], 2_000, "{left}");
    assert!(
        refused(&from, &["export", "metrics", "--remote-write", &push, "--state", state.to_str().unwrap()])
            .contains("another move")
    );
    let output = run(&from, &[&arguments[..], &["--skip-refused"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("refused at least in part: 1 batches"), "{said}");
    assert_eq!(output.stdout, b"carried 4001 samples\n");
    assert!(!state.exists());
    let answers = metrics(&to, now);
    assert_eq!(answers[0].as_array().unwrap().len(), 20, "the good part of the batch is stored");
}
