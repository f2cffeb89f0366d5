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
