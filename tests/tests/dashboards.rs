//! The dashboards that are shipped ask for what there is.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pilothouse_tests::{Server, binary};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The queries of all dashboards, each with where it stands; of metrics and of logs.
fn queries() -> BTreeMap<&'static str, Vec<(String, String)>> {
    let mut found: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for entry in fs::read_dir(Path::new(ROOT).join("docker/grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let dashboard: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let kind = if target["datasource"]["type"] == "loki" { "logs" } else { "metrics" };
                let place = format!("{}: {}", path.display(), panel["title"]);
                found.entry(kind).or_default().push((place, filled(target["expr"].as_str().unwrap())));
            }
        }
    }
    found
}

/// A query as Grafana would send it.
fn filled(query: &str) -> String {
    let query = query.replace("$__rate_interval", "1m").replace("$__range", "1h");
    query.replace("$instance", ".+").replace("$job", ".+").replace("$probe", ".+")
}

fn escape(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

fn metric_names(tree: &Value, found: &mut BTreeSet<String>) {
    match tree {
        Value::Object(members) => {
            if members.get("type").is_some_and(|kind| kind == "vectorSelector")
                && let Some(name) = members.get("name").and_then(Value::as_str)
            {
                found.insert(name.to_owned());
            }
            members.values().for_each(|member| metric_names(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| metric_names(item, found)),
        _ => {}
    }
}

/// Names that the server has after it ran for a moment.
fn stored(server: &Server) -> BTreeSet<String> {
    let answer = server.get("/prometheus/api/v1/label/__name__/values").json();
    let names = answer["data"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The texts of all sources: what depends on the machine or on the kind of a check is named there.
fn sources(directory: &Path, out: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_panel_asks_for_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let target = format!("http://{}/ready", server.address);
    let added = Command::new(binary())
        .args(["checks", "add", "http", "--job", "j", "--every", "10s", "--target", &target])
        .args(["--server", &format!("http://{}", server.address)])
        .output()
        .unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !stored(&server).contains("probe_success") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    let stored = stored(&server);
    let mut text = String::new();
    sources(&Path::new(ROOT).join("crates"), &mut text);
    let queries = queries();
    for (place, query) in &queries["metrics"] {
        let answer = server.get(&format!("/api/v1/parse_query?query={}", escape(query)));
        assert_eq!(answer.status, 200, "{place}: {query}: {}", answer.text());
        let mut names = BTreeSet::new();
        metric_names(&answer.json(), &mut names);
        for name in names {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_named =
                [Some(name.as_str()), family].iter().flatten().any(|n| text.contains(&format!("{n}\"")));
            assert!(stored.contains(&name) || is_named, "{place}: there is no {name}");
        }
    }
    for (place, query) in &queries["logs"] {
        let answer = server.get(&format!("/loki/api/v1/query_range?query={}", escape(query)));
        assert_eq!(answer.status, 200, "{place}: {query}: {}", answer.text());
    }
}
