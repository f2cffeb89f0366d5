//! What the documentation tells people to type works as it is written.
//!
//! A fence of shell commands says after `sh` what it is: `run` is executed here, one block of a
//! page after the other; `server` is executed in the background, as in a terminal of its own;
//! `outside` needs something that is not here (a network, root, Docker) and is only looked at.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use pilothouse_tests::binary;
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Run,
    Server,
    Outside,
}

#[derive(Debug)]
struct Block {
    line: usize,
    /// The words after the fence.
    info: String,
    text: String,
}

impl Block {
    fn is_shell(&self) -> bool {
        matches!(self.info.split(' ').next(), Some("sh" | "bash" | "shell" | "console" | "zsh"))
    }

    fn kind(&self) -> Option<Kind> {
        match self.info.as_str() {
            "sh run" => Some(Kind::Run),
            "sh server" => Some(Kind::Server),
            "sh outside" => Some(Kind::Outside),
            _ => None,
        }
    }
}

fn pages() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    let root = Path::new(ROOT);
    let mut found = vec![root.join("README.md"), root.join("SECURITY.md"), root.join("CHANGELOG.md")];
    walk(&root.join("docs"), &mut found);
    found.sort();
    found
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (i, line) in page.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { line: i + 1, info: info.trim().to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn every_shell_command_says_whether_it_is_tried() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for block in blocks(&text).iter().filter(|block| block.is_shell()) {
            assert!(block.kind().is_some(), "{}:{}: sh {{run,server,outside}}", page.display(), block.line);
        }
        let indented = text.lines().position(|line| {
            ["    pilothouse ", "    cargo ", "    curl "].iter().any(|start| line.starts_with(start))
        });
        assert_eq!(indented.filter(|_| !text.contains("```")), None, "{}: use a fence", page.display());
    }
}

/// One page as one session, with a server on a free port where the page says 9009.
fn script(blocks: &[Block], port: u16) -> String {
    let mut script = format!(
        "set -euo pipefail\nexport PILOTHOUSE_LISTEN=127.0.0.1:{port} PILOTHOUSE_URL=http://127.0.0.1:{port}\n\
         server=\nstop() {{ if [ -n \"$server\" ]; then kill \"$server\"; wait \"$server\" || true; server=; fi; }}\n\
         trap stop EXIT\n"
    );
    for block in blocks {
        let text = block.text.replace(":9009", &format!(":{port}"));
        match block.kind() {
            Some(Kind::Run) => script.push_str(&format!("echo '# line {}' >&2\n{text}", block.line)),
            Some(Kind::Server) => script.push_str(&format!(
                "stop\nexec 3>server.log\n{} >&3 2>&1 &\nserver=$!\n\
                 for _ in $(seq 600); do if pilothouse ready >/dev/null 2>&1; then break; fi; sleep 0.05; done\n\
                 pilothouse ready >/dev/null || {{ cat server.log >&2; exit 1; }}\n",
                text.trim_end()
            )),
            Some(Kind::Outside) | None => {}
        }
    }
    script
}

fn play(page: &Path) {
    let text = fs::read_to_string(page).unwrap();
    let blocks = blocks(&text);
    if !blocks.iter().any(|block| block.kind() == Some(Kind::Run)) {
        return;
    }
    if text.contains("curl ") && Command::new("curl").arg("--version").output().is_err() {
        eprintln!("{}: not tried, since curl is not here", page.display());
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let programs = home.path().join("bin");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(binary(), programs.join("pilothouse")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = Command::new("bash")
        .args(["-c", &script(&blocks, port)])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("PATH", path)
        .env("no_proxy", "127.0.0.1")
        .output()
        .unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{error}", page.display());
}

#[test]
fn what_is_told_works_as_it_is_written() {
    binary();
    std::thread::scope(|scope| {
        let played: Vec<_> = pages().into_iter().map(|page| scope.spawn(move || play(&page))).collect();
        for one in played {
            one.join().unwrap();
        }
    });
}

/// The targets of a page's links that are files of this repository.
fn links(page: &str) -> Vec<&str> {
    let targets = page.match_indices("](").filter_map(|(at, _)| page.get(at + 2..)?.split_once(')'));
    let targets = targets.map(|(target, _)| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains("://") && !target.contains(' ')).collect()
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            assert!(page.parent().unwrap().join(link).exists(), "{}: {link}", page.display());
        }
    }
}

