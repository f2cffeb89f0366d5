//! The configuration read again: by a request, by a signal, whole or not at all.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pilothouse_tests::Server;

const RULES: &str = "groups:\n- name: g\n  rules:\n  - record: a:b\n    expr: vector(1)\n";

fn server(directory: &Path, config: &str) -> Server {
    let file = directory.join("pilothouse.yaml");
    fs::write(&file, config).unwrap();
    fs::write(directory.join("one.yaml"), RULES).unwrap();
    fs::write(directory.join("two.yaml"), RULES.replace("a:b", "c:d")).unwrap();
    Server::start(&directory.join("data"), &["--config", file.to_str().unwrap()])
}

fn rules(server: &Server) -> String {
    server.get("/prometheus/api/v1/rules").text()
}

fn reload(server: &Server) -> (u16, String) {
    let answer = server.send("POST", "/-/reload", &[], b"");
    (answer.status, answer.text())
}

fn metric(server: &Server, name: &str) -> String {
    let text = server.get("/metrics").text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn all_takes_effect_or_nothing_does() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().display();
    let with = |name: &str, also: &str| format!("rule_files: [{dir}/{name}.yaml]\n{also}");
    let server = server(directory.path(), &with("one", ""));
    let file = directory.path().join("pilothouse.yaml");
    assert!(rules(&server).contains("a:b"));

    // What can change does; what cannot is named.
    fs::write(&file, with("two", "retention: 10d\nlimits: {max_tails: 3, max_exemplars: 7}\n")).unwrap();
    let (status, text) = reload(&server);
    assert_eq!((status, text.as_str()), (200, "reloaded; a restart is needed for: limits.max_exemplars\n"));
    assert!(rules(&server).contains("c:d") && !rules(&server).contains("a:b"));
    let shown = server.get("/prometheus/api/v1/status/config").text();
    assert!(shown.contains(r#"retention: \"10d\""#) && shown.contains("max_tails: 3"), "{shown}");

    // The rules are good and the Alertmanager's file is not: neither is taken.
    fs::write(directory.path().join("am.yaml"), "route: {}\n").unwrap();
    fs::write(&file, with("one", &format!("retention: 3d\nalertmanager_config_file: {dir}/am.yaml\n")))
        .unwrap();
    let (status, text) = reload(&server);
    assert!(status == 500 && text.contains("am.yaml"), "{status} {text}");
    assert!(rules(&server).contains("c:d"));
    assert!(server.get("/prometheus/api/v1/status/config").text().contains(r#"retention: \"10d\""#));
    assert_eq!(metric(&server, "pilothouse_config_last_reload_successful"), "0");

    // A mistake is told with its line, and mended by the signal.
    fs::write(&file, with("one", "retentoin: 3d\n")).unwrap();
    let (status, text) = reload(&server);
    assert!(
        status == 500 && text.contains("pilothouse.yaml:2: retentoin: is not a key; retention is"),
        "{text}"
    );
    fs::write(&file, with("one", "retention: 3d\n")).unwrap();
    assert!(Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while metric(&server, "pilothouse_config_last_reload_successful") != "1" {
        assert!(Instant::now() < deadline, "SIGHUP was not obeyed");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(rules(&server).contains("a:b"));
}
