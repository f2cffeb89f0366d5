//! What is said to a server, and what its answers are held against.

use std::time::Duration;

use pilothouse_model::limits::LiveLimits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::probe::{LocalProber, TargetRules};
use crate::run::{Outcome, Prober as _, Recorder, Target};
use crate::words::{CheckSettings, read_json};

/// Runs a check against a server that says `greeting`, hears until the other side is done, and
/// ends; gives what it heard too.
async fn against(greeting: &'static str, settings: Value) -> (Outcome, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(greeting.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        heard
    };
    let probing = async {
        let prober =
            LocalProber::new(TargetRules::default(), LiveLimits::default(), std::sync::Arc::default());
        let target = if settings.get("http").is_some() { format!("http://{address}/") } else { address };
        let settings: CheckSettings = read_json(settings.to_string().as_bytes()).unwrap();
        let timeout = Duration::from_secs(10);
        let target = Target { target: &target, settings: &settings, timeout, run_by: String::new() };
        let mut recorder = Recorder::default();
        let good = prober.probe(&target, &mut recorder).await;
        recorder.finish(good, timeout)
    };
    let (heard, outcome) = tokio::join!(serving, probing);
    (outcome, heard)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Only what answers a line has variables, and bytes that are no text stay as they are.
#[tokio::test]
async fn lines_are_answered_with_what_they_said() {
    let step = |expect: &str, send: &[u8]| json!({"expect": base64(expect.as_bytes()), "send": base64(send)});
    let steps = json!([
        step("", b"\xff costs $1"),
        step("^220 (?P<host>[a-z.]+) (.)", b"EHLO ${host}|$2|$2x|$$|${none}"),
        step(r"^\d+ ok$", b""),
    ]);
    let greeting = "hello\r\n220 mail.test !\r\n250 ok\r\n";
    let (outcome, heard) = against(greeting, json!({"tcp": {"queryResponse": steps}})).await;
    assert!(outcome.success(), "{:?}", outcome.lines);
    assert_eq!(heard, b"\xff costs $1\nEHLO mail.test|!||$|\n");
    let gauge = |name: &str| outcome.gauges.iter().find(|g| g.name == name).map(|g| g.value);
    assert_eq!(gauge("probe_failed_due_to_regex"), Some(0.0));
    assert_eq!(gauge("probe_failed_due_to_bytes"), Some(0.0));
}

/// As Go's expressions have it, which Blackbox exporter uses.
#[tokio::test]
async fn a_dot_in_an_expression_is_no_line_feed() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\na\nb";
    for (expression, holds) in [("a.b", false), ("(?s)a.b", true), ("a$", false), ("(?m)a$", true)] {
        let settings = json!({"http": {"failIfBodyNotMatchesRegexp": [expression]}});
        let (outcome, _) = against(ANSWER, settings).await;
        assert_eq!(outcome.success(), holds, "{expression}: {:?}", outcome.lines);
    }
}
