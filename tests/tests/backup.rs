//! A backup of a server under load, put back elsewhere, gives the same answers; damage is found.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use pilothouse_tests::{BucketServer, Server, binary, escape, series};
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

/// A group of rules, a silence and a check: what the control plane and the Alertmanager keep.
fn set_up(server: &Server) {
    let group = "name: g\nrules: [{record: sum:kept, expr: sum(kept)}]\n";
    assert_eq!(server.send("POST", "/prometheus/config/v1/rules/ns", &[], group.as_bytes()).status, 202);
    let silence = json!({
        "matchers": [{"name": "alertname", "value": "Quiet", "isRegex": false, "isEqual": true}],
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2096-01-01T00:00:00Z", "createdBy": "me", "comment": "sleeping",
    });
    let headers = [("Content-Type", "application/json")];
    let silenced =
        server.send("POST", "/alertmanager/api/v2/silences", &headers, silence.to_string().as_bytes());
    assert_eq!(silenced.status, 200, "{}", silenced.text());
    let add = ["checks", "add", "tcp", "--job", "kept", "--target", "127.0.0.1:9", "--every", "1h"];
    asking(server, &add);
}

fn asking(server: &Server, arguments: &[&str]) -> String {
    let url = format!("http://{}", server.address);
    let output = Command::new(binary()).args(arguments).env("PILOTHOUSE_URL", url).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
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
    answers.push(json!(server.count_logs("{app=~\"web|db\"} |~ \"line [0-9]+$\"")));
    answers.push(server.query_logs("{app=\"web\"} |= \"line 1\"", "&limit=1000"));
    answers.push(json!(server.get("/prometheus/config/v1/rules").text()));
    let silences = server.get("/alertmanager/api/v2/silences").json();
    answers.push(json!([silences[0]["id"], silences[0]["comment"], silences.as_array().unwrap().len()]));
    answers.push(json!(asking(server, &["checks", "list", "--output", "csv"])));
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

/// Two backups to one place, while samples and lines are pushed. Gives their figures.
fn back_up_under_load(server: &Server, to: &str, now: i64) -> (Value, Value) {
    let (done, pushed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let wait_for_more = || {
        let before = pushed.load(Relaxed);
        while pushed.load(Relaxed) < before + 2 {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
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
                pushed.fetch_add(1, Relaxed);
            }
        });
        wait_for_more();
        let backups = (back_up(server, to), back_up(server, to));
        // The load was not over before the backups were.
        wait_for_more();
        done.store(true, Relaxed);
        backups
    })
}

fn back_up(server: &Server, to: &str) -> Value {
    let answer = server.send("POST", &format!("/-/backup?to={}", escape(to)), &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].clone()
}

/// A backup under load answers elsewhere as the server did, and what was closed is copied once.
fn round(to: &str, data: &Path, restored: &Path, variables: &[(&str, String)]) {
    let run = |arguments: &[&str]| run_with(arguments, variables);
    let now = now_s();
    let server = Server::start_with(data, &[], variables);
    fill(&server, now);
    set_up(&server);
    let expected = answers(&server, now);
    let (first, second) = back_up_under_load(&server, to, now);
    assert!(first["files"].as_u64().unwrap() > 5 && first["copiedFiles"] == first["files"], "{first}");
    assert!(second["copiedFiles"].as_u64() < second["files"].as_u64(), "{second}");
    assert_eq!(answers(&server, now), expected);
    let idle = server.get("/-/backup").json();
    assert_eq!(idle["data"]["running"], false);
    assert!(server.stop().success());

    assert!(run(&["backup", to, "--verify"]).0.contains("is whole"));
    let back = ["restore", to, "--data-dir", restored.to_str().unwrap()];
    let (said, errors) = run(&back);
    assert!(said.contains("restored"), "{errors}");
    assert!(run(&back).1.contains("is not empty"));
    let server = Server::start(restored, &[]);
    assert_eq!(answers(&server, now), expected);
    assert!(server.stop().success());
    let looked = good(&["check-data", restored.to_str().unwrap()]);
    assert!(looked.contains("all is well"), "{looked}");
}

