//! The kept inputs, run without a fuzzer; and that all that names the targets names the same ones.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::targets::TARGETS;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// At most so much is kept for a target, see `keep.sh`; with what somebody wrote.
const KEPT_BYTES: usize = 80_000;

/// The paths in a directory, sorted.
fn paths(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Runs a target over each of its kept inputs; one that fails is named and the others still run.
#[track_caller]
pub(crate) fn replay(target: &str, run: fn(&[u8])) {
    let inputs = paths(&Path::new(ROOT).join("corpus").join(target));
    assert!(!inputs.is_empty(), "nothing is kept for {target}");
    let mut bytes = 0;
    let mut failed = Vec::new();
    for path in inputs {
        let input = fs::read(&path).unwrap();
        bytes += input.len();
        if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
            failed.push(path);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(bytes <= KEPT_BYTES, "{bytes} bytes are kept for {target}");
}

#[test]
fn runners_inputs_and_the_page_know_the_same_targets() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |folder: &str| -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        paths(&Path::new(ROOT).join(folder)).into_iter().map(stem).collect()
    };
    assert_eq!(names("libfuzzer/src/bin"), listed);
    assert_eq!(names("corpus"), listed);
    let page = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.map(str::to_owned).collect::<BTreeSet<_>>(), listed);
}

#[test]
fn each_runner_calls_its_own_target() {
    for (name, _) in TARGETS {
        let runner = fs::read_to_string(format!("{ROOT}/libfuzzer/src/bin/{name}.rs")).unwrap();
        assert!(runner.contains(&format!("pilothouse_fuzz::targets::{name}::run(data)")), "{name}");
    }
}
