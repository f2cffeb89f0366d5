//! The control plane from outside: what comes back of a damaged file, and changes that are made at once.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use pilothouse_tests::{Server, binary};
use serde_json::{Value, json};

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];
const SOURCES: &str = "/cockpit/v1/regions/fr-par/data-sources";

fn put_rule_and_silence(server: &Server) {
    let group = "name: g\nrules: [{record: sum:kept, expr: sum(kept)}]\n";
    assert_eq!(server.send("POST", "/prometheus/config/v1/rules/ns", &[], group.as_bytes()).status, 202);
    put_silence(server);
}

fn put_silence(server: &Server) {
    let silence = json!({
        "matchers": [{"name": "alertname", "value": "Quiet", "isRegex": false, "isEqual": true}],
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2096-01-01T00:00:00Z", "createdBy": "me", "comment": "sleeping",
    });
    let made = server.send("POST", "/alertmanager/api/v2/silences", JSON, silence.to_string().as_bytes());
    assert_eq!(made.status, 200, "{}", made.text());
}

fn has_rule_and_silence(server: &Server) -> (bool, bool) {
    let rules = server.get("/prometheus/config/v1/rules").text();
    let silences = server.get("/alertmanager/api/v2/silences").text();
    (rules.contains("sum:kept"), silences.contains("sleeping"))
}

fn damaged_places(server: &Server) -> String {
    let metrics = server.get("/metrics").text();
    let line = metrics.lines().find(|line| line.starts_with("pilothouse_control_corruptions_total")).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

/// Changes a byte of every place where the file has a text, in old pages too.
fn spoil(path: &Path, text: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let found: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(text.as_bytes())).collect();
    assert!(!found.is_empty(), "{text}");
    found.iter().for_each(|at| bytes[at + 1] ^= 4);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn rules_and_silences_come_back_when_their_pages_are_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.redb");
    let server = Server::start(directory.path(), &[]);
    put_rule_and_silence(&server);
    assert!(server.stop().success());
    for (round, text) in ["sum:kept", "sleeping"].into_iter().enumerate() {
        spoil(&path, text);
        let server = Server::start(directory.path(), &[]);
        assert_eq!((has_rule_and_silence(&server), damaged_places(&server)), ((true, true), "1".to_owned()));
        let aside = directory.path().join(format!("control.redb.damaged-{}", round + 1));
        assert!(aside.is_file(), "{text}");
        assert!(server.stop().success());
    }
    let server = Server::start(directory.path(), &[]);
    assert_eq!((has_rule_and_silence(&server), damaged_places(&server)), ((true, true), "0".to_owned()));
}

#[test]
fn changes_of_one_data_source_at_once_are_all_made() {
    const ROUNDS: u32 = 15;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let new = json!({
        "name": "far", "type": "metrics", "backend": "remote",
        "remote": {"write_url": "http://127.0.0.1:9/api/v1/push", "query_url": "http://127.0.0.1:9"},
    });
    let made = server.send("POST", SOURCES, JSON, new.to_string().as_bytes());
    assert_eq!(made.status, 200, "{}", made.text());
    let path = format!("{SOURCES}/{}", made.json()["id"].as_str().unwrap());
    let patch = |change: Value| {
        let answer = server.send("PATCH", &path, JSON, change.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    for round in 1..=ROUNDS {
        let (tenant, timeout) = (format!("t{round}"), format!("{round}s"));
        std::thread::scope(|scope| {
            scope.spawn(|| patch(json!({"remote": {"tenant": tenant}})));
            scope.spawn(|| patch(json!({"remote": {"timeout": timeout}})));
        });
        let remote = &server.get(&path).json()["remote"];
        assert_eq!(
            (remote["tenant"].as_str(), remote["timeout"].as_str()),
            (Some(&*tenant), Some(&*timeout))
        );
    }
}

/// Makes silences until it is told to end; gives how many were acknowledged.
fn silence_until(server: &Server, is_over: &AtomicBool) -> usize {
    let mut made = 0;
    while !is_over.load(Ordering::Relaxed) {
        put_silence(server);
        made += 1;
    }
    made
}

#[test]
fn a_data_directory_is_one_process_own() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, backup) = (directory.path().to_str().unwrap(), elsewhere.path().join("backup"));
    let backup = backup.to_str().unwrap();
    let server = Server::start(directory.path(), &[]);
    put_rule_and_silence(&server);
    let inode = || directory.path().join("control.redb").metadata().unwrap().ino();
    let (before, is_over) = (inode(), AtomicBool::new(false));
    let made = std::thread::scope(|scope| {
        let made = scope.spawn(|| silence_until(&server, &is_over));
        for arguments in [
            ["serve", "--listen", "127.0.0.1:0", "--data-dir", data].as_slice(),
            &["check-data", data, "--repair"],
            &["backup", backup, "--data-dir", data],
        ] {
            for _ in 0..3 {
                let output = Command::new(binary()).args(arguments).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(!output.status.success(), "{arguments:?}");
                assert!(said.contains(data) && said.contains("in use by another process"), "{said}");
            }
        }
        let url = format!("http://{}", server.address);
        let output = Command::new(binary()).args(["backup", backup, "--server", &url]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        is_over.store(true, Ordering::Relaxed);
        made.join().unwrap()
    });
    assert_eq!(inode(), before);
    // The lock is no data.
    assert!(!std::fs::read_to_string(Path::new(backup).join("MANIFEST")).unwrap().contains("LOCK"));
    server.kill();
    let server = Server::start(directory.path(), &[]);
    let silences = server.get("/alertmanager/api/v2/silences").json();
    assert_eq!(silences.as_array().unwrap().len(), made + 1);
}
