//! Requests and answers of the management API, one table.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::tests::{Fixture, send};

const ROOT: &str = "2f9d1c5e-7b34-4c8e-a1d6-5e0b93f47c18";
const PROJECT: &str = "11111111-2222-4333-8444-555555555555";

struct Client(Fixture);

impl Client {
    fn new() -> Self {
        Self(Fixture::locked(ROOT))
    }

    /// Status and JSON, `null` where there is no body.
    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let path = match path.strip_prefix('~') {
            Some(rest) => format!("/cockpit/v1/regions/fr-par{rest}"),
            None => path.to_owned(),
        };
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).header("X-Auth-Token", ROOT);
        let request = request.header("Host", "h:1").body(body).unwrap();
        let (parts, bytes) = send(&self.0.app(), request).await;
        assert!(!parts.headers.contains_key("x-total-count"));
        let value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        (parts.status.as_u16(), value)
    }

    async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, value) = self.call(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {value}");
        value
    }
}

#[tokio::test]
async fn faults_have_the_shapes_that_clients_read() {
    let client = Client::new();
    let absent = "0e7c1f9a-0000-4000-8000-000000000000";
    for (method, path, body, status, kind, field, value) in [
        ("POST", "~/tokens", json!({}), 400, "invalid_arguments", "/details/0/argument_name", json!("name")),
        (
            "POST",
            "~/tokens",
            json!({"name": ""}),
            400,
            "invalid_arguments",
            "/details/0/reason",
            json!("required"),
        ),
        (
            "POST",
            "~/tokens",
            json!({"name": 5}),
            400,
            "invalid_arguments",
            "/details/0/reason",
            json!("format"),
        ),
        ("POST", "~/tokens", json!([]), 400, "invalid_arguments", "/details/0/argument_name", json!("body")),
        (
            "POST",
            "~/tokens",
            json!({"name": "x", "token_scopes": ["unknown_scope"]}),
            400,
            "invalid_arguments",
            "/details/0/reason",
            json!("unknown"),
        ),
        (
            "POST",
            "~/tokens",
            json!({"name": "x", "project_id": "x"}),
            400,
            "invalid_arguments",
            "/details/0/argument_name",
            json!("project_id"),
        ),
        (
            "GET",
            "~/tokens?page=0",
            Value::Null,
            400,
            "invalid_arguments",
            "/details/0/argument_name",
            json!("page"),
        ),
        (
            "GET",
            "~/tokens?page_size=101",
            Value::Null,
            400,
            "invalid_arguments",
            "/details/0/reason",
            json!("constraint"),
        ),
        (
            "GET",
            "~/tokens?order_by=age",
            Value::Null,
            400,
            "invalid_arguments",
            "/details/0/argument_name",
            json!("order_by"),
        ),
        (
            "GET",
            "~/data-sources?types=x",
            Value::Null,
            400,
            "invalid_arguments",
            "/details/0/argument_name",
            json!("types"),
        ),
        ("DELETE", &format!("~/tokens/{absent}"), json!({}), 404, "not_found", "/resource_id", json!(absent)),
        ("GET", "~/data-sources/x", Value::Null, 404, "not_found", "/resource", json!("data_source")),
        (
            "GET",
            "/cockpit/v1/regions/us-east/tokens",
            Value::Null,
            404,
            "not_found",
            "/resource",
            json!("region"),
        ),
        (
            "POST",
            "/cockpit/v1/grafana/users",
            json!({"login": "admin", "role": "editor"}),
            400,
            "invalid_arguments",
            "/details/0/argument_name",
            json!("login"),
        ),
        (
            "POST",
            "~/alert-manager/contact-points",
            json!({"email": {"to": "nobody"}}),
            400,
            "invalid_arguments",
            "/details/0/argument_name",
            json!("email.to"),
        ),
        ("GET", "~/exporters/1", Value::Null, 404, "not_found", "/resource", json!("exporter")),
        (
            "POST",
            "~/exporters",
            json!({"datasource_id": absent}),
            403,
            "quotas_exceeded",
            "/details/0/quota",
            json!(0),
        ),
        (
            "POST",
            "~/alert-manager/trigger-test-alert",
            json!({}),
            503,
            "temporarily_unavailable",
            "/details",
            Value::Null,
        ),
    ] {
        let (got, answer) = client.call(method, path, body).await;
        assert_eq!((got, &answer["type"]), (status, &json!(kind)), "{method} {path}: {answer}");
        assert_eq!(answer.pointer(field).cloned().unwrap_or_default(), value, "{method} {path}: {answer}");
        assert!(answer["message"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn without_the_key_nothing_is_told() {
    let client = Client::new();
    for key in [None, Some("wrong")] {
        let mut request = Request::get("/cockpit/v1/plans");
        if let Some(key) = key {
            request = request.header("X-Auth-Token", key);
        }
        let (parts, body) = send(&client.0.app(), request.body(Body::empty()).unwrap()).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((parts.status.as_u16(), &answer["type"]), (401, &json!("denied_authentication")));
        assert_eq!(parts.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn tokens_of_both_versions_are_one_store() {
    let client = Client::new();
    let scopes = json!({"query_logs": true, "write_metrics": true});
    let body = json!({"name": "old", "project_id": PROJECT, "scopes": scopes});
    let made = client.ok("POST", "/cockpit/v1beta1/tokens", body).await;
    assert_eq!(
        (&made["scopes"]["query_logs"], &made["scopes"]["setup_alerts"]),
        (&json!(true), &json!(false))
    );
    let id = made["id"].as_str().unwrap();
    let seen = client.ok("GET", &format!("~/tokens/{id}"), Value::Null).await;
    assert_eq!(
        (&seen["scopes"], &seen["secret_key"]),
        (&json!(["write_only_metrics", "read_only_logs"]), &Value::Null)
    );
    for (filter, count) in
        [("token_scopes=read_only_logs", 1), ("token_scopes=read_only_traces", 0), ("project_id=", 1)]
    {
        let path = format!("~/tokens?{filter}");
        assert_eq!(client.ok("GET", &path, Value::Null).await["total_count"], count, "{filter}");
    }
    assert_eq!(
        client.call("DELETE", &format!("/cockpit/v1beta1/tokens/{id}"), json!({})).await,
        (204, Value::Null)
    );
    let page = client.ok("GET", "~/tokens?page=7", Value::Null).await;
    assert_eq!(page, json!({"total_count": 0, "tokens": []}));
}

#[tokio::test]
async fn sources_carry_their_root_and_the_internal_one_is_hidden() {
    let client = Client::new();
    let list = client.ok("GET", "~/data-sources?order_by=type_desc", Value::Null).await;
    let names = |list: &Value| -> Vec<String> {
        let all = list["data_sources"].as_array().unwrap();
        all.iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&list), ["Metrics", "Logs"]);
    let first = &list["data_sources"][0];
    assert_eq!(first["url"], format!("http://h:1/ds/{}", first["id"].as_str().unwrap()));
    assert_eq!((&first["origin"], &first["retention_days"]), (&json!("scaleway"), &json!(0)));
    let with_internal = client.ok("GET", "~/data-sources?include_internal=true", Value::Null).await;
    assert!(names(&with_internal).contains(&"pilothouse".to_owned()));
    let path = format!("~/data-sources/{}", first["id"].as_str().unwrap());
    let (status, refused) = client.call("DELETE", &path, Value::Null).await;
    assert_eq!((status, &refused["precondition"]), (412, &json!("resource_still_in_use")));
    let made =
        client.ok("POST", "~/data-sources", json!({"name": "n", "type": "logs", "max_log_streams": 5})).await;
    assert_eq!((&made["origin"], &made["max_log_streams"]), (&json!("custom"), &json!(5)));
    let path = format!("~/data-sources/{}", made["id"].as_str().unwrap());
    let changed = client.ok("PATCH", &path, json!({"max_log_streams": null, "retention_days": 3})).await;
    assert_eq!((changed.get("max_log_streams"), &changed["retention_days"]), (None, &json!(3)));
}

#[tokio::test]
async fn rules_that_are_shipped_are_switched_by_project() {
    let client = Client::new();
    let count = crate::MANAGED_RULES.len();
    let body = |ids: &[&str]| json!({"project_id": PROJECT, "rule_ids": ids});
    let path = "~/alert-manager/enable-alert-rules";
    let one = crate::MANAGED_RULES[0].id;
    assert_eq!(client.ok("POST", path, body(&[one])).await, json!({"enabled_rule_ids": [one]}));
    let rest = client.ok("POST", path, body(&[])).await;
    assert_eq!(rest["enabled_rule_ids"].as_array().unwrap().len(), count - 1);
    assert_eq!(client.ok("POST", path, body(&[])).await, json!({"enabled_rule_ids": []}));
    let enabled =
        |project: &str| format!("~/alerts?project_id={project}&rule_status=enabled&is_preconfigured=true");
    assert_eq!(client.ok("GET", &enabled(PROJECT), Value::Null).await["total_count"], count);
    assert_eq!(client.ok("GET", &enabled(""), Value::Null).await["total_count"], 0);
    assert_eq!(client.ok("GET", "~/rules/count", Value::Null).await["preconfigured_rules_count"], count);
}

#[tokio::test]
async fn every_change_is_in_the_audit_trail() {
    let client = Client::new();
    client.ok("POST", "~/tokens", json!({"name": "t"})).await;
    client.ok("PATCH", "/cockpit/v1/plans", json!({"plan_name": "premium"})).await;
    let trail = client.ok("GET", "/pilothouse/v1/audit?page_size=2", Value::Null).await;
    let told = |i: usize| (trail["entries"][i]["action"].clone(), trail["entries"][i]["resource"].clone());
    assert_eq!(told(0), (json!("select"), json!("plan")));
    assert_eq!(told(1), (json!("create"), json!("token")));
    assert_eq!(trail["entries"][1]["actor"], "root");
}
