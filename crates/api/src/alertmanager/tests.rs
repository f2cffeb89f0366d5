//! Requests and answers of the Alertmanager.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use pilothouse_alertmanager::{Alertmanager, Options};
use pilothouse_model::Memory;
use pilothouse_model::limits::Limits;
use pilothouse_model::state::MemoryState;
use serde_json::{Value as Json, json};

use crate::tests::{Fixture, NOW_S};

#[derive(Debug)]
struct Stopped;

impl pilothouse_model::Clock for Stopped {
    fn now_ms(&self) -> i64 {
        NOW_S * 1000
    }
}

fn fixture() -> (Fixture, Alertmanager) {
    within(Arc::default())
}

/// With an account of memory of its own.
fn within(memory: Arc<Memory>) -> (Fixture, Alertmanager) {
    let fixture = Fixture::new();
    let options = Options {
        limits: Limits::default().into(),
        memory,
        external_url: "http://here/alertmanager".to_owned(),
        config_file: None,
        heartbeat_url: None,
        mail: None,
    };
    let runtime = tokio::runtime::Handle::current();
    let am =
        Alertmanager::spawn(options, Arc::new(MemoryState::default()), Arc::new(Stopped), runtime).unwrap();
    fixture.app().start_alertmanager(am.clone());
    (fixture, am)
}

async fn send(fixture: &Fixture, method: &str, path: &str, body: String) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
    let (parts, body) = fixture.send(request).await;
    (parts.status.as_u16(), String::from_utf8(body).unwrap())
}

fn silence(value: &str) -> Json {
    json!({
        "matchers": [{"name": "a", "value": value, "isRegex": false}],
        "startsAt": "2023-11-14T22:13:20Z", "endsAt": "2023-11-14T23:13:20Z", "createdBy": "me", "comment": "why",
    })
}

