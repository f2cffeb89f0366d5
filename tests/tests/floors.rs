//! The floors of the house: a crate uses lower floors only. The table is the rule, the
//! manifests are what is checked; any edge that the table does not allow fails.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const FLOORS: [(&str, u32); 19] = [
    ("model", 0),
    ("query", 1),
    ("index", 1),
    ("wire", 1),
    ("disk", 1),
    ("net", 1),
    ("metrics", 2),
    ("control", 2),
    ("logs", 2),
    ("promql", 2),
    ("logql", 2),
    ("rules", 3),
    ("alertmanager", 3),
    ("probes", 3),
    ("scrape", 3),
    ("remote", 3),
    ("api", 4),
    ("pilothouse", 5),
    // Drives the binary from outside and links none of it.
    ("tests", 0),
];

fn floor(name: &str) -> Option<u32> {
    FLOORS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, floor)| *floor)
}

/// The workspace's own crates that a manifest names in any of its tables of dependencies.
fn own_dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_dependencies = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
            if let Some(name) = line.trim_end_matches(']').split("dependencies.pilothouse-").nth(1) {
                found.push(name.to_owned());
            }
        } else if let Some(rest) = line.strip_prefix("pilothouse-").filter(|_| in_dependencies) {
            found.push(rest.chars().take_while(char::is_ascii_alphanumeric).collect());
        }
    }
    found
}

fn manifests() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    crates
        .chain([root.join("tests")])
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path.join("Cargo.toml")).unwrap())
        })
        .collect()
}

#[test]
fn crates_use_lower_floors_only() {
    let mut faults = Vec::new();
    for (name, manifest) in manifests() {
        let Some(own) = floor(&name) else {
            faults.push(format!("{name} has no floor"));
            continue;
        };
        for used in own_dependencies(&manifest) {
            match floor(&used) {
                Some(below) if below < own => {}
                _ => faults.push(format!("{name} must not use {used}")),
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_floor_is_lived_on() {
    let manifests = manifests();
    for (name, _) in FLOORS {
        assert!(manifests.contains_key(name), "{name}");
    }
}

#[test]
fn dependencies_are_found_in_every_form() {
    let manifest = "[package]\nname = \"pilothouse-x\"\n[dependencies]\npilothouse-model.workspace = true\n\
                    [dev-dependencies]\npilothouse-wire = { path = \"\" }\n[dependencies.pilothouse-disk]\npath = \"\"\n";
    assert_eq!(own_dependencies(manifest), ["model", "wire", "disk"]);
}
