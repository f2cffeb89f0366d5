use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The binary of this workspace, built if it is not yet; `PILOTHOUSE_BIN` names another.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("PILOTHOUSE_BIN").map_or_else(build, PathBuf::from)).clone()
}

fn build() -> PathBuf {
    // A test program lies in `<target>/<profile>/deps`.
    let test = std::env::current_exe().unwrap();
    let profile_dir = test.parent().and_then(|deps| deps.parent()).unwrap();
    let profile = match profile_dir.file_name().and_then(|n| n.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "pilothouse", "--profile", profile, "--target-dir"])
        .arg(profile_dir.parent().unwrap())
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .unwrap();
    assert!(status.success(), "the binary does not build");
    profile_dir.join("pilothouse")
}
