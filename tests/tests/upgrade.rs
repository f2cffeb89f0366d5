//! The pledge that a data directory outlives the release that wrote it: each release leaves one behind
//! in `tests/kept`, and every later one opens a copy of it, with the whole server, and gives the
//! answers that the release gave. How one is added is told in `docs/operations/upgrade.md`.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pilothouse_tests::{Answer, Receiver, Server, binary, push_body, series};
use serde_json::{Value, json};

const ROOT: &str = "2f9d1c5e-7b34-4c8e-a1d6-5e0b93f47c18";
const PROJECT: &str = "11111111-2222-4333-8444-555555555555";
/// Names the release whose directory is to be written.
const KEEP: &str = "PILOTHOUSE_KEEP";
/// Noon of 2025-01-10 UTC: in the past of whoever runs this, and always the same.
const NOON_S: i64 = 1_736_510_400;
const DAY_S: i64 = 86_400;
/// What is in every archive.
const DATA: &str = "data";
const BACKUP: &str = "backup";

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kept")
}

fn start(data: &Path) -> Server {
    let flags = ["--auth", "required", "--root-token", ROOT, "--retention", "0", "--host-metrics", "false"];
    Server::start(data, &flags)
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

// ---- asking ----

/// The part of an answer that a question is about: what its `pointer` leads to in JSON, the line
/// that begins with its `line`, or all of it.
fn answer(server: &Server, question: &Value) -> Value {
    let mut headers = vec![("X-Token", ROOT), ("X-Auth-Token", ROOT)];
    let own = question["headers"].as_object();
    if let Some(own) = own {
        headers = own.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    }
    let path = question["ask"].as_str().unwrap();
    let answer = server.send("GET", path, &headers, b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    if let Some(start) = question["line"].as_str() {
        let text = answer.text();
        return json!(text.lines().find(|line| line.starts_with(start)));
    }
    match question["pointer"].as_str() {
        Some(pointer) => answer.json().pointer(pointer).cloned().unwrap_or(Value::Null),
        None => json!(answer.text()),
    }
}

fn answers(server: &Server, questions: &[Value]) -> Vec<Value> {
    let with_answer = |question: &Value| {
        let mut asked = question.clone();
        asked["answer"] = answer(server, question);
        asked
    };
    questions.iter().map(with_answer).collect()
}

/// Asks what was asked then.
fn check(server: &Server, asked: &Value, what: &str) {
    let asked = asked.as_array().unwrap();
    assert!(asked.len() >= 10, "{what}");
    for question in asked {
        assert_eq!(answer(server, question), question["answer"], "{what}: {}", question["ask"]);
    }
}

// ---- opening what was kept ----

fn unpack(archive: &Path, to: &Path) {
    let bytes = zstd::decode_all(fs::File::open(archive).unwrap()).unwrap();
    tar::Archive::new(bytes.as_slice()).unpack(to).unwrap();
}

/// Started after a kill, after a clean end, looked over, and put back from its backup.
fn check_kept(directory: &Path) {
    let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
    let asked: Value = serde_json::from_slice(&fs::read(directory.join("answers.json")).unwrap()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    unpack(&directory.join("data.tar.zst"), copy.path());
    let data = copy.path().join(DATA);
    for life in ["killed", "ended"] {
        let server = start(&data);
        check(&server, &asked[DATA], &format!("{name}, {life}"));
        assert!(server.stop().success(), "{name}");
    }
    let looked = run(&["check-data", text_of(&data)]);
    assert!(looked.contains("all is well"), "{name}: {looked}");

    let (backup, restored) = (copy.path().join(BACKUP), copy.path().join("restored"));
    run(&["backup", text_of(&backup), "--verify"]);
    run(&["restore", text_of(&backup), "--data-dir", text_of(&restored)]);
    let server = start(&restored);
    check(&server, &asked[BACKUP], &format!("{name}, restored"));
}

#[test]
fn every_directory_that_was_kept_is_read() {
    if let Some(release) = std::env::var_os(KEEP) {
        keep(&kept().join(release));
    }
    let mut all: Vec<PathBuf> = fs::read_dir(kept()).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    assert!(!all.is_empty());
    all.iter().for_each(|directory| check_kept(directory));
}

// ---- keeping ----

/// Writes the directory of a release. It is never written again.
fn keep(directory: &Path) {
    assert!(!directory.exists(), "{} is kept already", directory.display());
    let work = tempfile::tempdir().unwrap();
    let data = work.path().join(DATA);
    let receiver = Receiver::start();
    let server = start(&data);
    fill_first(&server, &receiver);
    let questions = questions(&server);
    let of_backup = answers(&server, &questions);
    assert!(server.stop().success());
    run(&["backup", text_of(&work.path().join(BACKUP)), "--data-dir", text_of(&data)]);
    let server = start(&data);
    fill_second(&server);
    let of_data = answers(&server, &questions);
    assert_ne!(of_data, of_backup);
    assert!(of_data.iter().all(|asked| !asked["answer"].is_null()), "{of_data:#?}");
    // What is in the logs alone belongs to the formats too.
    server.kill();
    assert_everything_is_there(&data);
    fs::create_dir_all(directory).unwrap();
    let asked = json!({ DATA: of_data, BACKUP: of_backup });
    fs::write(directory.join("answers.json"), format!("{asked:#}\n")).unwrap();
    pack(work.path(), &directory.join("data.tar.zst"));
}

fn pack(work: &Path, archive: &Path) {
    let mut encoder = zstd::Encoder::new(fs::File::create(archive).unwrap(), 19).unwrap();
    // The backup has once more what the data has.
    encoder.long_distance_matching(true).unwrap();
    encoder.window_log(27).unwrap();
    let mut tar = tar::Builder::new(encoder);
    tar.sparse(false);
    for part in [DATA, BACKUP] {
        tar.append_dir_all(part, work.join(part)).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(text_of(&path).to_owned()) }
    }
    found
}

/// Each kind of file there is, but for closed days of series, which need hours: those are kept
/// with the store itself, in `crates/metrics/tests/formats`.
fn assert_everything_is_there(data: &Path) {
    let files = files_below(data);
    for ending in [
        "control.redb",
        "series.redb",
        ".l0.redb",
        "/metrics/default/wal/",
        "streams.redb",
        "deletions.bin",
        "/logs/default/wal/",
        "FORMAT",
        "meta.json",
        ".store",
        "filters.bin",
        "streams.bin",
    ] {
        assert!(files.iter().any(|file| file.contains(ending)), "no {ending} in {files:#?}");
    }
}

fn ok(server: &Server, method: &str, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Answer {
    let answer = server.send(method, path, headers, body);
    assert!(matches!(answer.status, 200..=204), "{path}: {} {}", answer.status, answer.text());
    answer
}

fn push_metrics(server: &Server, name: &str, until_s: i64) {
    let all: Vec<_> = (0..20)
        .map(|i| {
            let samples: Vec<(i64, f64)> =
                (0..60).map(|n| ((until_s - 15 * (59 - n)) * 1000, (n * i) as f64 / 4.0)).collect();
            series(&[("__name__", name), ("i", &i.to_string())], &samples)
        })
        .collect();
    let headers =
        [("X-Token", ROOT), ("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
    ok(server, "POST", "/api/v1/push", &push_body(&all), &headers);
}

fn push_lines(server: &Server, app: &str, from_s: i64) {
    let values: Vec<Value> = (0..200)
        .map(|i| {
            let line = format!("level=info app={app} line={i} took={}ms", i * 7919 % 977);
            json!([((from_s * 1000 + i) * 1_000_000).to_string(), line, {"trace": format!("t{}", i % 9)}])
        })
        .collect();
    let body = json!({"streams": [{"stream": {"app": app, "service_name": app}, "values": values}]});
    let headers = [("X-Token", ROOT), ("Content-Type", "application/json")];
    ok(server, "POST", "/loki/api/v1/push", body.to_string().as_bytes(), &headers);
}

/// All kinds of state, and data of a day.
fn fill_first(server: &Server, receiver: &Receiver) {
    push_metrics(server, "kept", NOON_S);
    push_lines(server, "web", NOON_S);
    push_lines(server, "db", NOON_S);
    let token = [("X-Token", ROOT)];
    let query = "query=%7Bapp%3D%22db%22%7D%20%7C%3D%20%22line%3D7%22";
    let delete =
        format!("/loki/api/v1/delete?{query}&start={}&end={}&max_interval=2h", NOON_S - 3600, NOON_S + 3600);
    ok(server, "POST", &delete, b"", &token);
    let group = "name: g\ninterval: 1h\nrules:\n- record: kept:sum\n  expr: sum(kept)\n";
    ok(server, "POST", "/prometheus/config/v1/rules/ns", group.as_bytes(), &token);
    alert(server, receiver);
    let manage = |path: &str, body: &Value| {
        let path = format!("/cockpit/v1/regions/fr-par{path}");
        ok(server, "POST", &path, body.to_string().as_bytes(), &[("X-Auth-Token", ROOT)])
    };
    manage("/data-sources", &json!({"project_id": PROJECT, "name": "other", "type": "logs"}));
    manage("/alert-manager/enable", &json!({"project_id": PROJECT}));
    manage(
        "/alert-manager/contact-points",
        &json!({"project_id": PROJECT, "email": {"to": "me@example.com"}}),
    );
}

/// A notification that was sent and need not be sent again for twenty years, and a silence as long.
fn alert(server: &Server, receiver: &Receiver) {
    let token = [("X-Token", ROOT), ("Content-Type", "application/json")];
    let config = format!(
        "route: {{receiver: hook, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 520w}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: 'http://{}/'}}]}}]\n",
        receiver.address
    );
    let body = json!({ "alertmanager_config": config }).to_string();
    ok(server, "POST", "/api/v1/alerts", body.as_bytes(), &token);
    let silence = json!({
        "matchers": [{"name": "alertname", "value": "Muted", "isRegex": false}],
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "me", "comment": "why"
    });
    ok(server, "POST", "/alertmanager/api/v2/silences", silence.to_string().as_bytes(), &token);
    let until = "2099-01-01T00:00:00Z";
    let alerts = json!([{"labels": {"alertname": "Told"}, "endsAt": until}]).to_string();
    ok(server, "POST", "/alertmanager/api/v2/alerts", alerts.as_bytes(), &token);
    receiver.wait_for(1, Duration::from_secs(30));
}

/// Data that came late, data of another day, and of no end that was clean.
fn fill_second(server: &Server) {
    push_metrics(server, "kept", NOON_S + 600);
    push_metrics(server, "kept", NOON_S + DAY_S);
    push_metrics(server, "new", NOON_S + DAY_S);
    push_lines(server, "web", NOON_S + 60);
    push_lines(server, "web", NOON_S + DAY_S);
    push_lines(server, "new", NOON_S + DAY_S);
}

/// Makes what only its maker knows the secret of, and asks for everything.
fn questions(server: &Server) -> Vec<Value> {
    let body = json!({"project_id": PROJECT, "name": "t", "token_scopes": ["read_only_metrics"]}).to_string();
    let path = "/cockpit/v1/regions/fr-par/tokens";
    let made = ok(server, "POST", path, body.as_bytes(), &[("X-Auth-Token", ROOT)]).json();
    let tenant = json!({"stackId": 1, "metricsInstanceId": 2, "logsInstanceId": 3}).to_string();
    let bearer = format!("Bearer {ROOT}");
    let install = "/api/v1/register/install";
    let made_tenant = ok(server, "POST", install, tenant.as_bytes(), &[("Authorization", &bearer)]).json();
    let tenant = format!("Bearer {}", made_tenant["accessToken"].as_str().unwrap());
    let disabled = json!({
        "job": "j", "target": "http://127.0.0.1:1/", "frequency": 60_000, "timeout": 1_000, "enabled": false,
        "probes": [1], "settings": {"http": {}}
    });
    let added = disabled.to_string();
    ok(server, "POST", "/api/v1/check/add", added.as_bytes(), &[("Authorization", &tenant)]);

    let (noon, later) = (NOON_S, NOON_S + DAY_S);
    let metrics = "/prometheus/api/v1";
    let lines = format!("/loki/api/v1/query_range?start={}&end={}&limit=20", noon - 3600, later + 3600);
    let data = |path: String| json!({"ask": path, "pointer": "/data/result"});
    vec![
        data(format!("{metrics}/query?query=sum(kept)&time={noon}")),
        data(format!("{metrics}/query?query=kept&time={later}")),
        data(format!(
            "{metrics}/query_range?query=rate(kept%7Bi%3D%223%22%7D%5B5m%5D)&start={}&end={}&step=60",
            noon - 900,
            noon + 900
        )),
        json!({"ask": format!("{metrics}/label/i/values?start={}&end={later}", noon - 3600), "pointer": "/data"}),
        data(format!("{lines}&query=%7Bapp%3D%22db%22%7D")),
        data(format!("{lines}&query=%7Bapp%3D~%22.%2B%22%7D%20%7C%3D%20%22line%3D19%22")),
        data(format!(
            "/loki/api/v1/query?time={}&query=sum%20by%20(app)%20(count_over_time(%7Bapp%3D~%22.%2B%22%7D%5B2d%5D))",
            later + 3600
        )),
        json!({"ask": "/loki/api/v1/delete", "pointer": "/0/query"}),
        json!({"ask": "/prometheus/config/v1/rules"}),
        json!({"ask": "/api/v1/alerts"}),
        json!({"ask": "/alertmanager/api/v2/silences", "pointer": "/0/comment"}),
        json!({"ask": "/alertmanager/api/v2/alerts?filter=alertname%3DTold", "pointer": "/0/labels"}),
        json!({"ask": "/metrics", "line": "alertmanager_nflog_entries"}),
        json!({"ask": "/metrics", "line": "alertmanager_notifications_failed_total"}),
        json!({"ask": "/cockpit/v1/regions/fr-par/tokens", "pointer": "/tokens"}),
        json!({"ask": format!("/cockpit/v1/regions/fr-par/data-sources?project_id={PROJECT}"), "pointer": "/data_sources/0/name"}),
        json!({"ask": format!("/cockpit/v1/regions/fr-par/alert-manager/contact-points?project_id={PROJECT}"), "pointer": "/contact_points"}),
        json!({"ask": format!("{metrics}/query?query=1%2B1&time={noon}"), "pointer": "/data/result/1",
            "headers": {"X-Token": made["secret_key"]}}),
        json!({"ask": "/api/v1/check/list", "pointer": "/0/job", "headers": {"Authorization": tenant}}),
    ]
}
