//! No kind of check, no setting and no redirect leads to a forbidden address.

use std::time::Duration;

use pilothouse_model::limits::LiveLimits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::probe::{LocalProber, TargetRules};
use crate::run::{Outcome, Prober as _, Recorder, Target};
use crate::words::{CheckSettings, read_json};

async fn run(target: &str, settings: &Value) -> Outcome {
    let rules = TargetRules::forbidding(["127.0.0.2", "::1"]).unwrap();
    let prober = LocalProber::new(rules, LiveLimits::default(), std::sync::Arc::default());
    let settings: CheckSettings = read_json(settings.to_string().as_bytes()).unwrap();
    let timeout = Duration::from_secs(5);
    let target = Target { target, settings: &settings, timeout, run_by: String::new() };
    let mut recorder = Recorder::default();
    let good = prober.probe(&target, &mut recorder).await;
    recorder.finish(good, Duration::ZERO)
}

async fn is_forbidden(target: &str, settings: Value) {
    let outcome = run(target, &settings).await;
    let told = outcome.lines.iter().flat_map(|line| &line.fields).any(|(_, value)| value.contains("forbids"));
    assert!(!outcome.success() && told, "{target} {settings}: {:?}", outcome.lines);
}

/// Answers every request with a redirect to `location`.
async fn redirecting(location: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}/")
}

#[tokio::test]
async fn every_spelling_of_an_address_is_seen_through() {
    for host in ["127.0.0.2", "2130706434", "0x7f.2", "0177.0.0.2", "127.2", "[::ffff:127.0.0.2]", "[::1]"] {
        is_forbidden(&format!("http://{host}:9/"), json!({"http": {}})).await;
    }
}

#[tokio::test]
async fn every_kind_of_check_asks_before_it_connects() {
    is_forbidden("127.0.0.2:9", json!({"tcp": {}})).await;
    is_forbidden("127.0.0.2:9", json!({"grpc": {}})).await;
    is_forbidden("127.0.0.2", json!({"ping": {}})).await;
    is_forbidden("127.0.0.2", json!({"traceroute": {}})).await;
    is_forbidden("a.b", json!({"dns": {"server": "127.0.0.2"}})).await;
    is_forbidden("a.b", json!({"dns": {"server": "::1", "protocol": "UDP"}})).await;
    let answered = json!([{"type": 0, "subject": 2, "condition": 2, "value": "200"}]);
    let entries = json!([{"request": {"url": "http://127.0.0.2:9/"}, "checks": answered}]);
    is_forbidden("x", json!({"multihttp": {"entries": entries}})).await;
}

#[tokio::test]
async fn redirects_proxies_and_issuers_of_tokens_are_asked_about_too() {
    let settings = || json!({"http": {}});
    for location in ["http://127.0.0.2:9/", "//127.0.0.2:9/", "http://2130706434:9/", "http://[::1]:9/"] {
        is_forbidden(&redirecting(location.to_owned()).await, settings()).await;
    }
    let twice = redirecting(redirecting("http://127.0.0.2:9/".to_owned()).await).await;
    is_forbidden(&twice, settings()).await;
    let not_followed = redirecting("http://127.0.0.2:9/".to_owned()).await;
    let outcome =
        run(&not_followed, &json!({"http": {"noFollowRedirects": true, "validStatusCodes": [302]}})).await;
    assert!(outcome.success(), "{:?}", outcome.lines);
    is_forbidden("http://127.0.0.1:9/", json!({"http": {"proxyURL": "http://127.0.0.2:9"}})).await;
    is_forbidden("https://127.0.0.1:9/", json!({"http": {"proxyURL": "http://127.0.0.2:9"}})).await;
    let issuer = json!({"clientId": "i", "clientSecret": "s", "tokenURL": "http://127.0.0.2:9/"});
    is_forbidden("http://127.0.0.1:9/", json!({"http": {"oauth2Config": issuer}})).await;
}
