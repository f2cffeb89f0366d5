//! The dashboards that are shipped ask for what there is, in a form that Grafana reads.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pilothouse_tests::{Server, binary, escape, free_address};
use serde_json::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn dashboards() -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = fs::read_dir(Path::new(ROOT).join("docker/grafana/dashboards"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found.len(), 3);
    found
}

/// The queries of all dashboards, each with where it stands; of metrics and of logs.
fn queries() -> BTreeMap<&'static str, Vec<(String, String)>> {
    let mut found: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for (name, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let kind = if target["datasource"]["type"] == "loki" { "logs" } else { "metrics" };
                let place = format!("{name}: {}", panel["title"]);
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

/// The selectors of a query, printed anew.
fn selectors(server: &Server, place: &str, query: &str) -> Vec<(String, String)> {
    let answer = server.get(&format!("/api/v1/parse_query?query={}", escape(query)));
    assert_eq!(answer.status, 200, "{place}: {query}: {}", answer.text());
    let mut found = Vec::new();
    add_selectors(&answer.json(), &mut found);
    found
}

fn add_selectors(tree: &Value, found: &mut Vec<(String, String)>) {
    match tree {
        Value::Object(members) => {
            let is_one = members.get("type").is_some_and(|kind| kind == "vectorSelector");
            if let Some(name) = members.get("name").and_then(Value::as_str).filter(|_| is_one) {
                let matchers = members["matchers"].as_array().unwrap().iter();
                let others = matchers.filter(|matcher| matcher["name"] != "__name__");
                let text = |m: &Value| {
                    format!("{}{}{}", m["name"].as_str().unwrap(), m["type"].as_str().unwrap(), m["value"])
                };
                let inside: Vec<String> = others.map(text).collect();
                found.push((name.to_owned(), format!("{name}{{{}}}", inside.join(","))));
            }
            members.values().for_each(|member| add_selectors(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| add_selectors(item, found)),
        _ => {}
    }
}

fn answers(server: &Server, query: &str) -> bool {
    let answer = server.get(&format!("/prometheus/api/v1/query?query={}", escape(query)));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    !answer.json()["data"]["result"].as_array().unwrap().is_empty()
}

/// The texts of all sources: what a machine has not (a disk, pressure) is named there.
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

/// One that speaks TLS, for a check to look at its certificate.
fn start_with_tls(directory: &Path) -> (Running, SocketAddr) {
    let (cert, key, address) = (directory.join("cert.pem"), directory.join("key.pem"), free_address());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut command = Command::new(binary());
    command.args(["serve", "--listen", &address.to_string(), "--host-metrics", "false", "--data-dir"]);
    command.arg(directory.join("tls")).arg("--tls-cert").arg(&cert).arg("--tls-key").arg(&key);
    (Running(command.stdout(Stdio::null()).spawn().unwrap()), address)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Something for every panel: checks that succeed, fail and meet a certificate, a rule, an alert that is
/// told, and the server's own metrics every second instead of every fifteen.
fn write_config(directory: &Path, own: SocketAddr, tls: SocketAddr) -> PathBuf {
    let (rules, alerts) = (directory.join("rules.yaml"), directory.join("alertmanager.yaml"));
    fs::write(&rules, "groups: [{name: g, interval: 1s, rules: [{alert: Always, expr: vector(1)}]}]\n")
        .unwrap();
    fs::write(
        &alerts,
        "route: {receiver: hook, group_wait: 1s}\nreceivers: [{name: hook, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}]\n",
    )
    .unwrap();
    let check = |job: &str, target: &str, settings: Value| json!({"job": job, "target": target, "frequency": 1000, "timeout": 1000, "enabled": true, "settings": settings});
    let checks = [
        check("plain", &format!("http://{own}/ready"), json!({"http": {}})),
        check(
            "cert",
            &format!("https://{tls}/ready"),
            json!({"http": {"tlsConfig": {"insecureSkipVerify": true}}}),
        ),
        check("down", "127.0.0.1:1", json!({"tcp": {"ipVersion": "V4"}})),
    ];
    let job = json!({"job_name": "pilothouse", "scrape_interval": "1s", "scrape_timeout": "1s",
        "static_configs": [{"targets": [own.to_string()]}]});
    let config = json!({"rule_files": [rules], "alertmanager_config_file": alerts, "scrape_configs": [job],
        "synthetic": {"checks": checks}});
    let path = directory.join("pilothouse.yaml");
    fs::write(&path, config.to_string()).unwrap();
    path
}

/// What is on the panels: all queries whose answer is empty though it should not be.
fn empty_panels(
    server: &Server,
    queries: &BTreeMap<&str, Vec<(String, String)>>,
    sources: &str,
) -> Vec<String> {
    let mut empty = Vec::new();
    for (place, query) in &queries["metrics"] {
        if answers(server, query) {
            continue;
        }
        // What the machine has not is not shown; that it could be is seen in the sources.
        let lacking = selectors(server, place, query).into_iter().find(|(name, selector)| {
            name.starts_with("node_") && sources.contains(&format!("{name}\"")) && !answers(server, selector)
        });
        if lacking.is_none() {
            empty.push(format!("{place}: {query}"));
        }
    }
    for (place, query) in &queries["logs"] {
        if server.query_logs(query, "").as_array().unwrap().is_empty() {
            empty.push(format!("{place}: {query}"));
        }
    }
    empty
}

#[test]
fn every_panel_shows_something() {
    let directory = tempfile::tempdir().unwrap();
    let (_tls, tls) = start_with_tls(directory.path());
    let address = free_address();
    let config = write_config(directory.path(), address, tls);
    let start =
        || Server::start_at(address, &directory.path().join("data"), &["--config", config.to_str().unwrap()]);
    // The host is looked at when a server starts and every fifteen seconds: two starts are quicker.
    assert!(start().stop().success());
    let server = start();
    server.push_logs(&json!({"app": "a"}), &[(1, "too old".to_owned())]);
    let mut text = String::new();
    sources(&Path::new(ROOT).join("crates"), &mut text);
    let queries = queries();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut empty = empty_panels(&server, &queries, &text);
    while !empty.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(500));
        empty = empty_panels(&server, &queries, &text);
    }
    assert!(empty.is_empty(), "{empty:#?}");
    for (name, dashboard) in dashboards() {
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let query = filled(variable["query"]["query"].as_str().unwrap());
            let inside = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
            let (selector, label) = inside.rsplit_once(", ").unwrap();
            let path = format!("/prometheus/api/v1/label/{label}/values?match[]={}", escape(selector));
            let values = server.get(&path).json()["data"].clone();
            assert!(!values.as_array().unwrap().is_empty(), "{name}: {query}");
        }
    }
}

// ---- what Grafana reads ----

/// The members that an object may have, and those it must have.
fn has_members(place: &str, object: &Value, must: &[&str], may: &[&str]) {
    let members = object.as_object().unwrap_or_else(|| panic!("{place} is no object"));
    for name in must {
        assert!(members.contains_key(*name), "{place}: there is no {name}");
    }
    for name in members.keys() {
        assert!(must.contains(&name.as_str()) || may.contains(&name.as_str()), "{place}: {name}");
    }
}

/// Types of data sources by their uid, as they are provisioned.
fn provisioned() -> BTreeMap<String, String> {
    let path = Path::new(ROOT).join("docker/grafana/provisioning/datasources/pilothouse.yaml");
    let file: Value = serde_norway::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(file["apiVersion"], 1);
    let sources = file["datasources"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    sources
        .iter()
        .map(|source| {
            has_members(
                "provisioned",
                source,
                &["name", "uid", "type", "access", "url", "jsonData"],
                &["isDefault", "secureJsonData"],
            );
            (text(&source["uid"]), text(&source["type"]))
        })
        .collect()
}

/// As its schema of dashboards says (`kinds/dashboard` and the schemas of the panels' options).
#[test]
fn dashboards_are_what_grafana_reads() {
    let provisioned = provisioned();
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        has_members(
            &name,
            &dashboard,
            &["uid", "title", "schemaVersion", "panels", "templating", "time"],
            &["description", "tags", "editable", "graphTooltip", "refresh", "timezone"],
        );
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{name}");
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let may =
                ["label", "definition", "refresh", "includeAll", "multi", "allValue", "current", "sort"];
            has_members(&name, variable, &["name", "type", "query", "datasource"], &may);
            is_provisioned(&name, &variable["datasource"], &provisioned);
        }
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            let place = format!("{name}: {}", panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{place}");
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24, "{place}");
            for (x, y) in
                (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
            {
                assert!(taken.insert((x, y)), "{place} lies over another");
            }
            check_panel(&place, panel, &provisioned);
        }
    }
}

