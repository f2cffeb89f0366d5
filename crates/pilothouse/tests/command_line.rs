//! What the binary says before it serves anything.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pilothouse")).args(args).output().unwrap()
}

#[test]
fn the_version_is_printed() {
    let output = run(&["version"]);
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("pilothouse {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn what_cannot_be_obeyed_is_named_and_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    for (args, named) in [
        (&["--listen", "0.0.0.0:0"][..], "auth"),
        (&["--retention", "soon"], "retention"),
        (&["--auth", "maybe"], "auth"),
        (&["--limit", "max_qeury_depth=1"], "max_qeury_depth"),
        (&["--limit", "max_query_depth"], "max_query_depth"),
        (&["--external-url", "example.org"], "external_url"),
        (&["--config", "/nowhere/to/be/found.yaml"], "/nowhere/to/be/found.yaml"),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let output = run(&[&["serve", "--data-dir", data], args].concat());
        assert!(!output.status.success(), "{args:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(named), "{args:?}: {error}");
    }
}

/// Standard output and the code of the end.
fn outcome(args: &[&str]) -> (String, Option<i32>) {
    let output = run(args);
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn the_configuration_is_checked_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("p.yaml");
    let path = file.to_str().unwrap();
    let check = |yaml: &str| {
        std::fs::write(&file, yaml).unwrap();
        let output = run(&["config", "check", path]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check("retention: 7d\n"), (Some(0), String::new()));
    let (code, text) = check("retention: 7x\nlistem: a\n");
    assert_eq!((code, text.lines().count()), (Some(1), 2), "{text}");
    assert!(text.contains(&format!("{path}:2: listem: is not a key; listen is")), "{text}");
    let (code, text) = check("rule_files: [/no/such/rules.yaml]\n");
    assert!(code == Some(1) && text.contains("p.yaml:1: rule_files: /no/such/rules.yaml"), "{text}");

    std::fs::write(&file, "retention: 7d\nroot_token: s3cret\n").unwrap();
    let (shown, code) =
        outcome(&["config", "print", "--effective", "--config", path, "--listen", "127.0.0.1:1"]);
    assert_eq!(code, Some(0));
    assert!(shown.contains(&format!("retention: \"1w\"  # {path}:1\n")), "{shown}");
    assert!(shown.contains("listen: \"127.0.0.1:1\"  # --listen\n") && !shown.contains("s3cret"), "{shown}");
    assert!(outcome(&["config", "print", "--defaults"]).0.contains("retention: \"31d\"\n"));
    assert_eq!(outcome(&["config", "print"]).1, Some(2));
}

#[test]
fn every_command_has_help_and_shells_complete_them() {
    let commands =
        ["serve", "config", "query", "logs", "token", "checks", "ready", "rules", "backup", "completions"];
    let (help, code) = outcome(&["--help"]);
    assert!(code == Some(0) && help.contains("Exit codes:"), "{help}");
    for command in commands {
        assert!(help.contains(&format!("  {command}")), "{help}");
        let (text, code) = outcome(&[command, "--help"]);
        assert!(code == Some(0) && text.contains("Usage: pilothouse"), "{text}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (text, code) = outcome(&["completions", shell]);
        assert!(code == Some(0) && commands.iter().all(|command| text.contains(command)), "{shell}");
    }
}
