//! Synthetic Monitoring over HTTP, with a registry in memory and nothing that runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::sample::stale_nan;
use pilothouse_model::state::MemoryState;
use pilothouse_model::{Labels, LogBatch, NoMemory, SourceError};
use pilothouse_probes::registry::{DeclaredCheck, Registry, RegistrySettings};
use pilothouse_probes::run::{Prober, Publisher, Recorder, ResultSink, Schedule, Target};
use pilothouse_probes::status::StatusPage;
use pilothouse_probes::words::{Check, CheckSettings, HttpSettings, Probe, Remote};
use serde_json::{Value, json};

use super::{Fixture, Stopped};
use crate::{Remotes, Synthetic};

#[derive(Debug)]
struct Nowhere;

impl ResultSink for Nowhere {
    fn series(&self, _: i64, _: &[(Labels, i64, f64)]) -> Result<(), SourceError> {
        Ok(())
    }

    fn entries(&self, _: i64, _: &[LogBatch]) -> Result<(), SourceError> {
        Ok(())
    }
}

impl Prober for Nowhere {
    fn probe<'a>(
        &'a self,
        _: &'a Target<'a>,
        _: &'a mut Recorder,
    ) -> Pin<Box<dyn Future<Output = Result<bool, NoMemory>> + Send + 'a>> {
        Box::pin(async { Ok(true) })
    }
}

impl Remotes for Nowhere {
    fn for_tenant(&self, address: &str) -> (Remote, Remote) {
        let remote = |path: &str| Remote {
            name: "here".to_owned(),
            url: format!("{address}{path}"),
            username: "tenant".to_owned(),
            password: "secret".to_owned(),
        };
        (remote("/api/v1"), remote("/loki/api/v1"))
    }
}

/// What the routes need, with nobody who follows it.
pub(super) fn idle() -> Synthetic {
    let settings = RegistrySettings {
        builtin: Probe { name: "local".to_owned(), ..Probe::default() },
        limits: LiveLimits::default(),
        memory: Arc::default(),
    };
    let registry = Registry::open(settings, Arc::<MemoryState>::default(), Arc::new(Stopped)).unwrap();
    let registry = Arc::new(registry);
    let publisher = Publisher::start(Arc::new(Nowhere), 100, &Arc::default()).unwrap();
    let schedule = Schedule::new(
        Arc::clone(&registry),
        Arc::new(Nowhere),
        publisher,
        1,
        tokio::runtime::Handle::current(),
    );
    let remotes = Arc::new(Nowhere);
    Synthetic { registry, schedule: Arc::new(schedule), remotes, pages: Arc::default() }
}

struct Client {
    fixture: Fixture,
    token: String,
}

