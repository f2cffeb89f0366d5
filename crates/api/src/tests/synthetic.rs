//! Synthetic Monitoring over HTTP, with a registry in memory and nothing that runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use pilothouse_model::state::MemoryState;
use pilothouse_model::{Labels, LogBatch, SourceError};
use pilothouse_probes::registry::{Registry, RegistrySettings};
use pilothouse_probes::run::{Prober, Publisher, Recorder, ResultSink, Schedule, Target};
use pilothouse_probes::validate::LabelRules;
use pilothouse_probes::words::{Probe, Remote};
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
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async { true })
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
        labels: LabelRules { max_labels: 5, max_bytes: 32 },
        max_checks: 10,
        max_tenants: 10,
        max_probes: 10,
    };
    let registry = Registry::open(settings, Arc::<MemoryState>::default(), Arc::new(Stopped)).unwrap();
    let registry = Arc::new(registry);
    let publisher = Publisher::start(Arc::new(Nowhere), 100).unwrap();
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
