//! What the dependencies may be: the part of `deny.toml` that can be checked with nothing but
//! Cargo. `cargo deny` checks the same and more where it is installed, of the fuzz targets too.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What is built for this machine, and what tests use.
fn packages() -> Vec<Value> {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let told = String::from_utf8(rustc.stdout).unwrap();
    let host = told.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host])
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// What the runners of fuzz targets alone need, and its licence: nothing that is built here fetches
/// it, so Cargo cannot tell.
const OF_FUZZING: [(&str, &str); 2] =
    [("arbitrary", "MIT OR Apache-2.0"), ("libfuzzer-sys", "(MIT OR Apache-2.0) AND NCSA")];

/// Name, version and source of what a lock file pins; of our own there is no source.
fn locked(path: &str) -> BTreeSet<[String; 3]> {
    let text = std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap();
    let field = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.unwrap_or("").trim_matches('"').to_owned()
    };
    let packages = text.split("[[package]]").skip(1);
    packages.map(|package| ["name", "version", "source"].map(|key| field(package, key))).collect()
}

/// The texts in quotes of one list of `deny.toml`.
fn listed(table: &str, list: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(format!("{ROOT}/deny.toml")).unwrap();
    let table = text.split(&format!("[{table}]")).nth(1).unwrap();
    let list = table.split(&format!("\n{list} = [")).nth(1).unwrap().split("\n]").next().unwrap();
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or(""));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Licences that one package alone may have.
fn exceptions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("{ROOT}/deny.toml")).unwrap();
    let list =
        text.split("\nexceptions = [").nth(1).unwrap_or("").split("\n").next().unwrap_or("").to_owned();
    let words: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    words.chunks_exact(2).map(|pair| (pair[1].clone(), pair[0].clone())).collect()
}

/// Whether an SPDX expression can be met by what is allowed.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // `A/B` is how old packages say `A OR B`.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any_of(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any_of(words, allowed);
        return words.next() == Some(")") && met;
    }
    let mut licence = words.next().unwrap_or("").to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or(""));
    }
    allowed.contains(&licence)
}

#[test]
fn expressions_are_read() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0-only", false),
        ("(MIT OR GPL-2.0) AND Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}

#[test]
fn licences_sources_and_names_are_allowed() {
    let (licences, banned) = (listed("licenses", "allow"), listed("bans", "deny"));
    assert!(licences.len() > 5 && banned.contains("openssl-sys"), "{licences:?} {banned:?}");
    let exceptions = exceptions();
    let mut wrong = Vec::new();
    for package in packages() {
        let (name, text) =
            (package["name"].as_str().unwrap(), |field: &str| package[field].as_str().unwrap_or(""));
        let own = package["source"].is_null();
        if !own && text("source") != REGISTRY {
            wrong.push(format!("{name} comes from {}", text("source")));
        }
        let own_licences =
            exceptions.iter().filter(|(package, _)| package == name).map(|(_, licence)| licence);
        let allowed = licences.iter().chain(own_licences).cloned().collect();
        if !is_met(text("license"), &allowed) {
            wrong.push(format!("{name} has the licence {:?}", text("license")));
        }
        if banned.contains(name) {
            wrong.push(format!("{name} is banned"));
        }
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        for any in dependencies.filter(|d| own && d["req"] == "*" && d["path"].is_null()) {
            wrong.push(format!("{name} takes any version of {}", any["name"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is fuzzed is what is shipped, and what fuzzing brings besides is allowed.
#[test]
fn fuzz_targets_are_built_of_the_same_packages() {
    let (licences, exceptions) = (listed("licenses", "allow"), exceptions());
    let fuzzing = locked("fuzz/libfuzzer/Cargo.lock");
    let mut wrong = Vec::new();
    for [name, version, source] in fuzzing.difference(&locked("Cargo.lock")) {
        if source.is_empty() {
            assert!(name.starts_with("pilothouse-"), "{name}");
            continue;
        }
        let own = exceptions.iter().filter(|(package, _)| package == name).map(|(_, licence)| licence);
        let allowed = licences.iter().chain(own).cloned().collect();
        let known = OF_FUZZING.iter().find(|(package, _)| package == name);
        if !known.is_some_and(|(_, licence)| source == REGISTRY && is_met(licence, &allowed)) {
            wrong.push(format!("{name} {version} from {source}"));
        }
    }
    let again =
        "cp Cargo.lock fuzz/libfuzzer/ && cargo metadata --offline --manifest-path fuzz/libfuzzer/Cargo.toml";
    assert!(wrong.is_empty(), "{}\nIf it is older or newer here: {again}", wrong.join("\n"));
    assert!(OF_FUZZING.iter().all(|(name, _)| fuzzing.iter().any(|[own, ..]| own == name)));
}