fn is_provisioned(place: &str, reference: &Value, provisioned: &BTreeMap<String, String>) {
    has_members(place, reference, &["type", "uid"], &[]);
    let kind = provisioned.get(reference["uid"].as_str().unwrap());
    assert_eq!(kind.map(String::as_str), reference["type"].as_str(), "{place}");
}

fn check_panel(place: &str, panel: &Value, provisioned: &BTreeMap<String, String>) {
    let common = ["id", "type", "title", "gridPos"];
    if panel["type"] == "row" {
        has_members(place, panel, &common, &["collapsed", "panels"]);
        return;
    }
    has_members(place, panel, &common, &["datasource", "targets", "fieldConfig", "options", "description"]);
    is_provisioned(place, &panel["datasource"], provisioned);
    has_members(place, &panel["fieldConfig"], &["defaults", "overrides"], &[]);
    let defaults = &panel["fieldConfig"]["defaults"];
    has_members(place, defaults, &["unit"], &["thresholds", "min", "max", "custom"]);
    // The lowest step has no value, and they rise.
    let steps = defaults["thresholds"]["steps"].as_array().cloned().unwrap_or_default();
    let values: Vec<Option<f64>> = steps.iter().map(|step| step["value"].as_f64()).collect();
    assert!(values.first().is_none_or(Option::is_none) && values.is_sorted(), "{place}: {values:?}");
    match panel["type"].as_str().unwrap() {
        "stat" | "timeseries" => {}
        "logs" => has_members(
            place,
            &panel["options"],
            &[
                "showTime",
                "showLabels",
                "showCommonLabels",
                "wrapLogMessage",
                "prettifyLogMessage",
                "enableLogDetails",
                "dedupStrategy",
                "sortOrder",
            ],
            &[],
        ),
        other => panic!("{place}: a panel of type {other}"),
    }
    let mut letters = BTreeSet::new();
    for target in panel["targets"].as_array().unwrap() {
        let common = ["refId", "datasource", "expr", "legendFormat", "editorMode"];
        is_provisioned(place, &target["datasource"], provisioned);
        assert!(letters.insert(target["refId"].as_str().unwrap().to_owned()), "{place}");
        if target["datasource"]["type"] == "loki" {
            has_members(place, target, &common, &["queryType"]);
            assert_eq!(target["queryType"], "range", "{place}");
        } else {
            has_members(place, target, &common, &["instant", "range"]);
            // One or the other: a number now, or a line over time.
            assert_eq!(target["instant"], panel["type"] == "stat", "{place}");
            assert_eq!(target["range"], panel["type"] != "stat", "{place}");
        }
    }
}
