//! Each limit refuses in its words, from a reload that sets it until one that lifts it.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::Server;
use serde_json::{Map, Value};

const IMPORT: &str = "/api/v1/import/prometheus";

/// A row for each limit that refuses something: what, and the words for it. Where a Mimir, a Loki or
/// a Prometheus has words for it, they are theirs.
const LIST: &str = include_str!("../scenarios/limits.json");

/// The rows, and the limits without one by why there is none.
fn list() -> (Vec<Value>, Map<String, Value>) {
    let list: Value = serde_json::from_str(LIST).unwrap();
    (list["rows"].as_array().unwrap().clone(), list["elsewhere"].as_object().unwrap().clone())
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or("")
}

fn body(row: &Value, turn: u64) -> Vec<u8> {
    if let Some(hex) = row["body"]["hex"].as_str() {
        return (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_nanos(turn);
    let far = Duration::from_secs(300);
    let mut body = text(row, "body").to_owned();
    for (place, value) in [
        ("NOW_MS", now.as_millis().to_string()),
        ("PAST_MS", (now - far).as_millis().to_string()),
        ("SOON_MS", (now + far).as_millis().to_string()),
        ("NOW", now.as_nanos().to_string()),
        ("SOON", (now + far).as_nanos().to_string()),
        ("TURN", turn.to_string()),
        ("LONG", "x".repeat(131_072)),
        ("OPEN", "(".repeat(300)),
        ("CLOSE", ")".repeat(300)),
    ] {
        body = body.replace(place, &value);
    }
    body.into_bytes()
}

/// The answer to the second of two requests: a rate lets the first one pass, and a count needs one.
fn ask(server: &Server, row: &Value) -> (u16, String) {
    static TURNS: AtomicU64 = AtomicU64::new(0);
    let method = row["method"].as_str().unwrap_or("POST");
    let pairs = row["headers"].as_array().cloned().unwrap_or_default();
    let mut headers: Vec<(&str, &str)> =
        pairs.iter().map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect();
    headers.push(("Content-Type", text(row, "type")));
    let mut last = (0, String::new());
    for _ in 0..2 {
        let body = body(row, TURNS.fetch_add(1, Relaxed));
        let answer = server.send(method, text(row, "path"), &headers, &body);
        last = (answer.status, said(&answer.text()));
    }
    last
}

/// The words of a refusal, without the form that they come in.
fn said(answer: &str) -> String {
    let json: Value = serde_json::from_str(answer).unwrap_or_default();
    let text = ["error", "message"].iter().find_map(|name| json[name].as_str());
    text.unwrap_or(answer).trim().to_owned()
}

/// Whether a text is the one expected, where `…` stands for anything.
fn is_text(text: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or("")) else { return false };
    for part in parts {
        let found = if part.is_empty() { Some(rest.len()) } else { rest.find(part) };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

fn set(server: &Server, file: &Path, limits: &str) {
    let limits = if limits.starts_with('{') { limits.to_owned() } else { format!("{{{limits}}}") };
    fs::write(file, format!("limits: {limits}\n")).unwrap();
    let answer = server.send("POST", "/-/reload", &[], b"");
    assert_eq!((answer.status, answer.text()), (200, String::new()), "{limits}");
}

#[test]
fn each_limit_refuses_in_its_words_until_a_reload_lifts_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pilothouse.yaml");
    fs::write(&file, "limits: {}\n").unwrap();
    let server = Server::start(&directory.path().join("data"), &["--config", file.to_str().unwrap()]);
    let mut wrong = Vec::new();
    for row in list().0 {
        let limits = text(&row, "limits");
        set(&server, &file, limits);
        let (status, told) = ask(&server, &row);
        if u64::from(status) != row["status"].as_u64().unwrap() || !is_text(&told, text(&row, "text")) {
            wrong.push(format!("{limits} {}: {status} {told}", text(&row, "path")));
        }
        // What is fixed stays, and what would go over to another protocol is not asked again.
        if limits.is_empty() || row["once"].as_bool() == Some(true) {
            continue;
        }
        set(&server, &file, "");
        let (status, told) = ask(&server, &row);
        if status >= 300 {
            wrong.push(format!("{limits} {} no more: {status} {told}", text(&row, "path")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A limit has a row, or it is said why it has none.
#[test]
fn no_limit_is_forgotten() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md")).unwrap();
    let table = page.split("## Limits").nth(1).unwrap().split("\n## ").next().unwrap();
    let names: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(names.len() > 80, "{names:?}");
    let (rows, elsewhere) = list();
    let is_in_a_row = |name: &str| {
        let of = |row: &Value| text(row, "limits").split(['{', '}', ',', ' ', ':']).any(|word| word == name);
        rows.iter().any(of)
    };
    let forgotten: Vec<_> =
        names.iter().filter(|name| is_in_a_row(name) == elsewhere.contains_key(**name)).collect();
    assert!(forgotten.is_empty(), "in neither, or in both: {forgotten:?}");
    let gone: Vec<_> = elsewhere.keys().filter(|name| !names.contains(&name.as_str())).collect();
    assert!(gone.is_empty(), "{gone:?}");
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
        while server.send("POST", IMPORT, &[("Content-Type", "text/plain")], b"m 1\n").status != status {
            assert!(Instant::now() < deadline, "{settings}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