/// Variables that are no keys of the configuration.
const OTHER_VARIABLES: [&str; 11] = [
    "PILOTHOUSE_BIN",
    "PILOTHOUSE_BUILD_DATE",
    "PILOTHOUSE_CA_FILE",
    "PILOTHOUSE_CONFIG",
    "PILOTHOUSE_KEEP",
    "PILOTHOUSE_LOG",
    "PILOTHOUSE_REVISION",
    "PILOTHOUSE_SM_TOKEN",
    "PILOTHOUSE_TOKEN",
    "PILOTHOUSE_SOAK_CGROUP",
    "PILOTHOUSE_URL",
];

#[test]
fn what_is_shipped_says_what_is_known() {
    let root = Path::new(ROOT);
    let reference = fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let mut files = pages();
    for directory in ["docker", "docker/alloy", "docker/grafana/provisioning/datasources", "packaging"] {
        files.extend(fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().path()));
    }
    for file in files.iter().filter(|file| file.is_file()) {
        let text = fs::read_to_string(file).unwrap();
        for (at, _) in text.match_indices("PILOTHOUSE_") {
            let rest = &text[at..];
            let end = rest
                .find(|c: char| c != '_' && !c.is_ascii_uppercase() && !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let name = &rest[..end];
            let is_limit = name.starts_with("PILOTHOUSE_LIMITS_");
            let is_known =
                is_limit || OTHER_VARIABLES.contains(&name) || reference.contains(&format!("`{name}`"));
            assert!(is_known, "{}: {name}", file.display());
        }
    }
    let file = root.join("packaging/pilothouse.yaml");
    let output = Command::new(binary()).args(["config", "check"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What `docker compose config` would refuse, and what would be missing at the start.
#[test]
fn compose_files_hold_together() {
    let directory = Path::new(ROOT).join("docker");
    for file in ["compose.yaml", "compose.grafana.yaml"] {
        let text = fs::read_to_string(directory.join(file)).unwrap();
        let whole: Value = serde_norway::from_str(&text).unwrap();
        let services = whole["services"].as_object().unwrap();
        for (name, service) in services {
            let place = format!("{file}: {name}");
            assert!(service["image"].is_string(), "{place}");
            for other in service["depends_on"].as_object().into_iter().flatten() {
                assert!(services.contains_key(other.0), "{place} depends on {}", other.0);
            }
            for mount in service["volumes"].as_array().into_iter().flatten() {
                let (from, to) = mount.as_str().unwrap().split_once(':').unwrap();
                let is_there = match from.as_bytes() {
                    [b'/', ..] => true,
                    [b'.', ..] => directory.join(from).exists(),
                    _ => whole["volumes"].get(from).is_some(),
                };
                assert!(is_there && to.starts_with('/'), "{place}: {from}:{to}");
            }
            if let Some(build) = service["build"].as_object() {
                let context = directory.join(build["context"].as_str().unwrap());
                assert!(context.join(build["dockerfile"].as_str().unwrap()).exists(), "{place}");
            }
        }
    }
}

/// The image is built from a part of the repository, of which no crate may be missing.
#[test]
fn the_build_of_the_image_sees_every_crate() {
    let read = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
    let (manifest, ignored) = (read("Cargo.toml"), read("docker/Dockerfile.dockerignore"));
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.contains(&"crates/*") && members.contains(&"fuzz"), "{members:?}");
    for member in members.iter().map(|member| member.trim_end_matches("/*")) {
        assert!(ignored.lines().all(|line| line.trim_matches('/') != member), "{member}");
    }
}

/// What the image copies is what the script lays out, and each of it is copied to its own place.
#[test]
fn the_image_is_the_tree() {
    let (root, scratch) = (Path::new(ROOT), tempfile::tempdir().unwrap());
    let (program, tree) = (scratch.path().join("program"), scratch.path().join("tree"));
    fs::write(&program, "#!/bin/sh\n").unwrap();
    let script = root.join("packaging/tree.sh");
    let laid = Command::new("bash").arg(script).args([&program, &program, &tree]).output().unwrap();
    assert!(laid.status.success(), "{}", String::from_utf8_lossy(&laid.stderr));
    let file = fs::read_to_string(root.join("docker/Dockerfile")).unwrap();
    let mut copied: Vec<&str> = file
        .lines()
        .filter_map(|line| line.strip_prefix("COPY --from=tree "))
        .map(|rest| {
            let words: Vec<&str> = rest.split(' ').filter(|word| !word.starts_with("--chown")).collect();
            assert_eq!(words[0], words[1]);
            words[0].trim_start_matches('/')
        })
        .collect();
    copied.sort();
    let mut there: Vec<String> =
        fs::read_dir(&tree).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    assert_eq!(copied, there);
    assert!(fs::read_to_string(tree.join("etc/passwd")).unwrap().starts_with("pilothouse:x:65532:"));
}
