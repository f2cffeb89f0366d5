//! From a rule to a notification, and what a crash in between leaves behind.
//!
//! What needs no process is tried by stepped clocks where it lives: the scenarios of Prometheus'
//! compliance suite in `crates/rules/src/tests/compliance.rs`, hours of grouping, repeats and
//! restarts in `crates/alertmanager/src/tests`.

#![allow(clippy::unwrap_used)] // a failure here is a failed test

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilothouse_tests::{Mailbox, Receiver, Server, series};
use serde_json::{Value, json};

/// Longer than any wait of the configuration below.
const LONGEST: Duration = Duration::from_secs(30);
/// So many seconds of silence show that nothing more is told: two looks at a group.
const QUIET: Duration = Duration::from_secs(5);

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Tells the receiver of all alerts, in groups by name, `wait` after the first of a group.
fn configure(server: &Server, receiver: &Receiver, wait: &str) {
    let config = format!(
        "route: {{receiver: hook, group_by: [alertname], group_wait: {wait}, group_interval: 2s, repeat_interval: 1h}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: 'http://{}/'}}]}}]\n",
        receiver.address
    );
    let body = json!({ "alertmanager_config": config }).to_string();
    assert_eq!(server.send("POST", "/api/v1/alerts", &[], body.as_bytes()).status, 201);
}

fn set_rule(server: &Server, rule: &str) {
    let group = format!("name: g\ninterval: 1s\nrules:\n- {rule}\n");
    let answer = server.send("POST", "/prometheus/config/v1/rules/ns", &[], group.as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
}

fn alerts(server: &Server) -> Value {
    server.get("/alertmanager/api/v2/alerts").json()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONGEST;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Status of the group and names of the alerts of each notification.
fn told(bodies: &[Value]) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names = |body: &Value| {
        let alerts = body["alerts"].as_array().unwrap();
        alerts.iter().map(|alert| text(&alert["labels"]["alertname"])).collect()
    };
    bodies.iter().map(|body| (text(&body["status"]), names(body))).collect()
}

fn restart_killed(server: Server, directory: &Path) -> Server {
    server.kill();
    Server::start(directory, &[])
}

#[test]
fn a_crash_between_firing_and_telling_tells_once() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let server = Server::start(directory.path(), &[]);
    configure(&server, &receiver, "3s");
    set_rule(&server, "{alert: Down, expr: vector(1), labels: {severity: page}}");
    wait_until("the alert fires", || alerts(&server)[0]["status"]["state"] == "active");
    assert!(receiver.heard().is_empty(), "it waits for more of its group");

    let server = restart_killed(server, directory.path());
    let once = [("firing".to_owned(), vec!["Down".to_owned()])];
    receiver.wait_for(1, LONGEST);
    std::thread::sleep(QUIET);
    assert_eq!(told(&receiver.heard()), once);

    // It was told, and is not told again after another crash.
    let server = restart_killed(server, directory.path());
    wait_until("the alert is there", || alerts(&server)[0]["labels"]["alertname"] == "Down");
    std::thread::sleep(QUIET);
    assert_eq!(told(&receiver.heard()), once);

    // And its end is told once, whoever crashed since it began.
    set_rule(&server, "{alert: Down, expr: vector(1) > 1, labels: {severity: page}}");
    let heard = receiver.wait_for(2, LONGEST);
    assert_eq!(told(&heard)[1], ("resolved".to_owned(), vec!["Down".to_owned()]));
}

