//! TLS by files: who trusts the certificate gets in, a new certificate is taken up while the
//! server runs, and clients may be asked for one of their own.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pilothouse_tests::{binary, request};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn below(directory: &Path) -> Self {
        Self { cert: directory.join("cert.pem"), key: directory.join("key.pem") }
    }

    /// A new certificate and its key.
    fn make(&self) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(&self.cert, made.cert.pem()).unwrap();
        std::fs::write(&self.key, made.signing_key.serialize_pem()).unwrap();
    }
}

fn start(directory: &Path, files: &Files, also: &[&str]) -> (Running, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(binary())
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
        .arg(directory.join("data"))
        .arg("--tls-cert")
        .arg(&files.cert)
        .arg("--tls-key")
        .arg(&files.key)
        .args(also)
        .stdout(Stdio::null())
        .spawn();
    (Running(child.unwrap()), port)
}

fn is_ready(port: u16, trusted: &Path) -> bool {
    let server = format!("https://localhost:{port}");
    let mut ready = Command::new(binary());
    ready.args(["ready", "--server", &server, "--ca-file"]).arg(trusted);
    ready.output().unwrap().status.success()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_certificate_is_served_and_exchanged() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::below(directory.path());
    files.make();
    let first = directory.path().join("first.pem");
    std::fs::copy(&files.cert, &first).unwrap();
    let (_server, port) = start(directory.path(), &files, &[]);
    eventually("it does not get ready", || is_ready(port, &first));
    // Without TLS nobody gets an answer, and it disturbs nothing.
    assert!(request(([127, 0, 0, 1], port).into(), "GET", "/ready", &[], b"").is_err());
    files.make();
    eventually("the new certificate is not served", || is_ready(port, &files.cert));
    assert!(!is_ready(port, &first));
}

#[test]
fn clients_without_a_certificate_are_turned_away_where_one_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::below(directory.path());
    files.make();
    let ca = files.cert.to_str().unwrap().to_owned();
    let (mut server, port) = start(directory.path(), &files, &["--tls-client-ca", &ca]);
    eventually("it does not listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(!is_ready(port, &files.cert));
    assert!(server.0.try_wait().unwrap().is_none(), "the server has ended");
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::below(directory.path());
    let (mut server, _) = start(directory.path(), &files, &[]);
    assert!(!server.0.wait().unwrap().success());
}
