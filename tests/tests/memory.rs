//! Every part of the memory account grows with what it stands for and goes back to where it was.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Server, escape, series};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn held(server: &Server, part: &str) -> u64 {
    let name = format!("pilothouse_memory_held_bytes{{part=\"{part}\"}} ");
    let text = server.get("/metrics").text();
    let value = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
    value.parse::<f64>().unwrap() as u64
}

#[track_caller]
fn until(server: &Server, part: &str, what: &str, holds: impl Fn(u64) -> bool) {
    let began = Instant::now();
    loop {
        let bytes = held(server, part);
        if holds(bytes) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{part}, {what}: {bytes} bytes");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The configuration, with a job, a check and a rule or without them.
fn configure(directory: &Path, server: &str, busy: bool) {
    let rules = directory.join("rules.yaml");
    let rule = "groups: [{name: g, interval: 1s, rules: [{record: r, expr: m}]}]\n";
    fs::write(&rules, if busy { rule } else { "groups: []\n" }).unwrap();
    let jobs = format!("[{{job_name: j, scrape_interval: 1s, static_configs: [{{targets: ['{server}']}}]}}]");
    let check = format!(
        "[{{job: c, target: 'http://{server}/ready', frequency: 1000, timeout: 1000, enabled: true, settings: {{http: {{}}}}}}]"
    );
    let of = |text: &str| if busy { text.to_owned() } else { "[]".to_owned() };
    let text = format!(
        "rule_files: ['{}']\nscrape_configs: {}\nsynthetic: {{checks: {}}}\n",
        rules.display(),
        of(&jobs),
        of(&check)
    );
    fs::write(directory.join("c.yaml"), text).unwrap();
}

fn reload(server: &Server) {
    let answer = server.send("POST", "/-/reload", &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Samples of 200 series, ten minutes of them.
fn fill(server: &Server) {
    for n in 0..40 {
        let t_ms = (now_s() - 600 + n * 15) * 1_000;
        let batch: Vec<_> = (0..200)
            .map(|i| series(&[("__name__", "m"), ("i", &i.to_string())], &[(t_ms, (i * n) as f64)]))
            .collect();
        assert!(matches!(server.push(&batch).status, 200 | 204));
    }
}

/// A request whose body stops halfway, and one whose answer nobody reads.
fn half_a_push(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = "POST /api/v1/import/prometheus HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b'#'; 2_000_000]).unwrap();
    stream
}

fn unread_answer(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let (start, end) = (now_s() - 600, now_s());
    let query = escape("label_replace(m, \"long\", \"$1$1$1$1$1$1$1$1\", \"i\", \"(.*)\")");
    let path = format!("/prometheus/api/v1/query_range?query={query}&start={start}&end={end}&step=0.1");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    stream
}

#[test]
fn what_each_part_holds_comes_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    configure(directory.path(), "127.0.0.1:1", false);
    let config = directory.path().join("c.yaml").display().to_string();
    let flags = ["--config", &config, "--memory-limit", "600MiB"];
    let server = Server::start(&directory.path().join("data"), &flags);
    let address = server.address.to_string();

    // What workers keep, as long as they have something to do.
    let workers = ["targets", "rules", "checks"];
    let base = workers.map(|part| held(&server, part));
    fill(&server);
    until(&server, "heads", "with samples", |bytes| bytes > 1_000);
    until(&server, "indexes", "with series", |bytes| bytes > 1_000);
    until(&server, "control", "with a default project", |bytes| bytes > 0);
    configure(directory.path(), &address, true);
    reload(&server);
    for (part, base) in workers.into_iter().zip(base) {
        until(&server, part, "at work", |bytes| bytes > base + 4_096);
    }
    configure(directory.path(), &address, false);
    reload(&server);
    for (part, base) in workers.into_iter().zip(base) {
        until(&server, part, "with nothing to do", |bytes| bytes == base);
    }

    // What clients bring and ask; the one who looks has a connection too.
    let one = 32 << 10;
    until(&server, "connections", "before", |bytes| bytes == one);
    let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    until(&server, "connections", "with others", |bytes| bytes == 21 * one);
    drop(idle);
    let push = half_a_push(&server);
    until(&server, "requests", "with half a push", |bytes| bytes > 1_000_000);
    drop(push);
    let mut answer = unread_answer(&server);
    until(&server, "queries", "with an answer that nobody reads", |bytes| bytes > 1_000_000);
    let mut some = [0; 1_000];
    answer.read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&some));
    drop(answer);
    let mut tail = server.follow_logs("{app=\"x\"}");
    let lines: Vec<(i64, String)> =
        (0..10).map(|i| (now_s() * 1_000_000_000 + i, "y".repeat(1_000))).collect();
    assert_eq!(server.push_logs(&json!({"app": "x"}), &lines).status, 204);
    assert!(tail.next_text().contains("yyy"));
    drop(tail);
    for part in ["requests", "queries"] {
        until(&server, part, "after all", |bytes| bytes == 0);
    }
    until(&server, "connections", "after all", |bytes| bytes == one);
}