/// A script says it once; that it got an answer is enough.
#[test]
fn an_alert_that_was_answered_for_outlives_a_crash_with_its_silence() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let server = Server::start(directory.path(), &[]);
    configure(&server, &receiver, "3s");
    let silence = json!({
        "matchers": [{"name": "alertname", "value": "Muted", "isRegex": false}],
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "me", "comment": "why"
    });
    let answer =
        server.send("POST", "/alertmanager/api/v2/silences", JSON, silence.to_string().as_bytes()).json();
    let id = answer["silenceID"].as_str().unwrap().to_owned();
    let body = json!([{"labels": {"alertname": "Told"}}, {"labels": {"alertname": "Muted"}}]).to_string();
    assert_eq!(server.send("POST", "/alertmanager/api/v2/alerts", JSON, body.as_bytes()).status, 200);

    let server = restart_killed(server, directory.path());
    let state = |alert: &Value| (alert["labels"]["alertname"].clone(), alert["status"]["state"].clone());
    let all = alerts(&server);
    let mut states: Vec<_> = all.as_array().unwrap().iter().map(state).collect();
    states.sort_by_key(|(name, _)| name.to_string());
    assert_eq!(states, [(json!("Muted"), json!("suppressed")), (json!("Told"), json!("active"))]);
    let kept = server.get(&format!("/alertmanager/api/v2/silence/{id}")).json();
    assert_eq!((&kept["status"]["state"], &kept["comment"]), (&json!("active"), &json!("why")));
    receiver.wait_for(1, LONGEST);
    std::thread::sleep(QUIET);
    assert_eq!(told(&receiver.heard()), [("firing".to_owned(), vec!["Told".to_owned()])]);
}

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// An alert that waits an hour does not begin its hour anew.
#[test]
fn an_alert_that_waits_keeps_its_time_over_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    assert!(server.push(&[series(&[("__name__", "m")], &[(now_ms(), 1.0)])]).status < 300);
    set_rule(&server, "{alert: Slow, expr: m > 0, for: 1h}");
    let waits_s = |server: &Server| {
        let now_s = now_ms() / 1000;
        let found = server.query("time() - ALERTS_FOR_STATE{alertname=\"Slow\"}", now_s);
        found[0]["value"][1].as_str().and_then(|text| text.parse::<f64>().ok())
    };
    wait_until("it has waited for some seconds", || waits_s(&server).is_some_and(|s| s >= 8.0));
    let server = restart_killed(server, directory.path());
    let crashed_ms = now_ms();
    // The series of the state is written again once the old one has been read.
    let written_s = |server: &Server| {
        let found = server.query("timestamp(ALERTS_FOR_STATE{alertname=\"Slow\"})", now_ms() / 1000);
        found[0]["value"][1].as_str().and_then(|text| text.parse::<f64>().ok())
    };
    wait_until("the state is written again", || {
        written_s(&server).is_some_and(|written| written * 1000.0 > crashed_ms as f64)
    });
    let waited = waits_s(&server).unwrap();
    // One that began anew could not have waited longer than that.
    let since_crash = (now_ms() - crashed_ms) as f64 / 1000.0;
    assert!(waited > since_crash, "{waited} s, {since_crash} s after the crash");
}

const PROJECT: &str = "11111111-2222-4333-8444-555555555555";
const REGION: &str = "/cockpit/v1/regions/fr-par";

/// A request to the management API.
fn manage(server: &Server, path: &str, body: &Value) {
    let answer = server.send("POST", &format!("{REGION}{path}"), JSON, body.to_string().as_bytes());
    assert!(answer.status < 300, "{path}: {}", answer.text());
}

#[test]
fn contact_points_get_mail_of_what_the_default_receiver_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (mailbox, receiver, outside) = (Mailbox::start(), Receiver::start(), Receiver::start());
    let config = directory.path().join("pilothouse.yaml");
    let text = format!(
        "smtp_smarthost: '{}'\nsmtp_from: ph@example.org\nsmtp_require_tls: false\nheartbeat_url: 'http://{}/'\n",
        mailbox.address, outside.address
    );
    std::fs::write(&config, text).unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data, &["--config", config.to_str().unwrap()]);
    // Somebody outside hears that this server is there.
    outside.wait_for(1, LONGEST);
    configure(&server, &receiver, "2s");
    let of_project = json!({"project_id": PROJECT});
    manage(&server, "/alert-manager/enable", &of_project);
    let point = json!({"project_id": PROJECT, "email": {"to": "oncall@example.org"}});
    manage(&server, "/alert-manager/contact-points", &point);
    manage(&server, "/alert-manager/trigger-test-alert", &of_project);
    wait_until("there is mail", || !mailbox.mails().is_empty());
    let mail = mailbox.mails().remove(0);
    for part in ["RCPT TO:<oncall@example.org>", "From: ph@example.org", "TestAlert"] {
        assert!(mail.contains(part), "{part} in {mail}");
    }
    assert_eq!(told(&receiver.wait_for(1, LONGEST)), [("firing".to_owned(), vec!["TestAlert".to_owned()])]);
    // Whoever is switched off is told nothing more.
    manage(&server, "/alert-manager/disable", &of_project);
    std::thread::sleep(Duration::from_secs(2));
    let other = json!([{"labels": {"alertname": "Other"}}]).to_string();
    assert_eq!(server.send("POST", "/alertmanager/api/v2/alerts", JSON, other.as_bytes()).status, 200);
    receiver.wait_for(2, LONGEST);
    assert_eq!(mailbox.mails().len(), 1);
}

