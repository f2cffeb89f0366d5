//! A backup of a server under load, put back elsewhere, gives the same answers; damage is found.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Server, binary, series};
use serde_json::{Value, json};

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

fn good(arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn fill(server: &Server, now: i64) {
    let metrics = |name: &str, base: i64| {
        (0..40)
            .map(|i| {
                let samples: Vec<(i64, f64)> =
                    (0..30).map(|n| ((base - 15 * n) * 1000, (i * n) as f64)).rev().collect();
                series(&[("__name__", name), ("i", &i.to_string())], &samples)
            })
            .collect::<Vec<_>>()
    };
    assert!(matches!(server.push(&metrics("kept", now - 60)).status, 200 | 204));
    // Days ago, so that there are closed files too.
    assert!(matches!(server.push(&metrics("old", now - 3 * 86_400)).status, 200 | 204));
    for (app, from_s) in [("web", now - 600), ("db", now - 300)] {
        let entries: Vec<(i64, String)> =
            (0..200).map(|i| ((from_s * 1000 + i) * 1_000_000, format!("{app} line {i}"))).collect();
        assert_eq!(server.push_logs(&json!({ "app": app }), &entries).status, 204);
    }
}

/// What is asked before and after.
fn answers(server: &Server, now: i64) -> Vec<Value> {
    let of = |query: &str, t: i64| server.query(query, t);
    let mut answers = vec![
        of("sum by (i) (rate(kept[5m]))", now - 60),
        of("sort_desc(kept)", now - 60),
        of("count(old)", now - 3 * 86_400),
        of("old{i=\"7\"}[10m]", now - 3 * 86_400),
    ];
    answers.push(json!(server.count_logs("{app=~\".+\"} |~ \"line [0-9]+$\"")));
    answers.push(server.query_logs("{app=\"web\"} |= \"line 1\"", "&limit=1000"));
    answers
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn back_up(server: &Server, to: &Path) -> Value {
    let answer = server.send("POST", &format!("/-/backup?dir={}", to.display()), &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].clone()
}

#[test]
fn a_backup_under_load_gives_the_same_answers_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (now, done) = (now_s(), AtomicBool::new(false));
    let server = Server::start(&at("data"), &[]);
    fill(&server, now);
    let expected = answers(&server, now);
    let (first, second) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut t_ms = now * 1000;
            while !done.load(Relaxed) {
                t_ms += 1;
                let load: Vec<_> = (0..200)
                    .map(|i| series(&[("__name__", "load"), ("i", &i.to_string())], &[(t_ms, 1.0)]))
                    .collect();
                assert!(matches!(server.push(&load).status, 200 | 204));
                let line = (t_ms * 1_000_000, format!("load {t_ms}"));
                assert_eq!(server.push_logs(&json!({"app": "load"}), &[line]).status, 204);
            }
        });
        let backups = (back_up(&server, &at("backup")), back_up(&server, &at("backup")));
        done.store(true, Relaxed);
        backups
    });
    assert!(first["files"].as_u64().unwrap() > 5 && first["copiedFiles"] == first["files"], "{first}");
    assert!(second["files"].as_u64() >= first["files"].as_u64(), "{second}");
    assert_eq!(answers(&server, now), expected);
    let (data, backup, restored) = (at("data"), at("backup"), at("restored"));
    let (data, backup, restored) =
        (data.to_str().unwrap(), backup.to_str().unwrap(), restored.to_str().unwrap());
    // Its own directory, and one of somebody else's, are refused.
    let inside = server.send("POST", &format!("/-/backup?dir={data}/backup"), &[], b"");
    assert_eq!((inside.status, server.send("POST", "/-/backup?dir=here", &[], b"").status), (400, 400));
    assert!(server.stop().success());

    assert!(good(&["backup", backup, "--verify"]).contains("is whole"));
    good(&["restore", backup, "--data-dir", restored]);
    assert!(!run(&["restore", backup, "--data-dir", restored]).status.success(), "it is not empty");
    let server = Server::start(Path::new(restored), &[]);
    assert_eq!(answers(&server, now), expected);
    assert!(server.stop().success());
    let looked = good(&["check-data", restored]);
    assert!(looked.contains("all is well"), "{looked}");

    // A stopped server's data is backed up without it.
    let offline = at("offline");
    good(&["backup", offline.to_str().unwrap(), "--data-dir", data]);
    let whole = files_below(&at("offline"));
    let largest = whole.iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(largest, bytes).unwrap();
    let refused = run(&["backup", offline.to_str().unwrap(), "--verify"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("checksum is wrong"), "{text}");
    let elsewhere = at("elsewhere");
    assert!(
        !run(&["restore", offline.to_str().unwrap(), "--data-dir", elsewhere.to_str().unwrap()])
            .status
            .success()
    );
}

#[test]
fn damage_to_stopped_data_is_found_and_cut_out() {
    let directory = tempfile::tempdir().unwrap();
    let now = now_s();
    let server = Server::start(directory.path(), &[]);
    fill(&server, now);
    assert!(server.stop().success());
    let data = directory.path().to_str().unwrap();
    assert!(good(&["check-data", data]).contains("all is well"));
    assert!(!run(&["check-data", directory.path().join("nothing").to_str().unwrap()]).status.success());
    let old = files_below(&directory.path().join("metrics"));
    let day = |path: &&PathBuf| path.to_string_lossy().contains("/day/");
    let damaged = old.iter().filter(day).min().unwrap();
    std::fs::write(damaged, vec![0x5a; 5000]).unwrap();
    let found = run(&["check-data", data]);
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(!found.status.success() && text.contains(damaged.to_str().unwrap()), "{text}");
    let repaired = good(&["check-data", data, "--repair"]);
    assert!(repaired.contains("of which 0 are left"), "{repaired}");
    assert!(good(&["check-data", data]).contains("all is well"));
    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.query("count(kept)", now - 60)[0]["value"][1], "40");
    assert_eq!(server.count_logs("{app=~\"web|db\"}"), 400);
}