const V2: &str = "/alertmanager/api/v2";

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_taken_listed_and_filtered() {
    let (fixture, am) = fixture();
    let body = json!([
        {"labels": {"alertname": "A", "x": "1", "empty": ""}, "annotations": {"s": "t"}, "generatorURL": "http://g"},
        {"labels": {"alertname": "A", "x": "2"}, "startsAt": "2023-11-14T22:13:00.5Z"},
    ]);
    assert_eq!(send(&fixture, "POST", &format!("{V2}/alerts"), body.to_string()).await, (200, String::new()));
    let (_, all) = fixture.get(&format!("{V2}/alerts?filter=x%3D%221%22")).await;
    let all: Json = serde_json::from_str(&all).unwrap();
    assert_eq!(
        all,
        json!([{
            "annotations": {"s": "t"}, "endsAt": "2023-11-14T22:18:20.000Z", "fingerprint": all[0]["fingerprint"],
            "receivers": [{"name": "empty-receiver"}], "startsAt": "2023-11-14T22:13:20.000Z",
            "status": {"inhibitedBy": [], "mutedBy": [], "silencedBy": [], "state": "active"},
            "updatedAt": "2023-11-14T22:13:20.000Z", "labels": {"alertname": "A", "x": "1"}, "generatorURL": "http://g",
        }])
    );
    for (query, count) in [
        ("", 2),
        ("filter=x%21%3D%222%22", 1),
        ("filter=x%3D~%221%7C2%22&filter=alertname%3DA", 2),
        ("active=false", 0),
        ("receiver=empty.*", 2),
        ("receiver=empty", 0),
        ("receiver_matchers=name%3D~%22empty.*%22", 2),
        ("receiver_matchers=name%3Dother", 0),
        ("receiver_matchers=owner%21%3Dme", 2),
    ] {
        let (status, got) = fixture.get(&format!("{V2}/alerts?{query}")).await;
        let got: Json = serde_json::from_str(&got).unwrap();
        assert_eq!((status, got.as_array().unwrap().len()), (200, count), "{query}");
    }
    let (_, groups) = fixture.get(&format!("{V2}/alerts/groups")).await;
    let groups: Json = serde_json::from_str(&groups).unwrap();
    assert_eq!(
        (&groups[0]["receiver"]["name"], groups[0]["alerts"].as_array().unwrap().len()),
        (&json!("empty-receiver"), 2)
    );
    assert_eq!((&groups[0]["labels"], &groups[0]["routeLabels"]), (&json!({}), &json!({})));
    for query in ["receiver_matchers=name%3Dother", "filter=x%3D3", "receiver=other"] {
        let (_, groups) = fixture.get(&format!("{V2}/alerts/groups?{query}")).await;
        assert_eq!(groups.trim(), "[]", "{query}");
    }
    let (_, history) = fixture.get(&format!("{V2}/history?kind=alert_firing&filter=x%3D2")).await;
    assert!(history.contains("\"kind\":\"alert_firing\"") && !history.contains("\"x\":\"1\""), "{history}");
    am.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_ceiling_of_memory_known_alerts_go_on_and_new_ones_come_later() {
    let memory = Arc::new(Memory::limited(100 << 20));
    let (fixture, am) = within(Arc::clone(&memory));
    let body = |name: &str| json!([{"labels": {"alertname": name}}]).to_string();
    assert_eq!(send(&fixture, "POST", &format!("{V2}/alerts"), body("known")).await.0, 200);
    memory.set(&[], 99 << 20);
    assert_eq!(send(&fixture, "POST", &format!("{V2}/alerts"), body("known")).await.0, 200);
    let request = Request::builder().method("POST").uri(format!("{V2}/alerts"));
    let (parts, refused) = fixture.send(request.body(Body::from(body("new"))).unwrap()).await;
    assert_eq!((parts.status.as_u16(), parts.headers["retry-after"].to_str().unwrap()), (503, "2"));
    let text = "\"the server is at its memory limit (99 MiB of 100 MiB are in use); try again later\"\n";
    assert_eq!(String::from_utf8(refused).unwrap(), text);
    am.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_as_alertmanager_tells_it() {
    let (fixture, am) = fixture();
    let without = |field: &str| {
        let mut body = silence("1");
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let with = |field: &str, value: Json| {
        let mut body = silence("1");
        body[field] = value;
        body
    };
    for (method, path, body, status, text) in [
        ("POST", "/alerts", "{".to_owned(), 400, "\"code\":400"),
        ("POST", "/alerts", "{}".to_owned(), 400, "parsing alerts body from \\\"\\\" failed, because json: cannot unmarshal object"),
        ("POST", "/alerts", "null".to_owned(), 200, ""),
        ("POST", "/alerts", String::new(), 422, "alerts in body is required"),
        (
            "POST",
            "/alerts",
            json!([{"labels": {"a": "b"}, "generatorURL": "no url%%"}]).to_string(),
            422,
            "0.generatorURL in body must be of type uri: \\\"no url%%\\\"",
        ),
        ("GET", "/alerts?filter=a%3D~%22(%22", String::new(), 400, "missing closing ): `^(?:()$`"),
        ("POST", "/silences", "{}".to_owned(), 422, "comment in body is required"),
        ("POST", "/alerts", "[{}]".to_owned(), 422, "{\"code\":602,\"message\":\"0.labels in body is required\"}"),
        ("POST", "/alerts", json!([{"labels": {}}]).to_string(), 400, "\"at least one label pair required\""),
        (
            "POST",
            "/alerts",
            json!([{"labels": {"a": "b"}, "startsAt": "2023-11-14T22:13:20Z", "endsAt": "2023-11-14T22:13:19Z"}]).to_string(),
            400,
            "\"start time must be before end time\"",
        ),
        ("GET", "/alerts?receiver=(", String::new(), 400, "\"failed to parse receiver param: "),
        ("GET", "/alerts?filter=a", String::new(), 400, "\"bad matcher format: a\""),
        ("GET", "/alerts?filter=", String::new(), 400, "\"bad matcher format: \""),
        ("GET", "/alerts/groups?filter=", String::new(), 400, "\"bad matcher format: \""),
        ("GET", "/silences?filter=", String::new(), 400, "\"bad matcher format: \""),
        ("GET", "/alerts?receiver_matchers=a", String::new(), 400, "\"failed to parse receiver_matchers param: bad matcher format: a\""),
        ("GET", "/receivers?receiver_matchers=", String::new(), 400, "\"failed to parse receiver_matchers param: bad matcher format: \""),
        ("GET", "/silence/xyz", String::new(), 422, "must be of type uuid"),
        ("GET", "/silence/12345678-1234-1234-1234-123456789012", String::new(), 404, ""),
        ("DELETE", "/silence/12345678-1234-1234-1234-123456789012", String::new(), 404, ""),
        ("POST", "/silences", without("comment").to_string(), 422, "comment in body is required"),
        ("POST", "/silences", with("matchers", json!([])).to_string(), 422, "at least 1 items"),
        ("POST", "/silences", with("endsAt", json!("2023-11-14T22:13:10Z")).to_string(), 400, "start time must be before end time"),
        (
            "POST",
            "/silences",
            with("startsAt", json!("2023-11-14T20:00:00Z")).to_string().replace("23:13:20", "21:00:00"),
            400,
            "end time can't be in the past",
        ),
        ("POST", "/silences", silence("").to_string(), 400, "must not match the empty string"),
        (
            "POST",
            "/silences",
            with("id", json!("12345678-1234-1234-1234-123456789012")).to_string(),
            404,
            "\"silence not found\"",
        ),
        ("GET", "/nope", String::new(), 404, "404 page not found"),
    ] {
        let (got, answer) = send(&fixture, method, &format!("{V2}{path}"), body).await;
        assert!(got == status && answer.contains(text), "{method} {path}: {got} {answer}");
    }
    am.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_is_made_shown_changed_and_ended() {
    let (fixture, am) = fixture();
    let (status, made) = send(&fixture, "POST", &format!("{V2}/silences"), silence("1").to_string()).await;
    let id = serde_json::from_str::<Json>(&made).unwrap()["silenceID"].as_str().unwrap().to_owned();
    assert_eq!((status, id.len()), (200, 36));
    let path = format!("{V2}/silence/{id}");
    let shown: Json = serde_json::from_str(&fixture.get(&path).await.1).unwrap();
    assert_eq!(shown["matchers"], json!([{"name": "a", "value": "1", "isRegex": false, "isEqual": true}]));
    assert_eq!((&shown["status"]["state"], &shown["comment"]), (&json!("active"), &json!("why")));
    let (_, listed) = fixture.get(&format!("{V2}/silences?filter=a%3D1&expired=false")).await;
    assert!(listed.contains(&id));
    assert_eq!(fixture.get(&format!("{V2}/silences?active=false")).await.1, "[]\n");
    send(&fixture, "POST", &format!("{V2}/alerts"), json!([{"labels": {"a": "1"}}]).to_string()).await;
    let alerts: Json = serde_json::from_str(&fixture.get(&format!("{V2}/alerts")).await.1).unwrap();
    assert_eq!(alerts[0]["status"]["silencedBy"], json!([id]));
    assert_eq!(alerts[0]["status"]["state"], "suppressed");
    assert_eq!(send(&fixture, "DELETE", &path, String::new()).await.0, 200);
    assert!(fixture.get(&path).await.1.contains("\"state\":\"expired\""));
    am.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_stored_shown_and_removed() {
    let (fixture, am) = fixture();
    let (status, text) = fixture.get("/api/v1/alerts").await;
    assert_eq!((status, text.as_str()), (404, "alertmanager storage object not found\n"));
    let document = "template_files: {t.tmpl: '{{ define \"x\" }}hi{{ end }}'}\nalertmanager_config: |\n  route: {receiver: r}\n  receivers: [{name: r, webhook_configs: [{url: 'http://x/s3cret'}]}]\n";
    assert_eq!(send(&fixture, "POST", "/api/v1/alerts", document.to_owned()).await, (201, String::new()));
    let (status, text) = fixture.get("/api/v1/alerts").await;
    assert!(status == 200 && text.contains("template_files:") && text.contains("s3cret"), "{text}");
    assert_eq!(fixture.get(&format!("{V2}/receivers")).await.1, "[{\"name\":\"r\"}]\n");
    let (_, shown) = fixture.get(&format!("{V2}/status")).await;
    assert!(shown.contains("<secret>") && !shown.contains("s3cret"), "{shown}");
    for (body, text) in [
        (
            "alertmanager_config: \"\"\n",
            "error validating Alertmanager config: configuration provided is empty, if you'd like",
        ),
        ("{", "error marshalling YAML Alertmanager config: "),
        ("alertmanager_config: |\n  route: {receiver: x}\n", "undefined receiver \"x\" used in route"),
    ] {
        let (status, answer) = send(&fixture, "POST", "/api/v1/alerts", body.to_owned()).await;
        assert!(status == 400 && answer.contains(text), "{status} {answer}");
    }
    assert_eq!(fixture.get(&format!("{V2}/receivers")).await.1, "[{\"name\":\"r\"}]\n", "the old one stays");
    for _ in 0..2 {
        assert_eq!(send(&fixture, "DELETE", "/api/v1/alerts", String::new()).await.0, 200);
    }
    assert_eq!(fixture.get(&format!("{V2}/receivers")).await.1, "[{\"name\":\"empty-receiver\"}]\n");
    am.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_answers() {
    let (fixture, am) = fixture();
    for (path, status, text) in [
        ("/alertmanager/-/healthy", 200, "OK"),
        ("/alertmanager/-/ready", 200, "OK"),
        ("/alertmanager/metrics", 200, "alertmanager_notifications_total{integration=\"webhook\"} 0"),
        ("/alertmanager/", 200, "<h1>Alertmanager</h1>"),
        ("/alertmanager/api/v1/alerts", 410, "v2"),
        ("/api/v2/status", 404, "404 page not found"),
        ("/metrics", 200, "alertmanager_silences{state=\"active\"} 0"),
    ] {
        let (got, body) = fixture.get(path).await;
        assert!(got == status && body.contains(text), "{path}: {got} {body}");
    }
    am.drain();
}