/// A rule over a name that nobody exports would never fire.
#[test]
fn shipped_rules_ask_for_metrics_that_are_there_and_stay_out_of_users_lists() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    manage(&server, "/alert-manager/managed-alerts/enable", &json!({"project_id": PROJECT}));
    let metrics = server.get("/metrics").text();
    let list = server.get(&format!("{REGION}/alerts?project_id={PROJECT}&is_preconfigured=true")).json();
    let shipped = list["alerts"].as_array().unwrap().clone();
    assert!(shipped.len() > 10, "{list}");
    for alert in &shipped {
        assert_eq!(alert["rule_status"], "enabled");
        let names = alert["rule"].as_str().unwrap().split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let own = ["pilothouse_", "prometheus_", "alertmanager_", "process_"];
        for name in names.filter(|name| own.iter().any(|prefix| name.starts_with(prefix))) {
            assert!(metrics.contains(&format!("# TYPE {name} ")), "{name} of {}", alert["name"]);
        }
    }
    let groups = || server.get("/prometheus/api/v1/rules").json()["data"]["groups"].clone();
    assert_eq!(groups(), json!([]));
    let evaluated = |text: &str| text.contains("rule_group=\"managed;managed\"");
    wait_until("they are at work", || evaluated(&server.get("/metrics").text()));
    assert_eq!(groups(), json!([]));
}

#[test]
fn what_became_of_an_alert_is_in_the_history_and_in_the_servers_own_logs() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let server = Server::start(directory.path(), &[]);
    configure(&server, &receiver, "0s");
    set_rule(&server, "{alert: Down, expr: vector(7), for: 1s, labels: {severity: page}}");
    receiver.wait_for(1, LONGEST);
    let wanted = ["rule_pending", "rule_firing", "alert_firing", "notification_sent"];
    let history = || -> Vec<Value> {
        let events = server.get("/alertmanager/api/v2/history?filter=alertname%3DDown").json();
        events.as_array().unwrap().clone()
    };
    let has_all = |kinds: &[String]| wanted.iter().all(|kind| kinds.iter().any(|k| k == kind));
    let kinds = |events: &[Value], name: &str| -> Vec<String> {
        events.iter().filter_map(|event| Some(event[name].as_str()?.to_owned())).collect()
    };
    wait_until("the history has all of it", || has_all(&kinds(&history(), "kind")));
    let events = history();
    let fired = events.iter().find(|event| event["kind"] == "rule_firing").unwrap();
    assert_eq!(
        (&fired["group"], &fired["value"], &fired["detail"]),
        (&json!("ns;g"), &json!("7"), &json!("was pending"))
    );
    let sent = events.iter().find(|event| event["kind"] == "notification_sent").unwrap();
    assert_eq!((&sent["receiver"], &sent["integration"]), (&json!("hook"), &json!("webhook[0]")));

    let sources = server.get(&format!("{REGION}/data-sources?include_internal=true")).json();
    let internal =
        sources["data_sources"].as_array().unwrap().iter().find(|s| s["name"] == "pilothouse").unwrap();
    let root = format!("/ds/{}", internal["id"].as_str().unwrap());
    let query = "%7Bkind%3D%22alerts%22%7D%20%7C%20json%20%7C%20labels_alertname%3D%22Down%22";
    let lines = || -> Vec<Value> {
        let answer = server.get(&format!("{root}/loki/api/v1/query_range?query={query}")).json();
        let streams = answer["data"]["result"].as_array().unwrap().clone();
        let values = streams.iter().flat_map(|stream| stream["values"].as_array().unwrap().clone());
        values.map(|value| serde_json::from_str(value[1].as_str().unwrap()).unwrap()).collect()
    };
    wait_until("the logs have all of it", || has_all(&kinds(&lines(), "event")));

    // What was written down is in the history of the next process.
    let server = restart_killed(server, directory.path());
    let all = || server.get("/alertmanager/api/v2/history?filter=alertname%3DDown").json();
    wait_until("it is known again", || {
        let now = all();
        events.iter().all(|event| now.as_array().unwrap().contains(event))
    });
}

#[test]
fn what_rules_over_logs_record_goes_where_the_configuration_says() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let body = json!({"project_id": PROJECT, "name": "from-logs", "type": "metrics"}).to_string();
    let made = server.send("POST", &format!("{REGION}/data-sources"), JSON, body.as_bytes()).json();
    let root = format!("/ds/{}", made["id"].as_str().unwrap());
    assert!(server.stop().success());

    let server = Server::start(directory.path(), &["--log-rules-write-to", "from-logs"]);
    assert_eq!(
        server.push_logs(&json!({"app": "a"}), &[(now_ms() * 1_000_000, "one".to_owned())]).status,
        204
    );
    let group =
        "name: g\ninterval: 1s\nrules:\n- record: lines\n  expr: sum(count_over_time({app=\"a\"}[1h]))\n";
    let answer = server.send("POST", "/loki/api/v1/rules/ns", &[], group.as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
    let query = |root: &str| {
        let answer = server.get(&format!("{root}/prometheus/api/v1/query?query=lines")).json();
        answer["data"]["result"][0]["value"][1].clone()
    };
    wait_until("the rule has written", || query(&root) == "1");
    assert_eq!(query(""), Value::Null);
}
