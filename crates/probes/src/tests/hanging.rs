//! A run that hangs tells as much as one that fails.

use std::time::{Duration, Instant};

use pilothouse_model::limits::LiveLimits;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UdpSocket};

use crate::probe::{LocalProber, TargetRules};
use crate::run::{Outcome, Prober as _, Recorder, Target};
use crate::words::{CheckSettings, read_json};

async fn run(target: &str, settings: Value) -> Outcome {
    let prober = LocalProber::new(TargetRules::default(), LiveLimits::default(), std::sync::Arc::default());
    let settings: CheckSettings = read_json(settings.to_string().as_bytes()).unwrap();
    let timeout = Duration::from_millis(100);
    let target = Target { target, settings: &settings, timeout, run_by: String::new() };
    let (mut recorder, started) = (Recorder::default(), Instant::now());
    let good = prober.probe(&target, &mut recorder).await;
    let took = started.elapsed();
    assert!(took >= timeout && took < 20 * timeout, "{took:?}");
    recorder.finish(good, took)
}

fn value(outcome: &Outcome, name: &str) -> Option<f64> {
    outcome.gauges.iter().find(|gauge| gauge.name == name).map(|gauge| gauge.value)
}

/// Accepts, and says nothing for as long as it is kept.
async fn silent() -> (TcpListener, UdpSocket) {
    (TcpListener::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap())
}

#[tokio::test]
async fn all_series_are_there_when_the_time_is_over() {
    let (tcp, udp) = silent().await;
    let address = tcp.local_addr().unwrap().to_string();
    let url = format!("http://{address}/");
    let port = udp.local_addr().unwrap().port();
    let checked = json!([{"type": 0, "subject": 2, "condition": 2, "value": "200"}]);
    let entries = json!([{"request": {"url": url}, "checks": checked}]);
    for (target, settings, series, expected) in [
        (url.as_str(), json!({"http": {}}), "probe_http_status_code", 0.0),
        (&url, json!({"http": {}}), "probe_http_duration_seconds", 0.0),
        (&address, json!({"tcp": {"queryResponse": [{"expect": "eA=="}]}}), "probe_failed_due_to_regex", 0.0),
        (&address, json!({"grpc": {}}), "probe_grpc_status_code", 4.0),
        (
            "a.b",
            json!({"dns": {"server": "127.0.0.1", "port": port, "protocol": "UDP"}}),
            "probe_dns_query_succeeded",
            0.0,
        ),
        ("x", json!({"multihttp": {"entries": entries}}), "probe_http_requests_failed_total", 1.0),
    ] {
        let outcome = run(target, settings.clone()).await;
        assert!(!outcome.success(), "{settings}");
        let seen =
            value(&outcome, series).map(|value| if series.ends_with("_seconds") { 0.0 } else { value });
        assert_eq!(seen, Some(expected), "{settings} {series}: {:?}", outcome.lines);
    }
}