impl Client {
    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("Authorization", format!("bearer {}", self.token))
            .body(Body::from(body.to_string()))
            .unwrap();
        let (parts, body) = self.fixture.send(request).await;
        (parts.status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

async fn installed() -> Client {
    let mut client = Client { fixture: Fixture::locked("root"), token: "root".to_owned() };
    let ids = json!({"stackId": 1, "metricsInstanceId": 11, "logsInstanceId": 12});
    let (status, answer) = client.call("POST", "/register/install", ids).await;
    assert_eq!((status, &answer["tenantInfo"]["logInstance"]["id"]), (200, &json!(12)), "{answer}");
    client.token = answer["accessToken"].as_str().unwrap().to_owned();
    client
}

fn check() -> Value {
    json!({"target": "http://127.0.0.1/", "job": "j", "frequency": 60_000, "timeout": 3_000, "enabled": true,
           "probes": [1], "labels": [], "settings": {"http": {}}})
}

#[tokio::test]
async fn errors_have_their_shape_and_tokens_end() {
    let client = installed().await;
    let (status, error) = client.call("POST", "/check/add", json!({"target": 7})).await;
    assert_eq!((status, &error["code"]), (400, &json!(400)));
    let (status, error) = client.call("GET", "/check/99", Value::Null).await;
    assert_eq!((status, &error["msg"]), (404, &json!("check not found")));
    assert_eq!(client.call("GET", "/check/x", Value::Null).await.0, 400);
    assert_eq!(client.call("DELETE", "/token/delete", Value::Null).await.0, 200);
    let (status, error) = client.call("GET", "/tenant", Value::Null).await;
    assert_eq!((status, &error["msg"]), (401, &json!("not authorized")));
}

#[tokio::test]
async fn checks_probes_and_tenants_come_and_go() {
    let client = installed().await;
    let (status, added) = client.call("POST", "/check/add", check()).await;
    assert_eq!((status, &added["settings"]["http"]["method"]), (200, &json!("GET")));
    assert_eq!(client.call("GET", "/check/1", Value::Null).await, (200, added.clone()));
    assert_eq!(client.call("GET", "/check/query?job=j&target=http://127.0.0.1/", Value::Null).await.1, added);
    let alerts =
        json!({"alerts": [{"name": "ProbeFailedExecutionsTooHigh", "threshold": 1, "period": "5m"}]});
    let (status, stored) = client.call("PUT", "/check/1/alerts", alerts).await;
    assert_eq!((status, &stored["alerts"][0]["status"]), (202, &json!("OK")));
    let (_, listed) = client.call("GET", "/check/list?includeAlerts=true", Value::Null).await;
    assert_eq!(listed[0]["alerts"].as_array().map(Vec::len), Some(1));
    let (_, probe) = client.call("POST", "/probe/add", json!({"name": "p", "latitude": 1.5})).await;
    assert!(probe["token"].is_string() && probe["probe"]["latitude"] == 1.5, "{probe}");
    assert_eq!(client.call("POST", "/probe/update", json!({"id": 1})).await.0, 403);
    let (_, tenant) = client.call("GET", "/tenant", Value::Null).await;
    assert_eq!(tenant["metricsRemote"]["password"], "<encrypted>");
    let update = json!({"status": {"code": 1, "reason": "why"}});
    let (_, updated) = client.call("POST", "/tenant/update", update).await;
    assert_eq!((&updated["status"], &updated["tenant"]["reason"]), (&json!(1), &json!("why")));
    let path = format!("/tenant/delete/{}", tenant["id"]);
    assert_eq!(client.call("DELETE", &path, Value::Null).await.0, 409);
    assert_eq!(client.call("DELETE", "/check/delete/1", Value::Null).await.1["checkId"], 1);
    let path_of_probe = format!("/probe/delete/{}", probe["probe"]["id"]);
    assert_eq!(client.call("DELETE", &path_of_probe, Value::Null).await.0, 200);
    assert_eq!(client.call("DELETE", &path, Value::Null).await.0, 200);
}

#[tokio::test]
async fn private_probes_register_by_grpc() {
    let client = installed().await;
    let (_, probe) = client.call("POST", "/probe/add", json!({"name": "p"})).await;
    let send = |token: String, path: &str, message: &[u8]| {
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        let request = Request::post(format!("/synthetic_monitoring.{path}"));
        request.header("authorization", format!("Bearer {token}")).body(Body::from(body)).unwrap()
    };
    let token = probe["token"].as_str().unwrap().to_owned();
    let (parts, body) = client.fixture.send(send(token.clone(), "Checks/RegisterProbe", b"\x0a\x02v1")).await;
    assert_eq!(parts.headers["content-type"], "application/grpc");
    assert!(body.windows(3).any(|w| w == [0x1a, 1, b'p']), "the name of the probe: {body:?}");
    let (_, pong) = client.fixture.send(send(token, "Checks/Ping", &[8, 7])).await;
    assert_eq!(pong, [0, 0, 0, 0, 2, 8, 7]);
    let (_, refused) = client.fixture.send(send("nobody".to_owned(), "Checks/RegisterProbe", b"")).await;
    assert!(refused.windows(2).any(|w| w == [8, 5]), "NOT_AUTHORIZED: {refused:?}");
}

const NOW_MS: i64 = super::NOW_S * 1_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 1_440 * MINUTE_MS;

fn declared(job: &str, enabled: bool) -> DeclaredCheck {
    let settings = CheckSettings { http: Some(HttpSettings::default()), ..CheckSettings::default() };
    let check = Check {
        job: job.to_owned(),
        target: "http://a.b/".to_owned(),
        frequency: 60_000,
        timeout: 1_000,
        enabled,
        settings: Some(settings),
        ..Check::default()
    };
    DeclaredCheck { check, alerts: Vec::new() }
}

/// Samples of a family of a job from a probe; times are ages.
fn ran(fixture: &Fixture, family: &str, job: &str, probe: &str, samples: &[(i64, f64)]) {
    let labels = [("__name__", family), ("job", job), ("instance", "http://a.b/"), ("probe", probe)];
    let mut samples: Vec<(i64, f64)> =
        samples.iter().map(|(age_ms, value)| (NOW_MS - age_ms, *value)).collect();
    samples.sort_by_key(|(t_ms, _)| *t_ms);
    fixture.memory.add(&labels, samples);
}

#[tokio::test]
async fn pages_tell_states_uptimes_and_latencies() {
    let fixture = Fixture::locked("root");
    let app = fixture.app();
    let synthetic = app.synthetic().unwrap();
    let checks =
        vec![declared("mixed", true), declared("ended", true), declared("off", false), declared("new", true)];
    synthetic.registry.declare(checks).unwrap();
    let page = StatusPage { name: "p".to_owned(), public: true, ..StatusPage::default() };
    synthetic.pages.replace(vec![page]);

    let (day, week, month) = (DAY_MS / 2, 2 * DAY_MS, 20 * DAY_MS);
    let success = "probe_success";
    ran(&fixture, success, "mixed", "near", &[(MINUTE_MS, 1.0), (day, 1.0), (week, 1.0), (month, 0.0)]);
    ran(&fixture, success, "mixed", "far", &[(2 * MINUTE_MS, 0.0), (day, 1.0), (40 * DAY_MS, 0.0)]);
    // Another job at the same target is another check.
    ran(&fixture, success, "stranger", "near", &[(MINUTE_MS, 0.0)]);
    ran(&fixture, success, "ended", "near", &[(2 * MINUTE_MS, 0.0), (MINUTE_MS, stale_nan())]);
    let duration = "probe_duration_seconds";
    ran(&fixture, duration, "mixed", "near", &[(MINUTE_MS, 0.25), (2 * MINUTE_MS, 0.75), (DAY_MS - 1, 2.0)]);

    let request = Request::get("/status/p.json").body(Body::empty()).unwrap();
    let (parts, body) = fixture.send(request).await;
    assert_eq!(parts.status.as_u16(), 200);
    assert_eq!(parts.headers["cache-control"], "public, max-age=15");
    let page: Value = serde_json::from_slice(&body).unwrap();
    let shown = |of: &str| -> Vec<Value> {
        page["checks"].as_array().unwrap().iter().map(|check| check[of].clone()).collect()
    };
    assert_eq!(shown("state"), ["degraded", "unknown", "paused", "unknown"]);
    assert_eq!(page["state"], "degraded");
    assert_eq!(
        shown("uptime"),
        [
            json!({"24h": 0.75, "7d": 0.8, "30d": 4.0 / 6.0}),
            json!({"24h": 0.0, "7d": 0.0, "30d": 0.0}),
            json!({"24h": null, "7d": null, "30d": null}),
            json!({"24h": null, "7d": null, "30d": null}),
        ]
    );
    let mixed = &page["checks"][0];
    assert_eq!(mixed["places"], json!([{"probe": "far", "good": false}, {"probe": "near", "good": true}]));
    let latency = mixed["latency"].as_array().unwrap();
    assert_eq!((&latency[0], &latency[46], &latency[47]), (&json!(2.0), &Value::Null, &json!(0.5)));
    assert!(mixed.get("target").is_none());
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_the_shape_of_this_api() {
    let client = installed().await;
    for (method, path, expected) in [
        ("GET", "/check/add/more", 404),
        ("GET", "/tenant/nothing", 404),
        ("DELETE", "/tenant", 405),
        ("PUT", "/probe/add", 405),
    ] {
        let (status, error) = client.call(method, path, Value::Null).await;
        assert_eq!((status, &error["code"]), (expected, &json!(expected)), "{method} {path}: {error}");
        assert!(error["msg"].is_string() && error["err"].is_string());
    }
    let stranger = Client { token: "nobody".to_owned(), ..client };
    assert_eq!(stranger.call("GET", "/tenant/nothing", Value::Null).await.0, 401);
}

#[tokio::test]
async fn settings_and_cost_labels_of_a_tenant_are_kept() {
    let client = installed().await;
    let get = async |path: &str| client.call("GET", path, Value::Null).await.1;
    assert_eq!(get("/tenant/settings").await, json!({"remote_validation_disabled": false, "thresholds": {}}));
    let update = json!({"thresholds": {"uptime": {"upperLimit": 99.5}}});
    assert_eq!(client.call("POST", "/tenant/settings/update", update).await.0, 200);
    let flag = json!({"remote_validation_disabled": true});
    assert_eq!(client.call("POST", "/tenant/settings/update", flag).await.0, 200);
    let expected =
        json!({"remote_validation_disabled": true, "thresholds": {"uptime": {"upperLimit": 99.5}}});
    assert_eq!(get("/tenant/settings").await, expected);
    assert_eq!(get("/tenant/cals").await, json!({"names": []}));
    let update = json!({"labelMode": "LABEL_MODE_DUAL_WRITE", "costAttributionLabels": ["team"]});
    assert_eq!(client.call("POST", "/tenant/update", update).await.1["labelMode"], 1);
    assert_eq!(get("/tenant/cals").await, json!({"names": ["team"]}));
    assert_eq!(client.call("POST", "/tenant/update", json!({"labelMode": "NONE"})).await.0, 400);
    let info = get("/checks/info").await;
    assert_eq!(
        info["AccountingClasses"]["http_basic"],
        json!({"CheckClass": 0, "CheckType": 1, "Series": 34})
    );
}