/// What a command printed, on both ways out.
fn run_with(arguments: &[&str], variables: &[(&str, String)]) -> (String, String) {
    let mut command = Command::new(binary());
    command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn a_backup_under_load_gives_the_same_answers_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (data, backup) = (at("data"), at("backup"));
    round(backup.to_str().unwrap(), &data, &at("restored"), &[]);

    // Its own directory, and what is no place, are refused.
    let server = Server::start(&data, &[]);
    let refused = |to: &str| server.send("POST", &format!("/-/backup?to={}", escape(to)), &[], b"").status;
    let inside = format!("{}/backup", data.display());
    assert_eq!([refused(&inside), refused("here"), refused(""), refused("s3://b/p")], [400; 4]);
    assert!(server.stop().success());

    // A stopped server's data is backed up without it, by links where that is asked for.
    let (data, offline) = (data.to_str().unwrap(), at("offline"));
    let to = offline.to_str().unwrap();
    good(&["backup", to, "--data-dir", data, "--links", "--quiet"]);
    let whole = files_below(&offline);
    let links = |path: &&PathBuf| std::fs::metadata(path).unwrap().nlink() > 1;
    let linked: Vec<_> = whole.iter().filter(links).collect();
    assert!(
        !linked.is_empty() && linked.iter().all(|path| path.to_string_lossy().contains("/day/")),
        "{linked:?}"
    );
    let largest =
        whole.iter().filter(|path| !links(path)).max_by_key(|path| std::fs::metadata(path).unwrap().len());
    flip(largest.unwrap());
    let refused = run(&["backup", to, "--verify"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("checksum is wrong"), "{text}");
    let elsewhere = at("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    assert!(!run(&["restore", to, "--data-dir", elsewhere]).status.success());

    // No server takes a part of it for all; when the backup is whole again the restore goes on.
    let refusals = [
        run(&["serve", "--data-dir", elsewhere, "--listen", "127.0.0.1:0"]),
        run(&["check-data", elsewhere]),
        run(&["backup", at("again").to_str().unwrap(), "--data-dir", elsewhere]),
    ];
    for refused in refusals {
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains("was broken off"), "{text}");
    }
    flip(largest.unwrap());
    good(&["restore", to, "--data-dir", elsewhere]);
    assert!(good(&["check-data", elsewhere]).contains("all is well"));
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_backup_in_a_bucket_gives_the_same_answers_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let bucket = BucketServer::start();
    let (to, variables) = ("s3://backups/vm/1", bucket.environment());
    round(to, &at("data"), &at("restored"), &variables);
    assert!(bucket.keys().iter().all(|key| key.starts_with("/backups/vm/1/")), "{:?}", bucket.keys());
    assert!(!at("data/backup.tmp").exists(), "nothing is left nearby");
    let run = |arguments: &[&str]| run_with(arguments, &variables);
    let data = at("data");
    let offline = ["backup", to, "--data-dir", data.to_str().unwrap()];

    // Whatever breaks off, the backup that was there stays whole.
    for writes in [0, 1, 4] {
        bucket.refuse_after(Some(writes));
        let (_, errors) = run(&offline);
        assert!(errors.contains("s3://backups/vm/1"), "{errors}");
        bucket.refuse_after(None);
        assert!(run(&["backup", to, "--verify"]).0.contains("is whole"), "after {writes}");
    }
    bucket.be_busy(2);
    let (said, errors) = run(&offline);
    assert!(said.contains("backed up"), "{errors}");
    assert!(run(&["backup", to, "--verify"]).0.contains("is whole"));

    let key = bucket.keys().into_iter().find(|key| key.contains("/day/")).unwrap();
    bucket.flip(&key);
    assert!(run(&["backup", to, "--verify"]).1.contains("checksum is wrong"));
    let elsewhere = at("elsewhere");
    assert!(run(&["restore", to, "--data-dir", elsewhere.to_str().unwrap()]).1.contains("checksum is wrong"));
    // Without keys nobody is called.
    assert!(run_with(&["backup", to, "--verify"], &variables[..1]).1.contains("AWS_ACCESS_KEY_ID"));
}

#[test]
fn a_large_file_goes_in_parts() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let server = Server::start(&at("data"), &[]);
    assert!(server.stop().success());
    // What lies beside the stores is part of a backup too.
    let large: Vec<u8> = (0..20u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(at("data/large"), &large).unwrap();
    let bucket = BucketServer::start();
    let run = |arguments: &[&str]| run_with(arguments, &bucket.environment());
    let data = at("data");
    let offline = ["backup", "s3://b", "--data-dir", data.to_str().unwrap()];
    // Enough for the small files and a part or two.
    bucket.refuse_after(Some(10));
    assert!(!run(&offline).1.is_empty());
    assert_eq!(bucket.figures().0, 1, "an upload that could not be given up");
    bucket.refuse_after(None);
    let (said, errors) = run(&offline);
    assert!(said.contains("backed up"), "{errors}");
    let (unfinished, parts, largest_body) = bucket.figures();
    assert_eq!(unfinished, 0, "the next run gives it up");
    assert!(!bucket.keys().iter().any(|key| key.contains("UPLOAD")));
    assert!(parts >= 3 && largest_body <= 8 << 20, "{parts} parts, {largest_body} bytes");
    let restored = at("restored");
    let (said, errors) = run(&["restore", "s3://b", "--data-dir", restored.to_str().unwrap()]);
    assert!(said.contains("restored"), "{errors}");
    assert!(std::fs::read(restored.join("large")).unwrap() == large);
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

const ROOT: &str = "2f9d1c5e-7b34-4c8e-a1d6-5e0b93f47c18";
const GUARDED: [&str; 4] = ["--auth", "required", "--root-token", ROOT];

/// The secret of a new token.
fn token(server: &Server, name: &str) -> String {
    let body = json!({"name": name, "token_scopes": ["read_only_metrics"]}).to_string();
    let path = "/cockpit/v1/regions/fr-par/tokens";
    let made = server.send("POST", path, &[("X-Auth-Token", ROOT)], body.as_bytes()).json();
    made["secret_key"].as_str().unwrap().to_owned()
}

fn status(server: &Server, token: &str) -> u16 {
    server.send("GET", "/prometheus/api/v1/query?query=1", &[("X-Token", token)], b"").status
}

/// A row of the control plane's file that makes no sense, and of which there is no copy, is in the way of a
/// start, which says so, and is all that is lost.
#[test]
fn a_damaged_control_plane_is_told_at_the_start_and_saved() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let server = Server::start(directory.path(), &GUARDED);
    let (kept, lost) = (token(&server, "kept"), token(&server, "to-be-lost"));
    assert!(server.stop().success());

    let path = directory.path().join("control.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let name = b"to-be-lost";
    let found: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
    // In old pages too: redb keeps what is not in use any more.
    found.iter().for_each(|at| bytes[*at..*at + name.len()].fill(0xff));
    std::fs::write(&path, &bytes).unwrap();
    std::fs::remove_file(directory.path().join("control.copy")).unwrap();

    let refused =
        run(&[&["serve", "--listen", "127.0.0.1:0", "--data-dir", data], GUARDED.as_slice()].concat());
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("control.redb"), "{text}");
    assert!(text.contains(&format!("check-data {data} --repair")), "{text}");
    assert!(!run(&["check-data", data]).status.success(), "nothing was mended");

    let repaired = good(&["check-data", data, "--repair"]);
    assert!(repaired.contains("rows of tokens are lost, 1 of them known"), "{repaired}");
    assert!(repaired.contains("of which 0 are left"), "{repaired}");
    let server = Server::start(directory.path(), &GUARDED);
    assert_eq!((status(&server, &kept), status(&server, &lost)), (200, 401));
}

/// Of a file whose first page is gone nothing can be read: the server starts from the copy, says so, and
/// keeps the file.
#[test]
fn a_control_plane_of_which_nothing_is_left_comes_back_from_its_copy() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &GUARDED);
    let kept = token(&server, "kept");
    assert!(server.stop().success());
    let path = directory.path().join("control.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    for met in ["1", "0"] {
        let server = Server::start(directory.path(), &GUARDED);
        assert_eq!(status(&server, &kept), 200);
        let metrics = server.send("GET", "/metrics", &[("X-Auth-Token", ROOT)], b"").text();
        let counted = format!("\npilothouse_control_corruptions_total {met}\n");
        assert!(metrics.contains(&counted), "{metrics}");
        assert!(server.stop().success());
    }
    assert_eq!(std::fs::read(directory.path().join("control.redb.damaged-1")).unwrap(), bytes);
}
